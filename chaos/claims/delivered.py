"""Delivered within: what was accepted reaches the other system once, soon after it can.

It refuses to start the clock while a fault or an unready receiver stands in the way, and to call
delivered what arrived at an unknown time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from chaos.claims.evidence import (
    Span,
    bounded,
    cited,
    count,
    ends,
    fault_spans,
    inside,
    lowered,
    merged,
    seconds,
)
from chaos.claims.kept import NO_PROGRESS
from chaos.journal.events import ServiceSeen
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.verdict import Finding, Need, Verdict

AWAY = frozenset({"gone", "starting", "paused", "stopping"})


@dataclass(frozen=True)
class DeliveredWithin:
    """Every acknowledged write of `kind` lies in `store` exactly once, at most `within_s` human
    seconds after it was accepted, or after the last fault and outage of `path` services (on whose
    way it lay) was over; `floor_s` real seconds are always allowed, because the work that an outage
    leaves behind is done by machines, and those are not compressed. Evidence: writes accepted
    during faults."""

    id: str
    statement: str
    need: Need
    kind: str
    store: str
    record_kind: str
    path: tuple[str, ...]
    within_s: float
    floor_s: float = 0.0
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        tally = _Tally(self, history)
        _, bound = bounded(self.within_s, self.floor_s, history)
        finding, reason = (
            Finding.HELD,
            (
                f"All {count(len(tally.during), 'order')} accepted during the faults reached "
                f"{self.store} exactly once within {bound} of its being healthy; the slowest took "
                f"{seconds(tally.slowest)} (real)."
            ),
        )
        if tally.lost or tally.late or tally.doubled:
            finding, reason = Finding.BROKEN, tally.accusation(bound)
        elif tally.unsure:
            why, (number, _) = max(tally.unsure.items(), key=lambda item: item[1][0])
            finding = Finding.INCONCLUSIVE
            reason = f"For {count(number, 'order')} nobody knows: {why}."
        elif not tally.read:
            finding, reason = Finding.INCONCLUSIVE, f"{self.store} was not read to its end."
        elif len(tally.during) < self.need.asked:
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    f"Only {count(len(tally.during), 'order')} accepted during the faults; "
                    f"{self.need.asked:,} are needed."
                ),
            )
        lines = cited(
            history, tally.lost, tally.late, tally.doubled,
            [op for _, op in tally.unsure.values()], ends(tally.during),
        )  # fmt: skip
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), len(tally.during),
            self.need.asked, lines,
        )  # fmt: skip


class _Tally:
    def __init__(self, claim: DeliveredWithin, history: History) -> None:
        self.claim, self.history = claim, history
        self.lost: list[Op] = []
        self.late: list[Op] = []
        self.doubled: list[Op] = []
        self.during: list[Op] = []
        self.unsure: dict[str, tuple[int, Op]] = {}
        self.slowest = 0.0
        self._human = claim.within_s / history.speed
        self._bound = max(claim.floor_s, self._human)
        self._blocked = merged([*_faults(history, claim.path), *_away(history, claim.path)])
        self._store = history.stores.get(claim.store)
        self.read = self._store is not None and self._store.complete
        drained = history.drained
        self._still = drained is not None and drained.event.reason.startswith(NO_PROGRESS)
        self._drained_at = drained.event.t if drained and drained.event.ok else inf
        spans = fault_spans(history)
        seen: set[str] = set()
        for op in history.ops(claim.kind):
            if not op.ok or op.key in seen:
                continue
            seen.add(op.key)
            if inside(op.ended, spans):
                self.during.append(op)
            self._one(op)

    def _one(self, op: Op) -> None:
        store, deadline = self._store, self._deadline(op.ended, self._bound)
        if store is None:
            return self._not_sure(f"{self.claim.store} was never read", op)
        shelf = store.shelf(self.claim.record_kind)
        row = shelf.get(op.key) if op.key else None
        if row is None:
            return self._absent(op, deadline)
        if shelf.copies(op.key) > 1:
            self.doubled.append(op)
        elif row.at > deadline:
            self.late.append(op)
        elif row.at <= 0 and store.read_at > deadline:
            self._not_sure(f"{self.claim.store} does not say when they arrived", op)
        else:
            ready = max(op.ended, deadline - self._bound)
            self.slowest = max(self.slowest, row.at - ready)
        return None

    def _absent(self, op: Op, deadline: float) -> None:
        store = self._store
        assert store is not None
        if not store.complete:
            self._not_sure(f"{store.name} was not read to its end ({store.reason})", op)
        elif not op.key:
            self._not_sure("they carry no key to look for", op)
        elif store.read_from > (self._still_at(op) or deadline) or (
            store.read_from >= self._drained_at and store.read_from > op.ended
        ):
            self.lost.append(op)
        else:
            self._not_sure(f"{store.name} was read before their time had run out", op)

    def _still_at(self, op: Op) -> float:
        """When nothing moves any more, machines need no time beyond the human bound; else 0."""
        return self._deadline(op.ended, self._human) if self._still else 0.0

    def _deadline(self, accepted: float, bound: float) -> float:
        """The bound, started again at the end of every outage that begins before it is over."""
        deadline = accepted + bound
        for start, end in self._blocked:
            if start <= deadline and end > accepted:
                deadline = max(deadline, end + bound)
        return deadline

    def _not_sure(self, why: str, op: Op) -> None:
        number, first = self.unsure.get(why, (0, op))
        self.unsure[why] = (number + 1, first)

    def accusation(self, bound: str) -> str:
        """Every kind of breach with its number and one example."""
        name, parts = self.claim.store, []
        if self.lost:
            parts.append(
                f"{count(len(self.lost), 'accepted order')} never reached {name} (for example "
                f"{self.lost[0].key})."
            )
        if self.late:
            parts.append(
                f"{count(len(self.late), 'accepted order')} reached {name} later than {bound} "
                f"after it was healthy (for example {self.late[0].key})."
            )
        if self.doubled:
            parts.append(
                f"{count(len(self.doubled), 'accepted order')} reached {name} more than once "
                f"(for example {self.doubled[0].key})."
            )
        return " ".join(parts)


def _faults(history: History, path: tuple[str, ...]) -> Iterable[Span]:
    """Until the undo; until the heal was seen for faults on the path itself."""
    for fault in history.injections:
        on_path = any(_touches(target, path) for target in fault.targets)
        yield fault.began, fault.healed if on_path else fault.over


def _touches(target: str, path: tuple[str, ...]) -> bool:
    ends_ = target.replace(">", ".").split(".")
    return any(end in path for end in ends_)


def _away(history: History, path: tuple[str, ...]) -> Iterable[Span]:
    """Spans in which a service of the path was not there, as the harness saw it."""
    since: dict[str, float] = {}
    for seen in history.of_type(ServiceSeen):
        event = seen.event
        if event.service in path:
            if event.state in AWAY:
                since.setdefault(event.service, event.t)
            elif event.service in since:
                yield since.pop(event.service), event.t
    # One that was still away at the end was taken down with the stack, or is judged as it is:
    # an outage that nobody saw end gives no more time.
