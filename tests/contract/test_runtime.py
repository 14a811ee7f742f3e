"""What every runtime must do, tried on each: a fault cannot tell them apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.runtime import Runtime, RuntimeFailure, Toxic, engine
from chaos.runtime.docker import DockerRuntime
from chaos.runtime.fake import FakeRuntime
from chaos.runtime.process import ProcessRuntime
from chaos.stack import TopologyError
from tests.conditions import until
from tests.light_stack import in_containers, light_stack

READY_S = 20.0

LINK = "ward>web.http"


DOCKER = pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.timeout(900)])


def made(name: str, folder: Path) -> Runtime:
    """A runtime of that name for the light stack; skips, with the reason, where it cannot be."""
    if name == "fake":
        return FakeRuntime(light_stack())
    if name == "process":
        return ProcessRuntime(light_stack(), folder)
    if why := engine.missing():
        pytest.skip(why)
    return DockerRuntime(in_containers(light_stack()), folder)


@pytest.fixture(scope="module", params=["fake", "process", DOCKER])
def raised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[
    Runtime
]:  # fmt: skip
    """A raised light stack, taken down after the module."""
    runtime = made(request.param, tmp_path_factory.mktemp("run"))
    try:
        runtime.up(lambda _service, _state: None)
        yield runtime
    finally:
        runtime.down()
        runtime.forget_remains()


@pytest.fixture
def runtime(raised: Runtime) -> Iterator[Runtime]:
    """The raised stack, made whole after each test."""
    yield raised
    for service in raised.stack.services:
        raised.resume(service.name)
        raised.start(service.name)
        assert until(lambda s=service.name: raised.health(s).status == "ready", READY_S)  # type: ignore[misc]
    for link in raised.stack.links:
        raised.play(raised.undo_set_link(link.name))
        raised.play(raised.undo_toxics(link.name, raised.toxics(link.name)))


def test_up_raises_everything(runtime: Runtime) -> None:
    """After up each service runs, is ready and has an identity; each link is open and clean."""
    assert runtime.raised
    for service in runtime.stack.services:
        assert runtime.state(service.name) == "running"
        assert runtime.health(service.name).status == "ready"
        assert runtime.identity(service.name)
    for link in runtime.stack.links:
        assert runtime.link_enabled(link.name)
        assert runtime.toxics(link.name) == ()


def test_addresses_are_all_different(runtime: Runtime) -> None:
    """No two ports or links share an address."""
    stack = runtime.stack
    ports = [str(runtime.address(s.name, p.name)) for s in stack.services for p in s.ports]
    links = [str(runtime.link_address(k.name)) for k in stack.links]
    assert len({*ports, *links}) == len(ports) + len(links)


def test_a_killed_service_is_gone_and_its_undo_starts_another_in_its_place(
    runtime: Runtime,
) -> None:
    """Killed: gone, silent, without identity. Undone: ready, another identity, same address."""
    before, address = runtime.identity("web"), runtime.address("web", "http")
    undo = runtime.undo_kill("web")
    runtime.kill("web")
    assert runtime.state("web") == "gone"
    assert runtime.identity("web") == ""
    assert runtime.health("web").status == "silent"
    runtime.play(undo)
    assert until(lambda: runtime.health("web").status == "ready", READY_S)
    assert runtime.identity("web") not in ("", before)
    assert runtime.address("web", "http") == address


def test_undoing_twice_is_undoing_once(runtime: Runtime) -> None:
    """The second play of a kill's undo leaves the instance that the first has started."""
    undo = runtime.undo_kill("store")
    runtime.kill("store")
    runtime.play(undo)
    first = runtime.identity("store")
    runtime.play(undo)
    runtime.start("store")
    assert runtime.identity("store") == first != ""


def test_killing_is_idempotent(runtime: Runtime) -> None:
    """Killing what is gone does nothing and says nothing."""
    runtime.kill("web")
    runtime.kill("web")
    assert runtime.state("web") == "gone"


def test_a_paused_service_stands_still_and_is_the_same_after_its_undo(runtime: Runtime) -> None:
    """Paused: silent, same identity. Undone: ready, still the same identity."""
    before = runtime.identity("web")
    undo = runtime.undo_pause("web")
    runtime.pause("web")
    assert runtime.state("web") == "paused"
    assert runtime.identity("web") == before
    assert runtime.look_at_link(LINK, 0.2).outcome == "silent"
    runtime.play(undo)
    assert runtime.state("web") == "running"
    assert until(lambda: runtime.health("web").status == "ready", READY_S)
    assert runtime.identity("web") == before
    runtime.play(undo)


def test_a_paused_service_can_be_killed(runtime: Runtime) -> None:
    """SIGKILL needs no thawing."""
    runtime.pause("web")
    runtime.kill("web")
    assert runtime.state("web") == "gone"


def test_stopping_ends_a_service_even_a_paused_one(runtime: Runtime) -> None:
    """A deliberate stop ends it, whatever its state was."""
    runtime.stop("web")
    assert runtime.state("web") == "gone"
    runtime.pause("echo")
    runtime.stop("echo")
    assert runtime.state("echo") == "gone"


def test_only_the_named_service_is_touched(runtime: Runtime) -> None:
    """Its neighbours keep their identity."""
    others = [s.name for s in runtime.stack.services if s.name != "mirror"]
    before = {name: runtime.identity(name) for name in others}
    runtime.kill("mirror")
    assert {name: runtime.identity(name) for name in others} == before
    assert {runtime.state(name) for name in others} == {"running"}


def test_a_latency_toxic_is_there_felt_and_gone(runtime: Runtime) -> None:
    """Read back by name, felt by a round trip, gone after its undo; the undo is idempotent."""
    undo = runtime.undo_toxics(LINK, ("slow",))
    runtime.add_toxic(LINK, Toxic("slow", "latency", {"latency": 120}), 30)
    assert runtime.toxics(LINK) == ("slow",)
    felt = runtime.look_at_link(LINK, 2)
    assert felt.outcome == "answered"
    assert felt.ms >= 118
    for _ in range(2):
        runtime.play(undo)
        assert runtime.toxics(LINK) == ()
    assert runtime.look_at_link(LINK, 2).ms < 100


def test_a_toxic_expires_by_itself(runtime: Runtime) -> None:
    """After its time it is gone though nobody has removed it."""
    runtime.add_toxic(LINK, Toxic("slow", "latency", {"latency": 120}), 2)
    assert runtime.toxics(LINK) == ("slow",)
    assert until(lambda: runtime.toxics(LINK) == (), 4)


def test_two_toxics_of_one_name_are_refused(runtime: Runtime) -> None:
    """The second is a RuntimeFailure, the first stays."""
    runtime.add_toxic(LINK, Toxic("slow", "latency", {"latency": 50}), 30)
    with pytest.raises(RuntimeFailure):
        runtime.add_toxic(LINK, Toxic("slow", "latency", {"latency": 70}), 30)
    assert runtime.toxics(LINK) == ("slow",)


def test_a_reset_toxic_is_met_at_the_first_byte(runtime: Runtime) -> None:
    """The connection breaks as soon as it is used."""
    runtime.add_toxic(LINK, Toxic("rst", "reset_peer", {"timeout": 0}, "upstream"), 30)
    assert runtime.look_at_link(LINK, 1).outcome in ("reset", "closed")


def test_a_closed_link_refuses_and_opens_by_its_undo(runtime: Runtime) -> None:
    """Closed: not enabled, refused. Undone (twice): enabled, answered."""
    undo = runtime.undo_set_link(LINK)
    runtime.set_link(LINK, False, 30)
    assert not runtime.link_enabled(LINK)
    assert runtime.look_at_link(LINK, 0.5).outcome == "refused"
    for _ in range(2):
        runtime.play(undo)
        assert runtime.link_enabled(LINK)
        assert runtime.look_at_link(LINK, 2).outcome == "answered"


def test_a_closed_link_opens_by_itself(runtime: Runtime) -> None:
    """After its time it is open though nobody has opened it."""
    runtime.set_link(LINK, False, 2)
    assert runtime.look_at_link(LINK, 0.5).outcome == "refused"
    assert until(lambda: runtime.look_at_link(LINK, 1).outcome == "answered", 4)


def test_a_link_that_two_closed_opens_when_the_last_lets_go(runtime: Runtime) -> None:
    """Closed under two names: each lets go for itself; opened without a name it opens for all."""
    for name in ("one", "two"):
        runtime.set_link(LINK, False, 30, by=name)
    assert sorted(runtime.link_closed_by(LINK)) == ["one", "two"]
    runtime.play(runtime.undo_set_link(LINK, by="one"))
    assert runtime.link_closed_by(LINK) == ("two",)
    assert not runtime.link_enabled(LINK)
    runtime.set_link(LINK, True)
    assert runtime.link_closed_by(LINK) == ()
    assert runtime.link_enabled(LINK)


def test_a_speaking_toxic_keeps_a_record_that_outlives_it(runtime: Runtime) -> None:
    """Known to the proxies; its record counts what passed, and can be asked when it is gone."""
    assert {"mllp", "dicom", "http", "latency"} <= set(runtime.toxic_kinds())
    assert runtime.toxic_record(LINK, "late") is None
    terms: dict[str, int | str] = {"action": "delay", "delay": 1, "nth": 1}
    runtime.add_toxic(LINK, Toxic("late", "http", terms), 30)
    runtime.look_at_link(LINK, 2)
    record = runtime.toxic_record(LINK, "late")
    assert record is not None
    assert (record.seen, record.acted) == (1, 1)
    runtime.play(runtime.undo_toxics(LINK, ("late",)))
    assert runtime.toxic_record(LINK, "late") == record


def test_a_long_question_and_the_end_of_an_answer_can_be_timed(runtime: Runtime) -> None:
    """Padding goes through a narrow link slowly; a late end is told apart from a late answer."""
    runtime.add_toxic(LINK, Toxic("narrow", "bandwidth", {"rate": 50}, "upstream"), 30)
    assert runtime.look_at_link(LINK, 3, padding=5000).ms >= 99
    runtime.play(runtime.undo_toxics(LINK, ("narrow",)))
    runtime.add_toxic(LINK, Toxic("late", "slow_close", {"delay": 120}), 30)
    looks = [runtime.look_at_link(LINK, 3, to_end=True) for _ in range(5)]
    met = max(looks, key=lambda look: look.close_ms)  # who wakes late sees less
    assert met.close_ms >= 118
    assert met.ms < 100
    assert runtime.look_at_link(LINK, 3).close_ms == -1


def test_a_link_without_a_question_is_only_connected_to(runtime: Runtime) -> None:
    """For plain TCP nothing is asked: an open link is `silent` and says that nothing was asked."""
    met = runtime.look_at_link("ward>echo.echo", 1)
    assert (met.outcome, met.asked) == ("silent", False)


@pytest.mark.parametrize("verb", ["kill", "pause", "resume", "stop", "start", "state", "identity"])
def test_an_unknown_service_is_an_error_that_names_the_known(runtime: Runtime, verb: str) -> None:
    """No verb takes a name that is not in the stack."""
    with pytest.raises(TopologyError, match="known: echo"):
        getattr(runtime, verb)("x-ray")


def test_an_unknown_link_is_an_error_that_names_the_known(runtime: Runtime) -> None:
    """No verb takes a link that is not in the stack."""
    for verb in ("toxics", "link_enabled", "link_address", "undo_set_link"):
        with pytest.raises(TopologyError, match="known: mirror"):
            getattr(runtime, verb)("a>b.c")


def test_an_unknown_undo_step_is_never_taken_for_done(runtime: Runtime) -> None:
    """play raises for a step that it does not know."""
    with pytest.raises(RuntimeFailure, match="unknown undo step"):
        runtime.play(({"do": "levitate", "verb": "levitate"},))


@pytest.mark.parametrize("name", ["fake", "process", DOCKER])
def test_down_leaves_nothing_running_and_may_be_said_twice(name: str, tmp_path: Path) -> None:
    """A stack of its own: after down every service is gone, with no identity."""
    runtime = made(name, tmp_path)
    runtime.up(lambda _service, _state: None)
    for _ in range(2):
        runtime.down()
        assert not runtime.raised
        assert {runtime.state(s.name) for s in runtime.stack.services} == {"gone"}
        assert {runtime.identity(s.name) for s in runtime.stack.services} == {""}
    runtime.forget_remains()
    runtime.forget_remains()
