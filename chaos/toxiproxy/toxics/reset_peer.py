"""reset_peer: the first data on the stream resets the connection after `timeout` ms.

A connection that was open before the toxic came is closed in order instead of reset, as the
reference does. An idle connection is not touched. The data is dropped.
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
    pour,
)


@dataclass(frozen=True, slots=True)
class ResetPeer:
    """Milliseconds from the first data to the reset."""

    timeout: int = 0
    KIND: ClassVar[str] = "reset_peer"
    LIMITS: ClassVar[dict[str, int]] = {"timeout": MAX_MS}

    def check(self) -> None:
        """Any timeout will do."""

    def stage(self, memory: Memory, random: Random) -> Stage:
        del random
        return ResetPeerStage(self.timeout, memory)


class ResetPeerStage:
    """Waits for data or an end, then for the clock."""

    room = ONE_CHUNK

    def __init__(self, timeout_ms: int, memory: Memory) -> None:
        self._timeout_ns = timeout_ms * MILLISECOND_NS
        self._ending = Ending.RESET if memory.from_start else Ending.CUT
        self._memory = memory

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        if inbox.pieces or inbox.ending is not None:
            inbox.clear()
            if self._memory.due_ns is None:
                self._memory.due_ns = now_ns + self._timeout_ns
        due_ns = self._memory.due_ns
        if due_ns is None or due_ns > now_ns:
            return due_ns
        outlet.end(self._ending)
        return None

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        """A reset that is under way keeps its time."""

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        if self._memory.due_ns is None:
            pour(inbox, outlet)
        else:  # data is already lost: the stream cannot go on
            outlet.end(self._ending)
