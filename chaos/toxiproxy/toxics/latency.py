"""latency: every piece arrives `latency` ± `jitter` milliseconds after it was read.

    read at t ──▶ due at t + latency ± jitter, never before the piece ahead of it

Pieces overlap in flight, so the rate is not limited. The end of a stream is not delayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from chaos.toxiproxy.toxics.stage import (
    MAX_MS,
    MILLISECOND_NS,
    Inbox,
    Memory,
    Piece,
    Stage,
    pass_ending,
    pour,
)

IN_FLIGHT = 16 * 1024 * 1024  # bytes; 20 ms of 800 MB/s


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; the delay is uniform in [latency - jitter, latency + jitter)."""

    latency: int = 0
    jitter: int = 0
    KIND: ClassVar[str] = "latency"
    LIMITS: ClassVar[dict[str, int]] = {"latency": MAX_MS, "jitter": MAX_MS}

    def check(self) -> None:
        """Any latency goes with any jitter."""

    def stage(self, memory: Memory, random: Random) -> Stage:
        del memory
        return LatencyStage(self, random)


class LatencyStage:
    """Holds pieces until they are due."""

    room = IN_FLIGHT

    def __init__(self, toxic: Latency, random: Random) -> None:
        self._toxic = toxic
        self._random = random
        self._due_ns: int | None = None  # of the oldest piece

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        while inbox.pieces and not outlet.full:
            if self._due_ns is None:
                self._due_ns = inbox.pieces[0].at_ns + self._delay_ns()
            if self._due_ns > now_ns:
                return self._due_ns
            outlet.put(Piece(inbox.take().data, self._due_ns))
            self._due_ns = None
        pass_ending(inbox, outlet)
        return None

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        if inbox.pieces:
            outlet.put(inbox.take())
        self._due_ns = None

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        pour(inbox, outlet)

    def _delay_ns(self) -> int:
        delay_ms, jitter_ms = self._toxic.latency, self._toxic.jitter
        if jitter_ms:
            delay_ms += self._random.randrange(2 * jitter_ms) - jitter_ms
        return max(0, delay_ms) * MILLISECOND_NS
