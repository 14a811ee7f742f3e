"""The interpreter of undo steps: each step works on real processes, files and APIs, twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos import reaper
from tests.conditions import until

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
FAMILY = (
    "import os, subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
    " cwd='/', env={}, start_new_session=True)\n"
    "print('up', flush=True)\n"
    "time.sleep(60)\n"
)


def start(folder: Path, program: str = SLEEPER, **env: str) -> subprocess.Popen[bytes]:
    """A process that works in the folder, started and heard of."""
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **env},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    return child


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A stack's folder; whatever works in it is ended after the test."""
    place = tmp_path / "stack"
    place.mkdir()
    (place / reaper.GUARD).write_text("abc")
    yield place
    reaper.kill({"folder": str(place), "marks": []})


class TestKill:
    def test_ends_what_works_in_the_folder_and_nothing_else(self, folder: Path) -> None:
        """A process beside the folder, with a name that only begins alike, lives on."""
        beside = folder.parent / "stack-2"
        beside.mkdir()
        inside, outside = start(folder), start(beside)
        try:
            reaper.kill({"folder": str(folder)})
            assert inside.wait(1) == -signal.SIGKILL
            assert outside.poll() is None
        finally:
            outside.kill()
            outside.wait()

    def test_ends_a_marked_process_that_left_the_folder(self, folder: Path, tmp_path: Path) -> None:
        """The environment mark finds a process that works elsewhere; both marks must match."""
        marked = start(tmp_path, CHAOS="1", SERVICE_NAME="a")
        other = start(tmp_path, CHAOS="1", SERVICE_NAME="b")
        try:
            reaper.kill({"folder": str(folder), "marks": ["CHAOS=1", "SERVICE_NAME=a"]})
            assert marked.wait(1) == -signal.SIGKILL
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()

    def test_ends_descendants_without_folder_or_mark(self, folder: Path) -> None:
        """A child that changed folder, environment and session goes with its parent."""
        parent = start(folder, FAMILY)
        assert until(lambda: len(reaper.find({"folder": str(folder)})) == 2)
        pids = list(reaper.find({"folder": str(folder)}))
        reaper.kill({"folder": str(folder)})
        parent.wait(1)
        assert all((s := reaper.stat(p)) is None or s.state in "ZX" for p in pids)

    def test_ends_a_frozen_process(self, folder: Path) -> None:
        """SIGKILL reaches what SIGSTOP holds."""
        child = start(folder)
        reaper.freeze({"folder": str(folder)})
        reaper.kill({"folder": str(folder)})
        assert child.wait(1) == -signal.SIGKILL

    def test_never_ends_a_later_process_with_the_same_number(self, folder: Path) -> None:
        """A recorded root whose start time differs is somebody else."""
        child = start(folder.parent)
        try:
            seen = reaper.stat(child.pid)
            assert seen is not None
            pidfile = folder / "a.pid"
            pidfile.write_text(json.dumps({"pid": child.pid, "start": seen.start + 1}))
            reaper.kill({"folder": str(folder), "pidfile": str(pidfile)})
            assert child.poll() is None
            pidfile.write_text(json.dumps({"pid": child.pid, "start": seen.start}))
            reaper.kill({"folder": str(folder), "pidfile": str(pidfile)})
            assert child.wait(1) == -signal.SIGKILL
        finally:
            child.kill()
            child.wait()

    def test_what_is_older_than_one_stack_may_belong_to_another(self, folder: Path) -> None:
        """The memory of old processes is kept apart for each stack's own birth."""
        child = start(folder)
        scope = {"folder": str(folder)}
        later = reaper.ticks_now() + 1000
        assert list(reaper.find({**scope, "born": 1})) == [child.pid]
        assert reaper.find({**scope, "born": later}) == {}
        assert list(reaper.find({**scope, "born": 1})) == [child.pid]
        child.kill()
        child.wait()

    def test_outruns_a_process_that_keeps_forking(self, folder: Path) -> None:
        """Killing goes on until nothing can have slipped away, however often it is played."""
        forker = (
            "import os, time\nprint('up', flush=True)\n"
            "end = time.monotonic() + 20\n"
            "while time.monotonic() < end:\n"
            "    if os.fork(): os._exit(0)\n"
            "    time.sleep(0.001)\n"
        )
        for _ in range(8):
            start(folder, forker).wait(5)
            reaper.kill({"folder": str(folder)})
            assert not reaper.find({"folder": str(folder)})


class TestFreezeAndThaw:
    def test_every_process_stops_and_runs_again(self, folder: Path) -> None:
        """freeze leaves all in state T, thaw none; both are idempotent."""
        start(folder, FAMILY)
        scope = {"folder": str(folder)}
        for _ in range(2):
            reaper.freeze(scope)
            assert {s.state for s in reaper.find(scope).values()} == {"T"}
        for _ in range(2):
            reaper.thaw(scope)
            assert "T" not in {s.state for s in reaper.find(scope).values()}


class TestSpawn:
    def step(self, folder: Path) -> dict[str, Any]:
        return {
            "do": "spawn",
            "service": "a",
            "argv": [sys.executable, "-c", SLEEPER.replace("up", "hello")],
            "env": {"SERVICE_NAME": "a"},
            "cwd": str(folder),
            "log": str(folder.parent / "a.log"),
            "pidfile": str(folder.parent / "a.pid"),
        }  # fmt: skip

    def test_starts_once_however_many_play_it(self, folder: Path) -> None:
        """Eight players at the same time start one process."""
        step = self.step(folder)
        players = [threading.Thread(target=reaper.play_step, args=(step,)) for _ in range(8)]
        for player in players:
            player.start()
        for player in players:
            player.join(5)
        assert len(reaper.find({"folder": str(folder)})) == 1
        assert until(lambda: Path(step["log"]).read_text() == "hello\n")

    def test_holds_no_descriptor_of_its_player(self, folder: Path) -> None:
        """A started service cannot keep a pipe of the harness open."""
        reading, writing = os.pipe()
        os.set_inheritable(writing, False)
        reaper.play_step(self.step(folder))
        os.close(writing)
        assert os.read(reading, 1) == b""
        os.close(reading)

    def test_a_missing_folder_or_log_is_no_failure_a_missing_program_is(self, folder: Path) -> None:
        """Nothing to start when the stack is gone; a lost log folder keeps no service down."""
        step = self.step(folder)
        assert "gone" in reaper.play_step(step | {"cwd": str(folder / "nowhere")})
        with pytest.raises(reaper.StepFailed, match="cannot start /no/such"):
            reaper.play_step(step | {"argv": ["/no/such"]})
        assert "started" in reaper.play_step(step | {"log": "/no/such/folder/a.log"})


class TestRemoveTree:
    def test_removes_the_stack_s_own_folder_without_following_links(self, folder: Path) -> None:
        """What a link in the folder points to stays."""
        precious = folder.parent / "precious"
        precious.mkdir()
        (precious / "chart").write_text("x")
        (folder / "link").symlink_to(precious)
        (folder / "data").mkdir()
        (folder / "data" / "file").write_text("y")
        step = {"do": "remove_tree", "folder": str(folder), "id": "abc"}
        assert reaper.play_step(step) == "removed"
        assert not folder.exists()
        assert (precious / "chart").exists()
        assert "already" in reaper.play_step(step)

    @pytest.mark.parametrize("guard", [None, "other"])
    def test_refuses_a_folder_that_is_not_the_stack_s(
        self, folder: Path, guard: str | None
    ) -> None:
        """Without the stack's id in it, nothing is removed."""
        (folder / "file").write_text("y")
        (folder / reaper.GUARD).unlink()
        if guard:
            (folder / reaper.GUARD).write_text(guard)
        with pytest.raises(reaper.StepFailed):
            reaper.play_step({"do": "remove_tree", "folder": str(folder), "id": "abc"})
        assert (folder / "file").exists()


def serve_once(behaviour: Callable[[socket.socket], None]) -> tuple[int, threading.Thread]:
    """A server on loopback that treats one connection so."""
    server = socket.create_server(("127.0.0.1", 0))

    def treat() -> None:
        wire, _ = server.accept()
        with wire, server:
            behaviour(wire)

    thread = threading.Thread(target=treat, daemon=True)
    thread.start()
    return server.getsockname()[1], thread


class TestAsk:
    def test_a_silent_server_costs_the_bound_and_no_more(self) -> None:
        """Accepted and never answered: Silent after the bound."""
        quiet = threading.Event()
        port, thread = serve_once(lambda _: (quiet.wait(5), None)[1])
        began = time.monotonic()
        with pytest.raises(reaper.Silent, match=r"bound 0\.2 s"):
            reaper.ask("127.0.0.1", port, "GET", "/", bound_s=0.2)
        assert time.monotonic() - began < 0.6
        quiet.set()
        thread.join(5)

    def test_a_dripping_server_costs_the_bound_and_no_more(self) -> None:
        """A byte now and then does not prolong the call."""

        def drip(wire: socket.socket) -> None:
            for _ in range(100):
                time.sleep(0.05)
                try:
                    wire.sendall(b"H")
                except OSError:
                    return

        port, _ = serve_once(drip)
        began = time.monotonic()
        with pytest.raises(reaper.Silent):
            reaper.ask("127.0.0.1", port, "GET", "/", bound_s=0.3)
        assert time.monotonic() - began < 0.7

    def test_nobody_there_says_refused_and_nonsense_says_so(self) -> None:
        """A closed port is told from a server that does not speak HTTP."""
        port, _ = serve_once(lambda wire: wire.sendall(wire.recv(999)[:0] + b"hello\r\n\r\n"))
        with pytest.raises(reaper.Silent, match="not HTTP") as caught:
            reaper.ask("127.0.0.1", port, "GET", "/")
        assert not caught.value.refused
        with pytest.raises(reaper.Silent) as caught:
            reaper.ask("127.0.0.1", port, "GET", "/")
        assert caught.value.refused


def test_unknown_and_malformed_steps_are_failures() -> None:
    """A step of another version, or with a key missing, fails and never passes for done."""
    for step in ({"do": "levitate"}, {}, {"do": "kill"}, {"do": "spawn", "cwd": "/"}):
        with pytest.raises(reaper.StepFailed):
            reaper.play_step(step)


def test_every_step_can_be_told_in_words(tmp_path: Path) -> None:
    """Each kind of step has a description that an administrator can follow."""
    step = {
        "folder": "/f", "marks": ["A=1"], "service": "ehr-a", "argv": ["python", "-m", "x"],
        "cwd": "/f/ehr-a", "api": ["127.0.0.1", 8474], "proxy": "a>b.http", "toxics": ["t"],
        "text": "nothing to do", "pidfile": str(tmp_path / "p"),
        "run": "r1", "container": "c", "limits": {"Memory": 1}, "network": "n", "ip": "10.1.1.9",
        "control": "/f/.run/a.sock", "names": ["n"], "mount": "/f/A",
        "name": "c_1", "network_name": "net", "aliases": ["api"], "file": "/f/clock",
        "only": "c/2026-11-22T16:00:00Z",
    }  # fmt: skip
    for do in reaper.PLAYERS:
        words = reaper.describe({**step, "do": do})
        assert len(words) > 10
        assert "unknown" not in words
