"""slow_close: the end of the stream is passed on `delay` milliseconds late; data is not touched."""

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
    Stage,
    pass_ending,
    pour,
)


@dataclass(frozen=True, slots=True)
class SlowClose:
    """Milliseconds."""

    delay: int = 0
    KIND: ClassVar[str] = "slow_close"
    LIMITS: ClassVar[dict[str, int]] = {"delay": MAX_MS}

    def check(self) -> None:
        """Any delay will do."""

    def stage(self, memory: Memory, random: Random) -> Stage:
        del memory, random
        return SlowCloseStage(self.delay)


class SlowCloseStage:
    """Passes data, holds the end."""

    room = ONE_CHUNK

    def __init__(self, delay_ms: int) -> None:
        self._delay_ms = delay_ms
        self._due_ns: int | None = None

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        while inbox.pieces and not outlet.full:
            outlet.put(inbox.take())
        if inbox.pieces or inbox.ending is None:
            return None
        if self._due_ns is None:
            self._due_ns = now_ns + self._delay_ms * MILLISECOND_NS
        if self._due_ns > now_ns:
            return self._due_ns
        pass_ending(inbox, outlet)
        return None

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        """The end is still held: the changed delay starts anew."""

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        pour(inbox, outlet)
