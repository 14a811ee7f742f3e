"""Shed in order: urgent work is served while capacity is short, and never refused before elective.

It refuses to call a quiet day a proof: unless something had to be shed, nothing was shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from chaos.claims.evidence import (
    FAULT,
    cited,
    count,
    decided,
    ends,
    fault_spans,
    lowered,
    ops_in,
    percent,
    together,
)
from chaos.claims.served import EPSILON, Served
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.verdict import Finding, Need, Verdict

BUCKET_S = 10.0
BESIDE_S = 1.0
"""A refusal that is no shedding (the service can serve nobody) is an inversion only when the same
service took elective work of the same kind at most this long before and after."""


@dataclass(frozen=True)
class ShedInOrder:
    """`urgent` classes are answered (`at_least`), and at most `inversions` of their requests are
    refused while the same service accepts `elective` ones in the same 10 s.

    `shed`: how many elective requests must have been shed for the claim to mean anything.
    `overload`: a word in the reason of a refusal for want of capacity; other refusals (no
    primary, starting) strike every class alike and are told apart by what happened beside them.
    """

    id: str
    statement: str
    need: Need
    kinds: tuple[str, ...]
    shed: Need
    urgent: tuple[str, ...] = ("P0", "P1")
    elective: tuple[str, ...] = ("P3", "P4")
    at_least: float = 0.99
    inversions: float = 0.01
    overload: str = "overloaded"
    window: str = FAULT

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        served = self._served.judge(history)
        return together(self.id, self.statement, [served, self._order(history)])

    def unsteady(self, history: History) -> list[str]:
        """Urgent requests that failed before any fault."""
        return self._served.unsteady(history)

    @property
    def _served(self) -> Served:
        return Served(
            self.id, self.statement, "urgent requests", self.kinds, self.urgent, self.need,
            at_least=self.at_least, pooled=True,
        )  # fmt: skip

    def _order(self, history: History) -> Verdict:
        spans = fault_spans(history)
        urgent = decided(history, ops_in(history, self.kinds, self.urgent, spans))
        asked = ops_in(history, self.kinds, self.elective, spans)
        elective = decided(history, asked)
        inverted = _Refusals(self, history, urgent, elective).inverted
        # Shed is shed, also when the traffic stopped before the request could come again.
        names = {op.id for op in asked}
        shed = {s.event.op for s in history.sheds if s.event.op in names}
        shed |= {op.id for op in elective if op.outcome is Outcome.REFUSED}
        allowed, n = self.inversions, max(len(urgent), self.need.claim)
        told = (
            f"{len(inverted):,} of {count(len(urgent), 'urgent request')} refused while elective "
            f"ones were accepted (at most {percent(allowed)}); "
            f"{count(len(shed), 'elective request')} shed."
        )
        finding, evidence, need = Finding.HELD, len(urgent), self.need
        if len(inverted) > allowed * n + EPSILON:
            finding = Finding.BROKEN
        elif len(inverted) > allowed * len(urgent) + EPSILON:
            finding, told = Finding.INCONCLUSIVE, told + " Too few requests to condemn."
        elif len(shed) < self.shed.asked:
            finding, evidence, need = Finding.INCONCLUSIVE, len(shed), self.shed
            told += " Capacity was never so short that anything had to be shed."
        told += lowered(self.shed)
        lines = cited(history, inverted, [op for op in asked if op.id in shed], ends(urgent))
        return Verdict(self.id, self.statement, finding, told, evidence, need.asked, lines)


class _Refusals:
    """Urgent operations refused at least once beside accepted elective ones."""

    def __init__(
        self, claim: ShedInOrder, history: History, urgent: list[Op], elective: list[Op]
    ) -> None:
        self._claim = claim
        accepted: dict[tuple[str, int], list[Op]] = defaultdict(list)
        for op in elective:
            if op.ok:
                accepted[op.via, int(op.ended // BUCKET_S)].append(op)
        by_id = {op.id: op for op in urgent}
        refused: list[tuple[Op, str, float, str]] = [
            (by_id[s.event.op], s.event.via, s.event.t, s.event.reason)
            for s in history.sheds if s.event.op in by_id
        ]  # fmt: skip
        refused += [
            (op, op.via, op.ended, op.reason) for op in urgent
            if op.outcome is Outcome.REFUSED and op.via
        ]  # fmt: skip
        found: dict[str, Op] = {}
        for op, via, t, reason in refused:
            if op.id not in found and self._inverted(
                op, t, reason, accepted.get((via, int(t // BUCKET_S)), ())
            ):
                found[op.id] = op
        self.inverted = list(found.values())

    def _inverted(self, op: Op, t: float, reason: str, beside: Iterable[Op]) -> bool:
        if self._claim.overload in reason:
            return any(True for _ in beside)
        alike = [o.ended for o in beside if (o.kind == "chart.read") == (op.kind == "chart.read")]
        return any(t - BESIDE_S <= at <= t for at in alike) and any(
            t <= at <= t + BESIDE_S for at in alike
        )
