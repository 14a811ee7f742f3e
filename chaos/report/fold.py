"""From the history of a run to its Timeline: services, windows, faults, moments, counts, checks.

It judges nothing, and an event that it does not know leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from chaos.journal.history import History
from chaos.journal.ops import Outcome
from chaos.report.checks import checks
from chaos.report.lives import Clock, faults_of, services_of
from chaos.report.tally import (
    ANSWERED,
    CUT_SHORT,
    REFUSED,
    UNKNOWN,
    Seen,
    bin_width,
    counted,
)
from chaos.report.timeline import FaultLane, Moment, Timeline, Window
from chaos.report.wording import because, visible
from chaos.terms import NO_WORDS, Terms

DURATION_MAX_S = 366 * 86_400.0
"""No run lasts longer; a journal that says so has a broken clock, and must not break the page."""
SPEED_MAX = 1e6
ACTS_MAX = 50
ACT_CHARS_MAX = 120
WINDOW_WORDS = {"warmup": "Warm-up", "fault": "Fault window", "settle": "Settling"}


def timeline_of(history: History, terms: Terms = NO_WORDS) -> Timeline:
    """The whole run on one axis of seconds; second 0 is the run's first event."""
    run = history.run
    start_t = run.t if run else history.start
    duration_s = min(DURATION_MAX_S, max(0.0, history.end - start_t))
    clock = Clock(start_t, duration_s)
    faults, fault_moments = faults_of(history, clock)
    windows = _windows(history, clock)
    services, service_moments = services_of(history, clock)
    bin_s = bin_width(duration_s)
    during = fault_spans(windows, faults, duration_s)
    count = counted(
        _seen(history, start_t), bin_s=bin_s, duration_s=duration_s, during=during, terms=terms
    )
    moments = [*fault_moments, *service_moments, *_window_moments(windows)]
    moments += [*_other_moments(history, clock), *_acts(history, clock, terms)]
    return Timeline(
        name=run.name if run else "",
        seed=run.seed if run else None,
        runtime=run.runtime if run else "",
        preset=run.preset if run else "",
        stack=run.stack if run else "",
        defect=run.defect if run else "",
        utc=run.utc if run else "",
        speed=min(SPEED_MAX, history.speed),
        duration_s=duration_s,
        complete=history.ended is not None,
        bin_s=bin_s,
        operations=count.operations,
        shed=len(history.sheds),
        services=services,
        windows=windows,
        faults=faults,
        classes=count.classes,
        turnarounds=count.turnarounds,
        class_tallies=count.class_tallies,
        kinds=count.kinds,
        moments=tuple(sorted(moments, key=lambda m: m.t_s)),
        checks=checks(history, windows, faults),
    )


def fault_spans(
    windows: tuple[Window, ...], faults: tuple[FaultLane, ...], end_s: float
) -> tuple[tuple[float, float], ...]:
    """When faults lasted: the fault windows, or the faults themselves if there is no window;
    disjoint and in order."""
    spans = sorted((w.start_s, w.end_s) for w in windows if w.name == "fault")
    if not spans:
        spans = sorted((f.began_s, f.until_s(end_s)) for f in faults)
    merged: list[tuple[float, float]] = []
    for start_s, stop_s in spans:
        if merged and start_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop_s))
        else:
            merged.append((start_s, stop_s))
    return tuple(merged)


def _seen(history: History, start_t: float) -> Iterator[Seen]:
    ok, refused = Outcome.OK, Outcome.REFUSED
    for op in history.ops():
        outcome, ms = UNKNOWN, 0.0
        if op.outcome is ok:
            outcome = ANSWERED
        elif op.outcome is refused:
            outcome = REFUSED
        elif op.undecided:
            outcome = CUT_SHORT
        if op.ended_at:
            ms = (op.ended - op.intended) * 1_000
            if not 0.0 <= ms <= DURATION_MAX_S * 1_000:
                ms = 0.0 if ms < 0 else DURATION_MAX_S * 1_000
        at_s = op.intended - start_t
        if not 0.0 <= at_s <= DURATION_MAX_S:
            at_s = 0.0 if at_s < 0 else DURATION_MAX_S
        yield Seen(op.klass, op.kind, at_s, outcome, ms)


def _windows(history: History, clock: Clock) -> tuple[Window, ...]:
    return tuple(
        Window(w.name, clock.at(w.start), clock.at(w.end), w.ok, w.closed, w.reason)
        for w in history.windows
    )


def _window_moments(windows: tuple[Window, ...]) -> Iterator[Moment]:
    for w in windows:
        word = WINDOW_WORDS.get(w.name, w.name)
        yield Moment(w.start_s, f"{word} begins", 1)
        if not w.closed:
            yield Moment(w.end_s, f"{word} never ended", 0)
        elif w.ok:
            yield Moment(w.end_s, because(f"{word} ends", w.reason), 1)
        else:
            yield Moment(w.end_s, because(f"{word} ends without what it waited for", w.reason), 0)


def _acts(history: History, clock: Clock, terms: Terms) -> Iterator[Moment]:
    """What people decided and did, one by one; a flood of it is told no further."""
    for kind, words in terms.acts.items():
        for op in islice(history.ops(kind), ACTS_MAX):
            what = visible(op.value or op.key, ACT_CHARS_MAX)
            if op.ok:
                yield Moment(clock.at(op.ended), because(words, what))
            else:
                why = visible(op.reason, ACT_CHARS_MAX) or "no answer"
                yield Moment(clock.at(op.intended), f"{because(words, what)}, in vain ({why})", 0)


def _other_moments(history: History, clock: Clock) -> Iterator[Moment]:
    if history.drained:
        event = history.drained.event
        word = "Queues are empty" if event.ok else "Queues did not drain"
        yield Moment(clock.at(event.t), because(word, event.reason), 1 if event.ok else 0)
    if history.ended:
        word = f"The run is {history.ended.outcome}"
        weight = 1 if history.ended.outcome == "completed" else 0
        yield Moment(clock.at(history.ended.t), because(word, history.ended.reason), weight)
    elif history.files:
        yield Moment(clock.end_s, "The journal stops here: the harness was killed", 0)
