"""Claims: what a system's owner states, judged from the history of a run and from nothing else.

A claim never touches the system, never reads a clock and never guesses: too little evidence is
`inconclusive`, an invalid experiment is `void`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chaos.verdict import Verdict

if TYPE_CHECKING:
    from chaos.journal.history import History


class Claim(Protocol):
    """One statement with a threshold; a frozen dataclass with `id` and `statement`."""

    @property
    def id(self) -> str:
        """Short id of the catalogue, for example `RA-1`."""
        ...

    @property
    def statement(self) -> str:
        """What the hospital states, in its own words."""
        ...

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        ...
