"""One clinical operation as its client saw it, from its invocation to its last word.

It refuses to guess: an operation without an ending is unknown, never a failure or a success.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from enum import StrEnum
from operator import attrgetter

import msgspec

CUT_SHORT = "cut short"
"""How the reason of an `op.unknown` begins when the traffic was stopped before the operation's
own bound had passed: no evidence for anything, neither good nor bad."""


class Outcome(StrEnum):
    """The last word on an operation."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Op(msgspec.Struct, frozen=True, gc=False):
    """One operation. Times in seconds of CLOCK_MONOTONIC; `ended` is infinite without an ending.

    `began_at` and `ended_at` are places in the journal (`History.cite` makes them `file:line`);
    `ended_at` is 0 when there is no ending.
    """

    id: str
    kind: str
    klass: str
    key: str
    subject: str  # the patient as the client knows him
    ward: str
    target: str
    value: str
    intended: float
    invoked: float
    ended: float
    outcome: Outcome
    strength: str
    via: str  # the service that answered
    answer_subject: str  # the patient in the answer
    answer_value: str
    reason: str
    attempts: int
    began_at: int
    ended_at: int

    @property
    def ok(self) -> bool:
        """Acknowledged."""
        return self.outcome is Outcome.OK

    @property
    def pending(self) -> bool:
        """The journal has no ending of it."""
        return self.ended_at == 0

    @property
    def undecided(self) -> bool:
        """Stopped together with the traffic before its own bound had passed: no evidence."""
        return self.outcome is Outcome.UNKNOWN and self.reason.startswith(CUT_SHORT)

    @property
    def latency_s(self) -> float:
        """Seconds from the intended start to the acknowledgement; infinite without one."""
        return max(0.0, self.ended - self.intended) if self.outcome is Outcome.OK else math.inf

    @property
    def place(self) -> int:
        """The most telling place in the journal: its ending, else its invocation."""
        return self.ended_at or self.began_at


class Ops:
    """Operations in the order of their intended starts."""

    def __init__(self, ops: Iterable[Op] = ()) -> None:
        self._ops = sorted(ops, key=attrgetter("intended", "began_at"))
        self._starts = array("d", [op.intended for op in self._ops])

    def __len__(self) -> int:
        return len(self._ops)

    def __iter__(self) -> Iterator[Op]:
        return iter(self._ops)

    def between(self, start: float, end: float) -> list[Op]:
        """Those with start ≤ intended < end."""
        return self._ops[bisect_left(self._starts, start) : bisect_left(self._starts, end)]
