"""The same subject: a record belongs to the same patient wherever it lies.

It refuses to accuse a patient who was (perhaps) merged into another.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.claims.evidence import cited, count
from chaos.claims.subject import Merges
from chaos.journal.history import History
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict


@dataclass(frozen=True)
class SameSubject:
    """Records of `source` (store, kind) and those of each of `copies` with the same key name the
    same subject. A record that names nobody is not compared. Evidence: comparisons."""

    id: str
    statement: str
    need: Need
    source: tuple[str, str]
    copies: tuple[str, ...]
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        name, kind = self.source
        merges, compared = Merges(history), 0
        wrong: list[tuple[Stored, Stored]] = []
        origin = history.stores.get(name)
        unread = [] if origin and origin.complete else [name]
        for copy in self.copies:
            store = history.stores.get(copy)
            if store is None or not store.complete:
                unread.append(copy)
            if store is None or origin is None:
                continue
            for first in origin.shelf(kind):
                for row in store.shelf(kind).rows(first.key):
                    compared += bool(row.subject and first.subject)
                    if not _alike(first.subject, row.subject, merges):
                        wrong.append((row, first))
        finding = Finding.HELD
        reason = f"{count(compared, kind)} compared with {name} belong to the same patient."
        if wrong:
            row, first = wrong[0]
            finding = Finding.BROKEN
            reason = (
                f"{count(len(wrong), kind)} lie under another patient than in {name}: {kind} "
                f"{row.key} in {row.store} belongs to {row.subject}, in {name} to {first.subject}."
            )
        elif unread:
            finding = Finding.INCONCLUSIVE
            reason = f"Not read to the end after the run: {', '.join(unread)}."
        elif compared < self.need.asked:
            finding, reason = Finding.INCONCLUSIVE, f"Only {count(compared, kind)} to compare."
        lines = cited(history, [row for pair in wrong[:10] for row in pair])
        return Verdict(self.id, self.statement, finding, reason, compared, self.need.asked, lines)


def _alike(one: str, other: str, merges: Merges) -> bool:
    if one == other or not one or not other:
        return True
    return other in merges.ever(one) or one in merges.ever(other)
