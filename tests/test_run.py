"""The run folder: made once, found again, and clear about what is wrong with it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from chaos import run as runs

NOON = dt.datetime(2025, 1, 21, 12, 0, tzinfo=dt.UTC)


def make(out: Path) -> runs.Run:
    return runs.create(out, "saint-luc", seed=7, runtime="process", preset="ci", now=NOON)


def test_a_run_folder_can_be_loaded_from_wherever_it_was_moved(tmp_path: Path) -> None:
    """Evidence that was copied to another machine can still be judged."""
    made = make(tmp_path / "reports")
    moved = tmp_path / "elsewhere"
    Path(made.folder).rename(moved)
    loaded = runs.load(moved)
    assert (loaded.name, loaded.seed, loaded.path) == ("saint-luc", 7, moved)
    assert loaded.journal.is_dir()


def test_runs_of_the_same_second_do_not_share_a_folder(tmp_path: Path) -> None:
    """Parallel workers never write into one another's journal."""
    folders = {make(tmp_path).folder for _ in range(5)}
    assert len(folders) == 5


def test_the_reproduction_line_names_the_planted_defect(tmp_path: Path) -> None:
    """A run with a defect cannot be mistaken for one without."""
    run = runs.create(
        tmp_path, "x", seed=1, runtime="process", preset="smoke", now=NOON, defect="no-failover"
    )
    assert run.command.startswith("HOSPITAL_BUG=no-failover hospital-chaos run x ")


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"name": 5}'])
def test_a_folder_that_is_no_run_is_one_clear_error(tmp_path: Path, content: bytes | None) -> None:
    """Missing or damaged run.json: an error that names the file, never a traceback."""
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(runs.RunFolderError, match=r"run\.json|no run folder"):
        runs.load(tmp_path)


def test_a_place_that_cannot_hold_a_run_folder_is_one_clear_error(tmp_path: Path) -> None:
    """`--out` that is a file, say."""
    (tmp_path / "file").write_text("")
    with pytest.raises(runs.RunFolderError, match="cannot make a run folder"):
        make(tmp_path / "file")
