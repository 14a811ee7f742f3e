"""In time: what people wait for is there within a bound that people set, often enough.

It refuses to count what was cut short before its time, and to hold on too few.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from chaos.claims.evidence import (
    FAULT,
    bounded,
    cited,
    count,
    ends,
    lowered,
    ops_in,
    percent,
    seconds,
    spans_of,
)
from chaos.claims.served import EPSILON
from chaos.claims.subject import right_answer
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.verdict import Finding, Need, Verdict


@dataclass(frozen=True)
class InTime:
    """At least `at_least` of the operations of these kinds and classes, all together, are done
    within `within_s` human seconds of their intended start (`floor_s` real seconds are always
    allowed), about the patient asked for. One whose fate is open when the evidence ends counts
    only when its time was over."""

    id: str
    statement: str
    what: str  # "urgent studies"
    kinds: tuple[str, ...]
    klasses: tuple[str, ...]
    need: Need
    at_least: float
    within_s: float
    floor_s: float = 0.0
    window: str = FAULT

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        limit, bound = bounded(self.within_s, self.floor_s, history)
        in_time, late = self._sorted_out(history, limit)
        n, share = len(in_time) + len(late), 0.0
        if n:
            share = len(in_time) / n
        slowest = max((op.latency_s for op in in_time), default=0.0)
        told = (
            f"{len(in_time):,} of {count(n, self.what[:-1], self.what)} within {bound} "
            f"({percent(share)}, at least {percent(self.at_least)} promised)"
        )
        finding, reason = Finding.HELD, f"{told}; the slowest of them took {seconds(slowest)}."
        if late:
            reason = f"{told}; for example {late[0].kind} {late[0].key}: {_fate(late[0])}."
        allowed = 1 - self.at_least
        if len(late) > allowed * max(n, self.need.claim) + EPSILON:
            finding = Finding.BROKEN
        elif n < self.need.asked:
            finding, reason = Finding.INCONCLUSIVE, f"{told}; {self.need.asked:,} are needed."
        elif len(late) > allowed * n + EPSILON:
            finding = Finding.INCONCLUSIVE
            reason += " Too few to condemn, too many to hold."
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), n, self.need.asked,
            cited(history, late, ends(in_time)),
        )  # fmt: skip

    def _sorted_out(self, history: History, limit: float) -> tuple[list[Op], list[Op]]:
        in_time: list[Op] = []
        late: list[Op] = []
        for op in ops_in(history, self.kinds, self.klasses, spans_of(history, self.window)):
            waited = min(op.ended, history.end) - op.intended
            if op.ok and waited <= limit and right_answer(history, op):
                in_time.append(op)
            elif waited > limit or not (op.undecided or op.pending):
                late.append(op)
        return in_time, late


def _fate(op: Op) -> str:
    if op.ok:
        return f"after {seconds(op.latency_s)}, showing {op.answer_subject or 'nobody'}"
    return op.reason or ("no answer" if op.ended == inf else "refused")
