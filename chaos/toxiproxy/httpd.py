"""A small HTTP server for the control API, on the same loop as the proxies.

Never blocks: a slow or silent client costs memory up to a bound, never time. It speaks no TLS.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from chaos.toxiproxy import http1
from chaos.toxiproxy.http1 import Request, Response
from chaos.toxiproxy.listener import Listener
from chaos.toxiproxy.loop import Loop, Timer
from chaos.toxiproxy.resolver import Pending, Resolver

MAX_CONNECTIONS = 128
MAX_UNSENT_BYTES = 4 * 1024 * 1024
MAX_PIPELINED = 32  # requests answered in a row before other sockets have their turn
LOOK_UP_LIMIT_MS = 800  # then the name counts as unknown: every call answers within a second
LINGER_MS = 1000  # for a client that still sends what was refused
RECEIVE_BYTES = 64 * 1024
RECEIVED_BYTES = http1.MAX_HEAD_BYTES + http1.MAX_BODY_BYTES

Handler = Callable[[Request], Response]


class HttpServer:
    """Accepts API connections and gives every request to one function."""

    def __init__(
        self, loop: Loop, resolver: Resolver, sock: socket.socket, answer: Handler
    ) -> None:
        self.loop = loop
        self.resolver = resolver
        self.answer = answer
        self._connections: dict[_Connection, None] = {}  # oldest use first
        self._listener = Listener(loop, sock, self._accept)

    def _accept(self, sock: socket.socket) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            next(iter(self._connections)).abort()  # the one that was silent longest
        connection = _Connection(self, sock)
        self._connections[connection] = None
        self.loop.watch(sock.fileno(), connection)

    def used(self, connection: _Connection) -> None:
        """This connection is the most recently used one."""
        self._connections[connection] = self._connections.pop(connection)

    def forget(self, connection: _Connection) -> None:
        """The connection is closed."""
        self._connections.pop(connection, None)

    def close(self) -> None:
        """Close the listener and every connection."""
        self._listener.close()
        for connection in tuple(self._connections):
            connection.abort()


class _Connection:
    """One API client: bytes in, requests in order, answers out."""

    def __init__(self, server: HttpServer, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._received = bytearray()
        self._unsent = bytearray()
        self._ended = False  # the client sends no more
        self._closing = False  # close when everything is sent
        self._closed = False
        self._parked: Request | None = None  # waits for a name look-up
        self._asked: set[str] = set()  # names that the parked request waits for
        self._limit: Timer | None = None
        self._continued = False

    def ready(self, events: int) -> None:
        del events
        self._server.used(self)
        self._go_on()

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            if self._limit is not None:
                self._limit.cancel()
            self._server.loop.forget(self._sock.fileno())
            self._server.forget(self)
            self._sock.close()

    def _go_on(self) -> None:
        if not self._closed:
            self._receive()
            self._serve()

    def _receive(self) -> None:
        while not self._ended and len(self._received) <= RECEIVED_BYTES:
            try:
                data = self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
                self._closing = True
            if not data:
                self._ended = True
            elif self._closing:
                continue  # refused: read only so that the refusal is not lost
            self._received += data

    def _serve(self) -> None:
        for _ in range(MAX_PIPELINED):
            if self._parked or self._closing or len(self._unsent) > MAX_UNSENT_BYTES:
                break
            try:
                request = http1.next_request(self._received)
            except http1.Malformed as problem:
                self._refuse(problem)
                break
            if not isinstance(request, Request):
                self._wait_for_rest(request)
                break
            self._answer(request)
        else:
            self._server.loop.soon(self._go_on)
        self._send()

    def _wait_for_rest(self, headers: dict[str, str] | None) -> None:
        if self._ended:
            self._closing = True
        elif headers and headers.get("expect", "").lower() == "100-continue":
            if not self._continued:
                self._unsent += b"HTTP/1.1 100 Continue\r\n\r\n"
            self._continued = True

    # ------------------------------------------------------------------ answering

    def _answer(self, request: Request) -> None:
        try:
            response = self._server.answer(request)
        except Pending as pending:
            self._park(request, pending)
            return
        self._continued = False
        connection = request.headers.get("connection", "").lower()
        keep = connection == "keep-alive" or request.headers[":version"] != "HTTP/1.0"
        self._closing = connection == "close" or not keep
        self._unsent += http1.rendered(
            response, closing=self._closing, head_only=request.method == "HEAD"
        )

    def _refuse(self, problem: http1.Malformed) -> None:
        text = f"{problem.status.value} {problem.status.phrase}"
        response = Response(problem.status.value, text, http1.PLAIN)
        self._unsent += http1.rendered(response, closing=True, head_only=False)
        self._closing = True
        self._received.clear()

    def _park(self, request: Request, pending: Pending) -> None:
        """Answer when the names are known, or known to be unknown."""
        self._parked = request
        if self._limit is None:
            self._limit = self._server.loop.after_ms(LOOK_UP_LIMIT_MS, self._give_up)
        new = [host for host in pending.hosts if host not in self._asked]
        self._asked.update(new)
        for host in new:
            self._server.resolver.ask(host, lambda: self._resume(request))

    def _give_up(self) -> None:
        self._limit = None
        hosts, self._asked = self._asked, set()
        self._server.resolver.give_up(hosts)

    def _resume(self, request: Request) -> None:
        if self._parked is not request or self._closed:
            return
        self._parked = None
        self._answer(request)
        if self._parked is None:
            self._asked.clear()
            if self._limit is not None:
                self._limit.cancel()
                self._limit = None
            self._serve()

    def _send(self) -> None:
        while self._unsent and not self._closed:
            try:
                taken = self._sock.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:
                self.abort()
                return
            del self._unsent[:taken]
        if self._parked is not None or self._closed:
            return
        if self._ended:
            self.abort()
        elif self._closing and self._limit is None:
            self._limit = self._server.loop.after_ms(LINGER_MS, self.abort)
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.abort()
