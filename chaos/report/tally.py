"""Operations counted: per bin of time, per priority class, per kind; one pass, any number.

It knows nothing of services or faults and keeps no operation once it is counted.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.report.timeline import Bin, ClassLane, ClassTally, Tally
from chaos.terms import Terms

BINS_MAX = 120
CLASSES_MAX = 8
KINDS_MAX = 60
REST = "others"
ANSWERED, REFUSED, UNKNOWN, CUT_SHORT = 0, 1, 2, 3
_NICE_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)


class Seen(NamedTuple):
    """One operation as the report needs it; `at_s` its intended start, since the run began."""

    klass: str
    kind: str
    at_s: float
    outcome: int  # ANSWERED, REFUSED, UNKNOWN, or CUT_SHORT (no evidence for anything)
    ms: float


def bin_width(duration_s: float) -> float:
    """The smallest round width (seconds) that needs at most BINS_MAX bins."""
    for width in _NICE_S:
        if duration_s <= width * BINS_MAX:
            return float(width)
    return 3_600.0 * math.ceil(duration_s / BINS_MAX / 3_600)


@dataclass(slots=True)
class _Cell:
    """Counts of the outcomes and the latencies of the answers (shared float objects)."""

    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    ms: list[float] = field(default_factory=list)

    def tally(self, name: str) -> Tally:
        p50, p95, top = quantiles(self.ms)
        answered, refused, unknown, cut_short = self.counts
        return Tally(name, answered, refused, unknown, cut_short, p50, p95, top)

    def bin(self) -> Bin:
        p50, p95, _ = quantiles(self.ms)
        answered, refused, unknown, _ = self.counts
        return Bin(answered, refused, unknown, p50, p95)


@dataclass(slots=True)
class _Gap:
    """The longest time between a first failure and the next answer, or the last operation."""

    since: float | None = None
    last: float = 0.0
    longest: float = 0.0

    def see(self, at_s: float, failed: bool) -> None:
        self.last = at_s
        if failed:
            self.since = at_s if self.since is None else self.since
        elif self.since is not None:
            self.longest = max(self.longest, at_s - self.since)
            self.since = None

    def worst(self) -> float:
        still = 0.0 if self.since is None else self.last - self.since
        return max(self.longest, still)


def quantiles(ms: list[float]) -> tuple[float | None, float | None, float | None]:
    """p50, p95 and maximum by nearest rank; Nones for no value. Sorts the list in place."""
    if not ms:
        return None, None, None
    ms.sort()
    n = len(ms)
    return ms[math.ceil(0.50 * n) - 1], ms[math.ceil(0.95 * n) - 1], ms[-1]


@dataclass(frozen=True, slots=True)
class Counted:
    """What one pass over the operations gives."""

    operations: int
    classes: tuple[ClassLane, ...]
    turnarounds: tuple[ClassLane, ...]
    class_tallies: tuple[ClassTally, ...]
    kinds: tuple[Tally, ...]


class _Names:
    """Keeps at most `limit` names, in sorted order of first come; the rest share one row."""

    def __init__(self, limit: int) -> None:
        self._known: dict[str, str] = {}
        self._limit = limit

    def of(self, name: str) -> str:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= self._limit:
                return REST
            known = self._known[name] = name
        return known


def counted(
    seen: Iterable[Seen],
    *,
    bin_s: float,
    duration_s: float,
    during: Sequence[tuple[float, float]],
    terms: Terms,
) -> Counted:
    """Count operations; `during` are disjoint, ordered spans (seconds) in which faults lasted."""
    bins = max(1, math.ceil(duration_s / bin_s))
    bounds = [edge for span in during for edge in span]
    cells: dict[tuple[str, int], _Cell] = defaultdict(_Cell)
    turns: dict[tuple[str, int], _Cell] = defaultdict(_Cell)
    phases: dict[tuple[str, int], _Cell] = defaultdict(_Cell)
    kinds: dict[str, _Cell] = defaultdict(_Cell)
    gaps: dict[str, _Gap] = defaultdict(_Gap)
    class_names, kind_names = _Names(CLASSES_MAX), _Names(KINDS_MAX)
    human, locks = terms.human_kinds, terms.lock_probes
    total = 0
    for klass, kind, at_s, outcome, ms in seen:
        total += 1
        klass, answered = class_names.of(klass), outcome == ANSWERED
        where = min(bins - 1, max(0, int(at_s / bin_s)))
        cell = kinds[kind_names.of(kind)]
        cell.counts[outcome] += 1
        if kind in locks or outcome == CUT_SHORT:
            if outcome in (ANSWERED, REFUSED):
                cell.ms.append(ms)
            continue
        edge = bisect_right(bounds, at_s)
        phase = phases[klass, 0 if edge == 0 else 1 if edge % 2 else 2]
        lane = cells[klass, where]
        lane.counts[outcome] += 1
        phase.counts[outcome] += 1
        if kind in human:
            turn = turns[kind, where]
            turn.counts[outcome] += 1
            if answered:
                turn.ms.append(ms)
                cell.ms.append(ms)
            continue
        gaps[klass].see(at_s, not answered)
        if answered:
            lane.ms.append(ms)
            phase.ms.append(ms)
            cell.ms.append(ms)
    return Counted(
        total,
        _lanes(cells, bins),
        _lanes(turns, bins),
        _class_tallies(phases, gaps),
        tuple(kinds[name].tally(name) for name in sorted(kinds)),
    )


def _lanes(cells: dict[tuple[str, int], _Cell], bins: int) -> tuple[ClassLane, ...]:
    none = Bin()
    return tuple(
        ClassLane(
            name,
            tuple(cells[name, i].bin() if (name, i) in cells else none for i in range(bins)),
        )
        for name in sorted({name for name, _ in cells})
    )


def _class_tallies(
    phases: dict[tuple[str, int], _Cell], gaps: dict[str, _Gap]
) -> tuple[ClassTally, ...]:
    return tuple(
        ClassTally(
            name,
            before=phases[name, 0].tally("before"),
            during=phases[name, 1].tally("during"),
            after=phases[name, 2].tally("after"),
            gap_s=gaps[name].worst(),
        )
        for name in sorted({name for name, _ in phases})
    )
