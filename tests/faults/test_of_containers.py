"""Faults that need containers: bad input is refused in words, and what is seen is never more than
what was there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from chaos.faults import (
    Chosen,
    Cut,
    Disconnect,
    Fault,
    LinksBetween,
    SkewClock,
    Squeeze,
    TargetError,
)
from chaos.plan import Rehearsal
from chaos.runtime import ABILITIES, CLOCKS, LIMITS, NETWORKS, Pressure, RuntimeFailure
from chaos.runtime.fake import FakeRuntime
from chaos.stack import Limits, Room
from tests.faults.stories import injected, quiet
from tests.light_stack import light_stack, service


@pytest.fixture
def fake() -> FakeRuntime:
    runtime = FakeRuntime(light_stack())
    runtime.prepare_clocks(tuple(s.name for s in runtime.stack.services))
    runtime.up(quiet)
    return runtime


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Squeeze("web"), "needs cpus, memory_mib or pids"),
        (lambda: Squeeze("web", cpus=0, memory_mib=0, pids=0), "needs cpus, memory_mib or pids"),
        (lambda: Squeeze("web", cpus=-1), "above 0"),
        (lambda: Squeeze("web", cpus=0.5, memory_mib=-5), "above 0"),
        (lambda: Squeeze("web", cpus=0.5, pids=-1), "above 0"),
        (lambda: Squeeze("web", cpus=0.001), "at least 0.01"),
        (lambda: Squeeze("web", cpus=math.nan), "number"),
        (lambda: Squeeze("web", cpus=math.inf), "number"),
        (lambda: Squeeze("web", memory_mib=5), "at least 6"),
        (lambda: SkewClock("web", offset_s=0), "at least 5 s"),
        (lambda: SkewClock("web", offset_s=-4.9), "at least 5 s"),
        (lambda: SkewClock("web", offset_s=math.nan), "at least 5 s"),
        (lambda: SkewClock("web", offset_s=math.inf), "ten years"),
    ],
)
def test_a_fault_that_makes_no_sense_cannot_be_made(make: Callable[[], Fault], words: str) -> None:
    """ValueError says what would be right."""
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Squeeze(pids=9), "no service was named"),
        (SkewClock(offset_s=60), "no service was named"),
        (Squeeze("x-ray", pids=9), "no service 'x-ray'"),
        (SkewClock("x-ray", offset_s=60), "no service 'x-ray'"),
        (Squeeze("web", "web", pids=9), "named twice: web"),
        (Disconnect("A", "A"), "cannot be disconnected from itself"),
        (Disconnect("A", "C"), "no room 'C'"),
        (Disconnect("C", "A"), "no room 'C'"),
    ],
)
def test_a_bad_target_is_refused_and_nothing_is_touched(
    fault: Fault, words: str, fake: FakeRuntime
) -> None:
    """TargetError in words, before any order is given."""
    with pytest.raises(TargetError, match=words):
        fault.pinned(fake).targets(fake.stack)
    assert fake.calls == []


def test_rooms_that_nothing_joins_cannot_be_disconnected() -> None:
    """No link between them, so nothing to take away: an error, not a fault without effect."""
    stack = light_stack()
    lonely = replace(
        stack, rooms=(*stack.rooms, Room("C")), services=(*stack.services, service("x", "C"))
    )
    with pytest.raises(TargetError, match="there are none"):
        Disconnect("A", "C").pinned(FakeRuntime(lonely))


@pytest.mark.parametrize(
    ("fault", "ability"),
    [
        (Squeeze("web", pids=9), LIMITS),
        (SkewClock("web", offset_s=60), CLOCKS),
        (Disconnect("A", "B"), NETWORKS),
    ],
)
def test_a_rehearsal_refuses_what_the_runtime_cannot_do(fault: Fault, ability: str) -> None:
    """Before anything is raised, in one line that names a runtime which can; where it can, the
    plan tells how it is undone."""
    poor = Rehearsal("x", "", light_stack(), set(ABILITIES) - {ability})
    with pytest.raises(RuntimeFailure, match="needs containers: --runtime docker"):
        with poor.inject(fault, 30):
            pass
    with pytest.raises(RuntimeFailure), poor.blank().inject(fault, 30):
        pass
    rich = Rehearsal("x", "", light_stack())
    with rich.inject(fault, 30):
        pass
    (planned,) = rich.plan().faults
    assert planned.undo
    assert set(planned.targets) <= {"web", "web>store.http"}


def test_a_rehearsal_keeps_whose_clock_must_be_made(fake: FakeRuntime) -> None:
    """All candidates of a target that is chosen later get a clock that can be set."""
    either = Chosen("one of them", ("web", "echo"), lambda _runtime: "echo")
    rehearsal = Rehearsal("x", "", light_stack())
    with (
        rehearsal.inject(SkewClock(either, offset_s=60), 30),
        rehearsal.inject(Squeeze("web", pids=9), 30),
    ):
        pass
    (fault,) = rehearsal.prepared
    raised = FakeRuntime(light_stack())
    fault.prepare(raised)
    raised.up(quiet)
    raised.set_clock("web", 60)
    raised.set_clock("echo", 60)
    with pytest.raises(RuntimeFailure, match="machine's own clock"):
        raised.set_clock("store", 60)
    del fake


# ---------------------------------------------------------------- squeeze


def test_a_squeeze_inside_a_squeeze_goes_back_to_the_outer_one(fake: FakeRuntime) -> None:
    """Each undo puts back what it found, however often it is asked for."""
    own = fake.limits("web")
    with injected(Squeeze("web", cpus=1, pids=100), fake) as outer:
        with injected(Squeeze("web", pids=50), fake) as inner:
            assert fake.limits("web").pids == 50
            assert outer.undo(fake) != inner.undo(fake)
        assert fake.limits("web") == Limits(1, own.memory_mib, 100)
        assert outer.seen(fake).ok
        assert inner.gone(fake).ok
    assert fake.limits("web") == own


@pytest.mark.parametrize(
    ("uses", "words"),
    [
        (Limits(0.2, 40, 6), "not felt yet"),
        (Limits(1.5, 40, 6), "throttled in 10 of 10 periods"),
        (Limits(0.2, 40, 30), "full: it gets no more"),
    ],
)
def test_pressure_is_claimed_only_where_it_was(uses: Limits, words: str, fake: FakeRuntime) -> None:
    """The words follow the kernel's counters: of an idle service they say that nothing is felt."""
    pinned = Squeeze("web", cpus=0.5, memory_mib=64, pids=20).pinned(fake)
    fake.uses = uses
    pinned.begin(fake, 30)
    look = pinned.seen(fake)
    assert look.ok
    assert words in look.text
    assert ("throttled" in look.text) == (uses.cpus > 0.5)
    assert ("full" in look.text) == (uses.pids > 20)
    pinned.end(fake)


def test_memory_that_is_in_use_is_not_taken_and_the_fault_is_not_seen(fake: FakeRuntime) -> None:
    """RuntimeFailure says so; the limits are the old ones."""
    own = fake.limits("web")
    pinned = Squeeze("web", memory_mib=20).pinned(fake)
    with pytest.raises(RuntimeFailure, match="uses more memory"):
        pinned.begin(fake, 30)
    assert not pinned.seen(fake).ok
    assert fake.limits("web") == own


class Deceived(FakeRuntime):
    """Its engine takes every order, and its kernel keeps none."""

    def pressure(self, service: str) -> Pressure:
        """What the kernel says: the limits of the stack."""
        return replace(super().pressure(service), memory_limit_mib=1024, pids_limit=512)


@pytest.mark.parametrize("fault", [Squeeze("web", memory_mib=64), Squeeze("web", pids=20)])
def test_what_the_engine_says_is_not_enough(fault: Fault) -> None:
    """A limit counts as seen when the kernel has it, not when the engine has written it down."""
    runtime = Deceived(light_stack())
    runtime.up(quiet)
    with injected(fault, runtime) as pinned:
        look = pinned.seen(runtime)
        assert not look.ok
        assert "its kernel limit is" in look.text


# ---------------------------------------------------------------- clock-skew, disconnect


def test_a_clock_that_is_off_already_is_not_set_again(fake: FakeRuntime) -> None:
    """Neither of two jumps could say what it did, so the second is refused."""
    with injected(SkewClock("web", offset_s=60), fake):
        with pytest.raises(TargetError, match=r"off by \+60 s already"):
            SkewClock("web", "echo", offset_s=-60).pinned(fake)
        SkewClock("echo", offset_s=-60).pinned(fake)


def test_a_network_cannot_be_seen_behind_closed_proxies(fake: FakeRuntime) -> None:
    """A refused connection proves nothing where another fault keeps the proxy closed."""
    with injected(Cut(LinksBetween("A", "B")), fake), injected(Disconnect("A", "B"), fake) as gone:
        look = gone.seen(fake)
        assert not look.ok
        assert "is closed by cut" in look.text
