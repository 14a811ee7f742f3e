"""The doctor says what a stack could use, what is lost without it, and never falls ill itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos import doctor, residence
from chaos.doctor import Finding
from chaos.stack import Port, Program, Room, Service, Stack

TOOL = Program(
    "a tool", (("tool", "/opt/none/tool"), ("$PLUGIN", "/opt/none/plugin.so")),
    without="pictures are small", get="apt-get install tool",
)  # fmt: skip


def clinic(*programs: Program) -> Stack:
    service = Service("front", "A", ("true",), (Port("http", "http"),))
    return Stack("clinic", (Room("A"),), (service,), (), programs=programs)


def asked(folder: Path, make: Callable[[], Stack]) -> list[Finding]:
    """What the doctor says of one stack."""
    return [
        finding for finding in doctor.examine(folder, folder, {"clinic": make})
        if "clinic" in finding.what
    ]  # fmt: skip


def command(folder: Path) -> None:
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)


def test_a_missing_program_is_named_with_what_is_lost_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every missing part is named; the stack can run without, so nothing is refused."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PLUGIN", raising=False)
    (found,) = asked(tmp_path, lambda: clinic(TOOL))
    assert found == Finding(
        "clinic: a tool", False, False, "missing: tool, $PLUGIN; pictures are small",
        "apt-get install tool",
    )  # fmt: skip
    assert doctor.can_run([found])


def test_a_program_counts_as_there_with_all_its_parts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command alone is not enough; with the file that a variable names, the whole is there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLUGIN", str(tmp_path / "plugin.so"))
    command(tmp_path)
    (found,) = asked(tmp_path, lambda: clinic(TOOL))
    assert (found.ok, found.detail.partition(";")[0]) == (False, "missing: $PLUGIN")
    (tmp_path / "plugin.so").touch()
    (found,) = asked(tmp_path, lambda: clinic(TOOL))
    assert (found.ok, found.detail, found.remedy) == (True, str(tmp_path / "tool"), "")


def test_a_stack_that_cannot_be_made_is_a_finding(tmp_path: Path) -> None:
    """The doctor goes on and says why; experiments cannot run with such a stack."""

    def broken() -> Stack:
        raise ValueError("no such\nward")

    (found,) = asked(tmp_path, broken)
    assert (found.ok, found.detail) == (False, "no such ward")
    assert not doctor.can_run([found])


def test_what_fuse_lacks_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without fusermount3: what is missing and how to get it; nothing else is refused for it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = [f for f in doctor.examine(tmp_path, tmp_path) if f.what.startswith("FUSE")]
    assert (found.ok, found.needed) == (False, False)
    assert found.remedy
    assert found.detail.startswith(("there is no", "/dev/fuse"))


def test_the_installed_hospital_names_what_it_can_use() -> None:
    """The mock hospital is installed with this package and can use Orthanc and dcmtk."""
    names = [program.name for program in residence.installed()["hospital"]().programs]
    assert [name.partition(" ")[0] for name in names] == ["Orthanc", "dcmtk"]
