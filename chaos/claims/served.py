"""A service level: requests are answered, soon, and nobody waits through a long gap.

It refuses to count an answer about another patient as served, and a silence as an answer.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter

from chaos.claims.evidence import (
    FAULT,
    Span,
    cited,
    count,
    decided,
    ends,
    inside,
    lowered,
    ops_in,
    percent,
    quantile,
    seconds,
    spans_of,
)
from chaos.claims.subject import right_answer
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.verdict import Finding, Need, Verdict

EPSILON = 1e-9
P95 = 0.95
BLINK_S = 1.0
"""A shorter silence is the ordinary pause between two answers."""
CAUSE_CHARS = 160
_intended = attrgetter("intended")


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without an answer although somebody asked. Its true length lies between
    `asked_s` (from the first who asked) and `silent_s` (from the last answer before)."""

    start: float
    end: float
    asked_s: float
    silent_s: float
    open: bool  # nobody was answered again
    op: Op


def gaps(ops: Sequence[Op], served: Iterable[Op], end: float, least_s: float = 0.0) -> list[Gap]:
    """Gaps between answers, in order. `ops` sorted by intended start; `end` of the evidence.
    Gaps shorter than `least_s` are passed over, except one that is open at the end."""
    answers = sorted(served, key=attrgetter("ended"))
    found: list[Gap] = []
    starts = iter(ops)
    ask = next(starts, None)
    last = -inf
    for answer in answers:
        while ask is not None and ask.intended <= last:
            ask = next(starts, None)
        if answer.ended - last < least_s:
            pass
        elif ask is not None and ask.intended < answer.ended and last > -inf:
            found.append(
                Gap(last, answer.ended, answer.ended - ask.intended, answer.ended - last,
                    False, ask)
            )  # fmt: skip
        elif ask is not None and last == -inf and ask.intended < answer.ended:
            waited = answer.ended - ask.intended
            found.append(Gap(ask.intended, answer.ended, waited, waited, False, ask))
        last = max(last, answer.ended)
    while ask is not None and ask.intended <= last:
        ask = next(starts, None)
    if ask is not None:
        start = ask.intended if last == -inf else last
        found.append(Gap(start, end, max(0.0, end - ask.intended), end - start, True, ask))
    return found


def commonest(failed: Sequence[Op]) -> str:
    """What most of these requests failed of, as a sentence; the names of each left out."""
    told = Counter(_without_names(op) for op in failed)
    ((what, times),) = told.most_common(1)
    return f"{times:,} of the {len(failed):,} without an answer: {what}."


def _without_names(op: Op) -> str:
    if op.outcome is Outcome.OK:
        return "answered by somebody else or about another patient"
    text = op.reason or "no answer"
    for name in sorted({op.key, op.subject} - {""}, key=len, reverse=True):
        text = text.replace(name, "…")
    return text if len(text) <= CAUSE_CHARS else f"{text[:CAUSE_CHARS]}…"


@dataclass(frozen=True)
class Served:
    """At least `at_least` of the requests of each class are answered within the window.

    `klasses` are judged one by one (each needs its own evidence) unless `pooled`. `within_s`:
    p95 of the latency from the intended start, unanswered requests counted as infinitely late;
    `gap_s`: longest time without an answer, per ward if `by_ward`; both in real seconds.
    `right_subject`: the answer must be about the patient who was asked for. `services`: who may
    answer (empty: anybody).
    """

    id: str
    statement: str
    what: str  # "chart reads"
    kinds: tuple[str, ...]
    klasses: tuple[str, ...]
    need: Need
    at_least: float = 0.99
    within_s: float = inf
    gap_s: float = inf
    by_ward: bool = False
    right_subject: bool = False
    services: tuple[str, ...] = ()
    pooled: bool = False
    window: str = FAULT

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        spans = spans_of(history, self.window)
        groups = [self.klasses] if self.pooled else [(k,) for k in self.klasses]
        looks = [_Look(self, history, spans, group) for group in groups]
        broken = [text for look in looks for text in look.broken]
        unsure = [text for look in looks for text in look.unsure]
        evidence = min((len(look.ops) for look in looks), default=0)
        failed = [op for look in looks for op in look.failed]
        for gap in (g for look in looks for g in look.long_gaps):
            failed.insert(0, gap.op)
        bounds = [op for look in looks for op in ends(look.ops)]
        finding, reason = Finding.HELD, " ".join(look.summary for look in looks)
        if broken:
            finding, reason = Finding.BROKEN, " ".join(broken)
        elif unsure:
            finding, reason = Finding.INCONCLUSIVE, " ".join(unsure)
        lines = cited(history, failed, bounds)
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), evidence,
            self.need.asked, lines,
        )  # fmt: skip

    def unsteady(self, history: History) -> list[str]:
        """Why the warm-up does not already show this claim (nothing when it does)."""
        if self.window != FAULT:
            return []
        calm = dataclasses.replace(self, window="warmup", gap_s=inf, need=Need.full(1))
        spans = spans_of(history, "warmup")
        close = max((end for _, end in spans), default=history.end)
        reasons = []
        for klass in self.klasses:
            ops = calm.settled(ops_in(history, self.kinds, (klass,), spans), close)
            bad = [op for op in ops if not self.is_served(op, history)]
            if len(bad) > (1 - self.at_least) * len(ops) + EPSILON:
                reasons.append(
                    f"{count(len(bad), 'request')} of {len(ops):,} {klass} {self.what} failed "
                    f"before any fault ({cited(history, bad)[0]})"
                )
        return reasons

    def settled(self, ops: Iterable[Op], close: float) -> list[Op]:
        """Operations whose fate was clear when the warm-up closed."""
        limit = self.within_s if self.within_s < inf else 5.0
        return [op for op in ops if op.ended <= close or op.intended < close - limit]

    def is_served(self, op: Op, history: History) -> bool:
        """Answered, by one who may answer, about the right patient."""
        if op.outcome is not Outcome.OK or (self.services and op.via not in self.services):
            return False
        if not self.right_subject or op.answer_subject == op.subject != "":
            return True
        return right_answer(history, op)


def _within(ops: list[Op], spans: Iterable[Span]) -> list[Op]:
    """Those of sorted operations that were intended in one of the (separate) spans."""
    found: list[Op] = []
    for start, end in spans:
        first = bisect_left(ops, start, key=_intended)
        found += ops[first : bisect_left(ops, end, key=_intended)]
    return found


class _Look:
    """The requests of one class (or of all classes together) in the window."""

    def __init__(
        self, claim: Served, history: History, spans: list[Span], group: tuple[str, ...]
    ) -> None:
        self.claim, self.need, self.name = claim, claim.need, "–".join(group)
        # The gaps need the whole run, because one may begin before a window or end after it.
        whole = [(-inf, inf)] if claim.gap_s < inf else spans
        asked = ops_in(history, claim.kinds, group, whole)
        if len(claim.kinds) > 1 or len(whole) > 1:
            asked.sort(key=_intended)
        self._all = decided(history, asked)
        self._bad = {op.began_at for op in self._all if not claim.is_served(op, history)}
        self.ops = _within(self._all, spans)
        self.undecided = len(_within(asked, spans)) - len(self.ops)
        self.failed = [op for op in self.ops if op.began_at in self._bad]
        self.broken: list[str] = []
        self.unsure: list[str] = []
        self.long_gaps: list[Gap] = []
        self.summary = ""
        self._answered(history, spans)
        if claim.within_s < inf:
            self._in_time()
        if claim.gap_s < inf:
            self._without_gap(history, spans)

    def _answered(self, history: History, spans: list[Span]) -> None:
        n, failed, claim = len(self.ops), len(self.failed), self.claim
        allowed = 1 - claim.at_least
        share = (n - failed) / n if n else 0.0
        told = (
            f"{self.name}: {n - failed:,} of {count(n, claim.what[:-1], claim.what)} answered "
            f"({percent(share)}, at least {percent(claim.at_least)} promised)"
        )
        self.summary = told + "."
        if n and failed > allowed * max(n, self.need.claim) + EPSILON:
            hopeless = (
                f"; even if all further ones up to {self.need.claim:,} were answered, it could "
                "not be reached"
                if n < self.need.claim
                else ""
            )
            self.broken.append(f"{told}{hopeless}. {commonest(self.failed)}")
        elif n < self.need.asked:
            self.unsure.append(
                f"{self.name}: only {count(n, claim.what[:-1], claim.what)} during the fault, "
                f"{self.need.asked:,} are needed to say anything."
            )
        elif failed > allowed * n + EPSILON:
            self.unsure.append(f"{told}: too few to condemn, too many failures to hold.")
        elif failed + self.undecided > allowed * (n + self.undecided) + EPSILON:
            self.unsure.append(
                f"{told}, but {self.undecided:,} more were cut short with the traffic: "
                "too many to know."
            )
        self._each_window(history, spans, allowed)

    def _each_window(self, history: History, spans: list[Span], allowed: float) -> None:
        """A window that has enough evidence by itself is not excused by a calmer one."""
        if len(spans) < 2 or self.broken:
            return
        for start, end in spans:
            ops = [op for op in self.ops if start <= op.intended < end]
            failed = sum(op.began_at in self._bad for op in ops)
            if len(ops) >= self.need.claim and failed > allowed * len(ops) + EPSILON:
                self.broken.append(
                    f"{self.name}: in the window from {start - history.start:.0f} s to "
                    f"{end - history.start:.0f} s of the run {failed:,} of {len(ops):,} "
                    f"{self.claim.what} failed."
                )

    def _in_time(self) -> None:
        claim, bad = self.claim, self._bad
        late = [inf if op.began_at in bad else op.latency_s for op in self.ops]
        p95 = quantile(late, P95)
        told = f"{self.name}: 95 % answered within {seconds(p95)} (promised {claim.within_s:g} s)"
        if self.ops and p95 <= claim.within_s:
            self.summary += f" {told}."
            return
        over = sum(s > claim.within_s for s in late)
        told = (
            f"{self.name}: {over:,} of {len(late):,} {claim.what} took longer than "
            f"{claim.within_s:g} s or were never answered; at most 5 % may."
        )
        if over > (1 - P95) * max(len(late), self.need.claim) + EPSILON:
            slow = [op for op, s in zip(self.ops, late, strict=True) if s > claim.within_s]
            self.failed = [*self.failed, *(op for op in slow if op.began_at not in bad)]
            self.broken.append(told)
        elif late:
            self.unsure.append(told)

    def _without_gap(self, history: History, spans: list[Span]) -> None:
        claim, bad = self.claim, self._bad
        wards: dict[str, list[Op]] = defaultdict(list)
        for op in self._all:
            wards[op.ward if claim.by_ward else ""].append(op)
        longest: tuple[float, str] = (0.0, "")
        for ward, ops in sorted(wards.items()):
            served = [op for op in ops if op.began_at not in bad]
            for gap in gaps(ops, served, history.end, BLINK_S):
                if not any(gap.start < end and start < gap.end for start, end in spans):
                    continue
                longest = max(longest, (gap.asked_s, ward))
                self._weigh(gap, f"{self.name}{f', ward {ward}' if ward else ''}", spans)
        where = f" (ward {longest[1]})" if longest[1] else ""
        length = seconds(longest[0]) if longest[0] else f"under {BLINK_S:g} s"
        self.summary += (
            f" Longest time without an answer {length}{where}, "
            f"{claim.gap_s:g} s allowed (real seconds)."
        )

    def _weigh(self, gap: Gap, who: str, spans: list[Span]) -> None:
        limit = self.claim.gap_s
        if gap.asked_s > limit:
            self.long_gaps.append(gap)
            self.broken.append(
                f"{who}: nobody was answered for {seconds(gap.asked_s)}; {limit:g} s is the most."
            )
        elif gap.open and inside(gap.op.intended, spans):
            self.unsure.append(
                f"{who}: the last {seconds(gap.asked_s)} of the evidence had no answer; how long "
                "that would have lasted is not known."
            )
        elif not gap.open and gap.silent_s > limit:
            self.unsure.append(
                f"{who}: between {seconds(gap.asked_s)} and {seconds(gap.silent_s)} without an "
                f"answer; {limit:g} s is the most, and too few asked to know."
            )
