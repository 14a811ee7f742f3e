"""Go or no-go: what a set of judged runs is worth against a policy that somebody signed.

It judges no claim, reads no file and forgives no broken claim; what it was not shown counts
against going.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from chaos.verdict import Finding, Judgement, Verdict

VALID = (Finding.HELD, Finding.BROKEN, Finding.INCONCLUSIVE)


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be shown before a change may go out; loaded from a gate's YAML or written by hand.

    `must_hold`: claim ids that need at least one valid run in which they held. Empty means every
    claim that appears in the judged runs. `experiments`: names that must have been run, each
    `runs_each` times validly (a void or aborted run is no run). `accepted`: claim id → the signed
    reason why `inconclusive` is accepted for it; nothing makes a broken claim acceptable.
    """

    name: str = "default"
    must_hold: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    runs_each: int = 1
    accepted: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.runs_each < 1:
            raise ValueError(f"gate {self.name}: runs_each must be 1 or more, not {self.runs_each}")
        for claim, reason in self.accepted.items():
            if not reason.strip():
                raise ValueError(f"gate {self.name}: accepting {claim} needs a written reason")


class Decision(msgspec.Struct, frozen=True):
    """The answer: `go`, every reason against it, and notes that a signer should have read."""

    go: bool
    policy: str
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """`go` or `no-go`."""
        return "go" if self.go else "no-go"


def decide(judgements: Iterable[Judgement], policy: Policy) -> Decision:
    """Weigh judged runs against a policy; any reason at all means no-go.

    A void or aborted run proves nothing: its claims are not counted, it is only noted. An
    experiment or claim that was never validly judged is a reason, never an omission.
    """
    runs = sorted(judgements, key=lambda j: (j.name, j.runtime, j.seed))
    valid = [run for run in runs if run.outcome in VALID]
    notes = [
        f"{_run(run)} is {run.outcome.value} and is not counted: {_why(run)}"
        for run in runs
        if run.outcome not in VALID
    ]
    reasons = _missing_runs(valid, policy)
    by_claim: dict[str, list[tuple[Judgement, Verdict]]] = {}
    for run in valid:
        if not run.claims:
            reasons.append(f"{_run(run)} judged no claim at all")
        for verdict in run.claims:
            by_claim.setdefault(verdict.id, []).append((run, verdict))
    for claim in dict.fromkeys((*policy.must_hold, *sorted(by_claim))):
        required = not policy.must_hold or claim in policy.must_hold
        found = by_claim.get(claim, [])
        reasons += _against(claim, found, required, policy.accepted)
        notes += _accepted(claim, found, policy.accepted)
    return Decision(not reasons, policy.name, tuple(reasons), tuple(notes))


def _missing_runs(valid: Sequence[Judgement], policy: Policy) -> list[str]:
    reasons = [] if valid else ["no valid run was shown"]
    for name in policy.experiments:
        have = sum(run.name == name for run in valid)
        if have < policy.runs_each:
            reasons.append(f"experiment {name}: {have} valid run(s) of {policy.runs_each} asked")
    return reasons


def _against(
    claim: str,
    found: Sequence[tuple[Judgement, Verdict]],
    required: bool,
    accepted: Mapping[str, str],
) -> list[str]:
    """Reasons against going that come from one claim; broken counts, required or not."""
    broken = [
        f"{claim} is broken in {_run(run)}: {v.reason}"
        for run, v in found
        if v.verdict is Finding.BROKEN
    ]
    if broken or not required:
        return broken
    if not found:
        return [f"{claim} was not judged in any valid run"]
    if any(v.verdict is Finding.HELD for _, v in found):
        return []
    if claim in accepted and all(v.verdict is Finding.INCONCLUSIVE for _, v in found):
        return []
    return [f"{claim} is {v.verdict.value} in {_run(run)}: {v.reason}" for run, v in found]


def _accepted(
    claim: str, found: Sequence[tuple[Judgement, Verdict]], accepted: Mapping[str, str]
) -> list[str]:
    findings = {v.verdict for _, v in found}
    if claim in accepted and findings == {Finding.INCONCLUSIVE}:
        return [f"{claim} is inconclusive and accepted: {accepted[claim]}"]
    return []


def _run(run: Judgement) -> str:
    return f"{run.name} (seed {run.seed}, {run.runtime})"


def _why(run: Judgement) -> str:
    return "; ".join(run.reasons) or "no reason given"
