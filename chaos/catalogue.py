"""Finds experiments by name and runs them through pytest, for the command line.

It decides nothing: pytest collects, the plugin runs, the judge judges.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from chaos import pytest_plugin as plugin
from chaos.experiment import Teller
from chaos.plan import Rehearsal
from chaos.run import Run
from chaos.verdict import Judgement

AUTOLOAD = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"


class UnknownExperiment(LookupError):
    """No experiment of that name: says which there are."""


class CatalogueError(RuntimeError):
    """The experiments folder cannot be found or read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One experiment as `list` shows it."""

    name: str
    story: str
    node: str  # pytest node id


@dataclass(eq=False)  # pluggy wants plugins that can be hashed
class _Listener:
    """A pytest plugin that picks experiments by name and keeps what came of them."""

    wanted: str = ""
    teller: Teller | None = None
    entries: list[Entry] = field(default_factory=list)
    rehearsals: list[Rehearsal] = field(default_factory=list)
    runs: list[tuple[Run, Judgement | None]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def pytest_configure(self, config: pytest.Config) -> None:
        if self.teller is not None:
            config.stash[plugin.TELLER] = self.teller

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        found = [i for i in items if i.get_closest_marker("experiment")]
        for item in found:
            name = plugin.experiment_name(item)
            story = plugin.story_of(getattr(item, "function", None))
            self.entries.append(Entry(name, story, item.nodeid))
        keep = [i for i in found if plugin.experiment_name(i) == self.wanted]
        config.hook.pytest_deselected(items=[i for i in items if i not in keep])
        items[:] = keep

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(f"{report.nodeid}: {_last_line(str(report.longrepr))}")

    def pytest_exception_interact(self, call: pytest.CallInfo[Any]) -> None:
        if call.excinfo is not None:
            self.errors.append(str(call.excinfo.value) or call.excinfo.typename)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self.errors.append(report.longrepr[2])  # "Skipped: what this machine lacks"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.rehearsals = session.config.stash[plugin.REHEARSALS]
        self.runs = session.config.stash[plugin.RUNS]


def folder(given: Path | None) -> Path:
    """Where the experiments lie: as given, else ./experiments, else those that were installed."""
    if given is not None:
        if not given.is_dir():
            raise CatalogueError(f"{given} is no folder; give one that holds test_*.py experiments")
        return given
    here = Path.cwd() / "experiments"
    if here.is_dir():
        return here
    spec = find_spec("experiments")
    for place in (spec.submodule_search_locations or []) if spec else []:
        return Path(place)
    raise CatalogueError("no experiments found: run this in a clone, or give --experiments FOLDER")


def entries(where: Path) -> list[Entry]:
    """All experiments in that folder, by name."""
    listener = _Listener()
    _pytest(where, listener, ["--collect-only"])
    if not listener.entries and listener.errors:
        raise CatalogueError("; ".join(listener.errors))
    return sorted(listener.entries, key=lambda e: e.name)


def rehearse(where: Path, name: str, options: list[str]) -> Rehearsal:
    """The plan and the claims of one experiment, nothing done."""
    listener = _Listener(wanted=name)
    _pytest(where, listener, ["--rehearse", *options])
    _must_exist(listener, name)
    if not listener.rehearsals or listener.errors:
        raise CatalogueError("; ".join(listener.errors) or f"{name} could not be rehearsed")
    return listener.rehearsals[0]


def run(where: Path, name: str, options: list[str], teller: Teller) -> _Listener:
    """Run one experiment for real; what came of it is in the answer's `runs` and `errors`."""
    listener = _Listener(wanted=name, teller=teller)
    _pytest(where, listener, options)
    _must_exist(listener, name)
    return listener


def _must_exist(listener: _Listener, name: str) -> None:
    known = [e.name for e in listener.entries]
    if name in known:
        return
    if listener.errors:
        raise CatalogueError("; ".join(listener.errors))
    raise UnknownExperiment(f"no experiment {name!r}; there are: {', '.join(sorted(known))}")


def _pytest(where: Path, listener: _Listener, options: list[str]) -> None:
    """Run pytest in this process with its own output swallowed (ours is the terminal)."""
    swallowed = io.StringIO()
    args = [
        str(where), "-q", "-s", "-p", "chaos.pytest_plugin", "-p", "no:cacheprovider",
        "--assert=plain", "-o", "addopts=", "--import-mode=importlib", *options,
    ]  # fmt: skip
    # Other people's plugins cost seconds to load and have no part in an experiment.
    before = os.environ.get(AUTOLOAD)
    os.environ[AUTOLOAD] = "1"
    try:
        with contextlib.redirect_stdout(swallowed):
            code = pytest.main(args, plugins=[listener])
    finally:
        os.environ.pop(AUTOLOAD)
        if before is not None:
            os.environ[AUTOLOAD] = before
    strange = (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
    if code in strange and not listener.errors:
        listener.errors.append(_last_line(swallowed.getvalue()) or "pytest refused its options")
    sys.stdout.flush()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
