"""Bad input is refused in the protocol's own terms, and nothing comes of it in any store.

It refuses to take silence for a refusal, and an absence for certain that was read too early.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from chaos.claims.evidence import FAULT, absent, cited, count, decided, ends, lowered
from chaos.claims.subject import Merges
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.journal.stores import Store, Stored
from chaos.verdict import Finding, Need, Verdict


@dataclass(frozen=True, slots=True)
class Kept:
    """A record that was there before and must still be as it was: once, of the operation's
    subject, in one of `statuses`, at `version` (0: any)."""

    store: str
    kind: str
    statuses: tuple[str, ...]
    version: int = 0


@dataclass(frozen=True, slots=True)
class BadInput:
    """One sort of bad input: operations of `kind`.

    `terms`: a pattern that the reason of every refusal begins with. `nowhere`: (store, kind of
    record) where nothing may lie under the operation's key. `kept`: records of that key that must
    be unchanged.
    """

    kind: str
    words: str  # "second cancellation"
    terms: str
    nowhere: tuple[tuple[str, str], ...] = ()
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True)
class RefusedInTerms:
    """Every operation of `inputs` is refused in its terms, whenever it was sent; none is taken,
    nothing of it lies in a store, and what it was aimed at is as it was. At least `each` of every
    sort must have been sent. Evidence: refusals in terms."""

    id: str
    statement: str
    need: Need
    inputs: tuple[BadInput, ...]
    each: int = 1
    window: str = FAULT

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not self.inputs:
            return absent(self.id, self.statement, self.need, "service that could refuse anything")
        tally = _Tally(self, history)
        refused = len(tally.refused)
        finding = Finding.HELD
        reason = (
            f"{count(refused, 'bad input')} of {count(len(self.inputs), 'sort')} refused, each in "
            "its protocol's terms; nothing of it was stored and nothing else was changed."
        )
        if tally.taken or tally.otherwise or tally.stored or tally.changed:
            finding, reason = Finding.BROKEN, tally.accusation()
        elif tally.unsure:
            finding = Finding.INCONCLUSIVE
            why, (number, _) = max(tally.unsure.items(), key=lambda item: item[1][0])
            reason = f"The fate of {count(number, 'bad input')} is not known: {why}."
        elif tally.scarce:
            finding = Finding.INCONCLUSIVE
            reason = f"Fewer than {self.each} of a sort: {', '.join(tally.scarce)}."
        elif refused < self.need.asked:
            finding = Finding.INCONCLUSIVE
            reason = f"Only {count(refused, 'bad input')}; {self.need.asked:,} are needed."
        lines = cited(
            history, tally.taken, tally.otherwise,
            [proof for pair in tally.stored for proof in pair],
            [proof for op, row, _ in tally.changed for proof in (op, row) if proof is not None],
            [op for _, op in tally.unsure.values()], ends(tally.refused),
        )  # fmt: skip
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), refused,
            self.need.asked, lines,
        )  # fmt: skip


class _Tally:
    def __init__(self, claim: RefusedInTerms, history: History) -> None:
        self._history, self._merges = history, Merges(history)
        self.refused: list[Op] = []
        self.taken: list[Op] = []
        self.otherwise: list[Op] = []
        self.stored: list[tuple[Op, Stored]] = []
        self.changed: list[tuple[Op, Stored | None, str]] = []
        self.unsure: dict[str, tuple[int, Op]] = {}
        self.scarce: list[str] = []
        drained = history.drained
        self._drained_at = drained.event.t if drained and drained.event.ok else inf
        for one in claim.inputs:
            ops = decided(history, history.ops(one.kind))
            if len(ops) < claim.each:
                self.scarce.append(f"{one.words} ({len(ops)})")
            for op in ops:
                self._answer(one, op)
                self._stores(one, op)

    def _answer(self, one: BadInput, op: Op) -> None:
        if op.ok:
            self.taken.append(op)
        elif op.outcome is Outcome.UNKNOWN:
            self._not_sure("there was no answer", op)
        elif re.match(one.terms, op.reason):
            self.refused.append(op)
        else:
            self.otherwise.append(op)

    def _stores(self, one: BadInput, op: Op) -> None:
        for name, kind in one.nowhere:
            rows = self._rows(name, kind, op)
            if rows:
                self.stored.append((op, rows[0]))
        for kept in one.kept:
            rows = self._rows(kept.store, kept.kind, op)
            if rows is not None:
                self.changed += ((op, row, why) for row, why in self._changes(kept, op, rows))

    def _rows(self, name: str, kind: str, op: Op) -> Sequence[Stored] | None:
        """Records of the operation's key; None when nobody knows whether these are all."""
        store: Store | None = self._history.stores.get(name)
        rows = store.shelf(kind).rows(op.key) if store else ()
        if store is None or not store.complete:
            why = f" ({store.reason})" if store and store.reason else ""
            self._not_sure(f"{name} was not read to its end{why}", op)
        elif store.read_from < op.ended < inf:
            self._not_sure(f"{name} was read before the last of it was sent", op)
        elif store.read_from < self._drained_at:
            self._not_sure("the backlogs were not seen empty before the final read", op)
        else:
            return rows
        return rows or None

    def _changes(
        self, kept: Kept, op: Op, rows: Sequence[Stored]
    ) -> Iterator[tuple[Stored | None, str]]:
        if not rows:
            yield None, f"is not in {kept.store} any more"
        elif len(rows) > 1 or rows[0].count > 1:
            yield rows[0], f"lies in {kept.store} more than once"
        for row in rows:
            if row.subject != op.subject and row.subject not in self._merges.ever(op.subject):
                yield row, f"belongs to {row.subject or 'nobody'} in {kept.store}"
            elif row.status not in kept.statuses:
                yield row, f"is `{row.status}` in {kept.store}"
            elif kept.version and row.version != kept.version:
                yield row, f"is at version {row.version} in {kept.store}, not {kept.version}"

    def _not_sure(self, why: str, op: Op) -> None:
        number, first = self.unsure.get(why, (0, op))
        self.unsure[why] = (number + 1, first)

    def accusation(self) -> str:
        """Every kind of breach with its number and one example."""
        parts = []
        if self.taken:
            op = self.taken[0]
            parts.append(
                f"{count(len(self.taken), 'bad input')} taken: {op.via or op.target} acknowledged "
                f"{op.kind} {op.key} ({op.value or 'no words'}) with {op.strength}."
            )
        if self.otherwise:
            op = self.otherwise[0]
            parts.append(
                f"{count(len(self.otherwise), 'bad input')} refused in other terms than the "
                f"protocol's: {op.kind} {op.key} ({op.reason or 'no reason'})."
            )
        if self.stored:
            op, row = self.stored[0]
            parts.append(
                f"{count(len({o.id for o, _ in self.stored}), 'bad input')} stored: "
                f"{op.kind} {op.key} lies in {row.store}."
            )
        if self.changed:
            op, _, why = self.changed[0]
            parts.append(
                f"{count(len({o.id for o, _, _ in self.changed}), 'record')} changed by bad "
                f"input: {op.kind} {op.key} {why}."
            )
        return " ".join(parts)
