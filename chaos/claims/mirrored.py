"""Mirrored: what a source made lies once in every copy, with the content that it was made with.

It refuses to accuse a copy before the backlogs were seen empty, and to call equal what carries no
digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from chaos.claims.evidence import cited, count, lowered
from chaos.claims.kept import NO_PROGRESS, PARKED
from chaos.journal.history import History
from chaos.journal.stores import Store, Stored
from chaos.verdict import Finding, Need, Verdict


@dataclass(frozen=True)
class Mirrored:
    """Every record of `kind` in `source` lies exactly once in each of `copies` with the same
    digest, once the backlogs are empty. `queues`: stores of work that show what is still under
    way; `held`: states in which the source itself still has to send it. More in a copy than in
    the source is no breach: others may write there, too. Evidence: records found in every copy.
    """

    id: str
    statement: str
    need: Need
    what: str  # "instance"
    content: str  # "pixel hashes"
    source: str
    kind: str
    copies: tuple[str, ...]
    queues: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    once: bool = True
    window: str = "run"

    def tally(self, history: History) -> Tally:
        """What became of every record."""
        return Tally(self, history)

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        tally = self.tally(history)
        places = " and ".join(self.copies)
        finding, reason = (
            Finding.HELD,
            (
                f"All {count(tally.equal, self.what)} present {'once ' if self.once else ''}with "
                f"equal {self.content} in {places}."
                if tally.equal
                else f"No {self.what} was made."
            ),
        )
        if tally.missing or tally.changed or tally.doubled:
            finding, reason = Finding.BROKEN, tally.accusation()
        elif tally.unsure:
            why, (number, _) = max(tally.unsure.items(), key=lambda item: item[1][0])
            finding = Finding.INCONCLUSIVE
            some = f" of {count(number, self.what)}" if number else ""
            reason = f"Not every {self.what} could be looked for: {why}{some}."
        elif tally.equal < self.need.asked:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"Only {count(tally.equal, self.what)} with equal {self.content} in {places}; "
                f"{self.need.asked:,} are needed."
            )
        lines = cited(
            history, [row for row, _ in tally.missing], tally.changed, tally.doubled,
            [row for _, row in tally.unsure.values() if row is not None], tally.some,
        )  # fmt: skip
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), tally.equal,
            self.need.asked, lines,
        )  # fmt: skip


class Tally:
    """Every record of the source against every copy."""

    def __init__(self, claim: Mirrored, history: History) -> None:
        self.claim, self.history = claim, history
        self.equal = 0
        self.missing: list[tuple[Stored, str]] = []
        self.changed: list[Stored] = []
        self.doubled: list[Stored] = []
        self.unsure: dict[str, tuple[int, Stored | None]] = {}
        self.some: list[Stored] = []
        drained = history.drained
        self._drained_at = drained.event.t if drained and drained.event.ok else inf
        self._still = drained is not None and drained.event.reason.startswith(NO_PROGRESS)
        self._queued = self._under_way()
        copies = [(name, history.stores.get(name)) for name in claim.copies]
        source = history.stores.get(claim.source)
        for name, store in ((claim.source, source), *copies):
            if store is None or not store.complete:
                why = f" ({store.reason})" if store and store.reason else ""
                self._not_sure(f"{name} was not read to its end{why}", None)
        for row in source.shelf(claim.kind) if source else ():
            found = [self._one(row, name, store) for name, store in copies]
            if all(found):
                self.equal += 1
                if self.equal <= 2:
                    self.some.append(row)

    def _under_way(self) -> set[str]:
        """Keys that a queue still has to bring somewhere (what it gave up on will not come)."""
        queues = [self.history.stores.get(name) for name in self.claim.queues]
        self._still &= all(q is not None and q.complete for q in queues)
        return {
            row.key for queue in queues if queue is not None
            for key_row in queue.shelf(self.claim.kind) for row in queue.shelf(
                self.claim.kind).rows(key_row.key) if row.status != PARKED
        }  # fmt: skip

    def _one(self, row: Stored, name: str, store: Store | None) -> bool:
        if store is None:
            return False  # said already
        shelf = store.shelf(self.claim.kind)
        found = shelf.get(row.key)
        if found is None:
            return self._absent(row, store)
        if self.claim.once and shelf.copies(row.key) > 1:
            self.doubled.append(found)
            return False
        if not row.digest or any(not one.digest for one in shelf.rows(row.key)):
            return self._not_sure(f"no {self.claim.content} to compare in {name}", found)
        if any(one.digest != row.digest for one in shelf.rows(row.key)):
            self.changed.append(found)
            return False
        if self.claim.once and self._drained_at == inf and not self._still:
            return self._not_sure("the backlogs were not seen empty: more copies may come", row)
        return True

    def _absent(self, row: Stored, store: Store) -> bool:
        if not store.complete:
            return False  # said already
        under_way = row.key in self._queued or row.status in self.claim.held
        if store.read_from >= self._drained_at or (self._still and not under_way):
            self.missing.append((row, store.name))
            return False
        return self._not_sure("the backlogs were not seen empty before the final read", row)

    def _not_sure(self, why: str, row: Stored | None) -> bool:
        number, first = self.unsure.get(why, (0, row))
        self.unsure[why] = (number + (row is not None), first)
        return False

    def accusation(self) -> str:
        """Every kind of breach with its number and one example."""
        what, content, parts = self.claim.what, self.claim.content, []
        if self.missing:
            row, store = self.missing[0]
            keys = len({one.key for one, _ in self.missing})
            parts.append(
                f"{count(keys, what)} lost: {what} {row.key} of {row.subject or 'nobody'} is "
                f"`{row.status}` in {row.store} and not in {store}."
            )
        if self.changed:
            row = self.changed[0]
            parts.append(
                f"{count(len(self.changed), what)} with other {content} than they were made "
                f"with: {what} {row.key} in {row.store}."
            )
        if self.doubled:
            row = self.doubled[0]
            parts.append(
                f"{count(len(self.doubled), what)} stored more than once: {what} {row.key} in "
                f"{row.store}."
            )
        return " ".join(parts)
