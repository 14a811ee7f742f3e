"""Back within: when a server is lost its spare takes over soon; the worst of all times counts.

It refuses to praise a spare for a service that came back only because the fault was undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from chaos.claims.evidence import FAULT, Span, cited, count, decided, lowered, ops_in, seconds
from chaos.claims.served import Gap, gaps
from chaos.journal.events import Sample
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.journal.spans import Injection, Seen
from chaos.verdict import Finding, Need, Verdict

TAKES_AWAY = frozenset(
    {"kill", "pause", "stop", "crash-loop", "room", "lost-array", "lost-writes", "hung-storage"}
)
"""Faults after which a spare must serve. Flipped bits, a skewed clock or a slow disk leave the one
in charge where it is: counting them would praise a failover that never was."""
MAY_TAKE_AWAY = frozenset({"failing-storage", "read-only-storage", "full-storage"})
"""Faults that the one in charge may survive: they count where it was seen to lose its charge."""
LOST_AFTER_S = 5.0
"""One in charge who was not seen to be for so long has lost it; looks come four times a second."""
BLINK_S = 2.0
"""A shorter silence at the end of a fault is the ordinary pause between two requests."""


@dataclass(frozen=True)
class BackWithin:
    """After each fault on one of `spared` services (in charge at that moment, if `in_charge`
    samples say who is), operations of `kinds` are acknowledged again within `within_s` real
    seconds. Faults that left no server of `spared` standing (`all_hit` says whether those count)
    have no spare to praise. Several stages in which one array fails are one loss, told of the
    first that took the charge away. Evidence: such faults."""

    id: str
    statement: str
    need: Need
    spared: tuple[str, ...]
    kinds: tuple[str, ...]
    klasses: tuple[str, ...] = ()
    within_s: float = 60.0
    in_charge: str = ""
    all_hit: bool = True
    window: str = FAULT

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        ops = decided(history, ops_in(history, self.kinds, self.klasses, [(-inf, inf)]))
        ops.sort(key=lambda op: op.intended)
        silences = gaps(ops, [op for op in ops if op.ok], history.end)
        times: list[tuple[float, Injection]] = []
        broken: list[str] = []
        unsure: list[str] = []
        told: list[Injection | Op | Seen[Sample]] = []
        for fault in self.hits(history):
            asked = [op for op in ops if fault.began <= op.intended < fault.over]
            if not asked:
                unsure.append(f"{fault.story}: nobody asked for anything meanwhile.")
                continue
            gap = _longest(silences, (fault.began, min(fault.over, history.end)))
            took = 0.0 if gap is None else gap.end - max(gap.start, fault.began)
            times.append((took, fault))
            told += [fault, *([gap.op] if gap else [])]
            self._weigh(fault, gap, took, broken, unsure)
        worst = max((t for t, _ in times), default=0.0)
        finding, reason = (
            Finding.HELD,
            (
                f"{count(len(times), 'failover')}: service again after {seconds(worst)} at worst, "
                f"{self.within_s:g} s allowed (real seconds, not compressed)."
            ),
        )
        if broken:
            finding, reason = Finding.BROKEN, " ".join(broken)
        elif unsure:
            finding, reason = Finding.INCONCLUSIVE, " ".join(unsure)
        elif len(times) < self.need.asked:
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    f"{count(len(times), 'failover')} seen of {', '.join(self.spared)} in charge; "
                    f"{self.need.asked:,} needed."
                ),
            )
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), len(times),
            self.need.asked, cited(history, told),
        )  # fmt: skip

    def _weigh(
        self, fault: Injection, gap: Gap | None, took: float, broken: list[str], unsure: list[str]
    ) -> None:
        if gap is None:
            return
        lasted = fault.over - fault.began
        surely = gap.end - max(gap.op.intended, fault.began)  # somebody asked all that time
        if surely > self.within_s:
            broken.append(
                f"{fault.story}: no service for {seconds(surely)}"
                + (" and then the evidence ends" if gap.open else "")
                + f"; {self.within_s:g} s is the most."
            )
        elif (gap.open or gap.end > fault.over) and took > BLINK_S:
            unsure.append(
                f"{fault.story}: the spare had not taken over in the {seconds(lasted)} that the "
                f"fault lasted, too short to prove {self.within_s:g} s either way."
            )
        elif took > self.within_s:
            unsure.append(
                f"{fault.story}: between {seconds(surely)} and {seconds(took)} without service; "
                "too few asked to know."
            )

    def hits(self, history: History) -> list[Injection]:
        """Faults that took the one in charge, and left a spare."""
        found: list[Injection] = []
        for fault in history.injections:
            hit = set(fault.targets) & set(self.spared)
            surely = fault.kind in TAKES_AWAY
            if not surely and not (self.in_charge and fault.kind in MAY_TAKE_AWAY):
                continue
            if fault.seen is None or not hit:
                continue
            if not (self.all_hit or self._left(history, fault)):
                continue
            if self.in_charge:
                last = [
                    s for s in history.samples.get(self.in_charge, ())
                    if s.event.ok and s.event.t <= fault.began
                ]  # fmt: skip
                if not last or last[-1].event.subject not in hit:
                    continue
            if not surely and not (self._lost(history, fault, hit) and _alone(fault, found)):
                continue
            found.append(fault)
        return found

    def _lost(self, history: History, fault: Injection, hit: set[str]) -> bool:
        """Whether the one that was in charge was seen not to be any more when the fault ended."""
        looks = [
            s.event for s in history.samples.get(self.in_charge, ())
            if fault.began <= s.event.t < fault.over
        ]  # fmt: skip
        last = next((look for look in reversed(looks) if look.ok), None)
        if last is not None and last.subject not in hit:
            return True
        since = last.t if last else fault.began
        return any(look.t - since > LOST_AFTER_S for look in looks)

    def _left(self, history: History, fault: Injection) -> set[str]:
        """Servers that no fault hit while this one lasted."""
        beside = [f for f in history.injections if f.began < fault.over and fault.began < f.over]
        return set(self.spared) - {target for f in beside for target in f.targets}


def _alone(fault: Injection, before: list[Injection]) -> bool:
    """Whether no earlier fault that counts goes on when this one begins."""
    return not any(one.began <= fault.began < one.over for one in before)


def _longest(silences: list[Gap], span: Span) -> Gap | None:
    """The longest silence that overlaps the span."""
    start, end = span
    beside = [g for g in silences if g.start < end and start < g.end]
    return max(beside, key=lambda g: g.end - max(g.start, start), default=None)
