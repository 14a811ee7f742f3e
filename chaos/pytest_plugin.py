"""The pytest plugin: the `experiment` fixture, its options, and one line that reproduces each run.

It is glue and decides nothing. Loaded by pytest through the `pytest11` entry point; it stays idle
in projects that use neither the fixture nor the options.
"""

from __future__ import annotations

import datetime as dt
import inspect
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chaos.runtime.choice import DEFAULT, RUNTIMES

if TYPE_CHECKING:
    from chaos.experiment import Experiment, Teller
    from chaos.plan import Rehearsal
    from chaos.run import Run
    from chaos.stack import Stack
    from chaos.verdict import Judgement

DEFAULT_SEED = 7

REHEARSALS: pytest.StashKey[list[Rehearsal]] = pytest.StashKey()
RUNS: pytest.StashKey[list[tuple[Run, Judgement | None]]] = pytest.StashKey()
TELLER: pytest.StashKey[Teller] = pytest.StashKey()
LIVING: pytest.StashKey[Experiment] = pytest.StashKey()


class Silent:
    """A Teller that says nothing (pytest has its own way of reporting)."""

    def tell(self, phase: str, text: str, seconds: float = 0.0) -> None:
        """Say nothing."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of an experiment; all have defaults."""
    group = parser.getgroup("hospital-chaos", "experiments on a running stack")
    group.addoption(
        "--runtime", default=DEFAULT, help=f"where the stack runs: {', '.join(RUNTIMES)}"
    )
    group.addoption("--seed", type=int, default=DEFAULT_SEED, help="seed of the traffic (7)")
    group.addoption("--preset", default="ci", help="how long and how dense: smoke, ci, soak")
    group.addoption("--out", default="reports", help="where run folders go (reports)")
    group.addoption(
        "--rehearse", action="store_true", help="write down what would be done; change nothing"
    )
    group.addoption(
        "--survey", action="store_true", help="with --rehearse: look at an existing project, too"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and check the runtime's name early."""
    config.addinivalue_line("markers", "experiment(name): an experiment that `run NAME` can find")
    config.stash[RUNS] = []
    config.stash[REHEARSALS] = []
    runtime = config.getoption("--runtime")
    if runtime not in RUNTIMES:
        known = ", ".join(RUNTIMES)
        raise pytest.UsageError(f"unknown runtime {runtime!r}; this build has: {known}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Experiments bound their own waits and heal on Ctrl-C: no other clock may kill them."""
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            if item.get_closest_marker("experiment"):
                item.add_marker(pytest.mark.timeout(0))


@pytest.fixture
def stack() -> Stack:
    """The system under test; a conftest.py beside the experiments gives it."""
    raise pytest.UsageError(
        "no `stack` fixture: define one in conftest.py that returns a chaos.stack.Stack, "
        "for example stacks.hospital.stack.hospital()"
    )


@pytest.fixture
def experiment(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Experiment | Rehearsal]:
    """A raised stack and the verbs on it: traffic, steady, inject, wait, settle, expect.

    The test function is rehearsed first (same body, nothing done), so that a wrong target or claim
    fails before anything is raised. With --rehearse that is all that happens.
    """
    from chaos.runtime import NotHere, cannot_store
    from chaos.runtime.choice import no_arrays

    config = request.config
    try:
        rehearsal = _rehearse(request, stack)
        real = not config.getoption("--rehearse") and rehearsal.runtime.storage.prepared
        if real and (why := no_arrays(config.getoption("--runtime"))):
            raise cannot_store(why)
    except NotHere as lack:
        pytest.skip(str(lack))
    if config.getoption("--rehearse"):
        config.stash[REHEARSALS].append(rehearsal)
        yield rehearsal.blank()
        return
    with _raised(request, stack, rehearsal) as experiment:
        yield experiment


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Tell a living experiment why its body ended: pytest does not tell a fixture."""
    try:
        return (yield)
    except BaseException as error:
        if LIVING in item.stash:
            item.stash[LIVING].conclude(error)
        raise


def _rehearse(request: pytest.FixtureRequest, stack: Stack) -> Rehearsal:
    from chaos.plan import Rehearsal
    from chaos.runtime.choice import abilities, make

    config = request.config
    runtime = config.getoption("--runtime")
    function = request.function
    name = experiment_name(request.node)
    rehearsal = Rehearsal(name, story_of(function), stack, abilities(runtime))
    if stack.project is not None and not (
        config.getoption("--rehearse") and not config.getoption("--survey")
    ):  # what may be touched, only the project's own labels can say
        rehearsal.runtime = make(runtime, stack, Path(config.getoption("--out")))
    others = [n for n in inspect.signature(function).parameters if n != "experiment"]
    values: dict[str, Any] = {n: request.getfixturevalue(n) for n in others}
    function(**values, experiment=rehearsal)
    return rehearsal


def _raised(request: pytest.FixtureRequest, stack: Stack, rehearsal: Rehearsal) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def raised() -> Iterator[Experiment]:
        import chaos.run
        from chaos.experiment import Experiment
        from chaos.lease import Leases, heal
        from chaos.runtime.choice import make

        config = request.config
        heal()
        run = chaos.run.create(
            Path(config.getoption("--out")),
            rehearsal.name,
            seed=config.getoption("--seed"),
            runtime=config.getoption("--runtime"),
            preset=config.getoption("--preset"),
            now=dt.datetime.now(dt.UTC),
            defect=stack.defect,
            experiment=request.node.nodeid,
            story=rehearsal.story,
            terms=stack.terms,
        )
        request.node.user_properties.append(("hospital_chaos_folder", run.folder))
        request.node.user_properties.append(("hospital_chaos_command", run.command))
        teller = config.stash.get(TELLER, Silent())
        entry: list[tuple[Run, Judgement | None]] = config.stash[RUNS]
        experiment: Experiment | None = None
        try:
            with Leases.begin(run.path.name, journal=run.journal / "reaper.jsonl") as leases:
                runtime = make(run.runtime, stack, run.path, run.seed)
                for fault in rehearsal.prepared:
                    fault.prepare(runtime)
                experiment = Experiment(
                    run, stack, runtime, leases, teller, claims=rehearsal.claims
                )
                request.node.stash[LIVING] = experiment
                with experiment:
                    yield experiment
        finally:
            judgement = experiment.judgement if experiment else None
            entry.append((run, judgement))
            outcome = str(judgement.outcome) if judgement else "void"
            request.node.user_properties.append(("hospital_chaos_outcome", outcome))

    return raised()


def experiment_name(node: pytest.Item) -> str:
    """The marker's name, or the function's own without `test_`."""
    marker = node.get_closest_marker("experiment")
    if marker and marker.args:
        return str(marker.args[0])
    return node.name.removeprefix("test_").replace("_", "-")


def story_of(function: Any) -> str:
    """First sentence of the docstring, over as many lines as it has: what is tried."""
    paragraph = (inspect.getdoc(function) or "").partition("\n\n")[0]
    return re.split(r"(?<=[.!?])\s", " ".join(paragraph.split()), maxsplit=1)[0]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One block per run: outcome, run folder, the line that reproduces it."""
    lines: list[str] = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "teardown":
                continue
            told = dict(getattr(report, "user_properties", ()))
            if "hospital_chaos_folder" in told:
                lines += [
                    f"{told.get('hospital_chaos_outcome', 'void'):<12} {report.nodeid}",
                    f"             folder:    {told['hospital_chaos_folder']}",
                    f"             reproduce: {told['hospital_chaos_command']}",
                ]
    if lines:
        terminalreporter.section("hospital-chaos")
        for line in lines:
            terminalreporter.write_line(line)
