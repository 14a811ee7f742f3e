"""The conditions without which an experiment proves nothing, told as the journal tells them.

It repeats what is on record; whether a run is void was decided by the judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaos.journal import events as e
from chaos.journal.history import History
from chaos.report.timeline import Check, FaultLane, Window
from chaos.report.wording import because, count, duration, latency, listed, number

FAULTS_TOLD_MAX = 40
NAMES = {"warmup": "warm-up", "fault": "fault window", "settle": "settling"}


def checks(
    history: History, windows: Sequence[Window], faults: Sequence[FaultLane]
) -> tuple[Check, ...]:
    """Journal, windows, faults, load and final read, in this order."""
    return (
        _journal(history),
        *_windows(windows),
        *_faults(faults),
        *_loads(history),
        *_drained(history),
        *_final_read(history),
    )


def _journal(history: History) -> Check:
    if history.defects:
        return Check("journal", False, f"damaged: {'; '.join(history.defects)}")
    notes = "; ".join(history.notes)
    if history.ended is None:
        return Check("journal", False, because("stops in mid-run, the harness was killed", notes))
    if history.ended.outcome != "completed":
        text = f"whole, but the run was {history.ended.outcome}"
        return Check("journal", False, because(text, history.ended.reason))
    return Check("journal", True, because("whole, from the first line to the last", notes))


def _windows(windows: Sequence[Window]) -> Iterator[Check]:
    for w in windows:
        name, took = NAMES.get(w.name, w.name), duration(w.end_s - w.start_s)
        if not w.closed:
            yield Check(name, False, because(f"never ended, {took} of it are on record", w.reason))
        elif not w.ok:
            yield Check(name, False, because(f"not as wanted after {took}", w.reason))
        else:
            yield Check(name, True, because(f"as wanted, {took}", w.reason))


def _faults(faults: Sequence[FaultLane]) -> Iterator[Check]:
    for f in faults[:FAULTS_TOLD_MAX]:
        text = f.trouble
        if not text and f.seen_s is None:
            text = "its effect was not seen"
        elif not text and f.gone_s is None:
            text = because("seen in effect, not seen healed", f.effect)
        ok = not text
        if ok:
            text = f"seen in effect ({f.effect or 'yes'}) and seen healed ({f.heal or 'yes'})"
        yield Check(f"fault {f.number}", ok, text)
    rest = faults[FAULTS_TOLD_MAX:]
    if rest:
        bad = sum(bool(f.trouble) or f.seen_s is None or f.gone_s is None for f in rest)
        text = f"{count(len(rest), 'further fault')}, {number(bad)} of them in trouble"
        yield Check("other faults", bad == 0, text)


def _loads(history: History) -> Iterator[Check]:
    for load in history.loads:
        end = load.ended
        if end is None:
            yield Check(f"load {load.workload}", False, "the load generator never reported back")
            continue
        text = (
            f"{number(end.started)} of {number(end.planned)} planned operations were started;"
            f" 99 of 100 within {latency(end.late_p99_ms)} of their schedule,"
            f" the latest {latency(end.late_max_ms)} behind it"
        )
        yield Check(f"load {load.workload}", end.ok, because(text, end.reason))


def _drained(history: History) -> Iterator[Check]:
    if history.drained:
        event: e.Drained = history.drained.event
        word = "seen empty after the faults" if event.ok else "not seen empty"
        yield Check("queues", event.ok, because(word, event.reason))


def _final_read(history: History) -> Iterator[Check]:
    good = [name for name, store in sorted(history.stores.items()) if store.complete]
    if good:
        yield Check("final read", True, f"read to the end: {listed(good)}")
    for name, store in sorted(history.stores.items()):
        if not store.complete:
            text = because(f"{name} could not be read to its end", store.reason)
            yield Check("final read", False, text)
    if not history.stores:
        yield Check("final read", None, "no store was read after the run")
