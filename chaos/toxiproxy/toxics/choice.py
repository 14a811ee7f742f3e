"""Which of the exchanges that pass a speaking toxic it acts upon; it draws nothing from a clock."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

WHOLE = 1000  # a share is given in thousandths
MAX_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Choice:
    """The `nth` exchange (from 1), then `every` so many more, at most `count` (0: no bound).

    `share` thousandths of those, drawn by `seed` and by the exchange's own number: the same
    traffic is hit in the same places, whatever else the proxy does.
    """

    nth: int = 1
    every: int = 0
    count: int = 0
    share: int = WHOLE
    seed: int = 0

    def takes(self, number: int, acted: int) -> bool:
        """Whether exchange `number` (from 1) is acted upon, after `acted` others were."""
        nth = max(1, self.nth)
        if number < nth or (self.count and acted >= self.count):
            return False
        if number != nth and (not self.every or (number - nth) % self.every):
            return False
        return self.share >= WHOLE or Random(f"{self.seed}:{number}").randrange(WHOLE) < self.share
