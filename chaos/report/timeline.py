"""What happened when, as plain values on one axis of seconds since the run began.

It draws nothing, judges nothing and reads no file; it folds events and operations once, so that a
million operations become a few hundred bins.
"""

from __future__ import annotations

from dataclasses import dataclass

WORKING_STATES = frozenset({"ready"})


@dataclass(frozen=True, slots=True)
class Span:
    """A service was in one state from `start_s` to `end_s`; `reason` as the harness heard it."""

    start_s: float
    end_s: float
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ServiceLane:
    """One service and its states, in order, without overlap."""

    name: str
    room: str
    spans: tuple[Span, ...]

    @property
    def away_s(self) -> float:
        """Seconds in which the service was anything but ready, starting excluded."""
        odd = (s for s in self.spans if s.state not in WORKING_STATES | {"starting"})
        return sum(s.end_s - s.start_s for s in odd)


@dataclass(frozen=True, slots=True)
class Window:
    """A judged span; `closed` is False when the journal ends inside it."""

    name: str
    start_s: float
    end_s: float
    ok: bool = True
    closed: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FaultLane:
    """One fault's life; None for what the journal never said."""

    number: int
    id: str
    kind: str
    story: str
    targets: tuple[str, ...]
    rooms: tuple[str, ...]
    began_s: float
    seen_s: float | None = None
    ended_s: float | None = None
    gone_s: float | None = None
    effect: str = ""  # what the effect probe saw
    heal: str = ""  # what the heal probe saw
    ended_by: str = ""
    trouble: str = ""  # unseen or stuck: why the run is void

    def until_s(self, end_s: float) -> float:
        """Last instant at which the fault may still have had an effect."""
        over = [t for t in (self.ended_s, self.gone_s) if t is not None]
        return max(self.began_s, *over) if over else end_s


@dataclass(frozen=True, slots=True)
class Bin:
    """Operations of one class whose intended start lies in one bin; latencies of answers, in ms."""

    answered: int = 0
    refused: int = 0
    unknown: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None

    @property
    def asked(self) -> int:
        """All operations of the bin."""
        return self.answered + self.refused + self.unknown


@dataclass(frozen=True, slots=True)
class ClassLane:
    """One priority class over time; `bins` has one entry per bin of the timeline."""

    name: str
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Operations counted together: their outcomes and the latency of those that were answered."""

    name: str
    answered: int = 0
    refused: int = 0
    unknown: int = 0
    cut_short: int = 0  # stopped together with the traffic: no evidence for anything
    p50_ms: float | None = None
    p95_ms: float | None = None
    max_ms: float | None = None

    @property
    def asked(self) -> int:
        """All operations of the tally whose outcome means something."""
        return self.answered + self.refused + self.unknown


@dataclass(frozen=True, slots=True)
class ClassTally:
    """One priority class before, during and after the faults; `gap_s` the longest time in which
    every operation of the class failed, from the first failure to the next answer."""

    name: str
    before: Tally
    during: Tally
    after: Tally
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the run's story; `weight` 0 is what a reader must not miss."""

    t_s: float
    text: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Check:
    """One condition without which the experiment proves nothing; `ok` None: the journal is mute."""

    name: str
    ok: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole run, ready to be drawn or told."""

    name: str
    seed: int | None
    runtime: str
    preset: str
    stack: str
    defect: str
    utc: str  # RFC 3339 of second 0; empty when the journal's first line is missing
    speed: float  # hospital seconds per real second
    duration_s: float
    complete: bool  # run.ended was written
    bin_s: float
    operations: int = 0
    shed: int = 0
    services: tuple[ServiceLane, ...] = ()
    windows: tuple[Window, ...] = ()
    faults: tuple[FaultLane, ...] = ()
    classes: tuple[ClassLane, ...] = ()
    turnarounds: tuple[ClassLane, ...] = ()  # kinds in hospital time, one lane per kind
    class_tallies: tuple[ClassTally, ...] = ()
    kinds: tuple[Tally, ...] = ()
    moments: tuple[Moment, ...] = ()
    checks: tuple[Check, ...] = ()
