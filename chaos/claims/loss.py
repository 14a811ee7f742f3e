"""How much was lost: the age of the oldest acknowledged write that is missing in the end.

It refuses to say zero where a store was not read, or nothing had been written, before a fault:
only writes that were looked for and found make a zero, and no better than the last of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import itemgetter

from chaos.claims.evidence import cited, count, merged, seconds
from chaos.claims.kept import absence
from chaos.claims.mirrored import Mirrored
from chaos.claims.subject import Merges
from chaos.journal.history import NONE, History
from chaos.journal.ops import Op, Outcome
from chaos.journal.spans import Injection
from chaos.journal.stores import Shelf, Store, Stored
from chaos.objective import Figure
from chaos.systems import Home, Made, System
from chaos.verdict import Need

WHAT = "acknowledged writes"
_moment = itemgetter(0)
Proof = Op | Stored


@dataclass(slots=True)
class Found:
    """What became of acknowledged writes: instants of those that lie where they must, those that
    do not (with the journal's proof), and why of some nobody knows."""

    kept: list[float] = field(default_factory=list)
    lost: list[tuple[float, Proof]] = field(default_factory=list)
    unsure: dict[str, int] = field(default_factory=dict)

    def not_sure(self, why: str, number: int = 1) -> None:
        """Nobody knows of so many more writes."""
        self.unsure[why] = self.unsure.get(why, 0) + number


def loss(
    system: System, homes: Mapping[str, tuple[Home, ...]], faults: Sequence[Injection],
    history: History, merges: Merges,
) -> Figure:  # fmt: skip
    """The age of the oldest write of the system that is missing, at the fault that took it.

    `homes`: those of the run's topology; `faults`: those that hit the system or a home of its.
    """
    found = Found()
    for kind, places in homes.items():
        _written(kind, places, system, history, merges, found)
    if system.made is not None:
        _made(system.made, history, found)
    found.kept.sort()
    if found.lost:
        return _lost(found, faults, history)
    n = len(found.kept)
    if not homes and system.made is None:
        return Figure(WHAT, "nothing is written there")
    if found.unsure:
        why = max(found.unsure.items(), key=lambda item: item[1])[0]
        return Figure(WHAT, f"nobody knows: {why}", n=n)
    if not n:
        return Figure(WHAT, "nobody wrote anything")
    if not faults:
        return Figure(WHAT, f"no fault hit it, and all {count(n, 'write')} are there", n=n)
    begins = [start for start, _ in merged((f.began, f.healed) for f in faults)]
    return kept_until(begins, found.kept, "a fault")


def kept_until(instants: Sequence[float], kept: Sequence[float], what: str) -> Figure:
    """Nothing is missing: zero, as far as writes reach up to each of the instants. `kept`:
    acknowledgements in order."""
    last = [bisect_right(kept, t) - 1 for t in instants]
    if not kept or min(last) < 0:
        return Figure(WHAT, f"nothing had been written before {what}", n=len(kept))
    apart = max(t - kept[i] for t, i in zip(instants, last, strict=True))
    told = (
        f"none of {count(len(kept), 'acknowledged write')} is missing; the last one before {what} "
        f"is {seconds(apart)} older than it"
    )
    return Figure(WHAT, told, 0.0, apart, len(kept))


def _lost(found: Found, faults: Sequence[Injection], history: History) -> Figure:
    """Each loss counts up to the first moment from then on at which a fault of the system began,
    was undone or was healed; what none of them can have taken, up to the final read."""
    moments = sorted((t, f.fault) for f in faults for t in (f.began, f.over, f.healed) if t < inf)
    read = max((store.read_from for store in history.stores.values()), default=history.end)
    oldest = (-inf, 0.0, "")  # age, acknowledged, fault
    for at, _ in found.lost:
        i = bisect_left(moments, at, key=_moment)
        until, by = moments[i] if i < len(moments) else (max(read, at), "")
        oldest = max(oldest, (until - at, at, by))
    age, at, by = oldest
    before = bisect_left(found.kept, at) - 1
    most = age + at - found.kept[before] if before >= 0 and not found.unsure else None
    proof = [one for _, one in sorted(found.lost, key=lambda pair: pair[0])]
    n, lost = len(found.kept) + len(found.lost), len(found.lost)
    told = f"{lost:,} of {count(n, 'acknowledged write')} missing or changed"
    told += f", the oldest {seconds(age)} old at {by}" if by else ", with no fault of it after them"
    if found.unsure:
        told += "; of others nobody knows"
    return Figure(
        WHAT, told, age, most, n, lost, (by,) if by else (), cited(history, proof[:5])
    )  # fmt: skip


# ------------------------------------------------------------ what was written


@dataclass(frozen=True, slots=True)
class _Place:
    """A home, its store and its shelf."""

    home: Home
    store: Store | None
    shelf: Shelf
    announced: frozenset[str] | None


def _written(
    kind: str, homes: Sequence[Home], system: System, history: History, merges: Merges, found: Found
) -> None:
    ops = history.by_kind.get(kind, NONE)
    if not ops:
        return
    updated = {
        op.key for op in history.ops(system.updates.get(kind, ""))
        if op.outcome is not Outcome.REFUSED
    } if kind in system.updates else frozenset[str]()  # fmt: skip
    places = [_place(home, history) for home in homes]
    for place in places:
        if place.store is None or not place.store.complete:  # half a store is no evidence
            found.not_sure(f"{place.home.store} was not read to its end")
    plain = all(place.announced is None for place in places)
    gets = [(p.shelf.finder, p.home.same_value, p.home.statuses) for p in places]
    ok, seen, kept = Outcome.OK, set[str](), found.kept.append
    for op in ops:
        key = op.key
        if op.outcome is not ok or key in seen:
            continue
        seen.add(key)
        if plain and key:  # as nearly always
            value = op.value
            for get, same, statuses in gets:
                row = get(key)
                if row is None or (same and row.digest != value):
                    break
                if statuses and row.status not in statuses:
                    break
            else:
                kept(op.ended)
                continue
        _look(op, places, key in updated or merges.touch(op.subject), system, history, found)


def _place(home: Home, history: History) -> _Place:
    store = history.stores.get(home.store)
    announced = None
    if home.announced_by:
        announced = frozenset(op.subject for op in history.ops(home.announced_by) if op.ok)
    return _Place(home, store, store.shelf(home.kind) if store else Shelf(), announced)


def _look(
    op: Op, places: Sequence[_Place], changed: bool, system: System, history: History, found: Found
) -> None:
    """One write, place by place: lost where it surely is not, else unknown where nobody knows."""
    if not op.key:
        return found.not_sure("they carry no key to look for")
    why = ""
    for place in places:
        home = place.home
        if place.announced is not None and op.subject not in place.announced:
            continue
        rows = place.shelf.rows(op.key)
        if rows and (not home.statuses or any(row.status in home.statuses for row in rows)):
            compared = home.same_value and op.value and not changed
            if compared and any(row.digest and row.digest != op.value for row in rows):
                found.lost.append((op.ended, op))
                return None
            continue
        unsure = absence(op, home, place.store, history, system.queues)
        if not unsure:
            found.lost.append((op.ended, op))
            return None
        why = why or unsure
    if why:
        found.not_sure(why)
    else:
        found.kept.append(op.ended)
    return None


def _made(made: Made, history: History, found: Found) -> None:
    """Records of the source as if each had been acknowledged when the source took it."""
    tally = Mirrored(
        "", "", Need.full(0), made.kind, "contents", made.source, made.kind, made.copies,
        queues=made.queues, held=made.held, once=False,
    ).tally(history)  # fmt: skip
    gone = {row.key: row for row, _ in tally.missing} | {row.key: row for row in tally.changed}
    source = history.stores.get(made.source)
    for row in source.shelf(made.kind) if source else ():
        if row.key in gone:
            found.lost.append((row.at, row))
        elif row.at > 0:
            found.kept.append(row.at)
    for why, (number, _) in tally.unsure.items():
        found.not_sure(why, max(1, number))
