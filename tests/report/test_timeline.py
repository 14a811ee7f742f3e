"""The fold from history to timeline: what is on record is there, what is not is said."""

from __future__ import annotations

import random
from itertools import pairwise
from types import ModuleType

import pytest

from chaos.journal import events as e
from chaos.journal.history import History
from chaos.report.fold import timeline_of
from chaos.report.tally import BINS_MAX, CLASSES_MAX, KINDS_MAX, REST, Seen, bin_width, counted
from stacks.hospital.terms import HOSPITAL


def test_the_day_is_folded(history: History) -> None:
    """Services stand in their rooms, faults in their order, windows with their ends."""
    t = timeline_of(history, HOSPITAL)
    assert (t.name, t.seed, t.speed, t.complete) == ("saint-luc", 7, 60.0, True)
    assert t.duration_s == pytest.approx(141.9)
    assert [s.room for s in t.services] == ["A"] * 3 + ["B"] * 5 + ["C", "lab"]
    ehr_a = next(s for s in t.services if s.name == "ehr-a")
    assert [span.state for span in ehr_a.spans] == [
        "starting", "ready", "gone", "starting", "ready",
    ]  # fmt: skip
    assert [w.name for w in t.windows] == ["warmup", "fault", "settle"]
    assert [(f.number, f.kind, f.ended_by) for f in t.faults] == [
        (1, "kill", "as planned"), (2, "kill", "as planned"), (3, "latency", "as planned"),
    ]  # fmt: skip
    assert t.faults[0].seen_s == pytest.approx(28.35)


def test_bands_of_a_service_neither_overlap_nor_leave_a_hole(history: History) -> None:
    """Each state lasts until the next one, the last until the run's end."""
    t = timeline_of(history, HOSPITAL)
    for service in t.services:
        for one, other in pairwise(service.spans):
            assert one.end_s == other.start_s
        assert service.spans[-1].end_s == t.duration_s


def test_every_operation_is_counted_once(history: History) -> None:
    """Bins, phases and kinds tell the same totals, without lock probes and cut-short ones."""
    t = timeline_of(history, HOSPITAL)
    locks = next(k for k in t.kinds if k.name == "copy.write")
    cut_short = sum(k.cut_short for k in t.kinds)
    assert sum(k.asked + k.cut_short for k in t.kinds) == t.operations == history.op_count
    in_bins = sum(b.asked for lane in t.classes for b in lane.bins)
    in_phases = sum(c.before.asked + c.during.asked + c.after.asked for c in t.class_tallies)
    assert in_bins == in_phases == t.operations - locks.asked - cut_short


def test_a_refused_lock_probe_is_no_failed_care(history: History) -> None:
    """Writes into the read-only copy must be refused: no class of patients shows them."""
    t = timeline_of(history, HOSPITAL)
    locks = next(k for k in t.kinds if k.name == "copy.write")
    assert locks.refused == locks.asked > 0
    refused = sum(b.refused for lane in t.classes for b in lane.bins)
    assert refused == sum(k.refused for k in t.kinds) - locks.refused


def test_operations_cut_short_are_no_failures(saint_luc: ModuleType) -> None:
    """An operation stopped with the traffic is no evidence: it is in no lane, only told."""
    ops = [
        e.OpInvoked(5_010.0, "a", "stat.turnaround", "P0", 5_010.0),
        e.OpUnknown(5_011.0, "a", "cut short: the traffic was stopped"),
    ]
    t = timeline_of(
        History.of({"w.jsonl": saint_luc.lines([saint_luc.run_started(), *ops])}), HOSPITAL
    )
    assert t.kinds[0].cut_short == 1
    assert t.kinds[0].asked == 0
    assert t.classes == ()


def test_human_durations_stay_out_of_answer_times(saint_luc: ModuleType) -> None:
    """A turnaround's minutes are not among its class's answer times, but its failure counts."""
    ops = [
        e.OpInvoked(5_010.0, "a", "chart.read", "P0", 5_010.0),
        e.OpOk(5_010.02, "a", "200"),
        e.OpInvoked(5_010.0, "b", "stat.turnaround", "P0", 5_010.0),
        e.OpOk(5_040.0, "b", "seen"),
        e.OpInvoked(5_010.0, "c", "stat.turnaround", "P0", 5_010.0),
        e.OpUnknown(5_041.0, "c", "not seen in time"),
    ]
    t = timeline_of(
        History.of({"w.jsonl": saint_luc.lines([saint_luc.run_started(), *ops])}), HOSPITAL
    )
    (tally,) = t.class_tallies
    assert tally.before.p95_ms == pytest.approx(20.0)
    assert (tally.before.answered, tally.before.unknown) == (2, 1)
    assert max(b.p95_ms or 0 for b in t.turnarounds[0].bins) == pytest.approx(30_000)


def test_latency_counts_from_the_intended_start(saint_luc: ModuleType) -> None:
    """A client that was held up before it could begin still waited."""
    ops = [
        e.OpInvoked(5_014.0, "a", "chart.read", "P1", 5_010.0),
        e.OpOk(5_014.5, "a", "200"),
    ]
    t = timeline_of(
        History.of({"w.jsonl": saint_luc.lines([saint_luc.run_started(), *ops])}), HOSPITAL
    )
    assert t.kinds[0].max_ms == pytest.approx(4_500)


def test_a_killed_run_is_told_as_far_as_it_goes(saint_luc: ModuleType) -> None:
    """Without run.ended and with a fault still on, everything lasts until the last event."""
    until = [x for x in saint_luc.harness() if x.t < 5_060]
    t = timeline_of(History.of({"harness.jsonl": saint_luc.lines(until)}), HOSPITAL)
    assert not t.complete
    assert [w.closed for w in t.windows] == [True, False]
    assert t.faults[0].ended_s is None
    assert t.faults[0].until_s(t.duration_s) == t.duration_s
    assert t.checks[0].ok is False
    assert "killed" in t.checks[0].text
    assert any("never reported back" in c.text for c in t.checks)
    assert "harness was killed" in t.moments[-1].text


def test_an_empty_journal_is_a_timeline_too() -> None:
    """No file, no event: zero seconds and nothing invented."""
    t = timeline_of(History.of({}), HOSPITAL)
    assert (t.duration_s, t.operations, t.services, t.faults) == (0.0, 0, (), ())
    assert t.checks[0].ok is False


def test_a_torn_journal_is_named(saint_luc: ModuleType) -> None:
    """Damage in the middle shows in the checks, with file and line."""
    data = saint_luc.lines(saint_luc.harness()).splitlines(keepends=True)
    data[7] = b'{"e":"window.op\n'
    t = timeline_of(History.of({"harness.jsonl": b"".join(data)}), HOSPITAL)
    assert t.checks[0].ok is False
    assert "harness.jsonl:8" in t.checks[0].text


def test_a_fault_in_trouble_says_so(saint_luc: ModuleType) -> None:
    """A fault that was never seen, or got stuck, is marked, never shown as a clean one."""
    events = [
        saint_luc.run_started(),
        e.FaultBegan(5_001.0, "1", "kill", ("x",), "x dies"),
        e.FaultUnseen(5_002.0, "1", "x still answers"),
        e.FaultBegan(5_003.0, "2", "cut", ("a>b.c",), "a cannot reach b"),
        e.FaultSeen(5_003.1, "2", "refused"),
        e.FaultStuck(5_009.0, "2", "the proxy does not answer"),
    ]
    t = timeline_of(History.of({"harness.jsonl": saint_luc.lines(events)}), HOSPITAL)
    assert ["x still answers" in f.trouble for f in t.faults] == [True, False]
    assert "the proxy does not answer" in t.faults[1].trouble
    assert [c.ok for c in t.checks if c.name.startswith("fault")] == [False, False]


@pytest.mark.parametrize("duration_s", [0.0, 0.3, 11.9, 142.0, 3_600.0, 86_400.0, 1e7])
def test_bins_are_few_and_cover_the_run(duration_s: float) -> None:
    """Whatever the length of a run, it takes at most BINS_MAX bins."""
    assert bin_width(duration_s) * BINS_MAX >= duration_s
    assert bin_width(duration_s) > 0


def test_quantiles_and_totals_agree_with_a_plain_count() -> None:
    """Binned counting gives what sorting everything gives (seeded)."""
    dice = random.Random(3)
    ops = [
        Seen("P1", "chart.read", dice.uniform(0, 100), dice.choice((0, 0, 0, 1, 2)),
             dice.lognormvariate(3, 1))
        for _ in range(5_000)
    ]  # fmt: skip
    spans = ((20.0, 40.0), (60.0, 70.0))
    got = counted(ops, bin_s=1.0, duration_s=100.0, during=spans, terms=HOSPITAL)
    inside = [o for o in ops if any(a <= o.at_s < b for a, b in spans)]
    (tally,) = got.class_tallies
    assert tally.during.asked == len(inside)
    assert tally.before.asked == sum(o.at_s < 20 for o in ops)
    answers = sorted(o.ms for o in inside if o.outcome == 0)
    assert tally.during.max_ms == answers[-1]
    assert sum(ms <= (tally.during.p95_ms or 0) for ms in answers) >= 0.95 * len(answers)
    assert sum(ms < (tally.during.p95_ms or 0) for ms in answers) < 0.95 * len(answers)


def test_the_longest_gap_runs_from_the_first_failure_to_the_next_answer() -> None:
    """Failures with no answer between them are one gap; an answer ends it."""
    story = [(1.0, 0), (2.0, 2), (3.0, 1), (6.5, 2), (7.0, 0), (8.0, 2), (9.0, 0)]
    ops = [Seen("P0", "chart.read", at_s, outcome, 1.0) for at_s, outcome in story]
    got = counted(ops, bin_s=1.0, duration_s=10.0, during=(), terms=HOSPITAL)
    assert got.class_tallies[0].gap_s == pytest.approx(5.0)


def test_names_without_end_do_not_make_rows_without_end() -> None:
    """A workload gone mad with classes and kinds fills a bounded number of rows."""
    ops = [Seen(f"class {i}", f"kind {i}", 1.0, 0, 1.0) for i in range(5_000)]
    got = counted(ops, bin_s=1.0, duration_s=10.0, during=(), terms=HOSPITAL)
    assert len(got.classes) <= CLASSES_MAX + 1
    assert len(got.kinds) <= KINDS_MAX + 1
    rest = next(k for k in got.kinds if k.name == REST)
    assert sum(k.answered for k in got.kinds) == 5_000
    assert rest.answered == 5_000 - KINDS_MAX
