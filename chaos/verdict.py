"""What a claim is worth after a run: `held`, `broken`, `inconclusive` or `void`, with its proof.

This module reads no journal and weighs no evidence; it only says what a verdict is.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from chaos.objective import Objective


class Finding(StrEnum):
    """The verdict on one claim, and the outcome of a whole run (`aborted` only for runs)."""

    HELD = "held"
    BROKEN = "broken"
    INCONCLUSIVE = "inconclusive"
    VOID = "void"
    ABORTED = "aborted"


class Exit(IntEnum):
    """Exit codes of every command; only an all-held run exits 0."""

    HELD = 0
    BROKEN = 1
    INCONCLUSIVE = 2
    VOID = 3
    ABORTED = 4
    USAGE = 64


class Need(msgspec.Struct, frozen=True):
    """How much evidence a claim needs: `claim` by its own definition, `asked` in this run.

    When `asked` is lower than `claim`, `why` must say so in words; the verdict repeats it.
    """

    claim: int
    asked: int
    why: str = ""

    def __post_init__(self) -> None:
        if self.asked < self.claim and not self.why:
            raise ValueError("evidence asked below the claim's own minimum needs a reason (why=)")

    @classmethod
    def full(cls, claim: int) -> Need:
        """The claim's own minimum, nothing lowered."""
        return cls(claim=claim, asked=claim)


class Verdict(msgspec.Struct, frozen=True):
    """One claim judged.

    `evidence` and `needed` are counts of the claim's own unit (probes, writes, failovers);
    `lines` are `file:line` of the journal, the proof a person can look up.
    """

    id: str
    statement: str
    verdict: Finding
    reason: str
    evidence: int
    needed: int
    lines: tuple[str, ...] = ()


class Judgement(msgspec.Struct, frozen=True):
    """A whole run judged: what `verdicts.json` holds. `objectives`: what was measured of each
    system's recovery, beside the verdicts; none in files of old."""

    name: str
    seed: int
    runtime: str
    outcome: Finding
    claims: tuple[Verdict, ...]
    reasons: tuple[str, ...] = ()  # why the run as a whole is void or aborted
    objectives: tuple[Objective, ...] = ()

    @property
    def exit_code(self) -> Exit:
        """The process exit code that this outcome stands for."""
        return Exit[self.outcome.name]
