"""A clock of a container that jumps: programs inside go on sleeping and waiting as before."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.runtime import engine
from chaos.runtime.docker import DockerRuntime
from tests.conditions import until
from tests.light_stack import in_containers, light_stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

WAITS = """
import os, queue, select, socket, threading, time
def lock():
    held = threading.Lock(); held.acquire(); held.acquire(timeout=0.2)
def full():
    try: queue.Queue().get(timeout=0.2)
    except queue.Empty: pass
def wire():
    one, other = socket.socketpair(); one.settimeout(0.2)
    try: one.recv(1)
    except TimeoutError: pass
pair = socket.socketpair()
waits = {"sleep": lambda: time.sleep(0.2), "event": lambda: threading.Event().wait(0.2),
         "lock": lock, "queue": full, "wire": wire,
         "select": lambda: select.select([pair[0]], [], [], 0.2)}
for name, wait in waits.items():
    began = os.times().elapsed
    wait()
    took = os.times().elapsed - began
    print(name, "well" if 0.15 <= took <= 3 else took)
print("monotonic", time.clock_gettime(time.CLOCK_MONOTONIC))
"""


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRuntime]:
    if why := engine.missing():
        pytest.skip(why)
    runtime = DockerRuntime(in_containers(light_stack()), tmp_path_factory.mktemp("run"))
    runtime.prepare_clocks(("web",))
    try:
        runtime.up(lambda _service, _state: None)
        yield runtime
    finally:
        runtime.down()


def inside(runtime: DockerRuntime, service: str, program: str) -> str:
    """What a Python program says that runs in the service's container, with its environment."""
    return subprocess.run(
        ["docker", "exec", "-i", runtime._container(service), "python", "-"],
        input=program, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("offset_s", [0, 3600, -86_400])
def test_monotonic_time_goes_on_whatever_the_wall_clock_does(
    raised: DockerRuntime, offset_s: float
) -> None:
    """Every way to wait takes as long as it was told to, with the clock right, ahead and back; and
    the monotonic clock is the machine's own."""
    raised.set_clock("web", offset_s)
    assert until(lambda: abs(raised.clock("web").offset_s - offset_s) < 2.5)
    before = Path("/proc/uptime").read_text().split()[0]
    *waits, monotonic = inside(raised, "web", WAITS).splitlines()
    after = Path("/proc/uptime").read_text().split()[0]
    assert [line.split()[1] for line in waits] == ["well"] * 6, waits
    assert float(before) - 1 <= float(monotonic.split()[1]) <= float(after) + 1
    raised.set_clock("web", 0)


def test_only_services_whose_clock_is_set_run_with_the_library(raised: DockerRuntime) -> None:
    """It stands between a program and its C library at every wait; whom nobody asks to skew runs
    without."""
    look = "print(open('/proc/self/maps').read().count('wall-clock') > 0)"
    assert inside(raised, "web", look).strip() == "True"
    assert inside(raised, "echo", look).strip() == "False"


def test_what_the_service_says_and_what_is_read_beside_it_agree(raised: DockerRuntime) -> None:
    """The two ways of reading a clock; the second names no process that goes by another clock."""
    from chaos.runtime import docker_clock

    raised.set_clock("web", 600)
    assert until(lambda: abs(raised.clock("web").offset_s - 600) < 2.5)
    beside = docker_clock._from_inside(raised, "web")
    assert abs(beside.offset_s - 600) < 2.5
    assert beside.apart == ()
    assert abs(docker_clock._from_inside(raised, "echo").offset_s) < 2.5
    raised.set_clock("web", 0)
