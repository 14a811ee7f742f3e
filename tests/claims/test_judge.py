"""What makes a whole run void, aborted or unfinished, whatever its claims say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import pytest

from chaos.claims.judge import judge, steady_reasons
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.verdict import Exit, Finding, Judgement, Verdict
from stacks.hospital.claims import ChartReadable, CopyMarked
from tests.claims.day import FAULT, T0, WARM, Day, good_day

FAULT_NAME = "1-kill-ehr-db-a"


def judged(spoil: Callable[[Day], None]) -> Judgement:
    day = good_day()
    spoil(day)
    return judge(day.history(), [ChartReadable()])


def without(*kinds: type[ev.Event]) -> Callable[[Day], None]:
    def spoil(day: Day) -> None:
        day.harness = [e for e in day.harness if not isinstance(e, kinds)]
        day.extra = [e for e in day.extra if not isinstance(e, kinds)]

    return spoil


def without_window(name: str, *kinds: type[ev.Event]) -> Callable[[Day], None]:
    def spoil(day: Day) -> None:
        day.harness = [
            e
            for e in day.harness
            if not (isinstance(e, kinds) and getattr(e, "window", "") == name)
        ]

    return spoil


def changed(kind: type[ev.Event], **values: object) -> Callable[[Day], None]:
    def spoil(day: Day) -> None:
        day.harness = [
            msgspec.structs.replace(e, **values) if isinstance(e, kind) else e for e in day.harness
        ]

    return spoil


def added(*events: ev.Event) -> Callable[[Day], None]:
    return lambda day: day.extra.extend(events)


def late_generator(day: Day) -> None:
    day.late_p99_ms = 900.0


def abandoned(day: Day) -> None:
    day.workload_ended = False


def no_operations(day: Day) -> None:
    day.ops = day.ops[:0]
    day.extra.append(ev.WorkloadStarted(t=T0 + 19, workload="other", planned_per_s=5))
    day.extra.append(ev.WorkloadEnded(t=T0 + 91, workload="other", planned=0, started=0,
                                      late_p99_ms=0, late_max_ms=0))  # fmt: skip


def stood_still(day: Day) -> None:
    """Nobody writes for twelve seconds of the fault window."""
    day.ops = [o for o in day.ops if not FAULT[0] + 4 < o.at < FAULT[1] - 1]
    for op in day.ops:
        op.took = min(op.took, 0.5)
    day.looks = [s for s in day.looks if not FAULT[0] + 4 < s.at < FAULT[1] - 1]


def failing_warmup(day: Day) -> None:
    for op in [o for o in day.of("chart.read") if WARM[0] < o.at < WARM[1] - 1][::20]:
        op.outcome, op.reason = "refused", "503"


def zero_length(day: Day) -> None:
    day.harness = [
        msgspec.structs.replace(e, t=T0 + FAULT[0])
        if isinstance(e, ev.WindowClosed) and e.window == "fault" else e
        for e in day.harness
    ]  # fmt: skip


VOID = {
    "fault unseen": (
        lambda d: [without(ev.FaultSeen)(d), added(
            ev.FaultUnseen(t=T0 + 41, fault=FAULT_NAME, reason="it still answers"))(d)],
        "it still answers"),
    "nobody looked whether it took effect": (without(ev.FaultSeen), "nobody saw it take effect"),
    "fault stuck": (added(ev.FaultStuck(t=T0 + 63, fault=FAULT_NAME, reason="still gone")),
                    "could not be undone"),
    "never undone": (without(ev.FaultEnded, ev.FaultGone), "never undone"),
    "heal not seen": (without(ev.FaultGone), "nobody saw it gone"),
    "undone by the deadline": (changed(ev.FaultEnded, by="deadline"), "by the deadline"),
    "no fault": (without(ev.FaultBegan, ev.FaultSeen, ev.FaultEnded, ev.FaultGone),
                 "no fault took place"),
    "no fault window": (without_window("fault", ev.WindowOpened, ev.WindowClosed),
                        "no fault window was judged"),
    "fault elsewhere": (lambda d: [changed(ev.FaultBegan, t=T0 + 70)(d),
                                   changed(ev.FaultSeen, t=T0 + 70.1)(d),
                                   changed(ev.FaultEnded, t=T0 + 72)(d),
                                   changed(ev.FaultGone, t=T0 + 73)(d)],
                        "outside every fault window"),
    "window of no length": (zero_length, "is empty"),
    "window never closed": (without_window("fault", ev.WindowClosed), "never closed"),
    "window opened twice": (added(ev.WindowOpened(t=T0 + 50, window="fault")), "never closed"),
    "warm-up said not steady": (
        lambda d: [without_window("warmup", ev.WindowClosed)(d), added(ev.WindowClosed(
            t=T0 + WARM[1], window="warmup", ok=False, reason="charts fail"))(d)],
        "charts fail"),
    "warm-up was not steady": (failing_warmup, "not steady"),
    "no warm-up": (without_window("warmup", ev.WindowOpened, ev.WindowClosed), "no steady warm-up"),
    "fault in the warm-up": (changed(ev.FaultBegan, t=T0 + 30), "before the warm-up was over"),
    "generator late": (late_generator, "fell behind its own schedule"),
    "workload abandoned": (abandoned, "abandoned"),
    "workload wrote nothing": (no_operations, "no operation"),
    "machine stood still": (stood_still, "nobody wrote anything"),
    "two runs in one folder": (added(ev.RunStarted(
        t=T0 + 1, name="x", seed=1, runtime="fake", utc="", preset="", speed=1, stack="",
        services={})), "more than one run"),
    "nothing says what was run": (without(ev.RunStarted), "run.started is missing"),
    "an end that is no end": (changed(ev.RunEnded, outcome="void", reason="workload day died"),
                              "workload day died"),
    "a fault that never began": (added(ev.FaultSeen(t=T0 + 50, fault="9-cut", observation="x")),
                                 "never began"),
    "an operation ends twice": (added(ev.OpOk(t=T0 + 50, op="day-3", strength="200")),
                                "a second time"),
    "an end without a beginning": (added(ev.OpOk(t=T0 + 50, op="day-x", strength="200")),
                                   "never began"),
}  # fmt: skip


@pytest.mark.parametrize("name", VOID)
def test_a_run_that_proves_nothing_is_void(name: str) -> None:
    """Every claim is void with that reason, and the exit code is 3: never a pass."""
    spoil, words = VOID[name]
    judgement = judged(spoil)  # type: ignore[arg-type]
    assert judgement.outcome is Finding.VOID
    assert judgement.exit_code is Exit.VOID
    assert words in " ".join(judgement.reasons)
    assert [v.verdict for v in judgement.claims] == [Finding.VOID]
    assert words in judgement.claims[0].reason


def test_no_claims_is_void() -> None:
    """A run that asks nothing is never green."""
    judgement = judge(good_day().history(), [])
    assert judgement.outcome is Finding.VOID
    assert "no claim" in judgement.reasons[0]


def test_no_journal_is_void() -> None:
    """An empty journal proves nothing, and nothing raises."""
    assert judge(History.of({}), [ChartReadable()]).outcome is Finding.VOID


def test_all_held_exits_zero() -> None:
    """The one way to exit 0, and the run's own name, seed and runtime are told."""
    judgement = judge(good_day().history(), [ChartReadable(), CopyMarked()])
    assert (judgement.outcome, judgement.exit_code) == (Finding.HELD, Exit.HELD)
    assert (judgement.name, judgement.seed, judgement.runtime) == ("test", 7, "fake")


def test_one_broken_claim_breaks_the_run() -> None:
    """Held claims beside it change nothing."""

    def spoil(day: Day) -> None:
        day.of("copy.write")[0].outcome = "ok"

    day = good_day()
    spoil(day)
    judgement = judge(day.history(), [ChartReadable(), CopyMarked()])
    assert (judgement.outcome, judgement.exit_code) == (Finding.BROKEN, Exit.BROKEN)


@pytest.mark.parametrize("reason", ["stopped by a person (Ctrl-C)", "a service did not start"])
def test_an_aborted_run_is_aborted(reason: str) -> None:
    """Whatever had been seen so far; what an aborted run lacks is no reason of its own."""
    judgement = judged(lambda d: [changed(ev.RunEnded, outcome="aborted", reason=reason)(d),
                                  without(ev.FaultGone)(d), abandoned(d)])  # type: ignore[func-returns-value,arg-type]  # fmt: skip
    assert (judgement.outcome, judgement.exit_code) == (Finding.ABORTED, Exit.ABORTED)
    assert reason in judgement.reasons[0]


@pytest.mark.parametrize(("broken", "outcome"), [(False, Finding.VOID), (True, Finding.BROKEN)])
def test_a_killed_harness_is_judged_so_far_and_never_held(broken: bool, outcome: Finding) -> None:
    """Its windows end with the evidence; a counter-example is one all the same."""
    day = good_day()
    cut = T0 + 58
    files = day.files()
    if broken:
        for op in [o for o in day.of("chart.read", during=True) if o.klass == "P0"][::10]:
            op.outcome, op.reason = "refused", "503"
        files = day.files()
    early = {}
    for name, data in files.items():
        lines = [x for x in data.splitlines(keepends=True) if msgspec.json.decode(x)["t"] < cut]
        early[name] = b"".join(lines)
    early["traffic.jsonl"] = early["traffic.jsonl"][:-7]  # torn in the last line
    history = History.of(early)
    judgement = judge(history, [ChartReadable()])
    (verdict,) = judgement.claims
    assert judgement.outcome is outcome
    assert verdict.verdict is (Finding.BROKEN if broken else Finding.HELD)
    assert "killed" in judgement.reasons[-1]
    assert len(history.notes) == 1
    (window,) = [w for w in history.windows if w.name == "fault"]
    assert (window.closed, window.end) == (False, history.end)


def test_a_window_that_the_reaper_ended_does_not_reach_into_the_calm() -> None:
    """The harness is killed, the reaper heals, traffic goes on a while: that is no fault window."""
    day = good_day()
    day.harness = [e for e in day.harness if e.t <= T0 + 41]
    day.extra = [ev.FaultEnded(t=T0 + 47, fault=FAULT_NAME, by="reaper")]
    (window,) = [w for w in day.history().windows if w.name == "fault"]
    assert window.end == T0 + 47


def test_the_warm_up_is_steady_on_a_good_day() -> None:
    """Also while the run still goes on, and with operations in flight."""
    day = good_day()
    day.harness = [e for e in day.harness if e.t < T0 + WARM[1]]
    lines = {
        name: b"".join(x for x in data.splitlines(keepends=True)
                       if msgspec.json.decode(x)["t"] < T0 + WARM[1] - 0.5)
        for name, data in day.files().items()
    }  # fmt: skip
    assert steady_reasons(History.of(lines), [ChartReadable()]) == []


def test_a_warm_up_without_traffic_is_not_steady() -> None:
    """Silence is no calm."""
    day = good_day()
    day.ops = [o for o in day.ops if o.at > WARM[1]]
    assert "no operation" in steady_reasons(day.history(), [])[0]


def test_reads_that_hang_in_the_warm_up_are_not_steady() -> None:
    """An unanswered read of more than five seconds is a failure, not an operation in flight."""
    day = good_day()
    for op in [o for o in day.of("chart.read") if WARM[0] < o.at < 30][::4]:
        op.outcome = "pending"
    assert "failed before any fault" in steady_reasons(day.history(), [])[0]


@dataclass(frozen=True)
class Clumsy:
    """A claim with a mistake in it."""

    id: str = "X-1"
    statement: str = "Nothing."
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Raise."""
        del history
        raise ZeroDivisionError("division by zero")


def test_a_claim_that_fails_to_judge_is_void_itself() -> None:
    """Its neighbours are judged, no traceback, and the run is void."""
    judgement = judge(good_day().history(), [Clumsy(), ChartReadable()])
    assert [v.verdict for v in judgement.claims] == [Finding.VOID, Finding.HELD]
    assert (judgement.outcome, "X-1" in judgement.claims[0].id) == (Finding.VOID, True)


def test_an_unfinished_store_count_is_incomplete() -> None:
    """A store that says it held more than lies in the journal was not read to its end."""
    day = good_day()
    files = day.files()
    audit = files["audit.jsonl"].splitlines(keepends=True)
    lost = next(i for i, x in enumerate(audit) if b'"lis"' in x)
    history = History.of({**files, "audit.jsonl": b"".join(audit[:lost] + audit[lost + 1 :])})
    assert not history.stores["lis"].complete
    assert history.stores["gam"].complete


def test_a_second_read_replaces_a_failed_one() -> None:
    """Records of the failed read are no duplicates of those of the second."""
    day = good_day()
    files = day.files()
    torn = replace(day, read={"lis": False})
    first = torn.files()["audit.jsonl"]
    history = History.of({**files, "audit.jsonl": first + files["audit.jsonl"]})
    assert history.stores["lis"].complete
    assert not list(history.stores["lis"].shelf("order").doubled())
