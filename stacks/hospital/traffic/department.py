"""What the traffic of a department is: it opens itself, carries out its arrivals, and waits.

It refuses to know which departments there are: see shift.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from gevent.pool import Pool

from stacks.hospital.traffic.people import Dice
from stacks.hospital.traffic.schedule import Arrival

OPENING_HANDS = 12
LAST_WORD_S = 0.5  # whoever waited until the end says for what
T = TypeVar("T")
Act = Callable[[Arrival, float, Dice], None]
"""(arrival, intended instant in monotonic seconds, dice)."""


class CannotOpen(RuntimeError):
    """A department could not be opened; the text says why and where to look."""


class Department(Protocol):
    """One department's people."""

    @property
    def acts(self) -> Mapping[str, Act]:
        """What they do for arrivals of a kind."""
        ...

    def open(self, end: float) -> None:
        """Do what was done before the traffic begins, until `end` (monotonic). CannotOpen."""
        ...

    def sit_down(self) -> None:
        """Begin to wait for what others show; called once, when the traffic begins."""
        ...


def each(
    things: Sequence[T], act: Callable[[T, float], str], end: float, what: str, look_at: str
) -> None:
    """Do something with all of them, several at a time, until `end` (monotonic seconds).

    `act(thing, end)` returns its trouble in words, or an empty text. Raises CannotOpen: the first
    trouble; `what` completes "the wards could not be opened", `look_at` names services.
    """
    began, pool = time.monotonic(), Pool(OPENING_HANDS)
    works = [pool.spawn(act, thing, end) for thing in things]
    pool.join(timeout=max(0.0, end - began) + LAST_WORD_S)
    troubles = [
        work.value if work.successful() else str(work.exception or "it takes too long")
        for work in works
    ]
    pool.kill(block=False)
    bad = [trouble for trouble in troubles if trouble]
    if bad:
        raise CannotOpen(
            f"{what} within {max(0.0, end - began):.0f} s: {len(bad)} of {len(things)}"
            f" are not ready, first: {bad[0]}; look at the logs of {look_at}"
        )
