"""The same content: a record is the same wherever it lies in the same state.

It refuses to compare different states of a record, and records that carry no digest.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.claims.evidence import cited, count
from chaos.journal.history import History
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Verdict


@dataclass(frozen=True)
class SameContent:
    """Records of `source` (store, kind) and of each of `copies` (store, kind) with the same key
    have the same digest. Only records in one of `states` are compared (empty: any), because a
    record may rightly change with its state."""

    id: str
    statement: str
    source: tuple[str, str]
    copies: tuple[tuple[str, str], ...]
    states: tuple[str, ...] = ()
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        compared, differ, missing = 0, [], []
        origin = history.stores.get(self.source[0])
        for name, kind in self.copies:
            store = history.stores.get(name)
            if origin is None or store is None:
                missing.append(name if store is None else self.source[0])
                continue
            for row in store.shelf(kind):
                first = origin.shelf(self.source[1]).get(row.key)
                if first is None or not first.digest or not row.digest:
                    continue
                if self.states and row.status not in self.states:
                    continue
                compared += 1
                if row.digest != first.digest:
                    differ.append(row)
        finding, reason = (
            Finding.HELD,
            (f"{count(compared, 'record')} have the content that {self.source[0]} gave them."),
        )
        if differ:
            finding, reason = Finding.BROKEN, self._accuse(differ)
        elif missing:
            finding = Finding.INCONCLUSIVE
            reason = f"Never read: {', '.join(sorted(set(missing)))}."
        elif not compared:
            finding, reason = Finding.INCONCLUSIVE, "No content could be compared."
        return Verdict(
            self.id, self.statement, finding, reason, compared, 1, cited(history, differ)
        )

    def _accuse(self, differ: list[Stored]) -> str:
        one = differ[0]
        return (
            f"{count(len(differ), 'record')} have another content than {self.source[0]} gave "
            f"them, for example {one.kind} {one.key} in {one.store}."
        )
