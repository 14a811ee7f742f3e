"""From the history of a run to its Timeline: services, windows, faults, moments, counts, checks.

It judges nothing, and an event that it does not know leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from chaos.journal import events as e
from chaos.journal.history import History
from chaos.journal.ops import Outcome
from chaos.report.checks import checks
from chaos.report.tally import (
    ANSWERED,
    CUT_SHORT,
    REFUSED,
    UNKNOWN,
    Seen,
    bin_width,
    counted,
)
from chaos.report.terms import HOSPITAL, Terms
from chaos.report.timeline import FaultLane, Moment, ServiceLane, Span, Timeline, Window
from chaos.report.wording import because, listed

TOGETHER_S = 1.0
"""Services that change to the same state within this time are told in one line."""
WINDOW_WORDS = {"warmup": "Warm-up", "fault": "Fault window", "settle": "Settling"}
FaultEvent = e.FaultSeen | e.FaultUnseen | e.FaultEnded | e.FaultGone | e.FaultStuck
UNDONE_BY = {
    "block": "as planned",
    "deadline": "by the reaper at the lease's deadline",
    "reaper": "by the reaper, after the harness was gone",
    "proxy": "by the proxy's own expiry",
    "heal": "by the heal command",
}


def timeline_of(history: History, terms: Terms = HOSPITAL) -> Timeline:
    """The whole run on one axis of seconds; second 0 is the run's first event."""
    run = history.run
    start_t = run.t if run else history.start
    duration_s = max(0.0, history.end - start_t)
    clock = _Clock(start_t, duration_s)
    faults, fault_moments = _faults(history, clock)
    windows = _windows(history, clock)
    services, service_moments = _services(history, clock)
    bin_s = bin_width(duration_s)
    during = fault_spans(windows, faults, duration_s)
    count = counted(
        _seen(history, start_t), bin_s=bin_s, duration_s=duration_s, during=during, terms=terms
    )
    moments = [*fault_moments, *service_moments, *_window_moments(windows)]
    moments += _other_moments(history, clock)
    return Timeline(
        name=run.name if run else "",
        seed=run.seed if run else None,
        runtime=run.runtime if run else "",
        preset=run.preset if run else "",
        stack=run.stack if run else "",
        defect=run.defect if run else "",
        utc=run.utc if run else "",
        speed=history.speed,
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


class _Clock:
    """CLOCK_MONOTONIC → seconds since the run began, kept inside the run."""

    def __init__(self, start_t: float, duration_s: float) -> None:
        self._start_t = start_t
        self.end_s = duration_s

    def at(self, t: float) -> float:
        return min(self.end_s, max(0.0, t - self._start_t))


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
            ms = max(0.0, (op.ended - op.intended) * 1_000)
        yield Seen(op.klass, op.kind, op.intended - start_t, outcome, ms)


def _windows(history: History, clock: _Clock) -> tuple[Window, ...]:
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


# ---------------------------------------------------------------- faults


def _faults(history: History, clock: _Clock) -> tuple[tuple[FaultLane, ...], list[Moment]]:
    lanes: dict[str, FaultLane] = {}
    moments: list[Moment] = []
    for event in history.events:
        if isinstance(event, e.FaultBegan):
            at_s = clock.at(event.t)
            number = lanes[event.fault].number if event.fault in lanes else len(lanes) + 1
            lanes[event.fault] = FaultLane(
                number, event.fault, event.kind, event.story, event.targets, event.rooms, at_s
            )
            moments.append(Moment(at_s, f"Fault {number} begins: {event.story}", 0))
        elif isinstance(event, FaultEvent):
            at_s = clock.at(event.t)
            known = lanes.get(event.fault) or FaultLane(
                len(lanes) + 1, event.fault, "", event.fault, (), (), at_s
            )  # its beginning was torn out of the journal
            lanes[event.fault], text = _lived(known, event, at_s)
            moments.append(Moment(at_s, f"Fault {known.number} {text}", 0))
    return tuple(lanes.values()), moments


def _lived(lane: FaultLane, event: FaultEvent, at_s: float) -> tuple[FaultLane, str]:
    match event:
        case e.FaultSeen():
            seen = replace(lane, seen_s=at_s, effect=event.observation)
            return seen, because("is in effect", event.observation)
        case e.FaultUnseen():
            trouble = because("its effect was never seen", event.reason)
            return replace(lane, trouble=trouble), because("was never seen", event.reason)
        case e.FaultEnded():
            by = UNDONE_BY.get(event.by, event.by)
            if lane.ended_s is not None:
                return lane, f"is undone once more ({by})"
            return replace(lane, ended_s=at_s, ended_by=by), f"is undone ({by})"
        case e.FaultGone():
            gone = replace(lane, gone_s=at_s, heal=event.observation)
            return gone, because("is seen healed", event.observation)
        case e.FaultStuck():
            trouble = because("it could not be undone", event.reason)
            return replace(lane, trouble=trouble), because("could not be undone", event.reason)


# ---------------------------------------------------------------- services and the rest


def _services(history: History, clock: _Clock) -> tuple[tuple[ServiceLane, ...], list[Moment]]:
    rooms = dict(history.run.services) if history.run else {}
    states: dict[str, list[Span]] = {}
    for event in history.events:
        if isinstance(event, e.ServiceSeen):
            known = states.setdefault(event.service, [])
            at_s = clock.at(event.t)
            if known and known[-1].state == event.state:
                continue
            if known:
                known[-1] = replace(known[-1], end_s=at_s)
            known.append(Span(at_s, clock.end_s, event.state, event.reason))
    names = dict.fromkeys((*rooms, *states))
    lanes = [ServiceLane(n, rooms.get(n, ""), tuple(states.get(n, ()))) for n in names]
    return tuple(sorted(lanes, key=lambda lane: lane.room)), _service_moments(states)


def _service_moments(states: dict[str, list[Span]]) -> list[Moment]:
    changes = sorted(
        (span.start_s, span.state, span.reason, name) for name in states for span in states[name]
    )
    groups: list[tuple[float, str, str, list[str]]] = []
    latest: dict[tuple[str, str], tuple[float, str, str, list[str]]] = {}
    for at_s, state, reason, name in changes:
        last = latest.get((state, reason))
        if last and at_s - last[0] <= TOGETHER_S:
            last[3].append(name)
        else:
            latest[state, reason] = (at_s, state, reason, [name])
            groups.append(latest[state, reason])
    return [
        Moment(at_s, because(f"{listed(names)}: {state}", reason), 1)
        for at_s, state, reason, names in groups
    ]


def _other_moments(history: History, clock: _Clock) -> Iterator[Moment]:
    if history.drained:
        event = history.drained.event
        word = "Queues are empty" if event.ok else "Queues did not drain"
        yield Moment(clock.at(event.t), because(word, event.reason), 1 if event.ok else 0)
    if history.ended:
        word = f"The run is {history.ended.outcome}"
        weight = 1 if history.ended.outcome == "completed" else 0
        yield Moment(clock.at(history.ended.t), because(word, history.ended.reason), weight)
    else:
        yield Moment(clock.end_s, "The journal stops here: the harness was killed", 0)
