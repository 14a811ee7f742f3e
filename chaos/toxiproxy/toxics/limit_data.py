"""limit_data: the connection closes as soon as `bytes` bytes have passed on this stream.

The count starts when the toxic meets the connection and survives changes of the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from chaos.toxiproxy.toxics.stage import (
    MAX_COUNT,
    ONE_CHUNK,
    Ending,
    Inbox,
    Memory,
    Piece,
    Stage,
    pass_ending,
    pour,
)


@dataclass(frozen=True, slots=True)
class LimitData:
    """Bytes per connection; 0 closes it at the first data."""

    bytes: int = 0
    KIND: ClassVar[str] = "limit_data"
    LIMITS: ClassVar[dict[str, int]] = {"bytes": MAX_COUNT}

    def check(self) -> None:
        """Any limit will do."""

    def stage(self, memory: Memory, random: Random) -> Stage:
        del random
        return LimitDataStage(self.bytes, memory)


class LimitDataStage:
    """Counts what passes."""

    room = ONE_CHUNK

    def __init__(self, limit: int, memory: Memory) -> None:
        self._limit = limit
        self._memory = memory

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        del now_ns
        while inbox.pieces and not outlet.full:
            piece = inbox.take()
            left = max(0, self._limit - self._memory.passed_bytes)
            if left:
                data = piece.data if len(piece.data) <= left else memoryview(piece.data)[:left]
                outlet.put(Piece(data, piece.at_ns))
                self._memory.passed_bytes += len(data)
            if self._memory.passed_bytes >= self._limit:
                inbox.clear()
                outlet.end(Ending.CUT)
                return None
        pass_ending(inbox, outlet)
        return None

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        """Nothing is held back."""

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        pour(inbox, outlet)
