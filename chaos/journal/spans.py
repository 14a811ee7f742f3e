"""Windows, faults and workloads of a run, each put together from the events of its life.

It decides nothing about them: what is missing is None, what is contradictory is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Generic, TypeVar

from chaos.journal import events as ev

STRANGERS = ("reaper", "deadline", "proxy", "heal")
"""Who else than the experiment's own block may have played an undo."""


E = TypeVar("E", bound=ev.Event, covariant=True)


@dataclass(frozen=True, slots=True)
class Seen(Generic[E]):
    """An event and its place in the journal."""

    event: E
    place: int


@dataclass(frozen=True, slots=True)
class Window:
    """A judged span of time, `start` ≤ t < `end`."""

    name: str
    start: float
    end: float
    closed: bool
    ok: bool
    reason: str
    place: int
    twice: bool = False  # opened again while it was open

    @property
    def length_s(self) -> float:
        """Real seconds."""
        return max(0.0, self.end - self.start)


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault's life; None for what the journal does not say."""

    fault: str
    kind: str
    targets: tuple[str, ...]
    story: str
    began: float
    place: int
    began_again: bool = False
    seen: float | None = None
    unseen: str | None = None
    ended: float | None = None
    ended_by: str = ""
    gone: float | None = None
    stuck: str | None = None
    trouble_place: int = 0

    @property
    def over(self) -> float:
        """When its undo was played; infinite when the journal does not say so."""
        return inf if self.ended is None else self.ended

    @property
    def healed(self) -> float:
        """When it was seen gone, else when its undo was played; infinite when neither."""
        return self.over if self.gone is None else self.gone


@dataclass(frozen=True, slots=True)
class Load:
    """One workload and how it ended (None: abandoned, or the run goes on)."""

    workload: str
    started: ev.WorkloadStarted | None
    ended: ev.WorkloadEnded | None
    place: int


def windows(
    seen: Iterable[Seen[ev.Event]], faults: Sequence[Injection], end: float
) -> tuple[Window, ...]:
    """Windows in the order of opening. Of one name only one is open at a time: a second opening
    widens the first (`twice`), which then ends with the last closing."""
    strange = [f.ended for f in faults if f.ended is not None and f.ended_by in STRANGERS]
    open_: dict[str, tuple[Window, int]] = {}
    done: list[Window] = []
    for one in seen:
        event = one.event
        if isinstance(event, ev.WindowOpened):
            known = open_.get(event.window)
            if known is None:
                fresh = Window(event.window, event.t, inf, False, True, "", one.place)
                open_[event.window] = (fresh, 1)
            else:
                open_[event.window] = (replace(known[0], twice=True), known[1] + 1)
        elif isinstance(event, ev.WindowClosed):
            window, depth = open_.pop(
                event.window,
                (Window(event.window, event.t, event.t, True, True, "", one.place), 1),
            )
            window = replace(
                window, ok=window.ok and event.ok, reason=window.reason or event.reason
            )
            if depth > 1:
                open_[event.window] = (window, depth - 1)
            else:
                done.append(replace(window, end=event.t, closed=True))
    for window, _ in open_.values():
        # Killed harness: its faults were healed by somebody else, and calm time is no evidence.
        healed = min((t for t in strange if t >= window.start), default=inf)
        done.append(replace(window, end=min(end, healed)))
    return tuple(sorted(done, key=lambda w: (w.start, w.place)))


def injections(seen: Iterable[Seen[ev.Event]]) -> tuple[Injection, ...]:
    """Faults in the order of beginning; events of a fault that never began are no injection."""
    lives: dict[str, Injection] = {}
    for one in seen:
        event = one.event
        if isinstance(event, ev.FaultBegan):
            if event.fault in lives:
                lives[event.fault] = replace(lives[event.fault], began_again=True)
            else:
                lives[event.fault] = Injection(
                    event.fault, event.kind, event.targets, event.story, event.t, one.place
                )
        elif isinstance(
            event, ev.FaultSeen | ev.FaultUnseen | ev.FaultEnded | ev.FaultGone | ev.FaultStuck
        ):
            life = lives.get(event.fault)
            if life is not None:
                lives[event.fault] = _lived(life, event, one.place)
    return tuple(lives.values())


def _lived(life: Injection, event: ev.Event, place: int) -> Injection:
    match event:
        case ev.FaultSeen():
            return replace(life, seen=event.t)
        case ev.FaultUnseen():
            return replace(life, unseen=event.reason, trouble_place=place)
        case ev.FaultEnded() if life.ended is None or life.ended_by in STRANGERS:
            # The first undo ends the fault, whoever played it; its author stays on record.
            first = event.t if life.ended is None else life.ended
            by = event.by if life.ended is None else life.ended_by
            return replace(life, ended=first, ended_by=by)
        case ev.FaultGone():
            return replace(life, gone=event.t)
        case ev.FaultStuck():
            return replace(life, stuck=event.reason, trouble_place=place)
        case _:
            return life


def loads(seen: Iterable[Seen[ev.Event]]) -> tuple[Load, ...]:
    """Workloads in the order of starting; an end without a start is kept, too."""
    found: dict[str, Load] = {}
    for one in seen:
        event = one.event
        if isinstance(event, ev.WorkloadStarted):
            name, number = event.workload, 2
            while name in found:  # the same workload may run twice, one after the other
                name, number = f"{event.workload}#{number}", number + 1
            found[name] = Load(event.workload, event, None, one.place)
        elif isinstance(event, ev.WorkloadEnded):
            unended = [n for n, k in found.items() if k.workload == event.workload and not k.ended]
            if unended:
                found[unended[0]] = replace(found[unended[0]], ended=event)
            else:
                found[f"{event.workload} at {one.place}"] = Load(
                    event.workload, None, event, one.place
                )
    return tuple(found.values())
