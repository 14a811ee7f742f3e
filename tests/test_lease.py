"""Leases: no undo is lost, whoever dies, and no living harness is ever healed by another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos import lease as leases_module
from chaos import reaper
from chaos.lease import LeaseError, Leases, heal, standing, take_down
from tests.conditions import until

HARNESS = """
import sys, time
from pathlib import Path
from chaos.lease import Leases
state, *folders = map(Path, sys.argv[1:])
leases = Leases.begin("run", state)
for number, folder in enumerate(folders):
    leases.grant(f"f{number}", [{"do": "remove_tree", "folder": str(folder), "id": "x"}])
print(leases._child.pid, flush=True)
time.sleep(60)
"""

SLOW_REAPER = """
import shutil, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    word, _, name = line.strip().partition(" ")
    print(f"held {name}" if word == "hold" else "busy 1", flush=True)
for path in folder.glob("*.lease.json"):
    path.unlink()
time.sleep(0.4)
shutil.rmtree(folder)
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def thing(tmp_path: Path, name: str = "thing") -> tuple[Path, dict[str, Any]]:
    """Something in the world, and the step that undoes it."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / reaper.GUARD).write_text("x")
    return folder, {"do": "remove_tree", "folder": str(folder), "id": "x"}


@pytest.fixture
def harness(state: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """Another harness that holds one lease: its process, its reaper's pid, its thing."""
    folder, _ = thing(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(state), str(folder)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    yield child, pid, folder
    for number in (child.pid, pid):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait()


def test_the_undo_is_on_disk_before_grant_returns_and_gone_after_the_block(
    state: Path, tmp_path: Path
) -> None:
    """Inside the block the file holds the steps; after it the thing and the file are gone."""
    folder, step = thing(tmp_path)
    with Leases.begin("run", state) as leases:
        with leases.grant("1-kill", [step], deadline_s=30) as lease:
            assert reaper.read_lease(lease.path)["steps"] == [step]
            assert 29 < lease.left_s <= 30
            assert folder.exists()
        assert not folder.exists()
        assert not lease.path.exists()
    assert list(state.iterdir()) == []


def test_a_deadline_is_kept_while_the_harness_hangs(state: Path, tmp_path: Path) -> None:
    """The reaper plays the lease at its deadline, not before, and release afterwards is fine."""
    folder, step = thing(tmp_path)
    with Leases.begin("run", state, journal=tmp_path / "reaper.jsonl") as leases:
        lease = leases.grant("1-kill", [step], deadline_s=0.4)
        assert until(lambda: not folder.exists(), 3)
        assert -0.6 < lease.left_s <= 0
        assert until(lambda: lease.expired, 3)
        lease.release()
    (line,) = (tmp_path / "reaper.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert (event["e"], event["fault"], event["by"]) == ("fault.ended", "1-kill", "deadline")


def test_the_journal_knows_of_an_end_before_the_lease_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sees that the file is gone may read the journal at once, or kill the reaper."""
    journal = tmp_path / "reaper.jsonl"
    _, step = thing(tmp_path)
    lease = {"name": "1-kill", "journal": str(journal), "steps": [step]}
    path = tmp_path / "001.lease.json"
    path.write_text(json.dumps(lease))
    known = []
    monkeypatch.setattr(
        sys.modules[reaper.play_lease.__module__], "sync_folder",
        lambda _: known.append((path.exists(), journal.exists())),
    )  # fmt: skip
    assert reaper.play_lease(path, "deadline").ok
    assert known == [(False, True)]


def test_heal_passes_by_a_run_that_ends_meanwhile(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder was listed and is gone a moment later: nothing to heal, and no error."""
    (state / "run").mkdir(parents=True)
    monkeypatch.setattr(leases_module, "_owner", lambda folder: folder.rmdir())
    assert heal(state) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_harness_is_undone_by_its_reaper(
    harness: tuple[subprocess.Popen[bytes], int, Path], state: Path, number: int
) -> None:
    """After SIGKILL of the harness its thing, its lease folder and its reaper go within 1 s."""
    child, pid, folder = harness
    child.send_signal(number)
    child.wait()
    assert until(lambda: not folder.exists(), 1)
    assert until(lambda: not list(state.iterdir()), 1)
    assert until(lambda: (s := reaper.stat(pid)) is None or s.state in "ZX", 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_the_reaper_survives_the_terminal_s_signals(
    harness: tuple[subprocess.Popen[bytes], int, Path], number: int
) -> None:
    """A Ctrl-C, hang-up or SIGTERM to the reaper changes nothing; it still heals afterwards."""
    child, pid, folder = harness
    assert os.getsid(pid) != os.getsid(child.pid)
    os.kill(pid, number)
    time.sleep(0.05)
    assert folder.exists()
    child.kill()
    child.wait()
    assert until(lambda: not folder.exists(), 1)


def test_heal_plays_what_harness_and_reaper_left_when_both_were_killed(
    harness: tuple[subprocess.Popen[bytes], int, Path], state: Path
) -> None:
    """The dead are healed, with words for each step; a second heal finds nothing."""
    child, pid, folder = harness
    os.kill(pid, signal.SIGKILL)
    child.kill()
    child.wait()
    (healed,) = heal(state)
    assert healed.ok
    assert healed.steps == (f"remove the folder {folder}",)
    assert not folder.exists()
    assert list(state.iterdir()) == []
    assert heal(state) == []


def test_heal_leaves_a_living_harness_alone_even_without_its_reaper(
    harness: tuple[subprocess.Popen[bytes], int, Path], state: Path
) -> None:
    """Whose owner lives is not healed."""
    child, pid, folder = harness
    assert heal(state) == []
    os.kill(pid, signal.SIGKILL)
    assert heal(state) == []
    assert folder.exists()
    assert child.poll() is None


def test_heal_is_not_fooled_by_a_reused_process_number(
    harness: tuple[subprocess.Popen[bytes], int, Path], state: Path
) -> None:
    """An owner file that names a living process with another start time is that of a dead one."""
    child, pid, folder = harness
    os.kill(pid, signal.SIGKILL)
    child.kill()
    child.wait()
    (owner_file,) = state.glob("*/owner.json")
    owner = json.loads(owner_file.read_text())
    owner_file.write_text(json.dumps(owner | {"pid": os.getpid()}))
    assert [h.ok for h in heal(state)] == [True]
    assert not folder.exists()


def test_no_reaper_no_fault(state: Path, tmp_path: Path) -> None:
    """When the reaper is gone nothing is granted any more, and check says so."""
    _, step = thing(tmp_path)
    with Leases.begin("run", state) as leases:
        leases.check()
        os.kill(leases._child.pid, signal.SIGKILL)
        leases._child.wait()
        with pytest.raises(LeaseError, match="is gone"):
            leases.check()
        with pytest.raises(LeaseError, match="is gone"):
            leases.grant("1-kill", [step])


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """No state folder, no run: the error names the folder and the variable to set."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LeaseError, match="HOSPITAL_CHAOS_STATE"):
        Leases.begin("run", tmp_path / "file")


def test_a_step_that_nobody_could_play_is_refused_at_once(state: Path) -> None:
    """The reaper reads the lease before the fault begins; an unknown step is refused."""
    with Leases.begin("run", state) as leases:
        with pytest.raises(LeaseError, match="unknown step levitate"):
            leases.grant("1-kill", [{"do": "levitate"}])
        assert reaper.lease_files(leases.folder) == []


def test_a_failed_undo_keeps_its_file_and_says_why(state: Path, tmp_path: Path) -> None:
    """release raises; the file stays, holds the reason, and heals once the cause is gone."""
    folder, step = thing(tmp_path)
    (folder / reaper.GUARD).write_text("somebody else's")
    with Leases.begin("run", state) as leases:
        lease = leases.grant("1-kill", [step])
        with pytest.raises(LeaseError, match="belongs to another stack"):
            lease.release()
        assert "belongs to another" in json.loads(lease.path.read_text())["failed"][0]
        (folder / reaper.GUARD).write_text("x")
        lease.release()
        assert not folder.exists()


def test_heal_reports_a_lease_it_cannot_read_and_keeps_it(
    harness: tuple[subprocess.Popen[bytes], int, Path], state: Path
) -> None:
    """A damaged file is a failure with its path, not a silence; the others are healed."""
    child, pid, folder = harness
    os.kill(pid, signal.SIGKILL)
    child.kill()
    child.wait()
    (run,) = state.iterdir()
    (run / "002-broken.lease.json").write_text('{"steps": [')
    good, bad = heal(state)
    assert good.ok
    assert not folder.exists()
    assert not bad.ok
    assert "002-broken" in bad.text
    assert (run / "002-broken.lease.json").exists()


def test_close_undoes_what_was_never_released(state: Path, tmp_path: Path) -> None:
    """Leaving the run with a lease still held undoes it through the reaper."""
    folder, step = thing(tmp_path)
    with Leases.begin("run", state) as leases:
        leases.grant("1-kill", [step])
    assert not folder.exists()
    assert list(state.iterdir()) == []


def test_close_returns_when_the_reaper_has_tidied_up(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last lease has gone and the run's folder not yet: that takes this reaper a while."""
    program = tmp_path / "slow_reaper.py"
    program.write_text(SLOW_REAPER)
    monkeypatch.setattr(leases_module, "PROGRAM", str(program))
    _, step = thing(tmp_path)
    with Leases.begin("run", state) as leases:
        leases.grant("1-kill", [step])
    assert list(state.iterdir()) == []


def test_a_standing_lease_outlives_its_harness_until_its_end_time(
    state: Path, tmp_path: Path
) -> None:
    """`up`: after the harness has gone the thing stays, is listed, and goes at its end time."""
    folder, step = thing(tmp_path)
    with Leases.begin("up", state) as leases:
        leases.grant("stack", [step], deadline_s=3, standing=True, note={"url": "u"})
    assert folder.exists()
    (found,) = standing(state)
    assert found.note == {"url": "u"}
    assert heal(state) == []
    assert folder.exists()
    assert until(lambda: not folder.exists(), 5)
    assert until(lambda: not list(state.iterdir()), 5)


def test_a_standing_lease_is_taken_down_on_demand(state: Path, tmp_path: Path) -> None:
    """`down`: the thing goes at once, and the reaper with it."""
    folder, step = thing(tmp_path)
    with Leases.begin("up", state) as leases:
        leases.grant("stack", [step], deadline_s=60, standing=True)
        pid = leases._child.pid
    (found,) = standing(state)
    assert take_down(found).ok
    assert not folder.exists()
    assert standing(state) == []
    assert until(lambda: (s := reaper.stat(pid)) is None or s.state in "ZX", 3)


def test_a_standing_lease_without_reaper_waits_for_its_end_time_then_heals(
    state: Path, tmp_path: Path
) -> None:
    """With the reaper killed, heal plays the lease after its end time and not before."""
    folder, step = thing(tmp_path)
    with Leases.begin("up", state) as leases:
        lease = leases.grant("stack", [step], deadline_s=60, standing=True)
        os.kill(leases._child.pid, signal.SIGKILL)
        leases._child.wait()
    run = lease.path.parent
    owner = json.loads((run / "owner.json").read_text())
    (run / "owner.json").write_text(json.dumps(owner | {"start": 1}))  # its harness is dead
    assert heal(state) == []
    assert folder.exists()
    told = reaper.read_lease(lease.path)
    lease.path.write_text(json.dumps(told | {"deadline_t": time.monotonic()}))
    assert [one.ok for one in heal(state)] == [True]
    assert not folder.exists()


def test_a_forked_copy_of_the_harness_does_not_hide_its_death(state: Path, tmp_path: Path) -> None:
    """A fork without exec lets go of the pipe: the reaper hears when the harness goes."""
    folder, step = thing(tmp_path)
    leases = Leases.begin("run", state)
    leases.grant("1-kill", [step])
    copy = os.fork()
    if copy == 0:
        time.sleep(10)
        os._exit(0)
    try:
        assert leases._child.stdin is not None
        leases._child.stdin.close()  # as if this process had died
        assert until(lambda: not folder.exists(), 2)
    finally:
        os.kill(copy, signal.SIGKILL)
        os.waitpid(copy, 0)
        leases.close()


def test_state_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Own variable first, then XDG, then the home folder."""
    monkeypatch.setenv("HOSPITAL_CHAOS_STATE", "/a")
    monkeypatch.setenv("XDG_STATE_HOME", "/b")
    assert leases_module.state_folder() == Path("/a")
    monkeypatch.delenv("HOSPITAL_CHAOS_STATE")
    assert leases_module.state_folder() == Path("/b/hospital-chaos")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert leases_module.state_folder() == Path("/c/.local/state/hospital-chaos")
