"""Verdict values: only `held` is a pass, and evidence is never lowered in silence."""

from __future__ import annotations

import pytest

from chaos.verdict import Exit, Finding, Judgement, Need


def test_only_held_exits_zero() -> None:
    """Whatever else happened, CI must not be green."""
    codes = {
        f: Judgement(name="x", seed=1, runtime="fake", outcome=f, claims=()).exit_code
        for f in Finding
    }
    assert codes == {
        Finding.HELD: Exit.HELD,
        Finding.BROKEN: Exit.BROKEN,
        Finding.INCONCLUSIVE: Exit.INCONCLUSIVE,
        Finding.VOID: Exit.VOID,
        Finding.ABORTED: Exit.ABORTED,
    }
    assert [f for f, code in codes.items() if code == 0] == [Finding.HELD]


def test_less_evidence_than_the_claim_asks_for_needs_a_reason() -> None:
    """A preset may ask for less only when it says why."""
    with pytest.raises(ValueError, match="needs a reason"):
        Need(claim=300, asked=60)
    assert Need(claim=300, asked=60, why="a window of 15 s").why
    assert Need.full(300).asked == 300
