"""slicer: data passes in small pieces, each its own send, `delay` µs apart.

    |······ a chunk ······|  halved, give or take `size_variation`, until every piece is at most
    |··|···|··|···|··|···|  average_size + size_variation bytes

average_size 0 (the default) slices nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from chaos.toxiproxy.toxics.stage import (
    MAX_COUNT,
    MAX_MS,
    ONE_CHUNK,
    Inbox,
    Memory,
    Piece,
    Stage,
    pass_ending,
    pour,
)

MICROSECOND_NS = 1000


@dataclass(frozen=True, slots=True)
class Slicer:
    """Bytes, bytes, microseconds."""

    average_size: int = 0
    size_variation: int = 0
    delay: int = 0
    KIND: ClassVar[str] = "slicer"
    LIMITS: ClassVar[dict[str, int]] = {
        "average_size": MAX_COUNT,
        "size_variation": MAX_COUNT,
        "delay": MAX_MS * 1000,
    }

    def check(self) -> None:
        if self.size_variation > self.average_size:
            raise ValueError(
                f"size_variation must not exceed average_size ({self.average_size}), "
                f"got {self.size_variation}"
            )

    def stage(self, memory: Memory, random: Random) -> Stage:
        del memory
        return SlicerStage(self, random)


class SlicerStage:
    """Slices the oldest chunk; `_ends` are the ends of pieces still to cut, the nearest last."""

    room = ONE_CHUNK

    def __init__(self, toxic: Slicer, random: Random) -> None:
        self._toxic = toxic
        self._random = random
        self._left: memoryview | None = None  # of the chunk being sliced
        self._ends: list[int] = []  # positions in the chunk
        self._at = 0
        self._next_ns = 0

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        while not outlet.full:
            if self._left is None:
                if not inbox.pieces:
                    break
                self._left, self._at = memoryview(inbox.pieces[0].data), 0
                self._ends = [len(self._left)]
            if self._next_ns > now_ns:
                return self._next_ns
            outlet.put(Piece(self._slice(), now_ns))
            self._next_ns = now_ns + self._toxic.delay * MICROSECOND_NS
            if not self._ends:
                inbox.take()
                self._left = None
        if self._left is None and not inbox.pieces:
            if self._next_ns > now_ns and inbox.ending is not None:
                return self._next_ns
            pass_ending(inbox, outlet)
        return None

    def _slice(self) -> memoryview:
        """The next piece; halves what is too long, the first half first."""
        average, variation = self._toxic.average_size, self._toxic.size_variation
        end = self._ends.pop()
        while average and end - self._at - average > variation:
            half = self._at + (end - self._at) // 2
            if variation:
                half += self._random.randrange(2 * variation) - variation
            self._ends.append(end)
            end = min(max(half, self._at + 1), end - 1)
        assert self._left is not None
        piece, self._at = self._left[self._at : end], end
        return piece

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        if self._left is not None:
            piece = inbox.take()
            outlet.put(Piece(self._left[self._at :], piece.at_ns))
            self._left = None
        self._next_ns = 0

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        self.interrupt(inbox, outlet)
        pour(inbox, outlet)
