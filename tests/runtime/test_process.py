"""The process runtime: environment contract, failures at start, teardown, stacks side by side."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos import reaper
from chaos.reaper import Step
from chaos.runtime import NotReady, RuntimeFailure
from chaos.runtime.links import client
from chaos.runtime.ports import PortBlock
from chaos.runtime.process import ProcessRuntime
from chaos.stack import Readiness
from tests.conditions import answering, processes_in, until
from tests.light_stack import light_stack

QUIET = lambda _service, _state: None  # noqa: E731


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[ProcessRuntime]:
    """A light stack that is taken down, whether the test has raised it or not."""
    found = ProcessRuntime(light_stack(), tmp_path)
    yield found
    found.forget_remains()
    assert not found.folder.exists()


def get(runtime: ProcessRuntime, service: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{runtime.address(service, 'http')}{path}") as answer:
        return str(answer.read().decode())


def put(runtime: ProcessRuntime, service: str, text: str) -> None:
    url = f"http://{runtime.address(service, 'http')}/put"
    request = urllib.request.Request(url, text.encode(), method="PUT")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def test_a_service_finds_who_it_is_and_whom_it_may_call(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BIND_, LINK_, TARGET_, FRONT_ and the rest are there; the caller's secrets are not."""
    monkeypatch.setenv("HOSPITAL_SPEED", "60")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    runtime.up(QUIET)
    env: dict[str, str] = json.loads(get(runtime, "web", "/environ"))
    assert env["SERVICE_NAME"] == "web"
    assert env["SERVICE_ROOM"] == "A"
    assert env["BIND_HTTP"] == str(runtime.address("web", "http"))
    assert env["LINK_STORE_HTTP"] == str(runtime.link_address("web>store.http"))
    assert env["TARGET_STORE_HTTP"] == str(runtime.address("store", "http"))
    assert env["FRONT_WARD_HTTP"] == str(runtime.link_address("ward>web.http"))
    assert env["DATA_DIR"] == env.get("PWD", env["DATA_DIR"]) == str(runtime.folder / "web")
    assert env["HOSPITAL_SPEED"] == "60"
    assert Path(env["STACK_TEMPLATE"]).is_dir()
    assert "AWS_SECRET_ACCESS_KEY" not in env
    pid = int(runtime.identity("web").partition("/")[0])
    assert os.readlink(f"/proc/{pid}/cwd") == env["DATA_DIR"]


def test_data_and_address_survive_a_kill(runtime: ProcessRuntime) -> None:
    """What was acknowledged before SIGKILL is read after the start, at the same address."""
    runtime.up(QUIET)
    put(runtime, "store", "chart")
    runtime.kill("store")
    runtime.start("store")
    assert until(lambda: runtime.health("store").status == "ready")
    assert get(runtime, "store", "/get") == "chart"


def test_a_stop_lets_a_service_drain_and_a_kill_does_not(runtime: ProcessRuntime) -> None:
    """Only the stopped service has written its last word."""
    runtime.up(QUIET)
    runtime.stop("echo")
    runtime.kill("store")
    assert (runtime.folder / "echo" / "drained").exists()
    assert not (runtime.folder / "store" / "drained").exists()


def test_a_kill_takes_the_whole_family(runtime: ProcessRuntime) -> None:
    """A child in a session of its own goes with its service, and stops with it."""
    runtime.up(QUIET)
    family = processes_in(runtime.folder / "web")
    assert len(family) == 2
    runtime.pause("web")
    assert {s.state for p in family if (s := reaper.stat(p))} == {"T"}
    runtime.kill("web")
    assert processes_in(runtime.folder / "web") == []


def test_an_early_exit_fails_at_once_with_the_last_log_line(tmp_path: Path) -> None:
    """up does not wait for the readiness bound of a service that has ended."""
    runtime = ProcessRuntime(light_stack(store={"LIGHT_BROKEN": "exit"}), tmp_path)
    began = time.monotonic()
    try:
        with pytest.raises(NotReady, match="store ended while starting: no licence for this bed"):
            runtime.up(QUIET)
        assert time.monotonic() - began < 4
    finally:
        runtime.forget_remains()


def test_a_service_that_never_gets_ready_is_named_within_its_bound(tmp_path: Path) -> None:
    """NotReady says which, how long, and where its log lies."""
    stack = light_stack(echo={"LIGHT_BROKEN": "silent"})
    quick = tuple(
        replace(s, ready=Readiness(within_s=1.0)) if s.name == "echo" else s for s in stack.services
    )
    runtime = ProcessRuntime(replace(stack, services=quick), tmp_path)
    try:
        with pytest.raises(NotReady, match=r"echo was not ready within 1 s.*logs/echo\.log"):
            runtime.up(QUIET)
    finally:
        runtime.forget_remains()


def test_a_missing_program_is_one_clear_line(tmp_path: Path) -> None:
    """A command that does not exist is named."""
    stack = light_stack()
    broken = tuple(replace(s, command=("/no/such/program",)) for s in stack.services)
    runtime = ProcessRuntime(replace(stack, services=broken), tmp_path)
    try:
        with pytest.raises(RuntimeFailure, match="cannot start /no/such/program"):
            runtime.up(QUIET)
    finally:
        runtime.forget_remains()


def test_a_proxy_server_that_cannot_start_is_one_clear_line(tmp_path: Path) -> None:
    """Its last log line is in the error."""
    command = (sys.executable, "-c", "import sys; sys.exit('no toxins today')")
    runtime = ProcessRuntime(light_stack(), tmp_path, toxiproxy=command)
    try:
        with pytest.raises(NotReady, match="_toxiproxy ended while starting: no toxins today"):
            runtime.up(QUIET)
    finally:
        runtime.forget_remains()


def test_a_port_taken_meanwhile_moves_the_stack_to_other_ports(tmp_path: Path) -> None:
    """Another program listens on a reserved port: up succeeds elsewhere."""
    runtime = ProcessRuntime(light_stack(), tmp_path)
    address = runtime.address("store", "http")
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind((address.host, address.port))
        runtime._block.let_go(address.port)
        thief.listen()
        try:
            runtime.up(QUIET)
            assert runtime.address("store", "http") != address
            assert runtime.health("store").status == "ready"
        finally:
            runtime.forget_remains()


def test_teardown_leaves_no_process_no_port_and_no_folder_within_3_s(tmp_path: Path) -> None:
    """Whatever state the services are in."""
    runtime = ProcessRuntime(light_stack(), tmp_path)
    runtime.up(QUIET)
    runtime.pause("web")
    runtime.kill("store")
    began = time.monotonic()
    runtime.down()
    runtime.forget_remains()
    assert time.monotonic() - began < 3
    assert processes_in(runtime.folder) == []
    assert not runtime.folder.exists()
    assert (tmp_path / "logs" / "web.log").exists()
    assert answering(runtime._block.first, runtime._block.count) == []


def test_ports_are_let_go_when_nobody_answers_on_them_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port closes a moment after its service was killed: the next stack must not get it yet."""
    runtime = ProcessRuntime(light_stack(), tmp_path)
    runtime.up(QUIET)
    address = runtime.address("store", "http")
    play, release = runtime.play, PortBlock.release
    lingering = socket.socket()
    lingering.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    at_release = []

    def then_linger(steps: tuple[Step, ...]) -> None:
        play(steps)
        lingering.bind((address.host, address.port))
        lingering.listen()
        threading.Timer(0.3, lingering.close).start()

    def look_first(block: PortBlock) -> None:
        with socket.socket() as caller:
            at_release.append(caller.connect_ex((address.host, address.port)))
        release(block)

    monkeypatch.setattr(runtime, "play", then_linger)
    monkeypatch.setattr(PortBlock, "release", look_first)
    runtime.down()
    monkeypatch.undo()
    runtime.forget_remains()
    assert at_release == [errno.ECONNREFUSED]


def test_stacks_stand_side_by_side(tmp_path: Path) -> None:
    """Two stacks share no port and no process; one goes, the other serves on."""
    one = ProcessRuntime(light_stack(), tmp_path / "1", seed=7)
    two = ProcessRuntime(light_stack(), tmp_path / "2", seed=7)
    try:
        one.up(QUIET)
        two.up(QUIET)
        put(one, "store", "one")
        put(two, "store", "two")
        assert get(two, "web", "/peer") == "two"
        one.down()
        one.forget_remains()
        assert get(two, "web", "/peer") == "two"
    finally:
        one.forget_remains()
        two.forget_remains()


def test_undo_up_alone_cleans_up_from_another_process(tmp_path: Path) -> None:
    """The steps, as data, in a process that knows nothing else of the stack."""
    runtime = ProcessRuntime(light_stack(), tmp_path)
    runtime.up(QUIET)
    steps: list[Any] = [dict(step) for step in runtime.undo_up()]
    program = (
        "import json, sys\n"
        "sys.path.append(sys.argv[1])\n"
        "import reaper\n"
        "[reaper.play_step(step) for step in json.load(sys.stdin)]\n"
    )
    subprocess.run(
        [sys.executable, "-I", "-c", program, str(Path(reaper.__file__).parents[1])],
        input=json.dumps(steps).encode(),
        check=True,
        timeout=10,
    )
    assert processes_in(runtime.folder) == []
    assert not runtime.folder.exists()
    runtime.forget_remains()


def test_a_wedged_proxy_is_deleted_and_recreated(runtime: ProcessRuntime) -> None:
    """When removing a toxic does not help, the undo escalates; the link is clean and open after."""
    runtime.up(QUIET)
    link = "ward>web.http"
    (step,) = runtime.undo_toxics(link, ("slow",))
    client(runtime.proxy_api("ward>web.http")).delete(link)
    runtime.play((step,))
    assert runtime.toxics(link) == ()
    assert runtime.look_at_link(link, 1).outcome == "answered"


def test_a_dead_proxy_server_has_no_toxics_left_to_remove(runtime: ProcessRuntime) -> None:
    """The undo does not fail when the whole server is gone; seeing the link does."""
    runtime.up(QUIET)
    undo = runtime.undo_toxics("ward>web.http", ("slow",))
    runtime.kill("_toxiproxy")
    runtime.play(undo)
    with pytest.raises(RuntimeFailure, match="nothing listens"):
        runtime.toxics("ward>web.http")
