"""Targets: empty, unknown, ambiguous, dead or too many is an error, and nothing is touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.faults import (
    Chosen,
    CrashLoop,
    Cut,
    Fault,
    Kill,
    Latency,
    LinksBetween,
    LinksOf,
    LoseRoom,
    Pause,
    Stop,
    TargetError,
)
from chaos.faults.targets import MOST_SERVICES
from chaos.runtime import Runtime
from chaos.runtime.fake import FakeRuntime
from chaos.stack import Room, Service
from tests.faults.stories import quiet
from tests.light_stack import HTTP, light_stack


@pytest.fixture
def fake() -> FakeRuntime:
    runtime = FakeRuntime(light_stack())
    runtime.up(quiet)
    return runtime


def broken(_runtime: Runtime) -> str:
    raise OSError("no node answers")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Kill(), "no service was named"),
        (Pause(), "no service was named"),
        (Stop(), "no service was named"),
        (Cut(), "no link was named"),
        (Latency(latency_ms=1), "no link was named"),
        (Kill("x-ray"), "no service 'x-ray' in this stack .known: web"),
        (CrashLoop("x-ray"), "no service 'x-ray'"),
        (Cut("a>b.c"), "no link 'a>b.c'"),
        (Cut("web"), "no link 'web'"),
        (Kill("ward>web.http"), "no service"),
        (Kill("web", "web"), "named twice: web"),
        (Kill("web", Chosen("it", ("web", "echo"), lambda _: "web")), "named twice"),
        (Kill(Chosen("it", (), lambda _: "web")), "no service was named"),
        (Kill(Chosen("the primary", ("web", "echo"), lambda _: "")), "none of its candidates"),
        (Kill(Chosen("the primary", ("web",), lambda _: "store")), "none of its candidates"),
        (Kill(Chosen("the primary", ("web",), broken)), "cannot be told: no node answers"),
        (Kill(lambda _: "web"), "is no target"),  # type: ignore[arg-type]
        (Cut(LinksOf("C")), "no room 'C'"),
        (Cut(LinksBetween("A", "C")), "no room 'C'"),
        (Cut(LinksBetween("A", "A")), "there are none"),
        (LoseRoom("C"), "no room 'C'"),
    ],
)
def test_a_bad_target_is_refused_and_nothing_is_touched(
    fault: Fault, words: str, fake: FakeRuntime
) -> None:
    """TargetError in words, before any order is given."""
    with pytest.raises(TargetError, match=words):
        fault.pinned(fake).targets(fake.stack)
    assert fake.calls == []


def test_a_room_without_services_cannot_be_lost() -> None:
    """Nothing to lose is an error, not a fault without effect."""
    stack = light_stack()
    runtime = FakeRuntime(replace(stack, rooms=(*stack.rooms, Room("cellar"))))
    with pytest.raises(TargetError, match="cellar has no services"):
        LoseRoom("cellar").pinned(runtime)


def test_too_many_services_at_once_are_refused() -> None:
    """One fault never takes more than its bound."""
    stack = light_stack()
    many = tuple(
        Service(f"s{n}", "A", ("true",), (HTTP,)) for n in range(MOST_SERVICES + 1)
    )  # fmt: skip
    runtime = FakeRuntime(replace(stack, services=(*stack.services, *many)))
    with pytest.raises(TargetError, match="too many"):
        Kill(*(s.name for s in many)).pinned(runtime)


def test_a_dead_service_is_no_target(fake: FakeRuntime) -> None:
    """What does not run cannot be killed."""
    fake.kill("web")
    with pytest.raises(TargetError, match="web is not running"):
        Kill("web").pinned(fake)


def test_a_resolver_is_asked_once_and_stays_with_its_answer(fake: FakeRuntime) -> None:
    """The primary at injection stays the target when the roles change afterwards."""
    answers = iter(["web", "echo"])
    primary = Chosen("the primary", ("web", "echo"), lambda _: next(answers))
    fault = Kill(primary)
    assert fault.targets(fake.stack) == ("web", "echo")
    pinned = fault.pinned(fake)
    assert pinned.pinned(fake).targets(fake.stack) == ("web",)
    pinned.begin(fake, 30)
    assert fake.state("web") == "gone"
    assert fake.state("echo") == "running"
    assert pinned.story == "the primary crashes (SIGKILL, no restart)"


def test_an_instance_that_has_restarted_by_itself_is_left_alone(fake: FakeRuntime) -> None:
    """Pinned by identity: another instance under the same name is not hit, nor are the others."""
    pinned = Kill("echo", "web").pinned(fake)
    fake.kill("web")
    fake.start("web")
    fake.calls.clear()
    with pytest.raises(TargetError, match="not the instance that was pinned"):
        pinned.begin(fake, 30)
    assert fake.calls == []


def test_a_service_that_was_degraded_before_may_be_so_afterwards(fake: FakeRuntime) -> None:
    """gone asks for `ready`, or for the health that was there at injection, and for no less."""
    fake.sick["web"] = "degraded"
    pinned = Kill("web").pinned(fake)
    pinned.begin(fake, 30)
    pinned.end(fake)
    assert pinned.gone(fake).ok
    fake.sick["web"] = "starting"
    assert not pinned.gone(fake).ok


@pytest.mark.parametrize(
    "make",
    [
        lambda: Latency("ward>web.http", latency_ms=0),
        lambda: Latency("ward>web.http", latency_ms=10, jitter_ms=20),
        lambda: CrashLoop("web", every_s=0),
    ],
)
def test_numbers_that_make_no_sense_are_refused_when_written(make: object) -> None:
    """A value that could not take effect cannot be made."""
    assert callable(make)
    with pytest.raises(ValueError, match="must be"):
        make()
