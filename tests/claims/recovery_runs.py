"""Short runs written by hand for recovery objectives: one desk that writes, one store, one fault.

Times are seconds of the run; a fault takes the desk from BEGAN to OVER, seen gone at HEALED.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.systems import Arrival, Face, Home, Promise, System

T0, BEGAN, OVER, HEALED, READ, END = 500.0, 40.0, 60.0, 61.0, 120.0, 125.0
DESK = System(
    "desk",
    "the desk",
    (Face("papers are taken", ("desk",), ("paper.create",)),),
    {"paper.create": (Home("desk", "paper"),)},
    promises=(
        Promise("CL-1", rto=True, rto_s=30.0),
        Promise("CL-2", rpo=True, rpo_s=0.0),
        Promise("CL-9", rto=True, rto_s=1.0),
    ),
)
POST = System(
    "post",
    "the post",
    (Face("papers arrive", ("post",), arrivals=(Arrival("paper.create", "post", "paper"),)),),
    {"paper.create": (Home("post", "paper", backlog=True, same_value=False),)},
    queues=("post",),
)


@dataclass
class Asked:
    """One operation; `done` is None where nobody ever answered."""

    at: float
    done: float | None
    outcome: str = "ok"
    reason: str = ""
    found: str = ""


@dataclass
class Run:
    """What a test may spoil before `history()` reads it."""

    asked: list[Asked] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    posted: dict[int, float] = field(default_factory=dict)
    other: set[int] = field(default_factory=set)  # stored with another content
    faults: list[ev.Event] = field(default_factory=list)
    complete: bool = True
    stored: bool = True
    drained: bool = True
    read: float = READ
    services: Sequence[str] = ("desk", "post", "engine")
    ended: str = "completed"
    seen: list[ev.Event] = field(default_factory=list)

    def files(self) -> dict[str, bytes]:
        """The journal's files."""
        harness: list[ev.Event] = [
            ev.RunStarted(t=T0, name="run", seed=1, runtime="fake", utc="", preset="", speed=1.0,
                          stack="desks", services=dict.fromkeys(self.services, "A")),
            *self.faults,
        ]  # fmt: skip
        if self.ended:
            harness.append(ev.RunEnded(t=T0 + END, outcome=self.ended))
        traffic: list[ev.Event] = []
        for i, one in enumerate(self.asked):
            t = T0 + one.at
            traffic.append(ev.OpInvoked(t=t, op=f"o{i}", kind="paper.create", klass="P1",
                                        intended=t, key=f"K{i}", value=f"v{i}"))  # fmt: skip
            if one.done is None:
                continue
            end = T0 + one.done
            traffic.append(
                ev.OpOk(t=end, op=f"o{i}", strength="201", subject=one.found)
                if one.outcome == "ok"
                else ev.OpRefused(t=end, op=f"o{i}", reason=one.reason)
                if one.outcome == "refused"
                else ev.OpUnknown(t=end, op=f"o{i}", reason=one.reason or "time-out")
            )
        traffic.sort(key=lambda event: event.t)
        audit: list[ev.Event] = []
        if self.drained:
            audit.append(ev.Drained(t=T0 + self.read - 1, ok=True))
        audit += self._read("desk", dict.fromkeys(sorted(self.kept), 0.0))
        audit += self._read("post", self.posted)
        encode = msgspec.json.Encoder().encode_lines
        harness.sort(key=lambda event: event.t)
        files = {"harness.jsonl": harness, "traffic.jsonl": traffic, "watch.jsonl": self.seen,
                 "audit.jsonl": audit}  # fmt: skip
        return {name: encode(events) for name, events in files.items()}

    def _read(self, store: str, held: dict[int, float]) -> Iterable[ev.Event]:
        if not self.stored:
            return
        for i, at in held.items():
            yield ev.Record(t=T0 + self.read, store=store, kind="paper", key=f"K{i}",
                            digest="other" if i in self.other else f"v{i}",
                            at=T0 + at if at else 0.0)  # fmt: skip
        yield ev.StoreRead(t=T0 + self.read + 1, store=store, complete=self.complete,
                           records=len(held))  # fmt: skip

    def history(self) -> History:
        """What is measured."""
        return History.of(self.files())


def fault(
    began: float = BEGAN, over: float = OVER, healed: float = HEALED, *, name: str = "1-kill",
    kind: str = "kill", targets: tuple[str, ...] = ("desk",), seen: bool = True,
) -> list[ev.Event]:  # fmt: skip
    """A fault's life."""
    life: list[ev.Event] = [
        ev.FaultBegan(t=T0 + began, fault=name, kind=kind, targets=targets, story="it is lost"),
        ev.FaultEnded(t=T0 + over, fault=name),
        ev.FaultGone(t=T0 + healed, fault=name, observation="back"),
    ]
    if seen:
        life.insert(1, ev.FaultSeen(t=T0 + began + 0.05, fault=name, observation="gone"))
    return life


def outage(down: float = BEGAN, up: float = 55.0, every: float = 0.5, took: float = 0.1) -> Run:
    """Somebody asks every so often from 10 to 100; who asks while it is down is answered when it
    is up again. Everything that was acknowledged is kept."""
    run = Run(faults=fault())
    at = 10.0
    while at < 100.0:
        done = at + took if not down <= at + took < up else up + took
        run.asked.append(Asked(at, done))
        at += every
    run.kept = set(range(len(run.asked)))
    run.posted = {i: one.done + 0.2 for i, one in enumerate(run.asked) if one.done}
    return run
