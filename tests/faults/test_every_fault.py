"""What every fault must do: take effect and be seen, heal and be seen healed, or say that not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from chaos import reaper
from chaos.faults import EVERY_FAULT, Fault, TargetError
from chaos.runtime import CLOCKS, Runtime, RuntimeFailure, engine
from chaos.runtime.docker import DockerRuntime
from chaos.runtime.fake import FakeRuntime
from chaos.runtime.process import ProcessRuntime
from tests.conditions import seen, until
from tests.faults.stories import EXAMPLES, STORED, injected, quiet
from tests.light_stack import in_containers
from tests.speaking_stack import Callers, speaking_stack

ORDERS = (
    "kill", "pause", "stop", "add_toxic", "set_link", "set_limits", "set_clock", "disconnect"
)  # fmt: skip
OF_SERVICES = ("kill", "pause", "stop", "crash-loop", "room", "squeeze", "clock-skew")
UNDOS = ("start", "resume", "clear", "set_link", "unset_limits", "unset_clock", "connect")
OF_CONTAINERS = ("squeeze", "clock-skew", "disconnect")
DOCKER = pytest.param(
    "docker", marks=[pytest.mark.docker, pytest.mark.campaign, pytest.mark.timeout(900)]
)

every_fault = pytest.mark.parametrize("fault", EXAMPLES.values(), ids=EXAMPLES.keys())


@pytest.fixture(scope="module", params=["process", DOCKER])
def living(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    """One stack of real services for the whole module, with traffic."""
    folder = tmp_path_factory.mktemp("run")
    runtime: Runtime
    if request.param == "process":
        runtime = ProcessRuntime(speaking_stack(), folder)
    elif why := engine.missing():
        pytest.skip(why)
    else:
        runtime = DockerRuntime(in_containers(speaking_stack()), folder)
        runtime.prepare_clocks(("web", "store", "hall"))
    try:
        runtime.up(quiet)
        callers = Callers(runtime)
        yield runtime
        callers.stop()
    finally:
        runtime.down()
        runtime.forget_remains()


@pytest.fixture
def fake() -> FakeRuntime:
    runtime = FakeRuntime(speaking_stack())
    runtime.prepare_clocks(tuple(s.name for s in runtime.stack.services))
    runtime.up(quiet)
    return runtime


def refused(fault: Fault, runtime: Runtime) -> bool:
    """Whether the runtime has no such fault; then it says so when asked for the undo, in words."""
    if CLOCKS in runtime.abilities or fault.kind not in OF_CONTAINERS:
        return False
    with pytest.raises(RuntimeFailure, match="needs containers: --runtime docker"):
        fault.pinned(runtime).undo(runtime)
    return True


def ready(runtime: Runtime) -> bool:
    return {runtime.health(s.name).status for s in runtime.stack.services} == {"ready"}


def test_there_is_an_example_of_every_fault() -> None:
    """Whoever adds a fault adds its example here."""
    every = [*EXAMPLES.values(), *STORED.values()]
    assert {type(fault) for fault in every} == set(EVERY_FAULT)


@every_fault
def test_on_real_services_it_is_seen_and_seen_gone(fault: Fault, living: Runtime) -> None:
    """Before: not seen. Injected: seen. Ended: seen gone, and everything is ready again."""
    assert until(lambda: ready(living), 20)
    if refused(fault, living):
        return
    pinned = fault.pinned(living)
    assert not pinned.seen(living).ok
    with injected(pinned, living) as pinned:
        look, _ = seen(lambda: pinned.seen(living))
        assert look.ok, look.text
        assert not pinned.gone(living).ok
    look, _ = seen(lambda: pinned.gone(living), 20)
    assert look.ok, look.text
    assert until(lambda: ready(living), 20)
    assert not pinned.seen(living).ok or pinned.kind in ("crash-loop", "flap")


@every_fault
def test_its_undo_on_disk_is_enough(fault: Fault, living: Runtime) -> None:
    """Another process that plays only the steps heals it as well (the loops end with us)."""
    assert until(lambda: ready(living), 20)
    if refused(fault, living):
        return
    pinned = fault.pinned(living)
    steps = json.loads(json.dumps([dict(step) for step in pinned.undo(living)]))
    pinned.begin(living, 0.5 if pinned.kind in ("crash-loop", "flap") else 30.0)
    assert seen(lambda: pinned.seen(living))[0].ok
    if pinned.kind in ("crash-loop", "flap"):
        assert until(lambda: not pinned.loop._thread.is_alive())  # type: ignore[attr-defined]
    for step in steps:
        reaper.play_step(step)
    look, _ = seen(lambda: pinned.gone(living), 20)
    pinned.end(living)
    assert look.ok, look.text
    assert until(lambda: ready(living), 20)


@every_fault
def test_an_order_in_vain_is_not_seen(fault: Fault, fake: FakeRuntime) -> None:
    """A runtime that does nothing when told: the effect probe says so."""
    fake.deaf = set(ORDERS)
    pinned = fault.pinned(fake)
    pinned.begin(fake, 30)
    assert not pinned.seen(fake).ok
    pinned.end(fake)


@every_fault
def test_an_undo_in_vain_is_not_gone(fault: Fault, fake: FakeRuntime) -> None:
    """A runtime that undoes nothing when told: the heal is not seen."""
    pinned = fault.pinned(fake)
    pinned.begin(fake, 30)
    assert seen(lambda: pinned.seen(fake))[0].ok
    if pinned.kind in ("crash-loop", "flap"):
        pinned.loop.stop()  # type: ignore[attr-defined]
        targets = pinned.targets(fake.stack)
        (fake.kill if pinned.kind == "crash-loop" else lambda k: fake.set_link(k, False))(
            targets[0]
        )
    fake.deaf = set(UNDOS)
    pinned.end(fake)
    look = pinned.gone(fake)
    if pinned.kind in ("cut", "flap") and not fake.link_enabled(pinned.targets(fake.stack)[0]):
        assert not look.ok or "closed" in look.text
    else:
        assert not look.ok


@every_fault
def test_it_is_planned_on_a_stack_that_is_not_raised(fault: Fault) -> None:
    """Targets, story and undo are known in words before anything runs."""
    fake = FakeRuntime(speaking_stack())
    pinned = fault.pinned(fake)
    assert pinned.targets(fake.stack)
    assert set(pinned.targets(fake.stack)) <= set(fault.targets(fake.stack))
    assert pinned.story
    assert all(reaper.describe(dict(step)) for step in pinned.undo(fake))
    assert fake.calls == []


@pytest.mark.parametrize("name", [n for n, f in EXAMPLES.items() if f.kind in OF_SERVICES])
def test_nothing_begins_without_being_pinned_on_a_raised_stack(name: str) -> None:
    """A rehearsed fault changes nothing when begun by mistake, and nothing counts as seen."""
    fake, fault = FakeRuntime(speaking_stack()), EXAMPLES[name]
    with pytest.raises(TargetError, match="pinned"):
        fault.begin(fake, 30)
    assert not fault.seen(fake).ok
    assert not fault.gone(fake).ok
    assert fake.calls == []


@every_fault
def test_ending_twice_is_ending_once(fault: Fault, fake: FakeRuntime) -> None:
    """end is idempotent, and harmless for a fault that never began."""
    pinned = fault.pinned(fake)
    pinned.end(fake)
    pinned.begin(fake, 30)
    pinned.end(fake)
    pinned.end(fake)
    assert pinned.gone(fake).ok


def test_the_run_folder_keeps_the_logs(living: Runtime) -> None:
    """Logs of a service go on in the same file over its restarts (containers: when they end)."""
    if not isinstance(living, ProcessRuntime):
        living.down()
        log = living.logs / "web.log"  # type: ignore[attr-defined]
        assert log.read_text().count("web serves") >= 1
        return
    assert living.log("web").read_text().count("web serves") >= 1
