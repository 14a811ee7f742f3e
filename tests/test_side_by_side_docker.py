"""Two stacks in containers at once, each raised by a process of its own: no cross-talk.

As under xdist: nobody coordinates them but the engine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chaos import reaper
from chaos.faults import Disconnect, Kill, Latency
from chaos.runtime import engine
from chaos.runtime.docker import DockerRuntime
from tests import light_image
from tests.conditions import seen
from tests.faults.stories import injected, quiet
from tests.light_stack import in_containers, light_stack

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[1]
RAISED_S = 120
NEIGHBOUR = """
import json, sys
from dataclasses import replace
from pathlib import Path
from chaos.runtime.docker import DockerRuntime
from tests.light_stack import in_containers, light_stack
stack = replace(in_containers(light_stack()), image=("echo", sys.argv[1]))
runtime = DockerRuntime(stack, Path(sys.argv[2]))
runtime._plan = replace(runtime._plan, first=int(sys.argv[3]))
try:
    runtime.up(lambda *_: None)
    for line in sys.stdin:
        names = [s.name for s in stack.services]
        print(json.dumps({
            "run": runtime.id,
            "states": {n: runtime.state(n) for n in names},
            "health": {n: runtime.health(n).status for n in names},
            "identity": {n: runtime.identity(n) for n in names},
            "toxics": [t for k in stack.links for t in runtime.toxics(k.name)],
            "outcomes": {k.name: runtime.look_at_link(k.name, 2).outcome for k in stack.links},
            "subnets": [net.subnet for net in runtime._plan.networks.values()],
            "lost": runtime.lost(),
        }), flush=True)
finally:
    runtime.down()
"""
FIRST = 51_300  # both are told to begin with the same subnet


class Neighbour:
    """The other stack, in a process of its own."""

    def __init__(self, image: str, folder: Path) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", NEIGHBOUR, image, str(folder), str(FIRST)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def looks(self) -> dict[str, object]:
        """What it says of itself now (once it is raised)."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write("look\n")
        self.child.stdin.flush()
        said: dict[str, object] = json.loads(self.child.stdout.readline())
        return said

    def end(self) -> None:
        """Let it take itself down."""
        self.child.communicate(timeout=RAISED_S)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[DockerRuntime, Neighbour]]:
    """Our stack and the neighbour's, raised at the same time from the same first subnet."""
    if why := engine.missing():
        pytest.skip(why)
    image = light_image.tag()
    neighbour = Neighbour(image, tmp_path / "theirs")
    ours = DockerRuntime(
        replace(in_containers(light_stack()), image=("echo", image)), tmp_path / "ours"
    )
    ours._plan = replace(ours._plan, first=FIRST)
    try:
        ours.up(quiet)
        yield ours, neighbour
    finally:
        ours.down()
        neighbour.end()


def test_two_stacks_at_once_do_not_feel_each_other(
    two: tuple[DockerRuntime, Neighbour],
) -> None:
    """Other subnets; a crash, a slow link, a lost network and the end of one leave the other."""
    ours, neighbour = two
    before = neighbour.looks()
    assert set(before["health"].values()) == {"ready"}  # type: ignore[attr-defined]
    subnets = {net.subnet for net in ours._plan.networks.values()}
    assert not subnets & set(before["subnets"])  # type: ignore[call-overload]
    for fault in (Kill("web"), Latency("ward>web.http", latency_ms=50), Disconnect("A", "B")):
        with injected(fault, ours) as begun:
            look, _ = seen(lambda begun=begun: begun.seen(ours))  # type: ignore[misc]
            assert look.ok, look.text
            assert neighbour.looks() == before
        look, _ = seen(lambda begun=begun: begun.gone(ours))  # type: ignore[misc]
        assert look.ok, look.text
    theirs = str(before["run"])
    ours.down()
    assert neighbour.looks() == before
    assert ours.id != theirs
    assert containers_of(ours.id) == []
    assert len(containers_of(theirs)) == 4 + 2


def containers_of(run: str) -> list[str]:
    """Names of the containers with that run's label."""
    only = f"label={reaper.RUN_LABEL}={run}"
    listed = subprocess.run(
        ["docker", "ps", "-a", "--filter", only, "--format", "{{.Names}}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return listed.stdout.split()
