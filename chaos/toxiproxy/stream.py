"""One direction of one connection: reads its source, runs the toxics, writes its destination.

    source ─▶ recv_into(shared buffer) ─▶ send ─▶ destination                     (no toxics)
    source ─▶ recv ─▶ Slot ─▶ Slot ─▶ … ─▶ outlet ─▶ send ─▶ destination          (toxics)

What the destination does not take waits in `outlet`; while it waits the source is not read, so
memory per stream is bounded. It refuses to close sockets: that is for the link.
"""

from __future__ import annotations

import socket
import time
from random import Random
from typing import TYPE_CHECKING

from chaos.toxiproxy.loop import GONE, INCOMING, OUTGOING, Timer
from chaos.toxiproxy.toxics.noop import NoopStage
from chaos.toxiproxy.toxics.stage import Ending, Inbox, Memory, Piece, Stage

if TYPE_CHECKING:
    from chaos.toxiproxy.link import Link
    from chaos.toxiproxy.toxic import NamedToxic

BUFFER_BYTES = 512 * 1024  # one for the whole process: a loop turn uses it and leaves it empty
CHUNK_BYTES = 64 * 1024  # what toxics are fed with
OUTLET_BYTES = 256 * 1024
MAX_CHUNKS = 16  # chunks read before the toxics see them
MAX_TURNS = 8  # reads in a row before the other sockets have their turn

_buffer = bytearray(BUFFER_BYTES)
_view = memoryview(_buffer)


class End:
    """One socket of a link: what it brings is `inbound`, what goes to it is `outbound`."""

    __slots__ = ("fd", "finished", "inbound", "link", "outbound", "readable", "sock")

    inbound: Stream
    outbound: Stream

    def __init__(self, sock: socket.socket, link: Link) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.link = link
        self.readable = False
        self.finished = False  # the peer has shut its side: read until the end

    def ready(self, events: int) -> None:
        outbound = self.outbound
        if events & (INCOMING | GONE):
            self.readable = True
            if events & GONE:
                self.finished = True
            self.inbound.pump()
        if events & OUTGOING and outbound.blocked:
            outbound.blocked = False
            outbound.pump()

    def abort(self) -> None:
        self.link.close()


class Slot:
    """A toxic's place in one stream: the stage at work there and what waits for it."""

    __slots__ = ("inbox", "memory", "random", "stage", "toxic")

    def __init__(self, toxic: NamedToxic, random: Random, *, from_start: bool) -> None:
        self.toxic = toxic
        self.random = random
        self.memory = Memory(from_start)
        self.stage: Stage = self._roll()
        self.inbox = Inbox(self.stage.room)

    def _roll(self) -> Stage:
        if self.random.random() < self.toxic.toxicity:
            return self.toxic.attributes.stage(self.memory, self.random)
        return NoopStage()

    def renew(self, outlet: Inbox) -> None:
        """Let go of what is held back and roll for toxicity again."""
        self.stage.interrupt(self.inbox, outlet)
        self.stage = self._roll()
        self.inbox.room = self.stage.room


class Stream:
    """Moves bytes one way, with the toxics of that way."""

    __slots__ = (
        "blocked",
        "closed",
        "destination",
        "link",
        "outlet",
        "received",
        "scheduled",
        "sent",
        "slots",
        "source",
        "timer",
    )

    def __init__(self, link: Link, source: End, destination: End) -> None:
        self.link = link
        self.source = source
        self.destination = destination
        self.slots: list[Slot] = []
        self.outlet: Inbox = Inbox(OUTLET_BYTES)
        self.blocked = False  # the destination takes nothing at present
        self.closed = False  # this direction is over
        self.scheduled = False
        self.timer: Timer | None = None
        self.received = 0
        self.sent = 0

    # ------------------------------------------------------------------ moving bytes

    def pump(self) -> None:
        """Move what can be moved now."""
        if self.closed or self.blocked:
            return
        if self.slots:
            self._pump_staged()
            return
        if (self.outlet.pieces or self.outlet.ending is not None) and not self._flush():
            return
        source, sock = self.source, self.source.sock
        send = self.destination.sock.send
        turns = MAX_TURNS
        while source.readable:
            if not turns:
                self._again()
                return
            turns -= 1
            try:
                size = sock.recv_into(_view)
            except BlockingIOError:
                source.readable = False
                return
            except OSError:
                size = -1
            if size <= 0:
                self._source_over(Ending.EOF if size == 0 else Ending.CUT)
                self._flush()
                return
            self.received += size
            if size < BUFFER_BYTES and not source.finished:
                source.readable = False  # edge-triggered: more bytes are a new event
            try:
                taken = send(_view[:size])
            except BlockingIOError:
                taken = 0
            except OSError:
                self._destination_gone()
                return
            self.sent += taken
            if taken < size:
                self.outlet.put(Piece(bytes(_view[taken:size]), 0))
                if not self._flush():
                    return

    def _pump_staged(self) -> None:
        slots, outlet = self.slots, self.outlet
        first = slots[0].inbox
        for _ in range(MAX_TURNS):
            self._read_into(first)
            puts = outlet.puts + sum(slot.inbox.puts for slot in slots)
            due_ns = self._step(time.monotonic_ns())
            if (outlet.pieces or outlet.ending is not None) and not self._flush():
                break
            moved = outlet.puts + sum(slot.inbox.puts for slot in slots) != puts
            waiting = self.source.readable and not first.full and first.ending is None
            if not moved and not waiting:
                break
        else:
            self._again()
        if not self.closed:
            self._wake_at(due_ns)

    def _read_into(self, inbox: Inbox) -> None:
        source = self.source
        for _ in range(MAX_CHUNKS):
            if not source.readable or inbox.full or inbox.ending is not None:
                return
            try:
                data = source.sock.recv(CHUNK_BYTES)
            except BlockingIOError:
                source.readable = False
                return
            except OSError:
                self._source_over(Ending.CUT)
                return
            if not data:
                self._source_over(Ending.EOF)
                return
            self.received += len(data)
            if len(data) < CHUNK_BYTES and not source.finished:
                source.readable = False
            inbox.put(Piece(data, time.monotonic_ns()))

    def _step(self, now_ns: int) -> int | None:
        """Let every stage work once; the earliest time at which one wants to work again."""
        earliest: int | None = None
        last = len(self.slots) - 1
        for index, slot in enumerate(self.slots):
            outlet = self.slots[index + 1].inbox if index < last else self.outlet
            if outlet.ending is not None and outlet.ending is not Ending.EOF:
                slot.inbox.clear()
                continue
            due_ns = slot.stage.step(now_ns, slot.inbox, outlet)
            if due_ns is not None and (earliest is None or due_ns < earliest):
                earliest = due_ns
        return earliest

    def _flush(self) -> bool:
        """Write what waits, one send per piece; true if the stream goes on with nothing waiting."""
        outlet = self.outlet
        send = self.destination.sock.send
        if outlet.ending is Ending.RESET:
            self.link.reset()
            return False
        while outlet.pieces:
            piece = outlet.take()
            try:
                taken = send(piece.data)
            except BlockingIOError:
                taken = 0
            except OSError:
                self._destination_gone()
                return False
            self.sent += taken
            if taken < len(piece.data):
                outlet.put_back(Piece(memoryview(piece.data)[taken:], piece.at_ns))
                if not taken:
                    self.blocked = True
                    return False
        if outlet.ending is None:
            return True
        self._over(outlet.ending)
        return False

    # ------------------------------------------------------------------ waiting

    def _again(self) -> None:
        """Go on after the other sockets have had their turn."""
        if not self.scheduled:
            self.scheduled = True
            self.link.loop.soon(self._scheduled_pump)

    def _scheduled_pump(self) -> None:
        self.scheduled = False
        self.pump()

    def _wake_at(self, due_ns: int | None) -> None:
        if due_ns is None or (self.timer is not None and self.timer.at_ns <= due_ns):
            return  # an earlier timer looks again
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.link.loop.at(due_ns, self._timer_fired)

    def _timer_fired(self) -> None:
        self.timer = None
        if self.blocked and self.slots and not self.closed:
            self._wake_at(self._step(time.monotonic_ns()))  # clocks run on, nothing can be written
            if self.outlet.ending is Ending.RESET:
                self.link.reset()
        else:
            self.pump()

    # ------------------------------------------------------------------ endings

    def _source_over(self, ending: Ending) -> None:
        self.source.readable = False
        (self.slots[0].inbox if self.slots else self.outlet).end(ending)

    def _destination_gone(self) -> None:
        """The destination can take nothing more: this direction is over, the other drains."""
        self.outlet.clear()
        self._over(Ending.EOF, tell=False)

    def _over(self, ending: Ending, *, tell: bool = True) -> None:
        self.stop()
        if ending is Ending.CUT:
            self.link.close()
            return
        if tell:
            try:
                self.destination.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it is gone already
        self.link.stream_over()

    def stop(self) -> None:
        """Move nothing any more."""
        if not self.closed:
            self.closed = True
            self.link.count(self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    # ------------------------------------------------------------------ toxics

    def _outlet_of(self, index: int) -> Inbox:
        return self.slots[index + 1].inbox if index + 1 < len(self.slots) else self.outlet

    def add(self, toxic: NamedToxic, *, from_start: bool = False) -> None:
        """Put a toxic at the end of the chain."""
        slot = Slot(toxic, self.link.random, from_start=from_start)
        if self.slots:
            self.slots[-1].renew(self.outlet)
        if self.outlet.ending is Ending.EOF and not self.closed:
            self.outlet.ending = None  # not yet passed on: the new toxic has its say
            slot.inbox.end(Ending.EOF)
        self.slots.append(slot)

    def change(self, toxic: NamedToxic) -> None:
        """The toxic's attributes or toxicity changed."""
        index = self._index(toxic)
        self.slots[index].renew(self._outlet_of(index))
        self.work()

    def remove(self, toxic: NamedToxic) -> None:
        """Take a toxic out; what it holds goes on at once."""
        index = self._index(toxic)
        slot = self.slots[index]
        slot.stage.leave(slot.inbox, self._outlet_of(index))
        del self.slots[index]
        if index:
            self.slots[index - 1].renew(self._outlet_of(index - 1))
        self.work()

    def _index(self, toxic: NamedToxic) -> int:
        return next(i for i, slot in enumerate(self.slots) if slot.toxic is toxic)

    def work(self) -> None:
        """Look at everything again, soon: the API call that asked is answered first."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.blocked:
            self.timer = self.link.loop.at(0, self._timer_fired)
        else:
            self._again()
