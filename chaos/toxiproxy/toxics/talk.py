"""What a toxic needs that understands a protocol: both directions of one connection at once.

    client ─▶ asking side    ─▶ upstream          a Splitter cuts bytes into units, nothing lost;
    client ◀─ answering side ◀─ upstream          a Judge lets each pass, or not, or holds it

The two sides share a Talk. Like every stage they never block, read no clock and touch no socket;
bytes that are not understood pass unchanged.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from chaos.toxiproxy.toxics.record import Record
from chaos.toxiproxy.toxics.stage import ONE_CHUNK, Ending, Inbox, Memory, Piece, Stage, pour

U = TypeVar("U", bound="Unit")
V = TypeVar("V", bound="Unit", contravariant=True)


class Unit(Protocol):
    """A part of the byte stream: a frame, a PDU, a head, or loose bytes."""

    @property
    def data(self) -> bytes:
        """Its bytes as they came."""


class Splitter(Protocol[U]):
    """Cuts a byte stream into units: together they are the stream, byte for byte."""

    def feed(self, data: bytes) -> list[U]:
        """The units that these bytes complete."""

    def rest(self) -> bytes:
        """What is still incomplete; it is forgotten here."""


class Held(NamedTuple):
    """Bytes that must wait, and whatever follows them on that side."""

    due_ns: int
    data: bytes


class Judge(Protocol[V]):
    """Decides about the units of one side."""

    def judge(self, unit: V, at_ns: int, outlet: Inbox) -> Held | None:
        """Put what shall pass into the outlet; or return what must be held."""

    def insert(self, now_ns: int, outlet: Inbox) -> int | None:
        """Put what is to be said out of turn; when to be asked again, if ever."""

    def ends(self, ending: Ending) -> Ending | None:
        """This side's sender ended; how to pass that on (None: keep it)."""

    @property
    def waits(self) -> bool:
        """Whether nothing more may be read until the other side has caught up."""

    @property
    def torn(self) -> bool:
        """Whether bytes are missing that the receiver must never see the rest of."""


class Talk(Protocol):
    """One connection under one speaking toxic."""

    asking: Stage
    answering: Stage
    stirred: bool  # one side did something that the other one has to look at

    def heed(self, terms: Any) -> None:
        """The toxic's attributes are these now."""


@runtime_checkable
class Speaking(Protocol):
    """The attributes of a toxic that sits on both directions."""

    def talk(self, record: Record) -> Talk:
        """The talk of a new connection."""


def side_of(memory: Memory, terms: object) -> Stage:
    """The stage of a speaking toxic for the stream that this memory belongs to."""
    talk: Talk = memory.talk
    talk.heed(terms)
    return talk.asking if memory.asks else talk.answering


class Side(Generic[U]):
    """The stage of one direction: splits, asks the judge, holds what must wait."""

    room = ONE_CHUNK

    def __init__(self, splitter: Splitter[U], judge: Judge[U]) -> None:
        self._splitter = splitter
        self._judge = judge
        self._units: deque[tuple[int, U]] = deque()  # read, not yet judged: of one chunk at most
        self._held: Held | None = None

    def step(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        self._insert(now_ns, outlet)
        due_ns = self._move(now_ns, inbox, outlet)
        return _sooner(due_ns, self._insert(now_ns, outlet))

    def _insert(self, now_ns: int, outlet: Inbox) -> int | None:
        """What is said out of turn never overtakes what is held."""
        return self._judge.insert(now_ns, outlet) if self._held is None else None

    def _move(self, now_ns: int, inbox: Inbox, outlet: Inbox) -> int | None:
        while not outlet.full and outlet.ending is None and not self._judge.waits:
            if self._held is not None:
                if self._held.due_ns > now_ns:
                    return self._held.due_ns
                outlet.put(Piece(self._held.data, self._held.due_ns))
                self._held = None
            elif self._units:
                at_ns, unit = self._units.popleft()
                self._held = self._judge.judge(unit, at_ns, outlet)
            elif inbox.pieces:
                piece = inbox.take()
                units = self._splitter.feed(bytes(piece.data))
                self._units.extend((piece.at_ns, unit) for unit in units)
            else:
                self._pass_ending(inbox, outlet)
                break
        return None

    def _pass_ending(self, inbox: Inbox, outlet: Inbox) -> None:
        if inbox.ending is None:
            return
        if not self._judge.torn and (rest := self._splitter.rest()):
            outlet.put(Piece(rest, 0))
        ending = self._judge.ends(inbox.ending)
        if ending is not None:
            outlet.end(ending)

    def interrupt(self, inbox: Inbox, outlet: Inbox) -> None:
        del inbox
        if self._held is not None:
            outlet.put(Piece(self._held.data, self._held.due_ns))
            self._held = None

    def leave(self, inbox: Inbox, outlet: Inbox) -> None:
        """Hand everything on; a connection that bytes were taken from in mid-unit is closed."""
        self.interrupt(inbox, outlet)
        self._judge.insert(0, outlet)
        if self._judge.torn:
            outlet.end(Ending.CUT)
            return
        for at_ns, unit in self._units:
            outlet.put(Piece(unit.data, at_ns))
        self._units.clear()
        if rest := self._splitter.rest():
            outlet.put(Piece(rest, 0))
        pour(inbox, outlet)


def _sooner(one_ns: int | None, other_ns: int | None) -> int | None:
    if one_ns is None or other_ns is None:
        return other_ns if one_ns is None else one_ns
    return min(one_ns, other_ns)
