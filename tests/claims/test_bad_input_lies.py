"""Ways in which the verdict on bad input could lie, one test each."""

from __future__ import annotations

from chaos.claims.judge import judge
from chaos.journal import events as ev
from chaos.verdict import Verdict
from stacks.hospital.claims import BadInputRefused
from stacks.hospital.claims.refusals import SORTS
from stacks.hospital.terms import KINDS, LOCK_PROBES
from tests.claims.bad_input_day import TERMS, lies, one_sort_missing
from tests.claims.day import Day, good_day
from tests.claims.spoils import BROKEN, HELD, INCONCLUSIVE, VOID, Spoil, during, unread


def found(*spoils: Spoil) -> Verdict:
    day = good_day()
    for spoil in spoils:
        spoil(day)
    (verdict,) = judge(day.history(), [BadInputRefused()]).claims
    return verdict


def test_a_sort_that_was_never_sent_is_named() -> None:
    """Thirty-six refusals of six sorts do not stand for the seventh."""
    verdict = found(one_sort_missing)
    assert verdict.verdict is INCONCLUSIVE
    assert "refused encoding (0)" in verdict.reason


def test_no_answer_and_a_record_is_no_open_question() -> None:
    """Whoever was not answered and lies in a store was taken."""
    silent = during(("bad.slot",), 1, outcome="unknown")
    assert found(silent).verdict is INCONCLUSIVE
    verdict = found(silent, lies("scheduling", "appointment", "bad.slot"))
    assert verdict.verdict is BROKEN
    assert "stored: bad.slot bad.slot-0 lies in scheduling" in verdict.reason


def test_what_was_stopped_with_the_traffic_is_no_evidence() -> None:
    """One bad input cut short is neither refused nor open; there is enough without it."""
    verdict = found(during(("bad.title",), 0.2, outcome="unknown", reason="cut short: stopped"))
    assert (verdict.verdict, verdict.evidence) == (HELD, 40)


def test_half_a_store_can_accuse_and_cannot_acquit() -> None:
    """A record that was read proves it; one that was not seen proves nothing."""
    half = unread("pacs-b")
    assert found(half).verdict is INCONCLUSIVE
    assert found(half, lies("pacs-b", "instance", "bad.image")).verdict is BROKEN


def test_copies_that_may_still_come_are_waited_for() -> None:
    """A channel hears over queues: before they were empty its silence proves nothing."""

    def backlog(day: Day) -> None:
        day.drained = (False, "not drained within 60 s")

    verdict = found(backlog)
    assert verdict.verdict is INCONCLUSIVE
    assert "backlogs were not seen empty" in verdict.reason


def without(*departments: str) -> Spoil:
    """The run's topology lacks these services."""

    def spoil(day: Day) -> None:
        started = day.harness[0]
        assert isinstance(started, ev.RunStarted)
        stand = {name: room for name, room in started.services.items() if name not in departments}
        day.harness[0] = ev.RunStarted(**{
            **{field: getattr(started, field) for field in started.__struct_fields__},
            "services": stand,
        })  # fmt: skip

    return spoil


def test_only_services_that_stand_are_asked_for_refusals() -> None:
    """Without scheduling its two sorts are not missed; with nobody to refuse nothing is held."""

    def no_bookings(day: Day) -> None:
        day.ops = [op for op in day.ops if op.kind not in ("bad.slot", "bad.cancel")]

    verdict = found(without("scheduling"), no_bookings)
    assert (verdict.verdict, verdict.evidence) == (HELD, 30), verdict.reason
    assert found(without("scheduling")).verdict is HELD
    assert found(without(*SORTS)).verdict in (INCONCLUSIVE, VOID)


def test_reports_have_words_for_every_sort() -> None:
    """Each sort is in words in the report, where its refusal is right and no failed care."""
    kinds = {sort.kind for sorts in SORTS.values() for sort in sorts}
    assert kinds == set(TERMS)
    assert kinds <= set(KINDS)
    assert kinds <= LOCK_PROBES
