"""What only some runtimes can: limits, clocks and networks of services. All that can, do it alike;
the others say so and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.runtime import (
    ABILITIES,
    CLOCKS,
    LIMITS,
    NETWORKS,
    Runtime,
    RuntimeFailure,
    engine,
)
from chaos.runtime.docker import DockerRuntime
from chaos.runtime.fake import FakeRuntime
from chaos.runtime.process import ProcessRuntime
from chaos.stack import Limits
from tests.conditions import until
from tests.light_stack import in_containers, light_stack

DOCKER = pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.timeout(900)])
CLOCKED = ("web", "store")
NEAR_S = 2.5
HOUR_S = 3600.0

VERBS: dict[str, tuple[str, Callable[[Runtime], object]]] = {
    "prepare_clocks": (CLOCKS, lambda r: r.prepare_clocks(("web",))),
    "set_clock": (CLOCKS, lambda r: r.set_clock("web", 60)),
    "clock": (CLOCKS, lambda r: r.clock("web")),
    "undo_set_clock": (CLOCKS, lambda r: r.undo_set_clock("web")),
    "limits": (LIMITS, lambda r: r.limits("web")),
    "set_limits": (LIMITS, lambda r: r.set_limits("web", Limits(pids=9))),
    "pressure": (LIMITS, lambda r: r.pressure("web")),
    "undo_set_limits": (LIMITS, lambda r: r.undo_set_limits("web", Limits(pids=9))),
    "disconnect": (NETWORKS, lambda r: r.disconnect("A", "B")),
    "undo_disconnect": (NETWORKS, lambda r: r.undo_disconnect("A", "B")),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_runtime_without_an_ability_says_what_has_it(verb: str, tmp_path: Path) -> None:
    """One line that names what was asked and the runtime that can; processes cannot, nor can a
    fake that stands in for them."""
    ability, ask = VERBS[verb]
    for runtime in (
        ProcessRuntime(light_stack(), tmp_path),
        FakeRuntime(light_stack(), abilities=set(ABILITIES) - {ability}),
    ):
        assert ability not in runtime.abilities
        with pytest.raises(RuntimeFailure, match=f"^{ABILITIES[ability]} needs .*--runtime docker"):
            ask(runtime)
        if isinstance(runtime, ProcessRuntime):
            runtime.forget_remains()


@pytest.fixture(scope="module", params=["fake", DOCKER])
def raised(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    """A raised light stack, two of whose services have clocks that can be set."""
    runtime: Runtime
    if request.param == "fake":
        runtime = FakeRuntime(light_stack())
    elif why := engine.missing():
        pytest.skip(why)
    else:
        runtime = DockerRuntime(in_containers(light_stack()), tmp_path_factory.mktemp("run"))
    runtime.prepare_clocks(CLOCKED)
    try:
        runtime.up(lambda _service, _state: None)
        yield runtime
    finally:
        runtime.down()
        runtime.forget_remains()


@pytest.fixture
def runtime(raised: Runtime) -> Iterator[Runtime]:
    """The raised stack, made whole after each test."""
    undo = [*raised.undo_disconnect("A", "B")]
    for service in raised.stack.services:
        undo += raised.undo_set_limits(service.name, Limits(1, 1, 1))
    for name in CLOCKED:
        undo += raised.undo_set_clock(name)
    yield raised
    raised.play(tuple(undo))
    for service in raised.stack.services:
        raised.start(service.name)
        assert until(lambda s=service.name: raised.health(s).status == "ready", 20)  # type: ignore[misc]
    for name in CLOCKED:
        assert until(lambda n=name: abs(raised.clock(n).offset_s) < NEAR_S)  # type: ignore[misc]


# ---------------------------------------------------------------- limits


def test_a_stack_stands_with_the_limits_that_it_asks_for(runtime: Runtime) -> None:
    """Of memory and processes what the stack says; of CPU no more than the machine has."""
    for service in runtime.stack.services:
        now = runtime.limits(service.name)
        assert (now.memory_mib, now.pids) == (service.limits.memory_mib, service.limits.pids)
        assert 0 < now.cpus <= service.limits.cpus


def test_limits_are_in_force_at_once_and_the_undo_gives_the_old_ones_back(
    runtime: Runtime,
) -> None:
    """Read back from the runtime and from the kernel; of this service only; the undo is idempotent
    and leaves the same instance."""
    before, other = runtime.limits("web"), runtime.limits("echo")
    instance = runtime.identity("web")
    tight = Limits(cpus=0.5, memory_mib=100, pids=60)
    undo = runtime.undo_set_limits("web", tight)
    runtime.set_limits("web", tight)
    assert runtime.limits("web") == tight
    felt = runtime.pressure("web")
    assert (felt.memory_limit_mib, felt.pids_limit) == (100, 60)
    assert 0 < felt.memory_mib < 100
    assert 0 < felt.pids < 60
    assert runtime.limits("echo") == other
    for _ in range(2):
        runtime.play(undo)
        assert runtime.limits("web") == before
    assert runtime.identity("web") == instance


def test_a_limit_of_nothing_stays_as_it_is(runtime: Runtime) -> None:
    """Only the limit that is named changes, and only that is put back."""
    before = runtime.limits("web")
    undo = runtime.undo_set_limits("web", Limits(pids=50))
    runtime.set_limits("web", Limits(pids=50))
    now = runtime.limits("web")
    assert (now.cpus, now.memory_mib, now.pids) == (before.cpus, before.memory_mib, 50)
    runtime.set_limits("web", Limits(memory_mib=200))
    runtime.play(undo)
    now = runtime.limits("web")
    assert (now.memory_mib, now.pids) == (200, before.pids)


def test_pressure_on_the_cpu_is_counted_when_there_is_some(runtime: Runtime) -> None:
    """A service that is asked without pause, with a hundredth of a CPU, is throttled."""
    runtime.set_limits("web", Limits(cpus=0.01))
    before = runtime.pressure("web").throttled if runtime.name != "fake" else 0

    def throttled() -> bool:
        runtime.health("web")
        return runtime.pressure("web").throttled > before

    assert until(throttled, 20)


def test_memory_below_what_is_in_use_is_refused_in_words_or_ends_the_service(
    runtime: Runtime,
) -> None:
    """Where the kernel refuses nothing changes; where it does not (control groups of version 2),
    it ends a process, and that is counted."""
    before = runtime.limits("web")
    refusal = ""
    try:
        runtime.set_limits("web", Limits(memory_mib=6))
    except RuntimeFailure as failure:
        refusal = str(failure)
    if not refusal:
        assert until(lambda: runtime.pressure("web").starved)
        return
    assert "cannot limit web: it uses more memory than that" in refusal
    assert runtime.limits("web") == before
    assert runtime.health("web").status == "ready"


def test_a_service_that_did_not_survive_its_limits_is_started_by_the_undo(
    runtime: Runtime,
) -> None:
    """Limits of what is gone are put back as well; then it starts with its own."""
    before = runtime.limits("web")
    undo = runtime.undo_set_limits("web", Limits(memory_mib=100))
    runtime.set_limits("web", Limits(memory_mib=100))
    runtime.kill("web")
    if runtime.name == "fake":
        runtime.start("web")
    runtime.play(undo)
    assert until(lambda: runtime.health("web").status == "ready", 20)
    assert runtime.limits("web") == before


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("offset_s", [HOUR_S, -HOUR_S])
def test_a_clock_that_was_set_is_told_by_the_service_and_by_no_other(
    runtime: Runtime, offset_s: float
) -> None:
    """Ahead and back; a restart keeps it; the undo, played twice, gives the right time."""
    undo = runtime.undo_set_clock("web")
    assert abs(runtime.clock("web").offset_s) < NEAR_S
    runtime.set_clock("web", offset_s)
    assert until(lambda: abs(runtime.clock("web").offset_s - offset_s) < NEAR_S)
    assert abs(runtime.clock("store").offset_s) < NEAR_S
    runtime.kill("web")
    runtime.start("web")
    assert until(lambda: runtime.health("web").status == "ready", 20)
    assert abs(runtime.clock("web").offset_s - offset_s) < NEAR_S
    for _ in range(2):
        runtime.play(undo)
        assert until(lambda: abs(runtime.clock("web").offset_s) < NEAR_S)


def test_a_clock_that_was_not_asked_for_cannot_be_set(runtime: Runtime) -> None:
    """RuntimeFailure says why; its clock can be read all the same."""
    with pytest.raises(RuntimeFailure, match="machine's own clock"):
        runtime.set_clock("echo", HOUR_S)
    assert abs(runtime.clock("echo").offset_s) < NEAR_S


def test_a_service_that_hangs_tells_no_time(runtime: Runtime) -> None:
    """RuntimeFailure, never a time that nobody told."""
    runtime.pause("web")
    try:
        with pytest.raises(RuntimeFailure):
            runtime.clock("web")
    finally:
        runtime.resume("web")


# ---------------------------------------------------------------- networks


def test_rooms_without_a_network_get_no_connection_and_all_others_do(runtime: Runtime) -> None:
    """Links between the rooms meet nobody though their proxies are open; others answer; undone,
    all answer again on the same addresses. Both orders count once, however often given."""
    stack = runtime.stack
    between = [k.name for k in stack.links_between("A", "B")]
    others = [k.name for k in stack.links if k.name not in between and k.port == "http"]
    address = str(runtime.link_address(between[0]))
    undo = runtime.undo_disconnect("A", "B")
    for _ in range(2):
        runtime.disconnect("A", "B")
        for link in between:
            assert runtime.look_at_link(link, 0.3).outcome == "refused"
            assert runtime.link_enabled(link)
        for link in others:
            assert runtime.look_at_link(link, 2).outcome == "answered"
    for _ in range(2):
        runtime.play(undo)
        for link in between:
            assert until(lambda k=link: runtime.look_at_link(k, 1).outcome == "answered")  # type: ignore[misc]
    assert str(runtime.link_address(between[0])) == address
    assert until(lambda: runtime.health("web").status == "ready")


def test_a_service_that_asks_over_there_says_that_it_cannot(runtime: Runtime) -> None:
    """What the callers inside meet: web asks store in the other room for its own health."""
    if runtime.name == "fake":
        return
    undo = runtime.undo_disconnect("A", "B")
    runtime.disconnect("A", "B")
    assert until(lambda: runtime.health("web").status != "ready", 15)
    runtime.play(undo)
    assert until(lambda: runtime.health("web").status == "ready", 15)


def test_rooms_that_nothing_joins_cannot_be_disconnected(runtime: Runtime) -> None:
    """RuntimeFailure instead of an order without effect; both for the order and for its undo."""
    with pytest.raises(RuntimeFailure, match="nothing joins"):
        runtime.disconnect("A", "A")
    with pytest.raises(RuntimeFailure, match="nothing joins"):
        runtime.undo_disconnect("A", "A")
