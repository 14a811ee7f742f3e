"""One direction of one connection: reads its source, runs the toxics, writes its destination.

    source ─▶ recv_into(shared buffer) ─▶ send ─▶ destination                     (no toxics)
    source ─▶ recv ─▶ Chain of toxics ─▶ outlet ─▶ send ─▶ destination          (toxics)

What the destination does not take waits in `outlet`; while it waits the source is not read, so
memory per stream is bounded. It refuses to close sockets: that is for the link.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from chaos.toxiproxy.chain import Chain
from chaos.toxiproxy.end import End
from chaos.toxiproxy.loop import Timer
from chaos.toxiproxy.toxics.stage import Ending, Inbox, Memory, Piece

if TYPE_CHECKING:
    from chaos.toxiproxy.link import Link
    from chaos.toxiproxy.toxic import NamedToxic

BUFFER_BYTES = 256 * 1024  # one for the whole process: a loop turn uses it and leaves it empty
CHUNK_BYTES = 64 * 1024  # what toxics are fed with
OUTLET_BYTES = 256 * 1024
MAX_CHUNKS = 8  # chunks read before the toxics see them
MAX_TURNS = 2  # reads in a row before the other sockets have their turn

_buffer = bytearray(BUFFER_BYTES)
_view = memoryview(_buffer)


class Stream:
    """Moves bytes one way, with the toxics of that way."""

    __slots__ = (
        "blocked",
        "chain",
        "closed",
        "destination",
        "link",
        "outlet",
        "received",
        "scheduled",
        "sent",
        "source",
        "timer",
    )

    def __init__(self, link: Link, source: End, destination: End) -> None:
        self.link = link
        self.source = source
        self.destination = destination
        self.outlet: Inbox = Inbox(OUTLET_BYTES)
        self.chain = Chain(self.outlet, link.random)
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
        if self.chain:
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
        chain, outlet = self.chain, self.outlet
        first = chain.first
        for _ in range(MAX_TURNS):
            self._read_into(first)
            puts = chain.puts
            due_ns = chain.step(time.monotonic_ns())
            if chain.talks and chain.stirred():
                self.link.stir(self)
            if (outlet.pieces or outlet.ending is not None) and not self._flush():
                break
            moved = chain.puts != puts
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
        if self.blocked and self.chain and not self.closed:
            self._wake_at(
                self.chain.step(time.monotonic_ns())
            )  # clocks run on, nothing can be written
            if self.outlet.ending is Ending.RESET:
                self.link.reset()
        else:
            self.pump()

    # ------------------------------------------------------------------ endings

    def _source_over(self, ending: Ending) -> None:
        self.source.readable = False
        self.chain.first.end(ending)

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
            self.chain.clear()
            self.link.count(self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    # ------------------------------------------------------------------ toxics

    def add(self, toxic: NamedToxic, memory: Memory) -> None:
        """Put a toxic at the end of the chain."""
        if not self.closed:
            self.chain.add(toxic, memory)
            self.work()

    def change(self, toxic: NamedToxic) -> None:
        """The toxic's attributes or toxicity changed."""
        if not self.closed:
            self.chain.change(toxic)
            self.work()

    def remove(self, toxic: NamedToxic) -> None:
        """Take a toxic out; what it holds goes on at once."""
        if not self.closed:
            self.chain.remove(toxic)
            self.work()

    def work(self) -> None:
        """Look at everything again, soon: the API call that asked is answered first."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.blocked:
            self.timer = self.link.loop.at(0, self._timer_fired)
        else:
            self._again()
