"""The lives of services and faults, put together from the events that tell of them.

What the journal does not say stays None; an event of an unknown fault still shows the fault.
"""

from __future__ import annotations

from dataclasses import replace

from chaos.journal import events as e
from chaos.journal.history import History
from chaos.report.timeline import FaultLane, Moment, ServiceLane, Span
from chaos.report.wording import because, listed

TOGETHER_S = 1.0
"""Services that change to the same state within this time are told in one line."""
FaultEvent = e.FaultSeen | e.FaultUnseen | e.FaultEnded | e.FaultGone | e.FaultStuck
UNDONE_BY = {
    "block": "as planned",
    "deadline": "by the reaper at the lease's deadline",
    "reaper": "by the reaper, after the harness was gone",
    "proxy": "by the proxy's own expiry",
    "heal": "by the heal command",
}


class Clock:
    """CLOCK_MONOTONIC → seconds since the run began, kept inside the run."""

    def __init__(self, start_t: float, duration_s: float) -> None:
        self._start_t = start_t
        self.end_s = duration_s

    def at(self, t: float) -> float:
        """Seconds since the run began."""
        return min(self.end_s, max(0.0, t - self._start_t))


def faults_of(history: History, clock: Clock) -> tuple[tuple[FaultLane, ...], list[Moment]]:
    """Faults in the order of beginning, and the moments of their lives."""
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


def services_of(history: History, clock: Clock) -> tuple[tuple[ServiceLane, ...], list[Moment]]:
    """Every service that the run named, grouped by room, and the moments of their changes."""
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
