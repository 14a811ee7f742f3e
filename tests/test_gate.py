"""The gate: go only on what was validly shown, and never on a broken claim."""

from __future__ import annotations

import msgspec
import pytest

from chaos.gate import Policy, decide
from chaos.verdict import Finding, Judgement, Verdict


def verdict(claim: str, finding: Finding, reason: str = "because") -> Verdict:
    return Verdict(claim, f"{claim} stated", finding, reason, 10, 10)


def run(
    *claims: Verdict, outcome: Finding = Finding.HELD, name: str = "saint-luc", seed: int = 7
) -> Judgement:
    return Judgement(name, seed, "process", outcome, claims, ("the warm-up was not steady",))


def test_all_held_goes() -> None:
    """Every claim held in every run: go, with no reason and no note."""
    decision = decide([run(verdict("RA-1", Finding.HELD))], Policy())
    assert (decision.go, decision.word, decision.reasons, decision.notes) == (True, "go", (), ())


def test_nothing_shown_is_no_go() -> None:
    """An empty set of runs is never a go."""
    assert decide([], Policy()).reasons == ("no valid run was shown",)


def test_a_run_without_claims_is_no_go() -> None:
    """A run that judged nothing cannot open the gate."""
    decision = decide([run()], Policy())
    assert not decision.go
    assert "judged no claim at all" in decision.reasons[0]


def test_one_broken_among_many_held_is_no_go() -> None:
    """A claim that broke once is a no-go even if it held in every other run."""
    good = [run(verdict("RA-1", Finding.HELD), seed=s) for s in range(9)]
    bad = run(verdict("RA-1", Finding.BROKEN, "87 % of reads"), outcome=Finding.BROKEN, seed=9)
    decision = decide([*good, bad], Policy(accepted={"RA-1": "signed"}))
    assert not decision.go
    assert decision.reasons == ("RA-1 is broken in saint-luc (seed 9, process): 87 % of reads",)


def test_a_broken_claim_outside_must_hold_is_still_no_go() -> None:
    """Naming some claims as required does not forgive the others when they break."""
    judged = run(verdict("RA-1", Finding.HELD), verdict("IN-1", Finding.BROKEN))
    assert not decide([judged], Policy(must_hold=("RA-1",))).go


def test_a_void_run_proves_nothing() -> None:
    """Held claims in a void or aborted run do not count, and the reason is noted."""
    for outcome in (Finding.VOID, Finding.ABORTED):
        decision = decide([run(verdict("RA-1", Finding.HELD), outcome=outcome)], Policy())
        assert not decision.go
        assert "the warm-up was not steady" in decision.notes[0]


def test_a_required_claim_that_nobody_judged_is_a_reason() -> None:
    """What was not shown counts against going."""
    decision = decide([run(verdict("RA-1", Finding.HELD))], Policy(must_hold=("RA-1", "FO-1")))
    assert decision.reasons == ("FO-1 was not judged in any valid run",)


def test_inconclusive_needs_a_signed_reason() -> None:
    """Inconclusive is no-go unless the policy accepts it by claim and in words."""
    judged = run(verdict("FO-1", Finding.INCONCLUSIVE, "1 of 5"), outcome=Finding.INCONCLUSIVE)
    assert not decide([judged], Policy()).go
    decision = decide([judged], Policy(accepted={"FO-1": "five failovers are tried weekly"}))
    assert decision.go
    assert "five failovers are tried weekly" in decision.notes[0]


def test_inconclusive_once_and_held_once_is_held() -> None:
    """Enough evidence in one valid run is enough."""
    runs = [
        run(verdict("FO-1", Finding.INCONCLUSIVE), outcome=Finding.INCONCLUSIVE, seed=1),
        run(verdict("FO-1", Finding.HELD), seed=2),
    ]
    assert decide(runs, Policy()).go


def test_experiments_must_have_been_run_often_enough() -> None:
    """A required experiment that was not run, or not validly, is a reason."""
    runs = [
        run(verdict("RA-1", Finding.HELD), seed=1),
        run(verdict("RA-1", Finding.HELD), seed=2, outcome=Finding.VOID),
    ]
    decision = decide(runs, Policy(experiments=("saint-luc", "overload"), runs_each=2))
    assert decision.reasons == (
        "experiment saint-luc: 1 valid run(s) of 2 asked",
        "experiment overload: 0 valid run(s) of 2 asked",
    )


def test_the_order_of_runs_does_not_matter() -> None:
    """The same runs in any order give the same decision."""
    runs = [run(verdict("RA-1", Finding.BROKEN), seed=s) for s in (3, 1, 2)]
    assert decide(runs, Policy()) == decide(runs[::-1], Policy())


def test_a_policy_that_contradicts_itself_is_refused() -> None:
    """A waiver without words, zero runs, or an unknown key is an error, not a default."""
    with pytest.raises(ValueError, match="written reason"):
        Policy(accepted={"FO-1": " "})
    with pytest.raises(ValueError, match="runs_each"):
        Policy(runs_each=0)
    with pytest.raises(msgspec.ValidationError, match="must_hodl"):
        msgspec.convert({"must_hodl": ["RA-1"]}, Policy)
