"""noop: data passes as it came. Also what a toxic is on a connection that its toxicity spares."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import ClassVar

from chaos.toxiproxy.toxics.stage import ONE_CHUNK, Inbox, Memory, Stage, pass_ending, pour


@dataclass(frozen=True, slots=True)
class Noop:
    """No attributes."""

    KIND: ClassVar[str] = "noop"
    LIMITS: ClassVar[dict[str, int]] = {}

    def check(self) -> None:
        """Nothing to check."""

    def stage(self, memory: Memory, random: Random) -> Stage:
        del memory, random
        return NoopStage()


class NoopStage:
    """Passes everything on."""

    room = ONE_CHUNK

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        del now_ns
        while inbox.pieces and not outlet.full:
            outlet.put(inbox.take())
        pass_ending(inbox, outlet)
        return None

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        """Nothing is held back."""

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        pour(inbox, outlet)
