"""One proxied connection: a client, its upstream, and a stream each way.

    client ═══ End ──upstream stream──▶ End ═══ upstream
           ═══     ◀─downstream stream──    ═══

When one side ends its direction the other direction goes on; the link closes when both are over.
It refuses to outlive its proxy: `close` lets go of both sockets at once.
"""

from __future__ import annotations

import errno
import socket
import struct
from random import Random
from typing import TYPE_CHECKING

from chaos.toxiproxy.address import SocketAddress
from chaos.toxiproxy.end import End
from chaos.toxiproxy.loop import EDGES, OUTGOING, Timer
from chaos.toxiproxy.resolver import Pending, UnknownHost
from chaos.toxiproxy.stream import Stream
from chaos.toxiproxy.toxic import DOWNSTREAM, UPSTREAM, NamedToxic
from chaos.toxiproxy.toxics.stage import Memory

if TYPE_CHECKING:
    from chaos.toxiproxy.proxy import Proxy

LOOK_UP_LIMIT_MS = 30_000
CONNECT_LIMIT_MS = 120_000
_NO_LINGER = struct.pack("ii", 1, 0)
_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK)


class Link:
    """A client's connection and the one made for it to the upstream."""

    __slots__ = (
        "_addresses",
        "_client",
        "_ends",
        "_limit",
        "_open",
        "_upstream",
        "downstream",
        "loop",
        "proxy",
        "random",
        "upstream",
    )

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.loop = proxy.loop
        self.random: Random = proxy.random
        self._client = client
        self._upstream: socket.socket | None = None
        self._addresses: list[SocketAddress] = []
        self._limit: Timer | None = None
        self._ends: tuple[End, ...] = ()
        self._open = True
        self.upstream: Stream | None = None
        self.downstream: Stream | None = None

    # ------------------------------------------------------------------ connecting

    def connect(self) -> None:
        """Find the upstream's addresses and dial them in turn."""
        if not self._open:
            return
        try:
            self._addresses = self.proxy.upstream_addresses()
        except Pending as pending:
            if self._limit is None:
                self._limit = self.loop.after_ms(LOOK_UP_LIMIT_MS, self.close)
            self.proxy.resolver.ask(pending.hosts[0], self.connect)
            return
        except UnknownHost:
            self.close()
            return
        self._dial()

    def _dial(self) -> None:
        while self._addresses:
            host, port = self._addresses.pop(0)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError:
                continue  # this family is not there, or no descriptor is left
            try:
                code = sock.connect_ex((host, port))
            except OSError:
                code = errno.EADDRNOTAVAIL
            if code == 0:
                self._connected(sock)
                return
            if code in _IN_PROGRESS:
                self._upstream = sock
                self._limit_at(CONNECT_LIMIT_MS)
                self.loop.watch(sock.fileno(), self, OUTGOING)
                return
            sock.close()
        self.close()

    def ready(self, events: int) -> None:
        """The upstream answered the dial, one way or the other."""
        del events
        sock = self._upstream
        if sock is None:
            return
        self.loop.forget(sock.fileno())
        self._upstream = None
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            self._dial()
            return
        self.loop.unwatch(sock.fileno())
        self._connected(sock)

    def abort(self) -> None:
        self.close()

    def _limit_at(self, limit_ms: int) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self.loop.after_ms(limit_ms, self.close)

    def _connected(self, sock: socket.socket) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream = sock
        client, upstream = End(self._client, self), End(sock, self)
        self._ends = client, upstream
        self.upstream = client.inbound = upstream.outbound = Stream(self, client, upstream)
        self.downstream = upstream.inbound = client.outbound = Stream(self, upstream, client)
        for toxic in self.proxy.toxics:
            self.add(toxic, from_start=True)
        self.loop.watch(client.fd, client, EDGES)
        self.loop.watch(upstream.fd, upstream, EDGES)

    # ------------------------------------------------------------------ streams

    @property
    def connected(self) -> bool:
        """Both streams exist."""
        return self.upstream is not None

    def stream(self, direction: str) -> Stream:
        """The stream of this direction; only when connected."""
        stream = self.upstream if direction == UPSTREAM else self.downstream
        assert stream is not None
        return stream

    def add(self, toxic: NamedToxic, *, from_start: bool = False) -> None:
        """Put a toxic on the streams that it sits on; only when connected."""
        spared = toxic.speaks and self.random.random() >= toxic.toxicity
        talk = None if spared else toxic.talk()
        for direction in toxic.directions:
            memory = Memory(from_start, talk=talk, asks=direction == UPSTREAM)
            self.stream(direction).add(toxic, memory)

    def stir(self, stream: Stream) -> None:
        """A toxic on this stream has something to say on the other one."""
        other = self.downstream if stream is self.upstream else self.upstream
        if other is not None and not other.closed:
            other.work()

    def count(self, stream: Stream) -> None:
        """A stream ended: its bytes are now known to the metrics."""
        direction = UPSTREAM if stream is self.upstream else DOWNSTREAM
        self.proxy.count(direction, stream.received, stream.sent)

    def stream_over(self) -> None:
        """One direction ended in order; with the second one the link closes."""
        if self.upstream is None or self.downstream is None:
            return
        if self.upstream.closed and self.downstream.closed:
            self.close()

    # ------------------------------------------------------------------ closing

    def reset(self) -> None:
        """Close so that both peers see a reset."""
        for sock in (self._client, self._upstream):
            if sock is not None:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                except OSError:
                    pass  # it is gone already
        self.close()

    def close(self) -> None:
        """Let go of both connections; safe to call twice."""
        if not self._open:
            return
        self._open = False
        if self._limit is not None:
            self._limit.cancel()
        for stream in (self.upstream, self.downstream):
            if stream is not None:
                stream.stop()
        for sock in (self._client, self._upstream):
            if sock is not None:
                self.loop.forget(sock.fileno())
                sock.close()
        self.proxy.leave(self)
        self.upstream = self.downstream = None
        for end in self._ends:  # no reference cycles: the memory is free at once
            del end.inbound, end.outbound
        self._ends = ()
