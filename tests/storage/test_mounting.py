"""Where an array is mounted and where not, and that no dead mount is ever left."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos import reaper
from chaos.reaper.mounts import mounts, mounts_below
from chaos.storage import mounting
from chaos.storage.client import StorageArray, StorageError
from chaos.storage.mounting import MountRefused, check
from tests.conditions import until
from tests.storage.arrays import Array, command, mounted, needs_fuse, places, scope

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 50


def test_places_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    """No guard file, not empty, a link, inside each other, missing, mounted: each says why."""
    backing, mount, _ = places(tmp_path / "ours")
    strange = tmp_path / "strange"
    strange.mkdir()
    link = tmp_path / "ours" / "link"
    link.symlink_to(mount)
    inside = backing / "inside"
    inside.mkdir()
    check(backing, mount)
    for back, at, why in (
        (strange, mount, "not|no folder that is marked"), (backing, strange, "marked as ours"),
        (backing, link, "is a link"), (backing, inside, "inside each other"),
        (backing, backing, "not empty|inside each other"), (backing, mount / "x", "no folder"),
        (backing, Path("/proc"), "mounted already"),
    ):  # fmt: skip
        with pytest.raises(MountRefused, match=why):
            check(back, at)
    (mount / "file").touch()
    with pytest.raises(MountRefused, match="not empty"):
        check(backing, mount)


def test_bad_arguments_end_with_64_and_one_line(tmp_path: Path) -> None:
    """Nothing is mounted and no traceback is shown."""
    backing, mount, control = places(tmp_path / "ours")
    (mount / "file").touch()
    for words in (command(backing, mount, control), [*command(backing, mount, control)[:3], "-x"]):
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 64
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
    assert str(mount) not in mounts()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the device or the tool: the reason, and how to get it."""
    monkeypatch.setattr(mounting.shutil, "which", lambda _name: None)
    monkeypatch.setattr(mounting.os.path, "exists", lambda _path: True)
    monkeypatch.setattr(mounting.os, "access", lambda _path, _mode: True)
    assert "apt-get install fuse3" in mounting.missing()
    monkeypatch.setattr(mounting.os.path, "exists", lambda _path: False)
    assert "/dev/fuse" in mounting.missing()


@pytest.mark.storage
@needs_fuse
def test_a_mounted_place_is_refused(array: Array) -> None:
    """Also when its server is hung: nobody looks inside."""
    array.orders.arm({"name": "h", "kind": "hung"})
    with pytest.raises(MountRefused, match="mounted already"):
        check(array.backing, array.mount)
    array.orders.clear()


@pytest.mark.storage
@needs_fuse
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_unmounts(tmp_path: Path, number: int) -> None:
    """SIGTERM and SIGINT unmount and end with 0; what was written is there."""
    with mounted(tmp_path / "stack") as array:
        (array.mount / "f").write_text("kept")
        array.process.send_signal(number)
        assert array.process.wait(5) == 0
        assert str(array.mount) not in mounts()
        assert (array.backing / "f").read_text() == "kept"


def answers(handle: int) -> bool:
    try:
        os.pread(handle, 1, 0)
    except OSError as error:
        return error.errno not in (errno.ECONNABORTED, errno.ENOTCONN)
    return True


@pytest.mark.storage
@needs_fuse
def test_a_killed_server_leaves_no_mount_once_nobody_uses_it(tmp_path: Path) -> None:
    """While a program has a file open the dead array answers with errors; then it is unmounted,
    and the control socket says nothing instead of hanging."""
    with mounted(tmp_path / "stack") as array:
        handle = os.open(array.mount / "f", os.O_RDWR | os.O_CREAT)
        os.kill(array.server, signal.SIGKILL)
        assert until(lambda: not answers(handle))
        time.sleep(0.2)  # the watcher tries, and must not succeed
        assert str(array.mount) in mounts()
        with contextlib.suppress(OSError):
            os.close(handle)
        assert array.process.wait(5) == 1
        assert str(array.mount) not in mounts()
        with pytest.raises(StorageError) as caught:
            array.orders.armed()
        assert caught.value.silent


@pytest.mark.storage
@needs_fuse
def test_the_reapers_steps_work_twice_and_on_hung_arrays(array: Array) -> None:
    """Clearing and unmounting are idempotent; an array that hangs, with a program waiting on it,
    is unmounted within the step's bounds."""
    clear = {"do": "clear_storage", "control": str(array.orders.control), "names": ["h", "x"]}
    array.orders.arm({"name": "h", "kind": "hung"})
    child = subprocess.Popen(["touch", str(array.mount / "f")])
    assert until(lambda: array.orders.records()["h"]["waiting"] == 1)
    assert reaper.play_step(clear) == "cleared"
    assert child.wait(5) == 0
    assert reaper.play_step(clear) == "cleared"
    array.orders.arm({"name": "h", "kind": "hung"})
    child = subprocess.Popen(["touch", str(array.mount / "f")], stderr=subprocess.DEVNULL)
    assert until(lambda: array.orders.records()["h"]["waiting"] == 1)
    began = time.monotonic()
    assert reaper.play_step(array.step) == "unmounted"
    assert time.monotonic() - began < 3
    assert child.wait(5) == 1
    assert reaper.play_step(array.step) == "it is not mounted"
    assert "gone" in reaper.play_step(clear)


@pytest.mark.storage
@needs_fuse
def test_the_reaper_leaves_other_mounts_alone(tmp_path: Path) -> None:
    """A mount that is not of our kind is never unmounted, nor a folder below which one is."""
    step = {"do": "unmount", "mount": "/proc", "folder": str(tmp_path), "marks": ["NO=1"]}
    with pytest.raises(reaper.StepFailed, match="not ours"):
        reaper.play_step(step)
    with mounted(tmp_path / "stack") as array:
        remove = {"do": "remove_tree", "folder": str(array.folder), "id": "test"}
        with pytest.raises(reaper.StepFailed, match="unmount it first"):
            reaper.play_step(remove)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A harness that leases an array, mounts it, writes there, and waits to be killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.leased", str(folder)],
        stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def kill_server(stack: Path, harness: int) -> bool:
    """SIGKILL to the array's server and what it has just started, not to its watcher."""
    found = reaper.find(scope(stack))
    servers = {pid: seen for pid, seen in found.items() if seen.parent != harness}
    for pid, seen in servers.items():
        reaper.send(pid, seen.start, signal.SIGKILL)
    return bool(servers)


@pytest.mark.storage
@pytest.mark.slow
@needs_fuse
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", [pytest.param("server", marks=pytest.mark.campaign), "harness"])
def test_killed_at_any_moment_nothing_stays_mounted(tmp_path: Path, victim: str) -> None:
    """Fifty times, at a random moment between the start and hard work under faults: the server of
    the array is killed, or the harness; soon `mount` shows nothing of ours."""
    moments = random.Random(20261122)
    for turn in range(ROUNDS):
        folder = tmp_path / f"{turn}"
        harness = start(folder)
        assert harness.stdout is not None
        try:
            time.sleep(moments.uniform(0.0, 1.2))
            if victim == "harness":
                harness.kill()
            else:
                assert until(lambda f=folder, h=harness: kill_server(f / "stack", h.pid), 20)
                done = folder / "done"
                assert until(lambda done=done, h=harness: done.exists() or h.poll() is not None, 20)
                harness.terminate()
            harness.wait(20)
            assert until(lambda f=folder: not mounts_below(str(f)), 15, 0.05), turn
            assert until(lambda f=folder: not reaper.find(scope(f / "stack")), 5, 0.05), turn
        finally:
            harness.kill()
            harness.stdout.close()


def test_records_of_a_silent_array_do_not_hang(tmp_path: Path) -> None:
    """A socket at which nobody answers is a StorageError within the bound."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        began = time.monotonic()
        with pytest.raises(StorageError) as caught:
            StorageArray(path, bound_s=0.3).records()
        assert caught.value.silent
        assert time.monotonic() - began < 1.0
        with pytest.raises(reaper.StepFailed, match="does not answer"):
            reaper.play_step({"do": "clear_storage", "control": str(path), "names": ["a"]})
