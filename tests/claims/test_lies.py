"""Ways in which a verdict could lie, one test each: held when it was not, or broken when nobody
knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.claims.judge import judge
from chaos.journal import events as ev
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims import (
    CATALOGUE,
    AnalysersWork,
    ChartReadable,
    ElectiveShedFirst,
    NobodyMixedUp,
    NothingLost,
    NothingTwice,
    OrdersAccepted,
    OrdersDelivered,
    RestUnaffected,
    claims,
)
from stacks.hospital.claims.places import HOMES
from tests.claims.day import DRAINED, FAULT, READ, T0, WARM, Day, Entry, Row, good_day

HELD, BROKEN, INCONCLUSIVE = Finding.HELD, Finding.BROKEN, Finding.INCONCLUSIVE


def verdict(day: Day, claim: object) -> Verdict:
    (found,) = judge(day.history(), [claim]).claims  # type: ignore[list-item]
    return found


def losing_one_order(day: Day, store: str = "lis") -> None:
    gone = day.stored(store, "order")[50]
    day.forget(lambda r: r is not gone)


# ---------------------------------------------------------------- served


def test_too_few_reads_but_already_out_of_reach_is_broken() -> None:
    """Four failures in 300 cannot reach 99 %, however few were made so far; the reason says so."""
    day = good_day()
    reads = [o for o in day.of("chart.read", during=True) if o.klass == "P0"]
    day.ops = [o for o in day.ops if o not in reads[60:]]
    for op in reads[:4]:
        op.outcome, op.reason = "refused", "503"
    found = verdict(day, ChartReadable())
    assert (found.verdict, found.evidence < 100) == (BROKEN, True)
    assert "even if all further ones" in found.reason


def test_few_failures_among_few_reads_condemn_nobody() -> None:
    """One failure in 60 is below 99 %, but 300 reads might still reach it."""
    day = good_day()
    reads = [o for o in day.of("chart.read", during=True) if o.klass == "P0"]
    day.ops = [o for o in day.ops if o not in reads[60:]]
    reads[0].outcome = "unknown"
    lowered = Need(claim=300, asked=40, why="a short window")
    assert verdict(day, ChartReadable(lowered)).verdict is INCONCLUSIVE


def test_calm_time_does_not_dilute_an_outage() -> None:
    """Reads before and after the fault are no evidence for what holds during it."""
    day = good_day()
    for op in [o for o in day.of("chart.read", during=True) if o.klass == "P1"][::20]:
        op.outcome = "unknown"
    assert verdict(day, ChartReadable()).verdict is BROKEN


def test_one_ward_in_the_dark_is_found_among_all() -> None:
    """Ten failures in 2,000 reads are 99.5 %: but all on one ward, for a whole failing hour."""
    day = good_day()
    far = [o for o in day.of("chart.read", during=True) if o.ward == "W3"]
    for op in far:
        op.ward = "W9" if op in far[::15] else op.ward
    dark = [o for o in day.ops if o.ward == "W9"]
    for op in dark[:-1]:
        op.outcome = "unknown"
    claim = ChartReadable(Need(claim=2_000, asked=300, why="test"))
    found = judge(day.history(), [claim]).claims[0]
    assert found.verdict is not HELD


def test_operations_that_ended_with_the_traffic_are_no_evidence() -> None:
    """Neither good nor bad; but too many of them and nobody knows."""
    day = good_day()
    for op in day.of("order.create", "medication.create", during=True)[::10]:
        op.outcome, op.reason = "unknown", "cut short: the traffic was stopped"
    found = verdict(day, OrdersAccepted())
    assert (found.verdict, "cut short" in found.reason) == (INCONCLUSIVE, True)


def test_a_window_that_closes_before_its_fault_ends_is_widened() -> None:
    """Failures between the closing of the window and the undo are failures during the fault."""
    day = good_day()
    day.harness = [
        replace_t(e, T0 + 59.0) if isinstance(e, ev.WindowClosed) and e.window == "fault" else e
        for e in day.harness
    ]  # fmt: skip
    for op in [o for o in day.of("chart.read") if 59.0 <= o.at < 60.0]:
        op.outcome = "unknown"
    assert verdict(day, ChartReadable()).verdict is BROKEN


def replace_t(event: ev.Event, t: float) -> ev.Event:
    import msgspec

    return msgspec.structs.replace(event, t=t)


def test_a_record_under_another_patient_is_not_called_kept() -> None:
    """Whose it is belongs to its content: IN-3 accuses, and IN-1 does not praise."""
    day = good_day()
    order = day.stored("lis", "order")[50]
    order.subject, order.digest = "M999", "of M999"
    assert verdict(day, NothingLost()).verdict is INCONCLUSIVE
    assert verdict(day, NobodyMixedUp()).verdict is BROKEN


# ---------------------------------------------------------------- the final read


def test_a_store_read_before_the_backlogs_were_empty_accuses_nobody() -> None:
    """What is missing there may still have been on its way; where no queue lies between, not."""
    day = good_day()
    day.drained = (False, "not drained within 60 s: engine holds 3 for lis")
    losing_one_order(day)
    assert verdict(day, NothingLost()).verdict is INCONCLUSIVE
    losing_one_order(day, "ehr-db-a")
    assert verdict(day, NothingLost()).verdict is BROKEN


@pytest.mark.parametrize(("queued", "expected"), [(False, BROKEN), (True, INCONCLUSIVE)])
def test_a_backlog_that_does_not_move_is_a_loss_unless_it_lies_in_a_queue(
    queued: bool, expected: Finding
) -> None:
    """Nothing moves any more and no queue holds anything: it will not come."""
    day = good_day()
    day.drained = (False, "no progress for 14 s: 1 reports are not in the record")
    losing_one_order(day)
    if queued:
        day.rows.append(Row("engine", "message", "C1", status="waiting"))
    assert verdict(day, NothingLost()).verdict is expected


def test_short_queues_are_not_called_empty_when_the_last_look_found_something_owed() -> None:
    """Second copies may still come: the reason says what is owed, and does not contradict it."""
    day = good_day()
    day.drained = (False, "no progress for 14 s: 1 reports are not in the record")
    found = verdict(day, NothingTwice())
    assert found.verdict is INCONCLUSIVE
    assert "not seen empty (no progress for 14 s: 1 reports" in found.reason
    assert "Queues as short as before after" in found.reason
    assert "Backlogs empty" not in found.reason


def test_a_store_read_before_the_last_write_accuses_nobody() -> None:
    """The write came after the look."""
    day = good_day()
    late = Entry("observation.create", "P1", READ + 1, key="late", subject="M001", via="ehr-a")
    day.ops.append(late)
    day.harness = [e for e in day.harness if not isinstance(e, ev.RunEnded)]
    day.harness.append(ev.RunEnded(t=T0 + READ + 9, outcome="completed"))
    assert verdict(day, NothingLost()).verdict is INCONCLUSIVE


def test_a_store_that_was_never_named_is_not_nothing_missing() -> None:
    """Without ehr-db-b's read nobody knows what lies there."""
    day = good_day()
    del day.read["ehr-db-b"]
    for make in (NothingLost, NothingTwice, NobodyMixedUp):
        found = verdict(day, make())
        assert (found.verdict, "ehr-db-b" in found.reason) == (INCONCLUSIVE, True)


def test_a_tube_still_on_the_line_is_not_lost() -> None:
    """Its result cannot be anywhere before the analyser has run."""
    day = good_day()
    day.ops.append(Entry("specimen.load", "P1", READ - 5, key="S-new", subject="M001",
                         via="analysers"))  # fmt: skip
    day.rows.append(Row("analysers", "specimen", "S-new", "M001", "running"))
    assert verdict(day, NothingLost()).verdict is INCONCLUSIVE


def test_the_same_key_acknowledged_often_is_one_write() -> None:
    """Repeating one order a thousand times is no evidence for a thousand."""
    day = good_day()
    first = day.of("order.create")[0]
    day.ops = [o for o in day.ops if o.kind not in HOMES]
    day.ops += [replace(first, at=WARM[0] + n / 100) for n in range(2_000)]
    found = verdict(day, NothingLost())
    assert (found.verdict, found.evidence) == (INCONCLUSIVE, 1)


def test_a_write_without_a_key_is_not_kept() -> None:
    """What cannot be looked for was not found."""
    day = good_day()
    day.of("order.create")[0].key = ""
    assert verdict(day, NothingLost()).verdict is INCONCLUSIVE


def test_a_preliminary_result_alone_is_a_loss_not_a_regression() -> None:
    """The final one never came (version 1): IN-1 is broken, IN-2 is not accused."""
    day = good_day()
    for node in ("ehr-db-a", "ehr-db-b"):
        row = day.stored(node, "report")[5]
        row.status, row.version = "preliminary", 1
    assert verdict(day, NothingLost()).verdict is BROKEN
    assert verdict(day, NothingTwice()).verdict is HELD


def test_a_store_that_does_not_say_its_versions_leaves_in_2_open() -> None:
    """Overwritten or never come? Nobody knows."""
    day = good_day()
    row = day.stored("ehr-db-a", "report")[5]
    row.status, row.version = "preliminary", 0
    assert verdict(day, NothingTwice()).verdict is INCONCLUSIVE


def test_present_under_another_patient_is_not_lost_but_mixed_up() -> None:
    """Each claim accuses of its own."""
    day = good_day()
    for node in ("ehr-db-a", "ehr-db-b"):
        day.stored(node, "medication")[5].subject = "M039"
    assert verdict(day, NobodyMixedUp()).verdict is BROKEN
    assert verdict(day, NothingLost()).verdict is HELD


def test_wrong_patient_counts_with_little_evidence() -> None:
    """One counter-example breaks an invariant, whatever the evidence."""
    day = good_day()
    day.rows = []
    day.of("chart.read", during=True)[0].found = "M999"
    assert verdict(day, NobodyMixedUp()).verdict is BROKEN


# ---------------------------------------------------------------- delivery


def test_an_order_may_wait_for_as_long_as_the_laboratory_is_away() -> None:
    """The clock starts when the LIS is there again; human minutes are seconds here."""
    day = good_day()
    day.extra = [
        ev.ServiceSeen(t=T0 + 50, service="lis", state="gone"),
        ev.ServiceSeen(t=T0 + 100, service="lis", state="ready"),
    ]
    for row in [r for r in day.stored("lis", "order") if r.at > 50][:100]:
        row.at = 101.0 + row.at / 1_000
    assert verdict(day, OrdersDelivered()).verdict is HELD
    day.stored("lis", "order")[-1].at = 100 + 16
    assert verdict(day, OrdersDelivered()).verdict is BROKEN


def test_a_laboratory_that_never_came_back_gives_no_more_time() -> None:
    """An outage without an end excuses nothing: the orders are not there."""
    day = good_day()
    day.extra = [ev.ServiceSeen(t=T0 + 50, service="lis", state="gone")]
    losing_one_order(day)
    assert verdict(day, OrdersDelivered()).verdict is BROKEN


def test_an_unknown_time_of_arrival_is_no_arrival_in_time() -> None:
    """The store does not say when; it is there in the end, more is not known."""
    day = good_day()
    for row in day.stored("lis", "order"):
        row.at = 0.0
    assert verdict(day, OrdersDelivered()).verdict is INCONCLUSIVE


# ---------------------------------------------------------------- shedding, the rest


def no_primary(day: Day, accept_after: float) -> None:
    """Urgent writes are refused for want of a primary; elective ones are accepted later."""
    for op in [o for o in day.of("order.create") if 41 <= o.at < 44]:
        op.shed, op.via = "no writable primary database", "ehr-a"
    for at in (41.0, accept_after):
        day.ops.append(Entry("order.create", "P3", at, 0.05, key=f"E{at}", via="ehr-a"))


def test_a_service_that_can_serve_nobody_inverts_nothing() -> None:
    """Elective work accepted after the failover, in the same ten seconds, is no inversion; taken
    beside the refusals it is."""
    day = good_day()
    no_primary(day, accept_after=48.0)
    assert verdict(day, ElectiveShedFirst()).verdict is HELD
    for n in range(60):
        day.ops.append(Entry("order.create", "P3", 41 + n / 20, 0.01, key=f"F{n}", via="ehr-a"))
    assert verdict(day, ElectiveShedFirst()).verdict is BROKEN


def test_a_quiet_day_may_be_asked_for_with_a_reason() -> None:
    """Held without shedding only if the experiment says why, and the verdict repeats it."""
    day = good_day()
    for op in day.of("back.office", during=True):
        op.outcome, op.shed = "ok", ""
    why = "the crash leaves capacity enough; see the overload experiment"
    quiet = ElectiveShedFirst(shed=Need(claim=1, asked=0, why=why))
    found = verdict(day, quiet)
    assert (found.verdict, why in found.reason) == (HELD, True)
    assert verdict(day, ElectiveShedFirst()).verdict is INCONCLUSIVE
    (same,) = claims(lambda _: Need.full(300), "PR-1", quiet=why)
    assert same == quiet


def test_a_service_that_was_hit_itself_is_not_the_rest() -> None:
    """Failures of the front desk are no spill-over when the front desk was killed."""
    day = good_day()
    name = "2-cut"
    targets = ("admissions>gam.http",)
    day.extra = [
        ev.FaultBegan(t=T0 + 40.1, fault=name, kind="cut", targets=targets, story="cut"),
        ev.FaultSeen(t=T0 + 40.2, fault=name, observation="no bytes"),
        ev.FaultEnded(t=T0 + 60.1, fault=name),
        ev.FaultGone(t=T0 + 61, fault=name, observation="bytes"),
    ]
    for op in day.of("patient.create", during=True):
        op.outcome = "unknown"
    found = verdict(day, RestUnaffected(Need(claim=1_000, asked=800, why="test")))
    assert found.verdict is HELD
    assert "gam" not in found.reason


def test_without_a_baseline_nobody_is_unaffected() -> None:
    """There is nothing to compare with."""
    day = good_day()
    day.ops = [o for o in day.ops if o.kind != "patient.create" or o.at > WARM[1]]
    day.ops = [o for o in day.ops if o.kind != "encounter.create" or o.at > WARM[1]]
    assert verdict(day, RestUnaffected()).verdict is INCONCLUSIVE


def test_tubes_in_flight_at_the_end_are_no_evidence() -> None:
    """Neither finished nor late."""
    day = good_day()
    last = [o for o in day.of("specimen.result") if o.at > 55]
    for op in last:
        op.outcome, op.took, op.reason = "unknown", 5.0, "cut short: the traffic was stopped"
    found = verdict(day, AnalysersWork())
    assert "0 of" not in found.reason.split(".")[0]


# ---------------------------------------------------------------- what verdicts say


def test_human_bounds_shrink_with_the_hospital_clock_and_say_so() -> None:
    """15 min at speed 60 are 15 s, and the reason tells both."""
    found = verdict(good_day(), OrdersDelivered())
    assert "15 min of hospital time (15 s at this run's speed)" in found.reason


def test_machine_bounds_never_shrink() -> None:
    """60 s are 60 s at any speed."""
    found = verdict(good_day(), OrdersAccepted())
    assert "60 s allowed (real seconds)" in found.reason


def test_lowered_evidence_is_said_aloud() -> None:
    """Both numbers and the reason, in every claim."""
    why = "a short window, for a demonstration"
    some = claims(lambda _: Need(claim=9_999, asked=1, why=why))
    judgement = judge(good_day().history(), some)
    for found in judgement.claims:
        assert why in found.reason, found.id
        assert "9,999" in found.reason, found.id


def test_unknown_claim_ids_are_named() -> None:
    """With the known ones beside them."""
    with pytest.raises(KeyError, match="XX-9"):
        claims(lambda _: Need.full(1), "XX-9")
    assert len(claims(lambda _: Need.full(1))) == len(CATALOGUE)


def test_citations_are_few_and_lead_to_the_proof() -> None:
    """At most twenty lines; the first is the counter-example itself."""
    day = good_day()
    for op in day.of("medication.create")[:50]:
        op.outcome, op.reason = "refused", "503"
    files = day.files()
    found = verdict(day, NothingLost())
    assert 0 < len(found.lines) <= 20
    name, _, line = found.lines[0].partition(":")
    assert b"op.refused" in files[name].splitlines()[int(line) - 1]


def test_the_day_ends_before_the_stores_are_read() -> None:
    """The hand-written day itself is sound."""
    assert FAULT[1] < DRAINED < READ
