"""Unaffected: services that were not hit fail no more often and answer no slower than before.

It refuses to compare with a baseline that is too thin, and to count a service that was hit itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    quantile,
    seconds,
    warmup_spans,
)
from chaos.claims.served import EPSILON, P95
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.verdict import Finding, Need, Verdict

BASELINE_MIN = 20
"""Fewer requests before the fault are no baseline."""


@dataclass(frozen=True)
class Unaffected:
    """Requests to services that no fault hits: error share at most `points` above the warm-up's,
    p95 at most `factor` times the warm-up's (delays under `noticeable_s` count as none).

    `rest`: service → its operation kinds. `alike`: name in `rest` → services that share those
    kinds; only what was asked of those that no fault hits counts, all together, and on errors
    only when too few were asked before to compare times (the verdict says so). What nobody asked
    for in the whole run is left out. `untimed` kinds are judged on errors only. `lawful`: kind →
    what the reason of a refusal holds that is an answer and no failure. `named`: services that are
    judged in any case, each alone, also where a fault hits them after all: errors too, so that one
    of them does not hide in the others' good answers; too few requests to one of them before or
    during the faults, and nothing is proved. Evidence: requests during faults, of all services
    together.
    """

    id: str
    statement: str
    need: Need
    rest: Mapping[str, tuple[str, ...]]
    untimed: tuple[str, ...] = ()
    alike: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lawful: Mapping[str, str] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    points: float = 0.001
    factor: float = 2.0
    noticeable_s: float = 0.25
    window: str = FAULT

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        spared = self._spared(history)
        looks = [_Look(self, history, name, *what) for name, what in spared.items()]
        evidence = sum(len(look.during) for look in looks)
        failed = [op for look in looks for op in look.failed]
        broken = [text for look in looks for text in look.broken]
        unsure = [text for look in looks for text in look.unsure]
        unsure += [f"{name}: nobody asked it." for name in self.named if name not in spared]
        before = sum(look.before_failed for look in looks)
        base = sum(len(look.before) for look in looks)
        share = before / base if base else 0.0
        allowed = share + self.points
        told = (
            f"{', '.join(spared) or 'No service'}: {len(failed):,} of "
            f"{count(evidence, 'request')} failed during the faults, {before:,} of {base:,} before "
            f"(at most {percent(allowed)} may)."
        )
        finding = Finding.HELD
        reason = " ".join([told, *(look.summary for look in looks)])
        if len(failed) > allowed * max(evidence, self.need.claim) + EPSILON:
            finding, reason = Finding.BROKEN, " ".join([told, *broken])
        elif broken:
            finding, reason = Finding.BROKEN, " ".join(broken)
        elif not spared:
            finding = Finding.INCONCLUSIVE
            reason = "Every service that is declared independent was hit itself."
        elif unsure or evidence < self.need.asked or len(failed) > allowed * evidence + EPSILON:
            finding = Finding.INCONCLUSIVE
            reason = " ".join([told, *unsure, f"{self.need.asked:,} requests are needed."])
        lines = cited(history, failed, [op for k in looks for op in k.slow],
                      [op for look in looks for op in ends(look.during)])  # fmt: skip
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), evidence,
            self.need.asked, lines,
        )  # fmt: skip

    def failed(self, op: Op) -> bool:
        """Whether an operation was not served."""
        answer = self.lawful.get(op.kind)
        return not (op.ok or (op.outcome is Outcome.REFUSED and answer and answer in op.reason))

    def _spared(self, history: History) -> dict[str, tuple[tuple[str, ...], frozenset[str] | None]]:
        """What is judged, and somebody asked for: name → kinds and services (None: any)."""
        spared: dict[str, tuple[tuple[str, ...], frozenset[str] | None]] = {}
        for name, kinds in self.rest.items():
            if not any(len(history.by_kind.get(kind, ())) for kind in kinds):
                continue
            if name in self.alike:
                own = [s for s in self.alike[name] if s in self.named]
                spared |= {s: (kinds, frozenset((s,))) for s in own}
                left = {s for s in self.alike[name] if not _was_hit(history, s)} - set(own)
                if left:
                    spared[", ".join(sorted(left)) if own else name] = kinds, frozenset(left)
            elif name in self.named or not _was_hit(history, name):
                spared[name] = kinds, None
        return spared


class _Look:
    """One service (or several alike) before and during the faults. `services`: whose answers
    count; None for everybody's."""

    def __init__(
        self, claim: Unaffected, history: History, name: str, kinds: tuple[str, ...],
        services: frozenset[str] | None,
    ) -> None:  # fmt: skip
        calm, spans = warmup_spans(history), fault_spans(history)
        close = max((end for _, end in calm), default=history.start)
        self.before = [op for op in ops_in(history, kinds, (), calm)
                       if op.ended <= close and _of(op, services)]  # fmt: skip
        self.before_failed = sum(claim.failed(op) for op in self.before)
        during = ops_in(history, kinds, (), spans)
        self.during = decided(history, (op for op in during if _of(op, services)))
        self.failed = [op for op in self.during if claim.failed(op)]
        self.broken: list[str] = []
        self.unsure: list[str] = []
        self.slow: list[Op] = []
        self.summary = ""
        named = name in claim.named
        if named:
            self._errors(claim, name)
        if named and len(self.during) < BASELINE_MIN:
            asked = count(len(self.during), "request")
            self.unsure.append(
                f"{name}: only {asked} during the faults, {BASELINE_MIN} are needed."
            )
        if len(self.before) < BASELINE_MIN and services is not None and not named:
            self.summary = f"{name}: errors only, too few asked before to compare times."
            return
        if len(self.before) < BASELINE_MIN:
            self.unsure.append(
                f"{name}: only {count(len(self.before), 'request')} before the faults, "
                f"{BASELINE_MIN} make a baseline."
            )
            return
        base = quantile([o.latency_s for o in self.before if _timed(o, claim)], P95)
        timed = [op for op in self.during if _timed(op, claim)]
        now = quantile([op.latency_s for op in timed], P95)
        limit = max(claim.factor * base, claim.noticeable_s)
        self.summary = (
            f"{name}: 95 % within {seconds(now)}, before {seconds(base)} "
            f"(at most {seconds(limit)}; less than {claim.noticeable_s:g} s nobody notices)."
        )
        over = [op for op in timed if op.latency_s > limit]
        if len(over) > (1 - P95) * len(timed) + EPSILON:
            if len(timed) >= BASELINE_MIN:
                self.slow = over
                self.broken.append(self.summary)
            else:
                self.unsure.append(self.summary)

    def _errors(self, claim: Unaffected, name: str) -> None:
        """More than its own share: broken where the claim's minimum could not make up for it."""
        n, failed = len(self.during), len(self.failed)
        allowed = claim.points + (self.before_failed / len(self.before) if self.before else 0.0)
        told = f"{name}: {failed:,} of {count(n, 'request')} failed during the faults."
        if failed > allowed * max(n, claim.need.claim) + EPSILON:
            self.broken.append(told)
        elif failed > allowed * n + EPSILON:
            self.unsure.append(told)


def _timed(op: Op, claim: Unaffected) -> bool:
    """Not a lawful refusal either: it has no latency."""
    return op.kind not in claim.untimed and (op.ok or claim.failed(op))


def _of(op: Op, services: frozenset[str] | None) -> bool:
    return services is None or (op.target or op.via) in services


def _was_hit(history: History, service: str) -> bool:
    """Whether a fault had this service, or a link to it, among its targets."""
    for fault in history.injections:
        for target in fault.targets:
            called = target.partition(">")[2].partition(".")[0] if ">" in target else target
            if called == service:
                return True
    return False
