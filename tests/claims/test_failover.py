"""FO-1 and its generic part: how long until the spare has taken over, and how that is known."""

from __future__ import annotations

from chaos.claims.judge import judge
from chaos.journal import events as ev
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims import OrdersAccepted, SpareTakesOver
from tests.claims.day import BACK, FAULT, T0, Day, Look, good_day

ONE = Need(claim=5, asked=1, why="one run sees one failover")
WRITES = ("order.create", "medication.create")


def verdict(day: Day, within_s: float = 60.0, need: Need = ONE) -> Verdict:
    return judge(day.history(), [SpareTakesOver(need, within_s=within_s)]).claims[0]


def stopped_until(day: Day, back: float) -> None:
    """Nobody's write is acknowledged before `back`."""
    for op in day.of(*WRITES):
        if FAULT[0] - 0.1 <= op.at < back:
            op.took = back - op.at


def test_the_worst_failover_is_told() -> None:
    """Five seconds without a primary are five seconds, in real time, and the lowered need is
    repeated with its reason."""
    found = verdict(good_day())
    assert found.verdict is Finding.HELD
    assert "5.06 s" in found.reason
    assert ONE.why in found.reason


def test_too_slow_is_broken() -> None:
    """The bound is a machine bound: it does not shrink with the hospital's clock."""
    day = good_day()
    stopped_until(day, BACK + 7)
    assert verdict(day, within_s=10).verdict is Finding.BROKEN
    assert verdict(day, within_s=15).verdict is Finding.HELD


def test_a_service_that_came_back_with_the_lost_server_proves_nothing() -> None:
    """Held would be a lie: the spare never took over. Broken only beyond the bound."""
    day = good_day()
    stopped_until(day, FAULT[1] + 3)
    found = verdict(day)
    assert found.verdict is Finding.INCONCLUSIVE
    assert "not taken over" in found.reason
    assert verdict(day, within_s=15).verdict is Finding.BROKEN


def test_nobody_acknowledged_again() -> None:
    """A silence that never ends is at least as long as the evidence."""
    day = good_day()
    for op in day.of(*WRITES):
        if op.at >= FAULT[0] - 0.2:
            op.outcome = "unknown"
    assert verdict(day, within_s=20).verdict is Finding.BROKEN
    found = judge(day.history(), [OrdersAccepted()]).claims[0]
    assert found.verdict is Finding.BROKEN


def test_the_standby_was_killed_not_the_primary() -> None:
    """No failover was needed, so none was shown."""
    day = good_day()
    for look in day.sampled("db.writable"):
        if look.at <= FAULT[0]:
            look.subject = "ehr-db-b"
    assert verdict(day).verdict is Finding.INCONCLUSIVE


def test_nobody_asked_during_the_fault() -> None:
    """Without a request there is no interruption to measure."""
    day = good_day()
    day.ops = [o for o in day.ops if o.kind not in WRITES or not FAULT[0] <= o.at < FAULT[1] + 1]
    assert verdict(day).verdict is Finding.INCONCLUSIVE


def test_five_are_asked_for_unless_said_otherwise() -> None:
    """One failover is not five."""
    found = verdict(good_day(), need=Need.full(5))
    assert (found.verdict, found.evidence, found.needed) == (Finding.INCONCLUSIVE, 1, 5)


def test_an_application_node_counts_as_well() -> None:
    """When ehr-a is lost with the database, its own interruption is measured, too."""
    day = good_day()
    name = "2-kill-ehr-a"
    day.extra = [
        ev.FaultBegan(t=T0 + 40.2, fault=name, kind="kill", targets=("ehr-a",), story="ehr-a dies"),
        ev.FaultSeen(t=T0 + 40.3, fault=name, observation="gone"),
        ev.FaultEnded(t=T0 + 60.1, fault=name),
        ev.FaultGone(t=T0 + 61, fault=name, observation="ready"),
    ]
    assert verdict(day).verdict is Finding.HELD
    stopped_until(day, BACK + 8)
    assert verdict(day, within_s=10).verdict is Finding.BROKEN


def test_a_handover_seen_from_both_sides_is_no_split() -> None:
    """Two acknowledgements around the switch are not two primaries."""
    from stacks.hospital.claims import OneTruth

    day = good_day()
    day.looks.append(Look("db.writable", "ehr-db-a", BACK + 0.05, T0 + BACK - 3, "1", ok=True))
    assert judge(day.history(), [OneTruth()]).claims[0].verdict is Finding.HELD
