"""Acknowledged writes are kept: what the ledger says against what every store holds in the end.

It refuses to accuse on a store that was not read, or read too early, and to call that held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from chaos.claims.evidence import cited, count, ends, lowered
from chaos.claims.subject import Merges
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.journal.stores import Store, Stored
from chaos.systems import Home
from chaos.verdict import Finding, Need, Verdict

NO_PROGRESS = "no progress"
"""How the auditor's reason begins when backlogs were not empty but nothing moved any more."""
PARKED = "parked"
"""Status of what a queue has given up on: it is not under way."""


@dataclass(frozen=True)
class WritesKept:
    """ok → present in every home (exactly once, if `once`); refused → absent; unknown → at most
    once. `homes` by operation kind; `updates`: operation kind → kind that may change its value;
    `changes`: kinds that change what is there already, so that a refused one leaves it there."""

    id: str
    statement: str
    need: Need
    homes: Mapping[str, tuple[Home, ...]]
    queues: tuple[str, ...] = ()  # stores that show what is still under way
    updates: Mapping[str, str] = field(default_factory=dict)
    changes: frozenset[str] = frozenset()
    once: bool = True
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        count_ = _Tally(self, history)
        finding, reason = (
            Finding.HELD,
            (
                f"{count(count_.kept, 'acknowledged write')} found again in every place where they "
                "must be; nothing that was refused was stored."
            ),
        )
        if count_.missing or count_.changed or count_.phantoms or count_.doubled:
            finding, reason = Finding.BROKEN, count_.accusation()
        elif count_.unsure:
            finding = Finding.INCONCLUSIVE
            why, (number, _) = max(count_.unsure.items(), key=lambda item: item[1][0])
            reason = f"It is not known whether {count(number, 'write')} were kept: {why}."
        elif count_.kept < self.need.asked:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"Only {count(count_.kept, 'acknowledged write')} to look for; "
                f"{self.need.asked:,} are needed."
            )
        lines = cited(
            history,
            [op for op, _ in count_.missing], [op for op, _ in count_.changed],
            [op for op, _ in count_.phantoms], [row for _, row in count_.phantoms],
            [op for op, _ in count_.doubled], [row for _, row in count_.doubled],
            [op for _, op in count_.unsure.values()], ends(count_.some),
        )  # fmt: skip
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), count_.kept,
            self.need.asked, lines,
        )  # fmt: skip


def absence(
    op: Op, home: Home, store: Store | None, history: History, queues: tuple[str, ...]
) -> str:  # fmt: skip
    """Why the absence of an acknowledged write from its home proves nothing; empty: it is lost."""
    drained = history.drained
    drained_at = drained.event.t if drained and drained.event.ok else inf
    if store is None or not store.complete:
        reason = f" ({store.reason})" if store and store.reason else ""
        return f"{home.store} was not read to its end{reason}"
    if store.read_from < op.ended:
        return f"{home.store} was read before the last writes"
    if home.after_s and store.read_from < op.ended + home.after_s / history.speed:
        return f"{home.store} was read before they could be there"
    if home.backlog and store.read_from < drained_at and not _stalled(history, queues):
        return "the backlogs were not seen empty before the final read"
    return ""


def _stalled(history: History, names: tuple[str, ...]) -> bool:
    """Nothing moved any more and no queue held anything: what is missing will not come."""
    drained = history.drained
    if drained is None or not drained.event.reason.startswith(NO_PROGRESS):
        return False
    queues = [history.stores.get(name) for name in names]
    return bool(queues) and all(
        queue is not None
        and queue.place != 0
        and not any(row.status != PARKED for shelf in queue.shelves.values() for row in shelf)
        for queue in queues
    )


class _Tally:
    def __init__(self, claim: WritesKept, history: History) -> None:
        self.claim, self.history = claim, history
        self.kept = 0
        self.missing: list[tuple[Op, str]] = []
        self.changed: list[tuple[Op, str]] = []
        self.phantoms: list[tuple[Op, Stored]] = []
        self.doubled: list[tuple[Op, Stored]] = []
        self.unsure: dict[str, tuple[int, Op]] = {}
        self.some: list[Op] = []
        self._merges = Merges(history)
        drained = history.drained
        self._drained_at = drained.event.t if drained and drained.event.ok else inf
        self._announced = {
            kind: {op.subject for op in history.ops(kind) if op.ok}
            for kind in {home.announced_by for homes in claim.homes.values() for home in homes}
            if kind
        }
        for kind, homes in claim.homes.items():
            self._kind(kind, homes)
            self._unread(kind, homes)

    def _kind(self, kind: str, homes: tuple[Home, ...]) -> None:
        updated = {op.key for op in self.history.ops(self.claim.updates.get(kind, ""))
                   if op.outcome is not Outcome.REFUSED}  # fmt: skip
        places = [(home, self.history.stores.get(home.store)) for home in homes]
        acknowledged: set[str] = set()
        others: list[Op] = []
        perhaps: set[str] = set()
        for op in self.history.ops(kind):
            if not op.key:
                if op.ok:
                    self._not_sure("they carry no key to look for", op)
            elif op.ok:
                if op.key not in acknowledged:
                    acknowledged.add(op.key)
                    self._acknowledged(op, places, op.key in updated)
            else:
                others.append(op)
                if op.outcome is Outcome.UNKNOWN:
                    perhaps.add(op.key)
        for op in () if kind in self.claim.changes else others:
            if op.key not in acknowledged:
                self._unacknowledged(op, places, op.key in perhaps)

    def _unread(self, kind: str, homes: tuple[Home, ...]) -> None:
        """What was found in half a store is not yet everything that lies there."""
        some = next(self.history.ops(kind), None)
        for home in homes:
            store = self.history.stores.get(home.store)
            if some is not None and (store is None or not store.complete):
                reason = f" ({store.reason})" if store and store.reason else ""
                self._not_sure(f"{home.store} was not read to its end{reason}", some)

    def _acknowledged(self, op: Op, places: list[tuple[Home, Store | None]], updated: bool) -> None:
        sure = True
        for home, store in places:
            if home.announced_by and op.subject not in self._announced[home.announced_by]:
                continue
            row = store.shelf(home.kind).get(op.key) if store else None
            if row is not None and store is not None:
                sure &= self._found(op, home, store, row, updated)
            else:
                sure &= self._absent(op, home, store, f"is not in {home.store}")
        if sure:
            self.kept += 1
            if self.kept <= 2:
                self.some.append(op)

    def _found(self, op: Op, home: Home, store: Store, row: Stored, updated: bool) -> bool:
        rows = store.shelf(home.kind).rows(op.key)
        if self.claim.once and store.shelf(home.kind).copies(op.key) > 1:
            self.doubled.append((op, row))
            return False
        if home.statuses and not any(r.status in home.statuses for r in rows):
            said = f"is only `{row.status}` in {home.store}"
            return self._absent(op, home, store, said)
        comparable = home.same_value and not updated and not self._merges.touch(op.subject)
        others = [r for r in rows if r.digest and r.digest != op.value]
        if comparable and op.value and others:
            if any(r.subject in ("", op.subject) for r in others):
                self.changed.append((op, home.store))
            else:  # whose it is belongs to its content: RightSubject accuses, this cannot say
                self._not_sure("they lie under another subject", op)
            return False
        if self.claim.once and self._drained_at == inf:
            self._not_sure("the backlogs were not seen empty, so copies may still come", op)
            return False
        return True

    def _absent(self, op: Op, home: Home, store: Store | None, said: str) -> bool:
        """Whether absence may be passed over: never. It is a loss, or nobody knows."""
        why = absence(op, home, store, self.history, self.claim.queues)
        if why:
            self._not_sure(why, op)
        else:
            self.missing.append((op, said))
        return False

    def _unacknowledged(
        self, op: Op, places: list[tuple[Home, Store | None]], perhaps: bool
    ) -> None:
        for home, store in places:
            row = store.shelf(home.kind).get(op.key) if store else None
            if row is None or store is None:
                if not perhaps and (store is None or not store.complete):
                    self._not_sure(f"{home.store} was not read to its end", op)
            elif not perhaps:
                self.phantoms.append((op, row))
            elif self.claim.once and store.shelf(home.kind).copies(op.key) > 1:
                self.doubled.append((op, row))

    def _not_sure(self, why: str, op: Op) -> None:
        number, first = self.unsure.get(why, (0, op))
        self.unsure[why] = (number + 1, first)

    def accusation(self) -> str:
        """Every kind of breach with its number and one example."""
        parts = []
        if self.missing:
            op, said = self.missing[0]
            lost = len({(o.kind, o.key) for o, _ in self.missing})
            parts.append(
                f"{count(lost, 'acknowledged write')} lost: {op.kind} {op.key} was acknowledged "
                f"({op.strength}) and {said}."
            )
        if self.changed:
            op, store = self.changed[0]
            parts.append(
                f"{count(len(self.changed), 'record')} not as written: {op.kind} {op.key} in "
                f"{store} has another content."
            )
        if self.phantoms:
            op, row = self.phantoms[0]
            parts.append(
                f"{count(len(self.phantoms), 'record')} stored although refused: {op.kind} "
                f"{op.key} was refused ({op.reason}) and lies in {row.store}."
            )
        if self.doubled:
            op, row = self.doubled[0]
            parts.append(
                f"{count(len(self.doubled), 'write')} stored more than once: {op.kind} {op.key} "
                f"in {row.store}."
            )
        return " ".join(parts)
