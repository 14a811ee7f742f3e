"""Recovery objectives as a run measured them: how long a system was away, and how much was lost.

It measures nothing and compares nothing; a figure that nobody could measure says why, and is
never zero.
"""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One time, known to lie between `least_s` and `most_s` real seconds.

    `least_s` is None where it was not measured (`text` says why), `most_s` None where the evidence
    ends before the time does. `n` operations or writes were looked at, `failed` of them were not
    served, or are lost. `lines` are `file:line` of the journal.
    """

    what: str
    text: str
    least_s: float | None = None
    most_s: float | None = None
    n: int = 0
    failed: int = 0
    faults: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether there is a figure at all."""
        return self.least_s is not None


class Bound(msgspec.Struct, frozen=True):
    """What a judged claim says of a system's recovery: which of the two figures it speaks of, and
    the most that it allows (real seconds; None: it sets no time). `what`: the one part of the
    system that it means (empty: all)."""

    claim: str
    words: str
    rto: bool = False
    rpo: bool = False
    rto_s: float | None = None
    rpo_s: float | None = None
    what: str = ""


class Objective(msgspec.Struct, frozen=True):
    """One system: recovery times (`rto`, one for each part of it that people use) and the loss
    (`rpo`). `source`: `faults` of the run, or a `backup` that was restored in a drill."""

    system: str
    words: str
    source: str
    rto: tuple[Figure, ...]
    rpo: Figure
    bounds: tuple[Bound, ...] = ()
