"""Whether a run proves anything at all: the reasons that make it void, whatever the claims say.

It refuses to let a run pass in which the fault was not seen, the calm was not calm, the load was
not what it should have been, or the evidence has holes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from chaos.claims import Claim
from chaos.claims.evidence import FAULT, WARMUP, count, fault_spans
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.spans import STRANGERS, Injection

LATE_P99_MS = 500.0
"""A generator may start 1 % of its operations later than this, no more."""
LATE_MAX_MS = 5_000.0
"""No operation may start later than this."""
STARTED_SHARE = 0.99
"""A generator must start at least this share of what it planned."""
LEDGER_SHARE = 0.9
"""At least so many of the started arrivals stand in the journal as operations (one may find nobody
to care for, most are several operations)."""
SILENCE_S = 10
"""While traffic runs somebody writes every second; a longer silence means that the machine, or
every writer, stood still."""


def hard_reasons(history: History, claims: Sequence[Claim]) -> list[str]:
    """Reasons that hold even for a run which was stopped early."""
    return [
        *(f"the journal is damaged: {defect}" for defect in history.defects),
        *_run(history),
        *([] if claims else ["no claim was asked for: nothing to judge"]),
        *(r for fault in history.injections for r in _fault(history, fault)),
        *_strays(history),
        *_warmup(history),
        *_generators(history),
        *_windows(history),
        *_silence(history),
    ]


def soft_reasons(history: History, claims: Sequence[Claim]) -> list[str]:
    """What a completed run must have, and a run that was stopped early need not."""
    reasons: list[str] = []
    for fault in history.injections:
        if fault.seen is None and fault.unseen is None:
            reasons.append(f"{_named(fault)}: nobody saw it take effect")
        if fault.stuck is None and fault.ended is None:
            reasons.append(f"{_named(fault)}: its lease was never undone")
        elif fault.stuck is None and fault.gone is None:
            reasons.append(f"{_named(fault)}: nobody saw it gone after its undo")
        if fault.ended_by in STRANGERS:
            reasons.append(
                f"{_named(fault)}: it was undone by the {fault.ended_by}, not by the experiment"
            )
    if any(getattr(claim, "window", FAULT) == FAULT for claim in claims):
        reasons += _without_fault(history)
    for load in history.loads:
        if load.started is not None and load.ended is None:
            reasons.append(f"workload {load.workload} was abandoned: it never wrote its end")
    reasons += [f"the {w.name} window was never closed" for w in history.windows if not w.closed]
    if history.loads and not history.op_count:
        reasons.append("the workloads wrote no operation")
    return reasons


def _run(history: History) -> Iterator[str]:
    starts, ends = history.of_type(ev.RunStarted), history.of_type(ev.RunEnded)
    if not starts:
        yield "the journal does not say what was run: run.started is missing"
    if len(starts) > 1 or len(ends) > 1:
        yield "the journal holds more than one run"
    if ends and ends[0].event.outcome not in ("completed", "aborted"):
        yield f"the run ended as `{ends[0].event.outcome}`: {ends[0].event.reason}"


def _fault(history: History, fault: Injection) -> Iterator[str]:
    if fault.unseen is not None and fault.seen is None:
        yield f"{_named(fault)}: its effect was not seen ({fault.unseen})"
    if fault.stuck is not None:
        yield f"{_named(fault)}: it could not be undone ({fault.stuck})"
    if fault.began_again:
        yield f"{_named(fault)}: two faults share this name"
    windows = [w for w in history.windows if w.name == FAULT]
    overlaps = any(w.start <= fault.over and fault.began <= w.end for w in windows)
    if windows and not overlaps:
        yield f"{_named(fault)}: it took place outside every fault window"


def _strays(history: History) -> Iterator[str]:
    known = {fault.fault for fault in history.injections}
    for one in history.seen:
        event = one.event
        if (
            isinstance(event, ev.FaultSeen | ev.FaultUnseen | ev.FaultEnded | ev.FaultGone)
            and event.fault not in known
        ):
            yield f"fault {event.fault} is told of at {history.cite(one)} but never began"
            known.add(event.fault)


def _warmup(history: History) -> Iterator[str]:
    for window in history.windows:
        if window.name == WARMUP and not window.ok:
            yield f"the warm-up was not steady: {window.reason or 'no reason given'}"


def _without_fault(history: History) -> Iterator[str]:
    if not history.injections:
        yield "no fault took place, but the claims speak of what holds during one"
        return
    windows = [w for w in history.windows if w.name == FAULT]
    if not windows or not fault_spans(history):
        yield "no fault window was judged, but the claims speak of one"
    for window in windows:
        if window.length_s > 0 and not any(
            f.began <= window.end and window.start <= f.over for f in history.injections
        ):
            yield f"in the fault window at {history.cite(window.place)} there was no fault"
    calm = [w for w in history.windows if w.name == WARMUP and w.closed and w.ok]
    first = min(f.began for f in history.injections)
    if not any(w.length_s > 0 and w.start < first for w in calm):
        yield "no steady warm-up came before the first fault"
    elif any(w.start < first < w.end for w in calm):
        yield "a fault began before the warm-up was over"


def _generators(history: History) -> Iterator[str]:
    started = 0
    for load in history.loads:
        end = load.ended
        if end is None:
            continue
        started += end.started
        name = f"the load generator {load.workload}"
        if load.started is None:
            yield f"{name} ended without having started"
        if not end.ok:
            yield f"{name} failed: {end.reason or 'no reason given'}"
        if end.late_p99_ms > LATE_P99_MS or end.late_max_ms > LATE_MAX_MS:
            yield (
                f"{name} fell behind its own schedule: 1 % of operations started more than "
                f"{end.late_p99_ms:.0f} ms late (bound {LATE_P99_MS:.0f} ms), the latest "
                f"{end.late_max_ms:.0f} ms (bound {LATE_MAX_MS:.0f} ms)"
            )
        if end.started < STARTED_SHARE * end.planned:
            yield (
                f"{name} started only {end.started:,} of {end.planned:,} planned operations "
                f"(bound {STARTED_SHARE:.0%})"
            )
        if end.started == 0 and load.started is not None and load.started.planned_per_s > 0:
            yield f"{name} started no operation at all"
    if started * LEDGER_SHARE > history.op_count:
        yield (
            f"{count(started, 'operation')} started but only {history.op_count:,} in the journal"
        )


def _windows(history: History) -> Iterator[str]:
    for window in history.windows:
        if window.name == WARMUP and window.twice:
            yield "the warm-up was opened twice"
        if window.name in (WARMUP, FAULT) and window.closed and window.length_s == 0:
            yield (
                f"the {window.name} window at {history.cite(window.place)} is empty, or was "
                "closed without having been opened"
            )


def _silence(history: History) -> Iterator[str]:
    """Seconds of a judged window, with traffic running, in which nobody wrote anything."""
    running = [
        (load.started.t, load.ended.t if load.ended else inf)
        for load in history.loads
        if load.started is not None
    ]
    for window in history.windows:
        for start, end in running:
            low, high = max(window.start, start), min(window.end, end, history.end)
            if window.name in (FAULT, WARMUP) and high - low > SILENCE_S:
                quiet = _longest_quiet(history, int(low), int(high))
                if quiet > SILENCE_S:
                    yield (
                        f"nobody wrote anything for {quiet} s of the {window.name} window: the "
                        "machine or every writer stood still"
                    )
                    return


def _longest_quiet(history: History, low: int, high: int) -> int:
    longest = current = 0
    for second in range(low, high + 1):
        current = 0 if second in history.seconds else current + 1
        longest = max(longest, current)
    return longest


def _named(fault: Injection) -> str:
    return f"fault {fault.fault} ({fault.story or fault.kind})"
