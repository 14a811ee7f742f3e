"""The judge: a history and its claims → a judgement, the same every time.

It refuses to let anything but complete evidence pass: a run that proves nothing is void with all
its claims, a run that was stopped is never held, and a claim that fails to judge is void itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from chaos.claims import Claim
from chaos.claims.evidence import count, warmup_spans, was_cut, worst
from chaos.claims.objectives import objectives
from chaos.claims.validity import hard_reasons, soft_reasons
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.systems import System
from chaos.verdict import Finding, Judgement, Verdict

CALM_SHARE = 0.99
"""Without any fault at least this share of all requests must be answered."""
CALM_PATIENCE_S = 5.0
"""A request of the warm-up that was not answered after this long has failed."""
REASONS_MAX = 12
BY_A_PERSON = "stopped by"
"""How the reason of `run.ended` begins when a person or a stop rule ended the run."""
REFUSAL_PROBES = frozenset({"copy.write"})
"""Operations that are aimed at what must refuse them: no failures of the calm."""
AT_ONCE = (
    ".read", ".create", ".update", ".finish", ".merge", ".load", ".order", ".start", ".book",
    ".move", ".cancel", ".ask",
)  # fmt: skip
"""How kinds end that are answered at once; others follow slow processes of the real world."""


@runtime_checkable
class CanBeSteady(Protocol):
    """A claim that can say why the warm-up does not already show it."""

    def unsteady(self, history: History) -> list[str]:
        """Reasons; none when it does."""
        ...


def judge(history: History, claims: Sequence[Claim], systems: Sequence[System] = ()) -> Judgement:
    """Judge a whole run, and measure the recovery of `systems`. Pure and total: it raises nothing
    and never guesses.

    Precedence of the outcome: aborted by a person, void (the experiment is invalid), aborted for
    another reason, broken, inconclusive, held. A run whose harness was killed is judged on the
    evidence so far, and never held.
    """
    void = hard_reasons(history, claims)
    ended = history.ended
    stopped = ended is not None and ended.outcome == "aborted"
    if ended is not None and ended.outcome == "completed":
        void += soft_reasons(history, claims)
    if not stopped or any(w.name == "warmup" and w.closed and w.ok for w in history.windows):
        void += [f"the warm-up was not steady: {r}" for r in steady_reasons(history, claims)]
    void = list(dict.fromkeys(void))
    if len(void) > REASONS_MAX:
        void = [*void[:REASONS_MAX], f"and {len(void) - REASONS_MAX} more reasons"]
    if void:
        verdicts = [_voided(claim, history, void) for claim in claims]
    else:
        verdicts = [_judged(claim, history) for claim in claims]
    outcome = worst(v.verdict for v in verdicts)
    reasons = [*void]
    if stopped and ended is not None:
        by_a_person = ended.reason.startswith(BY_A_PERSON)
        outcome = Finding.VOID if void and not by_a_person else Finding.ABORTED
        reasons.insert(0, f"aborted: {ended.reason or 'no reason given'}")
    elif void:
        outcome = Finding.VOID
    elif ended is None:
        outcome = outcome if outcome is Finding.BROKEN else Finding.VOID
        reasons.append(
            "the harness was killed: the claims are judged on the evidence up to "
            f"{history.end - history.start:.1f} s, which is not a whole run"
        )
    run = history.run
    return Judgement(
        name=run.name if run else "",
        seed=run.seed if run else 0,
        runtime=run.runtime if run else "",
        outcome=outcome,
        claims=tuple(verdicts),
        reasons=tuple(reasons),
        objectives=objectives(
            history, systems, [claim.id for claim in claims],
            "the run proves nothing" if void or was_cut(history) else "",
        ),
    )  # fmt: skip


def steady_reasons(history: History, claims: Sequence[Claim] = ()) -> list[str]:
    """Why the warm-up was not steady; empty when it was. The history may still be growing.

    Without a warm-up window there is nothing to say. Without claims it is asked whether traffic
    flowed and was answered.
    """
    spans = warmup_spans(history)
    if not spans:
        return []
    close = max(end for _, end in spans)
    ops = [
        op for start, end in spans
        for op in history.ops_between(tuple(history.by_kind), start, end)
        if op.ended <= close or op.intended < close - CALM_PATIENCE_S
    ]  # fmt: skip
    if not ops:
        return ["no operation was answered before the faults: no traffic, or nothing serves"]
    reasons = _calm(history, ops, close)
    for claim in claims:
        if isinstance(claim, CanBeSteady):
            try:
                reasons += claim.unsteady(history)
            except Exception as error:  # a faulty claim must not pass for a steady one
                reasons.append(f"claim {claim.id} could not be asked: {_words(error)}")
    return list(dict.fromkeys(reasons))


steady = steady_reasons


def _calm(history: History, ops: Sequence[Op], close: float) -> list[str]:
    """Failures before any fault. Slow processes (intended long before they can end) that are
    still on their way, and what is meant to be refused, are no failures."""
    late = [op for op in ops if not op.ok and op.ended <= close and _counts(op)]
    hanging = [op for op in ops if op.ended > close and op.kind.endswith(AT_ONCE)]
    failed = [*late, *hanging]
    answered = [op for op in ops if op.ended <= close and _counts(op)]
    total = len(answered) + len(hanging)
    if len(failed) > (1 - CALM_SHARE) * total and len(failed) > 1:
        first = failed[0]
        return [
            f"{count(len(failed), 'request')} of {total:,} failed before any fault, the first "
            f"{first.kind} {first.key} ({first.reason or 'no answer'}, {history.cite(first)})"
        ]
    return []


def _counts(op: Op) -> bool:
    return op.kind not in REFUSAL_PROBES and not op.undecided


def _judged(claim: Claim, history: History) -> Verdict:
    try:
        return claim.judge(history)
    except Exception as error:  # the fault is the claim's: it proves nothing, and says so
        reason = f"the claim itself failed ({_words(error)}); report it with the run folder"
        return Verdict(claim.id, claim.statement, Finding.VOID, reason, 0, 0)


def _voided(claim: Claim, history: History, reasons: Sequence[str]) -> Verdict:
    """The run proves nothing; how much evidence there would have been is still told."""
    judged = _judged(claim, history)
    return Verdict(
        claim.id, claim.statement, Finding.VOID, "; ".join(reasons), judged.evidence,
        judged.needed, judged.lines,
    )  # fmt: skip


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
