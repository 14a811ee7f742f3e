"""Trouble with the container engine in the middle of a run, on an engine of the test's own.

Each ends the run as `void` with the reason in words, heals what can be healed, and never shows a
traceback; where nothing can be healed any more, the lease stays and says what to do by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos import reaper
from chaos.runtime import RuntimeFailure, docker, engine
from chaos.runtime.docker import DockerRuntime
from chaos.stack import Stack
from tests import light_image
from tests.conditions import held_leases, until
from tests.light_stack import in_containers, light_stack
from tests.own_engine import OwnEngine, lacking

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from chaos.cli import main; main()"]
LIGHT = ["--experiments", str(ROOT / "tests" / "light_experiments")]
IN_FAULT_S = 60.0
ENDED_S = 100.0
VOID = 3

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def engine_and_image() -> Iterator[tuple[OwnEngine, str]]:
    """An engine of our own, with the light image on it."""
    if why := engine.missing() or lacking():
        pytest.skip(why)
    image = light_image.tag()
    own = OwnEngine()
    try:
        own.start()
        own.load(image)
        yield own, image
    finally:
        own.close()


@pytest.fixture
def own(engine_and_image: tuple[OwnEngine, str]) -> Iterator[OwnEngine]:
    """The engine, up and empty again after each test."""
    found, _ = engine_and_image
    yield found
    if found.daemon is None:
        found.start()
    assert found.docker("ps", "-aq", "--filter", f"label={reaper.RUN_LABEL}") == ""
    assert found.docker("network", "ls", "-q", "--filter", f"label={reaper.RUN_LABEL}") == ""
    assert found.docker("volume", "ls", "-q", "--filter", f"label={reaper.RUN_LABEL}") == ""


@pytest.fixture
def stack(engine_and_image: tuple[OwnEngine, str]) -> Stack:
    """The light stack in containers, its image built already."""
    return replace(in_containers(light_stack()), image=("echo", engine_and_image[1]))


class Shell:
    """hospital-chaos on the engine of our own, with a state folder of its own."""

    def __init__(self, own: OwnEngine, image: str, folder: Path) -> None:
        self.own = own
        self.state = folder / "state"
        self.reports = folder / "reports"
        self.env = {
            **os.environ, **own.environment, "LIGHT_IMAGE": image, "COLUMNS": "400",
            "HOSPITAL_CHAOS_STATE": str(self.state),
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.own.reaching(*COMMAND, *words), env=self.env, cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, name: str = "light-long") -> subprocess.Popen[str]:
        options = ["--runtime", "docker", *LIGHT, "--out", str(self.reports), "--json"]
        return self.start("run", name, *options)

    def in_fault(self) -> bool:
        """Whether both faults of `light-long` were seen in effect."""
        files = list(self.reports.glob("*/journal/harness.jsonl"))
        return bool(files) and files[0].read_text().count('"e":"fault.seen"') >= 2

    def leases(self) -> list[Path]:
        return held_leases(self.state)

    def reapers(self) -> dict[int, reaper.Stat]:
        """Processes of this shell's runs that still live."""
        mark = f"HOSPITAL_CHAOS_STATE={self.state}"
        return reaper.find({"folder": "/no/such", "marks": [mark]})


@pytest.fixture
def shell(engine_and_image: tuple[OwnEngine, str], own: OwnEngine, tmp_path: Path) -> Shell:
    return Shell(own, engine_and_image[1], tmp_path)


def ended(child: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, what it printed as JSON, and its words; without any traceback."""
    out, err = child.communicate(timeout=ENDED_S)
    assert "Traceback" not in err + out, err
    return child.returncode, json.loads(out) if out else {}, err


def in_fault(shell: Shell, trouble: Callable[[], object]) -> tuple[int, dict[str, Any], str]:
    """Run the long experiment, make that trouble while its faults are in effect, see it end."""
    child = shell.run()
    try:
        assert until(lambda: shell.in_fault() or child.poll() is not None, IN_FAULT_S, 0.05)
        assert child.poll() is None, child.communicate()
        trouble()
        return ended(child)
    finally:
        child.kill()


def container(own: OwnEngine, service: str) -> str:
    """The container of that service of the one stack that runs."""
    return own.docker("ps", "-aq", "--filter", f"label={reaper.SERVICE_LABEL}={service}")


def test_an_engine_that_restarts_during_a_fault_voids_the_run_and_it_is_healed(
    shell: Shell, own: OwnEngine
) -> None:
    """Stopped, with all containers, and started again: void, says so, undone, nothing left."""

    def restart() -> None:
        own.stop()
        own.start()

    code, told, _ = in_fault(shell, restart)
    assert (code, told["outcome"]) == (VOID, "void")
    words = " ".join(told["reasons"])
    assert "engine" in words
    assert "does not answer" in words or "restarted" in words
    assert shell.leases() == []


@pytest.mark.campaign
def test_an_engine_that_is_gone_for_good_leaves_the_lease_and_words_for_a_person(
    shell: Shell, own: OwnEngine
) -> None:
    """Void; the leases stay on disk; heal says what to do by hand; it heals once it is back."""
    code, told, _ = in_fault(shell, own.stop)
    assert (code, told["outcome"]) == (VOID, "void")
    assert "could not be taken down" in " ".join(told["reasons"])
    assert shell.leases()
    assert until(lambda: not shell.reapers(), ENDED_S, 0.2)  # it has tried, in vain
    healing = shell.start("heal")
    out, err = healing.communicate(timeout=ENDED_S)
    assert "Traceback" not in out + err
    assert healing.returncode == VOID
    assert "docker rm -fv $(docker ps -aq --filter label=hospital-chaos.run=" in out
    assert "start the container engine" in out
    own.start()
    healing = shell.start("heal")
    out, err = healing.communicate(timeout=ENDED_S)
    assert healing.returncode == 0, out + err
    assert shell.leases() == []


@pytest.mark.parametrize("service", ["store", "echo"])
def test_a_container_that_somebody_else_removes_voids_the_run_and_is_named(
    shell: Shell, own: OwnEngine, service: str
) -> None:
    """A bystander, or the very target of the fault (echo is killed then)."""
    code, told, _ = in_fault(shell, lambda: own.docker("rm", "-fv", container(own, service)))
    assert (code, told["outcome"]) == (VOID, "void")
    assert f"container of {service} was removed by somebody else" in " ".join(told["reasons"])
    assert shell.leases() == []


def test_proxies_that_somebody_else_stops_void_the_run(shell: Shell, own: OwnEngine) -> None:
    """Without them nothing that the traffic meets is the system's doing."""
    code, told, _ = in_fault(shell, lambda: own.docker("pause", container(own, "gate-A")))
    assert (code, told["outcome"]) == (VOID, "void")
    assert "proxies of room A" in " ".join(told["reasons"])
    assert "are paused: somebody else did that" in " ".join(told["reasons"])


def test_a_full_disk_is_one_clear_line_and_nothing_is_left(shell: Shell, own: OwnEngine) -> None:
    """No space for a container's layer: void, and what was created is removed."""
    file = own.filled()
    try:
        code, told, err = ended(shell.run("light-held"))
    finally:
        own.do("rm", str(file))
    assert code == VOID
    words = " ".join(told.get("reasons", [err]))
    assert "no space left on device" in words
    assert "free some space" in words
    assert shell.leases() == []


def test_an_image_that_is_missing_is_one_clear_line(shell: Shell) -> None:
    """Named, with what makes it."""
    shell.env["LIGHT_IMAGE"] = "hospital-chaos/nowhere:0"
    code, told, err = ended(shell.run("light-held"))
    words = " ".join(told.get("reasons", [err]))
    assert code == VOID
    assert "hospital-chaos/nowhere:0" in words
    assert "make image" in words


# ---------------------------------------------------------------- before anything is raised


@pytest.fixture
def runtime(
    own: OwnEngine, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerRuntime]:
    """A runtime on the engine of our own; what it has raised is taken down."""
    monkeypatch.setenv("DOCKER_HOST", own.environment["DOCKER_HOST"])
    made = DockerRuntime(stack, tmp_path)
    try:
        yield made
    finally:
        made.down()


def up(runtime: DockerRuntime) -> None:
    runtime.up(lambda _service, _state: None)


@pytest.mark.parametrize("kind", ["container", "network", "volume"])
def test_a_name_that_somebody_else_has_is_told_and_theirs_stays(
    runtime: DockerRuntime, own: OwnEngine, kind: str
) -> None:
    """The run ends with that name in its words; the other's thing is neither used nor removed."""
    plan = runtime._plan
    name = {
        "container": plan.gateways["A"].name,
        "network": plan.networks["A"].name,
        "volume": plan.volume(runtime.stack.service("web")),
    }[kind]
    if kind == "container":
        own.docker("create", "--name", name, "--network", "none", runtime.stack.image[1], "true")
    else:
        own.docker(kind, "create", *["--internal"] * (kind == "network"), name)
    before = own.docker("inspect", "--type", kind, name)
    try:
        with pytest.raises(engine.NameTaken, match=name):
            up(runtime)
        runtime.down()
        assert own.docker("inspect", "--type", kind, name) == before
    finally:
        own.docker(kind, "rm", name)


def test_a_subnet_that_somebody_else_has_is_left_to_them(
    runtime: DockerRuntime, own: OwnEngine
) -> None:
    """The networks are made elsewhere, all of them, each once."""
    taken = runtime._plan.networks["B"].subnet
    own.docker("network", "create", "--internal", "--subnet", taken, "theirs")
    try:
        runtime._make_networks()
        ours = own.docker("network", "ls", "-q", "--filter", f"label={reaper.RUN_LABEL}")
        assert len(ours.split()) == len(runtime._plan.networks)
        assert taken not in {net.subnet for net in runtime._plan.networks.values()}
    finally:
        own.docker("network", "rm", "theirs")


def test_no_free_subnet_is_one_clear_line(
    runtime: DockerRuntime, own: OwnEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all are taken it says so, and gives up."""
    monkeypatch.setattr(docker, "SUBNET_TRIES", 4)
    own.docker("network", "create", "--internal", "--subnet", "10.192.0.0/10", "theirs")
    try:
        with pytest.raises(RuntimeFailure, match=r"no free subnets.*hospital-chaos heal"):
            runtime._make_networks()
    finally:
        own.docker("network", "rm", "theirs")


def test_two_runs_that_choose_the_same_subnets_do_not_meet(
    own: OwnEngine, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both at once, from the same first subnet: one moves, both have all their networks."""
    monkeypatch.setenv("DOCKER_HOST", own.environment["DOCKER_HOST"])
    two = [DockerRuntime(stack, tmp_path / name) for name in "ab"]
    for one in two:
        one._plan = replace(one._plan, first=52_000)
    try:
        doing = [threading.Thread(target=one._make_networks) for one in two]
        for thread in doing:
            thread.start()
        for thread in doing:
            thread.join()
        subnets = [net.subnet for one in two for net in one._plan.networks.values()]
        assert len(set(subnets)) == len(subnets)
        listed = own.docker("network", "ls", "-q", "--filter", f"label={reaper.RUN_LABEL}")
        assert len(listed.split()) == len(subnets)
    finally:
        for one in two:
            one.down()
