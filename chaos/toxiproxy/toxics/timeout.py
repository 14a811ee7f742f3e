"""timeout: nothing passes, and the connection closes `timeout` ms after the last chunk.

With timeout 0 it stays open until the toxic is removed. Data is dropped, never kept, so removing
the toxic closes the connection too: going on with a hole in the stream would be a lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from chaos.toxiproxy.toxics.stage import (
    MAX_MS,
    MILLISECOND_NS,
    ONE_CHUNK,
    Ending,
    Inbox,
    Memory,
    Stage,
)


@dataclass(frozen=True, slots=True)
class Timeout:
    """Milliseconds of silence; 0 is for ever."""

    timeout: int = 0
    KIND: ClassVar[str] = "timeout"
    LIMITS: ClassVar[dict[str, int]] = {"timeout": MAX_MS}

    def check(self) -> None:
        """Any timeout will do."""

    def stage(self, memory: Memory, random: Random) -> Stage:
        del memory, random
        return TimeoutStage(self.timeout)


class TimeoutStage:
    """Drops data and watches the clock; an end of stream is swallowed like data."""

    room = ONE_CHUNK

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ns = timeout_ms * MILLISECOND_NS
        self._since_ns: int | None = None

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        if inbox.ending in (Ending.CUT, Ending.RESET):
            outlet.end(inbox.ending)
            return None
        if self._since_ns is None:
            self._since_ns = now_ns
        if inbox.pieces:
            self._since_ns = max(self._since_ns, inbox.pieces[-1].at_ns)
            inbox.clear()
        if not self._timeout_ns:
            return None
        due_ns = self._since_ns + self._timeout_ns
        if due_ns > now_ns:
            return due_ns
        outlet.end(Ending.CUT)
        return None

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        """Nothing is held: the changed clock starts anew."""

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        inbox.clear()
        outlet.end(Ending.CUT)
