"""What a toxic does to one direction of one connection: the vocabulary that all toxics share.

    socket ─▶ Inbox ─▶ stage ─▶ Inbox ─▶ stage ─▶ Inbox ─▶ socket
              (holds)           (holds)           (waits for the socket)

A stage moves pieces from its own inbox to the next one and says when it wants to be called again.
It never blocks, never reads the clock and never touches a socket.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, NamedTuple, Protocol

MILLISECOND_NS = 1_000_000
MAX_MS = 2**31 - 1  # about 24 days: longer is a mistake
MAX_COUNT = 2**63 - 1
ONE_CHUNK = 64 * 1024  # what most toxics hold before the sender has to wait
MAX_PIECES = 4096
MAX_HELD_BYTES = 512 * 1024 * 1024  # in all inboxes together; beyond it each holds one chunk


class Ending(enum.Enum):
    """How a stream ends."""

    EOF = "eof"  # the sender ended this direction; the other one may go on
    CUT = "cut"  # the whole connection closes, after what was let through has gone
    RESET = "reset"  # the whole connection is reset at once


class Piece(NamedTuple):
    """Bytes, and the monotonic time at which they are due from the stage before (ns)."""

    data: bytes | memoryview
    at_ns: int


class Inbox:
    """Pieces in order, then perhaps an ending. `full` asks the sender to wait."""

    __slots__ = ("ending", "pieces", "puts", "room", "size")
    held_bytes: ClassVar[int] = 0  # by all inboxes of the process

    def __init__(self, room: int) -> None:
        self.pieces: deque[Piece] = deque()
        self.size = 0
        self.room = room
        self.ending: Ending | None = None
        self.puts = 0

    @property
    def full(self) -> bool:
        return (
            self.size >= self.room
            or len(self.pieces) >= MAX_PIECES
            or (self.size >= ONE_CHUNK and Inbox.held_bytes >= MAX_HELD_BYTES)
        )

    def put(self, piece: Piece) -> None:
        """Add a piece; after an ending it falls on the floor."""
        if self.ending is None:
            self.pieces.append(piece)
            self._grow(len(piece.data))
            self.puts += 1

    def take(self) -> Piece:
        """Remove and return the oldest piece."""
        piece = self.pieces.popleft()
        self._grow(-len(piece.data))
        return piece

    def put_back(self, piece: Piece) -> None:
        """Make this the oldest piece again."""
        self.pieces.appendleft(piece)
        self._grow(len(piece.data))

    def clear(self) -> None:
        """Drop every piece."""
        self.pieces.clear()
        self._grow(-self.size)

    def _grow(self, size: int) -> None:
        self.size += size
        Inbox.held_bytes += size

    def end(self, ending: Ending) -> None:
        """Nothing follows. A stronger ending replaces a mere EOF."""
        if self.ending is None or self.ending is Ending.EOF:
            self.puts += self.ending is not ending
            self.ending = ending


def pass_ending(inbox: Inbox, outlet: Inbox) -> None:
    """Hand the ending on once every piece before it has gone."""
    if inbox.ending is not None and not inbox.pieces:
        outlet.end(inbox.ending)


def pour(inbox: Inbox, outlet: Inbox) -> None:
    """Hand everything on, room or not: its stage is leaving."""
    while inbox.pieces:
        outlet.put(inbox.take())
    pass_ending(inbox, outlet)


@dataclass
class Memory:
    """What a toxic remembers about one stream through changes of its attributes."""

    from_start: bool  # the toxic was there when the connection was made
    passed_bytes: int = 0
    due_ns: int | None = None  # of something that a change does not call off
    talk: Any = None  # of a toxic that hears both directions (talk.py), and which one this is
    asks: bool = False


class Stage(Protocol):
    """A toxic at work on one stream."""

    room: int

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        """Move what may move now; return when to be called again (monotonic ns), if ever."""

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        """The toxic changed or got a successor: let go of what is being held back right now."""

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        """The toxic is gone: hand everything on."""


class Toxic(Protocol):
    """The attributes of a toxic: a frozen value that knows its limits and makes its stages."""

    KIND: ClassVar[str]
    LIMITS: ClassVar[dict[str, int]]

    def check(self) -> None:
        """Raise ValueError for attributes that do not go together."""

    def stage(self, memory: Memory, random: Random) -> Stage:
        """A new stage for one stream."""
