"""Faults on links: closings of the same link are counted, effects are measured, not believed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos import reaper
from chaos.faults import Bandwidth, Cut, Fault, Flap, Latency, LoseRoom, SlowClose
from chaos.runtime import LinkLook, Runtime
from chaos.runtime.fake import FakeRuntime
from chaos.runtime.process import ProcessRuntime
from tests.conditions import seen, until
from tests.faults.stories import quiet
from tests.light_stack import light_stack

LINK = "ward>web.http"
LEASE_S = 30.0


@pytest.fixture(scope="module", params=["fake", "process"])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[
    Runtime
]:  # fmt: skip
    """A raised light stack, in memory or of real processes."""
    runtime: Runtime = FakeRuntime(light_stack())
    if request.param == "process":
        runtime = ProcessRuntime(light_stack(), tmp_path_factory.mktemp("run"))
    try:
        runtime.up(quiet)
        yield runtime
    finally:
        runtime.forget_remains()


def met(runtime: Runtime) -> str:
    return runtime.look_at_link(LINK, 2).outcome


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_a_link_that_two_faults_cut_stays_cut_until_both_have_ended(
    runtime: Runtime, first_ends_first: bool
) -> None:
    """In either order: after the one end the link is still cut by the other, and seen so; after
    the second it is open. The first one's heal is not held up by the second."""
    one, two = (Cut(LINK).pinned(runtime) for _ in range(2))
    for fault in (one, two):
        fault.begin(runtime, LEASE_S)
    ends, stays = (one, two) if first_ends_first else (two, one)
    ends.end(runtime)
    assert met(runtime) == "refused"
    assert stays.seen(runtime).ok
    look = ends.gone(runtime)
    assert (look.ok, "closed by another fault" in look.text) == (True, True)
    assert not stays.gone(runtime).ok
    stays.end(runtime)
    assert met(runtime) == "answered"
    assert stays.gone(runtime).ok


def test_the_undo_on_disk_lets_go_for_its_own_fault_only(runtime: Runtime) -> None:
    """The steps of the first lease, played by whoever plays them, leave the second's closing."""
    one, two = (Cut(LINK).pinned(runtime) for _ in range(2))
    steps = one.undo(runtime), two.undo(runtime)
    for fault in (one, two):
        fault.begin(runtime, LEASE_S)
    for left, undo in zip(("refused", "answered"), steps, strict=True):
        for _ in range(2):
            if isinstance(runtime, ProcessRuntime):
                for step in undo:
                    reaper.play_step(step)
            else:
                runtime.play(undo)
        assert met(runtime) == left


def test_a_fault_that_expires_leaves_the_other_ones_closing(runtime: Runtime) -> None:
    """The proxy's own expiry counts per fault, too."""
    one, two = (Cut(LINK).pinned(runtime) for _ in range(2))
    two.begin(runtime, LEASE_S)
    one.begin(runtime, 2)
    assert len(runtime.link_closed_by(LINK)) == 2
    assert until(lambda: len(runtime.link_closed_by(LINK)) == 1, 6)
    assert met(runtime) == "refused"
    two.end(runtime)
    assert met(runtime) == "answered"


@pytest.mark.parametrize("over", [Flap(LINK, down_s=0.05, up_s=0.05), LoseRoom("A")])
def test_a_cut_outlasts_other_faults_that_open_links(over: Fault, runtime: Runtime) -> None:
    """A flapping link's ups, and a room that comes back, open nothing that a cut keeps closed."""
    cut = Cut(LINK).pinned(runtime)
    cut.begin(runtime, LEASE_S)
    other = over.pinned(runtime)
    other.begin(runtime, LEASE_S)
    if isinstance(other, Flap):
        assert until(lambda: other.loop.rounds >= 2)
        assert met(runtime) == "refused"
    other.end(runtime)
    assert met(runtime) == "refused"
    cut.end(runtime)
    assert seen(lambda: other.gone(runtime))[0].ok
    assert until(lambda: met(runtime) == "answered")


# ---------------------------------------------------------------------- measured effects


class Harmless(FakeRuntime):
    """Its proxies hold every toxic and none has an effect."""

    def look_at_link(
        self, link: str, within_s: float, poke: bool = False, padding: int = 0, to_end: bool = False
    ) -> LinkLook:
        del link, within_s, poke, padding
        return LinkLook("answered", 0.1, True, 0.1 if to_end else -1.0)


@pytest.mark.parametrize(
    "fault",
    [
        Latency(LINK, latency_ms=50),
        Bandwidth(LINK, kb_per_s=100),
        SlowClose(LINK, delay_ms=100),
        Cut(LINK, silent=True),
    ],
)
def test_a_toxic_without_effect_is_not_seen(fault: Fault) -> None:
    """Reading back that the proxy holds it is not enough where the effect can be measured."""
    harmless = Harmless(light_stack())
    harmless.up(quiet)
    pinned = fault.pinned(harmless)
    pinned.begin(harmless, LEASE_S)
    assert harmless.toxics(LINK)
    assert not pinned.seen(harmless).ok


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Bandwidth(LINK, kb_per_s=100), "a question of 12000 bytes took"),
        (Bandwidth(LINK, kb_per_s=2), "a question of 2000 bytes took"),
        (SlowClose(LINK, delay_ms=150), "the end came"),
    ],
)
def test_the_effect_is_measured_where_the_target_answers(
    fault: Fault, words: str, runtime: Runtime
) -> None:
    """The observation tells the measured figure, on the fake and on real processes."""
    pinned = fault.pinned(runtime)
    pinned.begin(runtime, LEASE_S)
    look, _ = seen(lambda: pinned.seen(runtime))  # one look may be late to see an end
    pinned.end(runtime)
    assert look.ok, look.text
    assert words in look.text


@pytest.mark.parametrize(
    "fault",
    [
        Bandwidth("ward>echo.echo", kb_per_s=10),
        Bandwidth(LINK, kb_per_s=50_000),
        SlowClose("ward>echo.echo", delay_ms=100),
        SlowClose(LINK, delay_ms=60_000),
    ],
)
def test_what_was_not_measured_is_said(fault: Fault, runtime: Runtime) -> None:
    """Where nothing can be asked, or felt, or waited for, the observation says so."""
    pinned = fault.pinned(runtime)
    pinned.begin(runtime, LEASE_S)
    look = pinned.seen(runtime)
    pinned.end(runtime)
    assert look.ok
    assert "effect not measured" in look.text
