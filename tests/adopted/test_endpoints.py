"""A proxy before a container that is not ours: which names move, what stays, what comes back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos.runtime import RuntimeFailure, engine
from chaos.runtime.adopted import AdoptedRuntime
from chaos.stack import Limits, Link, Port, Project, Readiness, Room, Service, Stack
from tests.adopted.project import ask, image
from tests.conditions import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

OPTED = "hospital-chaos.opt-in=true"
SUBNETS = range(1, 250)


@pytest.fixture(autouse=True, scope="module")
def _engine() -> None:
    if why := engine.missing():
        pytest.skip(why)


class ByHand:
    """Containers and networks made by hand, with the labels that Compose would give them."""

    def __init__(self) -> None:
        self.name = f"hand{secrets.token_hex(3)}"
        self.prefix = ""

    def network(self, name: str, own_subnet: bool = False) -> str:
        """A network; `own_subnet`: one with addresses that can be asked for."""
        full = f"{self.name}_{name}"
        if not own_subnet:
            ask("docker", "network", "create", full)
            return full
        for number in SUBNETS:
            prefix = f"10.253.{number}."
            try:
                ask("docker", "network", "create", "--subnet", f"{prefix}0/24", full)
            except AssertionError:
                continue
            self.prefix = prefix
            return full
        raise AssertionError("no free subnet")

    def start(self, service: str, network: str, *more: str, name: str = "", opted: bool = True,
              aliases: tuple[str, ...] | None = None) -> str:  # fmt: skip
        """One container of a service; returns its name."""
        name = name or f"{self.name}_{service}_{secrets.token_hex(2)}"
        labels = [
            f"com.docker.compose.project={self.name}",
            f"com.docker.compose.service={service}",
        ]
        labels += [OPTED] if opted else []
        names = (service,) if aliases is None else aliases
        ask(
            "docker", "run", "-d", "--init", "--name", name, "--network", network,
            *(word for label in labels for word in ("--label", label)),
            *(word for alias in names for word in ("--network-alias", alias)),
            *more, image(), "python3", "-m", "http.server", "80",
        )  # fmt: skip
        return name

    def remove(self) -> None:
        """Everything of this project."""
        label = f"label=com.docker.compose.project={self.name}"
        if found := ask("docker", "ps", "-aq", "--filter", label).split():
            ask("docker", "rm", "-fv", *found)
        listed = ask("docker", "network", "ls", "-q", "--filter", f"name={self.name}_").split()
        if listed:
            ask("docker", "network", "rm", *listed)


@pytest.fixture
def project() -> Iterator[ByHand]:
    made = ByHand()
    try:
        yield made
    finally:
        made.remove()


def stack(project: ByHand, *services: str, most: int = 2, links: bool = True) -> Stack:
    """Services that listen at port 80, each with a link before it."""
    return Stack(
        name=f"stack-{project.name}", project=Project(project.name, most), rooms=(Room("host"),),
        services=tuple(
            Service(name, "host", ports=(Port("http", "http", 80),), ready=Readiness(path="/"))
            for name in services
        ),
        links=tuple(Link("callers", name, "http") for name in services if links),
        outside=("callers",), image=("{python}", "-m", "stacks.hospital.image"),
    )  # fmt: skip


@pytest.fixture
def raising(tmp_path: Path) -> Iterator[Any]:
    """Makes and raises a runtime; all are taken down afterwards."""
    made: list[AdoptedRuntime] = []

    def up(stack: Stack) -> AdoptedRuntime:
        made.append(AdoptedRuntime(stack, tmp_path))
        made[-1].up(lambda _service, _state: None)
        return made[-1]

    up.made = made  # type: ignore[attr-defined]
    try:
        yield up
    finally:
        for runtime in made:
            runtime.down()


def endpoints(container: str) -> dict[str, tuple[str, str, list[str]]]:
    """Address, MAC address and names by network."""
    (seen,) = json.loads(ask("docker", "inspect", container))
    return {
        name: (one["IPAddress"], one["MacAddress"], sorted(one["Aliases"] or ()))
        for name, one in seen["NetworkSettings"]["Networks"].items()
    }


def called(caller: str, name: str) -> str:
    """The address that a container finds under a name."""
    lines = ask("docker", "exec", caller, "getent", "ahostsv4", name).splitlines()
    (address,) = {line.split()[0] for line in lines}
    return address


def test_callers_are_led_to_the_gateway_and_back(project: ByHand, raising: Any) -> None:
    """Every name but the container's own leads to the proxy; afterwards to the target again."""
    network = project.network("net")
    caller = project.start("caller", network, opted=False)
    target = project.start("api", network, aliases=("api", "prices"))
    before = endpoints(target)
    runtime = raising(stack(project, "api"))
    gateway = endpoints(runtime._gateways.container("api"))[network][0]
    assert called(caller, "api") == called(caller, "prices") == gateway
    assert called(caller, target) == before[network][0]
    assert endpoints(target)[network][0] == before[network][0]
    runtime.down()
    assert called(caller, "api") == before[network][0]
    assert endpoints(target) == before
    runtime.play(runtime.undo_up())
    assert endpoints(target) == before


def test_an_address_of_its_own_stays(project: ByHand, raising: Any) -> None:
    """On a network with its own subnet: fixed, or dynamic with a free address below."""
    network = project.network("net", own_subnet=True)
    first = project.start("first", network)
    dynamic = project.start("dynamic", network)
    fixed = project.start("fixed", network, "--ip", f"{project.prefix}77")
    ask("docker", "rm", "-f", first)
    before = endpoints(dynamic), endpoints(fixed)
    runtime = raising(stack(project, "dynamic", "fixed"))
    assert [endpoints(one)[network][0] for one in (dynamic, fixed)] == [
        one[network][0] for one in before
    ]
    runtime.kill("dynamic")
    runtime.play(runtime.undo_kill("dynamic"))
    assert until(lambda: runtime.health("dynamic").status == "ready")
    runtime.down()
    assert (endpoints(dynamic), endpoints(fixed)) == before


def test_addresses_that_the_engine_chose_come_back(project: ByHand, raising: Any) -> None:
    """With a free address below, and started again in another order than they came in."""
    network = project.network("net")
    first = project.start("first", network)
    one, two = project.start("one", network), project.start("two", network)
    ask("docker", "rm", "-f", first)
    before = endpoints(one), endpoints(two)
    runtime = raising(stack(project, "one", "two"))
    assert [endpoints(name)[network][0] for name in (one, two)] == [
        ends[network][0] for ends in before
    ]
    for name in ("one", "two"):
        runtime.kill(name)
    for name in ("two", "one"):
        runtime.start(name)
    for name in ("one", "two"):
        assert until(lambda name=name: runtime.health(name).status == "ready")  # type: ignore[misc]
        assert runtime.look_at_link(f"callers>{name}.http", 2.0).outcome == "answered"
    runtime.down()
    assert (endpoints(one), endpoints(two)) == before


def test_a_target_on_two_networks_is_led_on_both(project: ByHand, raising: Any) -> None:
    """Callers on either network share the link, and both networks are as before afterwards."""
    front, back = project.network("front"), project.network("back")
    callers = project.start("one", front, opted=False), project.start("two", back, opted=False)
    target = project.start("api", front)
    ask("docker", "network", "connect", "--alias", "api", "--alias", "db", back, target)
    before = endpoints(target)
    runtime = raising(stack(project, "api"))
    gateway = endpoints(runtime._gateways.container("api"))
    assert called(callers[0], "api") == gateway[front][0]
    assert called(callers[1], "db") == gateway[back][0]
    runtime.down()
    assert endpoints(target) == before


def test_names_come_back_to_a_container_that_is_ended_or_paused(
    project: ByHand, raising: Any
) -> None:
    """The stack's undo may be played before that of a kill or a pause; nobody takes the address
    of the dead."""
    network = project.network("net")
    dead, paused = project.start("dead", network), project.start("paused", network)
    before = endpoints(dead), endpoints(paused)
    runtime = raising(stack(project, "dead", "paused"))
    undo = (*runtime.undo_up(), *runtime.undo_kill("dead"), *runtime.undo_pause("paused"))
    runtime.kill("dead")
    runtime.pause("paused")
    runtime.play(undo)
    assert (endpoints(dead), endpoints(paused)) == before


def test_what_somebody_else_removed_is_not_missed(project: ByHand, raising: Any) -> None:
    """It is told while the stack is raised, and the undo does not fail for it."""
    network = project.network("net")
    target = project.start("api", network)
    project.start("other", network)
    runtime = raising(stack(project, "api", "other"))
    assert runtime.lost() == ""
    ask("docker", "rm", "-f", target)
    assert "removed by somebody else" in runtime.lost()
    runtime.down()


def test_a_link_heals_after_its_gateway_is_gone(project: ByHand, raising: Any) -> None:
    """Toxics and closed links went with the proxy: their undo does not fail."""
    project.start("api", project.network("net"))
    runtime = raising(stack(project, "api"))
    link = "callers>api.http"
    undo = (*runtime.undo_set_link(link), *runtime.undo_toxics(link, ("some",)))
    runtime.set_link(link, False)
    assert runtime.look_at_link(link, 1.0).outcome == "refused"
    runtime.play(undo)
    assert runtime.look_at_link(link, 1.0).outcome == "answered"
    runtime.down()
    runtime.play(undo)


def test_only_so_many_are_hit_at_once(project: ByHand, raising: Any) -> None:
    """Counted in the world: what is down or slowed already, whoever did it."""
    network = project.network("net")
    for service in ("one", "two"):
        project.start(service, network)
    runtime = raising(stack(project, "one", "two", most=1))
    runtime.kill("one")
    runtime.kill("one")
    for hit in (runtime.kill, runtime.pause, runtime.stop):
        with pytest.raises(RuntimeFailure, match="two was left alone"):
            hit("two")
    with pytest.raises(RuntimeFailure, match="two was left alone"):
        runtime.set_link("callers>two.http", False)
    assert runtime.state("two") == "running"
    runtime.start("one")
    runtime.pause("two")
    assert runtime.state("two") == "paused"
    runtime.resume("two")


def test_without_the_label_every_verb_refuses(project: ByHand, raising: Any) -> None:
    """Looking is allowed; hitting, squeezing and putting a proxy before it is not."""
    project.start("api", project.network("net"), opted=False)
    runtime = raising(stack(project, "api", links=False))
    assert runtime.state("api") == "running"
    assert runtime.health("api").status == "ready"
    before = runtime.identity("api")
    for verb in (
        runtime.kill, runtime.pause, runtime.stop, runtime.resume, runtime.start,
        runtime.undo_kill, runtime.undo_pause,
        lambda service: runtime.set_limits(service, Limits(pids=100)),
        lambda service: runtime.undo_set_limits(service, Limits(pids=100)),
    ):  # fmt: skip
        with pytest.raises(RuntimeFailure, match="does not carry the label"):
            verb("api")
    assert runtime.identity("api") == before
    with pytest.raises(RuntimeFailure, match="does not carry the label"):
        raising(stack(project, "api"))


def test_limits_come_back_as_they_were(project: ByHand, raising: Any) -> None:
    """A container that had none has none again."""
    target = project.start("api", project.network("net"))
    runtime = raising(stack(project, "api", links=False))
    before, wanted = runtime.limits("api"), Limits(cpus=0.5, pids=64)
    undo = runtime.undo_set_limits("api", wanted)
    runtime.set_limits("api", wanted)
    assert runtime.limits("api") == replace(before, cpus=0.5, pids=64)
    runtime.play(undo)
    assert runtime.limits("api") == before
    assert json.loads(ask("docker", "inspect", target))[0]["State"]["Running"]


def test_a_second_run_keeps_its_hands_off(project: ByHand, raising: Any) -> None:
    """A target that is behind a proxy already has no names that could be put back."""
    project.start("api", project.network("net"))
    raising(stack(project, "api"))
    with pytest.raises(RuntimeFailure, match="behind the proxy of another run"):
        raising(stack(project, "api"))


def test_what_is_not_clear_is_refused(project: ByHand, raising: Any) -> None:
    """Replicas, an ended container, a missing service, a name that cannot move: each in words."""
    network = project.network("net")
    ended = project.start("ended", network)
    ask("docker", "kill", ended)
    for _ in range(2):
        project.start("many", network)
    project.start("own", network, name=f"{project.name}-own", aliases=())
    for service, words in (
        ("ended", "is exited: start it"),
        ("many", "has 2 containers"),
        ("missing", r"no container of service missing \(it has: ended, many, own\)"),
        ("own", "callers know it by its container's own name only"),
    ):
        with pytest.raises(RuntimeFailure, match=words):
            raising(stack(project, service))
    nobody = replace(stack(project, "own"), project=Project("nobody-at-all"))
    with pytest.raises(RuntimeFailure, match="there is no Compose project nobody-at-all"):
        raising(nobody)


def test_a_port_where_nobody_listens_is_told(project: ByHand, raising: Any) -> None:
    """The run ends before any fault, and the names are back."""
    network = project.network("net")
    target = project.start("api", network)
    before = endpoints(target)
    wrong = stack(project, "api")
    service = replace(
        wrong.services[0], ports=(Port("http", "http", 81),),
        ready=Readiness(path="/", within_s=2.0),
    )  # fmt: skip
    with pytest.raises(RuntimeFailure, match="api was not ready within 2 s"):
        raising(replace(wrong, services=(service,)))
    assert endpoints(target) != before  # until the undo is played, as Experiment does
    raising.made[-1].down()
    assert endpoints(target) == before
