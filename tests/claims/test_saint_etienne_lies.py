"""Ways in which verdicts on an array that fails in stages could lie, one test each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.claims.judge import judge
from chaos.journal import events as ev
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims import OneTruth, RestUnaffected, SpareTakesOver, claims
from tests.claims.day import BACK, FAULT, READ, WARM, Day, good_day
from tests.claims.recovery_day import say
from tests.claims.spoils import BROKEN, HELD, INCONCLUSIVE, Spoil
from tests.claims.test_department_lies import asks, hit
from tests.claims.test_recovery_lies import stopped

ONE = Need(claim=5, asked=1, why="one run sees one failover")
NAMED = ("analysers", "gam", "website")


def judged(claim: RestUnaffected | SpareTakesOver, *spoils: Spoil) -> Verdict:
    day = good_day()
    asked = day.of("appointment.ask")
    day.ops += [replace(one, at=one.at + 0.01) for one in asked if one.at < FAULT[0]]
    for spoil in spoils:
        spoil(day)
    return judge(day.history(), [claim]).claims[0]


# ---------------------------------------------------------------- FO-1


def stages(*kinds: str) -> Spoil:
    """The primary was not killed: its array failed, in these stages, a second apart."""

    def spoil(day: Day) -> None:
        day.harness = [
            e
            for e in day.harness
            if not isinstance(e, ev.FaultBegan | ev.FaultSeen | ev.FaultEnded | ev.FaultGone)
        ]
        for number, kind in enumerate(kinds):
            hit("ehr-db-a", kind=kind, began=FAULT[0] + number, over=FAULT[1])(day)

    return spoil


def test_an_array_that_fails_in_stages_is_one_failover() -> None:
    """FO-1: errors and read-only are told once, from the first that took the charge away; that
    an array is slow is no loss."""
    found = judged(
        SpareTakesOver(ONE), stages("slow-storage", "failing-storage", "read-only-storage")
    )
    assert (found.verdict, found.evidence) == (HELD, 1)
    assert judged(SpareTakesOver(ONE), stages("slow-storage")).verdict is INCONCLUSIVE


@pytest.mark.parametrize("kind", ["failing-storage", "read-only-storage", "full-storage"])
def test_a_primary_that_survives_its_disk_was_no_failover(kind: str) -> None:
    """FO-1: ehr-db-a went on being in charge."""

    def survives(day: Day) -> None:
        for look in day.sampled("db.writable"):
            if look.at >= FAULT[0]:
                look.ok = look.subject == "ehr-db-a"

    assert judged(SpareTakesOver(ONE), stages(kind)).verdict is HELD
    assert judged(SpareTakesOver(ONE), stages(kind), survives).verdict is INCONCLUSIVE


def test_a_lost_disk_without_a_spare_is_broken() -> None:
    """FO-1: nobody took over, and nobody wrote for longer than is allowed."""

    def nobody(day: Day) -> None:
        for look in day.sampled("db.writable"):
            look.ok = look.ok and not FAULT[0] <= look.at < FAULT[1]
        for op in day.of("order.create", "medication.create"):
            if FAULT[0] - 0.1 <= op.at < FAULT[1]:
                op.took = FAULT[1] - op.at
        for op in day.of("administration.create", "observation.create"):
            if FAULT[0] - 0.1 <= op.at < FAULT[1]:
                op.took = FAULT[1] - op.at

    claim = SpareTakesOver(ONE, within_s=BACK - FAULT[0] + 5)
    assert judged(claim, stages("read-only-storage"), nobody).verdict is BROKEN


# ---------------------------------------------------------------- IN-4


@pytest.mark.parametrize(
    ("drained", "stored_at", "expected"),
    [
        (True, READ - 0.5, BROKEN),
        (True, READ - 0.16, INCONCLUSIVE),
        (False, READ - 0.5, INCONCLUSIVE),
        (False, 50.0, BROKEN),
    ],
)
def test_what_changed_between_two_readings_is_no_divergence(
    drained: bool, stored_at: float, expected: Finding
) -> None:
    """IN-4: unless the backlogs were empty, but for what a standby just then applies, or the
    difference is older than the readings."""
    day = good_day()
    day.drained = (drained, "" if drained else "not drained within 45 s: engine holds 7 for ehr")
    row = day.stored("ehr-db-a", "order")[0]
    for one in day.stored("ehr-db-a") + day.stored("ehr-db-b"):
        one.at = one.at or 30.0
    row.version, row.at = row.version + 1, stored_at
    found = judge(day.history(), [OneTruth()]).claims[0]
    assert found.verdict is expected, found.reason


# ---------------------------------------------------------------- FO-2


def test_each_named_service_has_its_own_evidence() -> None:
    """FO-2: said of each of them."""
    found = judged(RestUnaffected(named=NAMED))
    assert found.verdict is HELD, found.reason
    assert all(f"{name}: 95 % within" in found.reason for name in NAMED)
    (same,) = claims(lambda _: Need.full(1_000), "FO-2", independent=NAMED)
    assert same == RestUnaffected(named=NAMED)


def only(kinds: tuple[str, ...], via: str, start: float, end: float) -> Spoil:
    """Nobody asked it then."""

    def spoil(day: Day) -> None:
        day.ops = [
            o
            for o in day.ops
            if not (o.kind in kinds and via in ("", o.via) and start <= o.at < end)
        ]

    return spoil


GAM = ("patient.create", "patient.update", "encounter.create", "encounter.finish")
TUBES = ("specimen.load", "specimen.result")


@pytest.mark.parametrize("span", [(0.0, WARM[1]), (FAULT[0] - 1, FAULT[1] + 1), (0.0, 1e9)])
@pytest.mark.parametrize(
    ("name", "kinds", "via"),
    [("gam", GAM, ""), ("analysers", TUBES, ""), ("website", ("appointment.ask",), "website")],
)
def test_without_evidence_of_one_of_them_nothing_is_proved(
    name: str, kinds: tuple[str, ...], via: str, span: tuple[float, float]
) -> None:
    """FO-2: too few before, too few during, or none at all."""
    found = judged(RestUnaffected(Need(1_000, 10, "test"), named=NAMED), only(kinds, via, *span))
    assert found.verdict is INCONCLUSIVE, found.reason
    assert name in found.reason


def test_a_named_service_is_judged_although_the_fault_hits_it() -> None:
    """FO-2: who lies on the failed array after all is not excused; who works on, is praised."""
    on_it = hit("website", "ehr-db-a", kind="read-only-storage")
    slow = asks("website", took=1.0)
    assert judged(RestUnaffected(), on_it, slow).verdict is HELD  # not the rest any more
    assert judged(RestUnaffected(named=NAMED), on_it, slow).verdict is BROKEN
    assert judged(RestUnaffected(named=NAMED), on_it).verdict is HELD


def test_errors_of_a_named_service_do_not_hide_in_the_others_answers() -> None:
    """FO-2: one refusal is within what all may have together, and beyond the website's share."""

    def refused(day: Day) -> None:
        asked = [one for one in day.of("appointment.ask", during=True) if one.via == "website"]
        asked[0].outcome, asked[0].reason = "refused", "website: 503"

    few = Need(100, 10, "test")
    assert judged(RestUnaffected(few), refused).verdict is HELD
    found = judged(RestUnaffected(few, named=NAMED), refused)
    assert found.verdict is BROKEN, found.reason
    assert "website: 1 of " in found.reason


def test_a_slow_website_does_not_hide_behind_the_call_centre() -> None:
    """FO-2: each named one is looked at alone, and the others without it."""
    assert judged(RestUnaffected(named=NAMED), asks("callcentre", took=1.0)).verdict is BROKEN
    found = judged(RestUnaffected(named=("website",)), asks("website", took=1.0))
    assert found.verdict is BROKEN
    assert "website: 95 % within" in found.reason


@pytest.mark.parametrize(
    ("at", "names", "expected"),
    [(43.0, "billing", HELD), (50.0, "billing", BROKEN), (43.0, "scheduling", BROKEN)],
)
def test_a_stop_may_be_announced_while_an_incident_goes_on(
    at: float, names: str, expected: Finding
) -> None:
    """FO-2: by name, and before it begins."""

    def told(day: Day) -> None:
        say(day, "announced", at, names, "planned by crisis cell: to spare the storage")

    found = judged(RestUnaffected(), stopped("billing"), told)
    assert found.verdict is expected, found.reason
