"""What all proxies of one server share, and the byte counts that each keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from chaos.toxiproxy.address import ListenRule
from chaos.toxiproxy.loop import Loop
from chaos.toxiproxy.resolver import Resolver
from chaos.toxiproxy.toxic import DOWNSTREAM, UPSTREAM


class Seats:
    """How many links there may be in all, so that the control API keeps its descriptors."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def take(self) -> bool:
        """Claim a seat; false when none is left."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def give(self) -> None:
        """Return a seat."""
        self._free += 1


@dataclass(frozen=True)
class Site:
    """What every proxy of one server shares."""

    loop: Loop
    resolver: Resolver
    listen_rule: ListenRule
    random: Random
    seats: Seats


@dataclass
class Traffic:
    """Bytes of the streams that have ended, by direction."""

    received: dict[str, int] = field(default_factory=lambda: {UPSTREAM: 0, DOWNSTREAM: 0})
    sent: dict[str, int] = field(default_factory=lambda: {UPSTREAM: 0, DOWNSTREAM: 0})
