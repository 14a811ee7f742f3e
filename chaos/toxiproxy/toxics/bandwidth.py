"""bandwidth: data passes at `rate` kB/s (1 kB is 1000 bytes), in steps of at most 100 ms.

    |── 100 ms ──| 100 ms of bytes |── 100 ms ──| 100 ms of bytes |── rest ──| rest of bytes

A piece leaves when its own sending time has passed, so the first bytes wait for a step as well.
Rate 0 lets nothing through; what it holds arrives when the toxic is removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from chaos.toxiproxy.toxics.stage import (
    MAX_MS,
    MILLISECOND_NS,
    ONE_CHUNK,
    Inbox,
    Memory,
    Piece,
    Stage,
    pass_ending,
    pour,
)

STEP_MS = 100
CATCH_UP_NS = 100 * MILLISECOND_NS  # a late wake-up is made good, up to this much
FAST_ROOM = 512 * 1024  # bytes; lets a fast rate be reached with few wake-ups
FAST_RATE = 10_000  # kB/s
PRESSED_NS = 5 * MILLISECOND_NS  # data read this soon after the inbox was full had been waiting


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Kilobytes (1000 bytes) per second."""

    rate: int = 0
    KIND: ClassVar[str] = "bandwidth"
    LIMITS: ClassVar[dict[str, int]] = {"rate": MAX_MS}

    def check(self) -> None:
        """Any rate will do."""

    def stage(self, memory: Memory, random: Random) -> Stage:
        del memory, random
        return BandwidthStage(self.rate)


class BandwidthStage:
    """Holds one chunk and lets a step of it go at a time."""

    def __init__(self, rate: int) -> None:
        self._rate = rate  # kB/s are bytes per millisecond
        self._step_bytes = rate * STEP_MS
        self._due_ns: int | None = None  # of the next step
        self._free_ns = 0  # when the line is free again
        self._full_ns = 0  # when the sender was last seen waiting
        self.room = FAST_ROOM if rate >= FAST_RATE else ONE_CHUNK

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        if not self._rate:
            if not inbox.pieces:
                pass_ending(inbox, outlet)
            return None
        if inbox.full:
            self._full_ns = now_ns
        while inbox.pieces and not outlet.full:
            piece = inbox.pieces[0]
            size = min(len(piece.data), self._step_bytes)
            if self._due_ns is None:
                start_ns = max(self._free_ns, now_ns - CATCH_UP_NS)
                if not 0 < piece.at_ns - self._full_ns <= PRESSED_NS:
                    start_ns = max(start_ns, piece.at_ns)
                self._due_ns = start_ns + size * MILLISECOND_NS // self._rate
            if self._due_ns > now_ns:
                return self._due_ns
            self._release(size, inbox, outlet)
        pass_ending(inbox, outlet)
        return None

    def _release(self, size: int, inbox: Inbox, outlet: Inbox) -> None:
        piece, due_ns = inbox.take(), self._due_ns or 0
        self._free_ns, self._due_ns = due_ns, None
        if size == len(piece.data):
            outlet.put(Piece(piece.data, due_ns))
            return
        data = memoryview(piece.data)
        outlet.put(Piece(data[:size], due_ns))
        inbox.put_back(Piece(data[size:], piece.at_ns))

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        if inbox.pieces:
            outlet.put(inbox.take())
        self._due_ns = None

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        pour(inbox, outlet)
