"""A small HTTP/1.1 server for the control API, on the same loop as the proxies.

Never blocks: a slow or silent client costs memory up to a bound, never time. It refuses requests
beyond the bounds below and speaks no TLS.
"""

from __future__ import annotations

import email.utils
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from chaos.toxiproxy.loop import INCOMING, Loop, Timer
from chaos.toxiproxy.resolver import Pending, Resolver

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_UNSENT_BYTES = 32 * 1024 * 1024
MAX_PIPELINED = 32  # requests answered in a row before other sockets have their turn
LOOK_UP_LIMIT_MS = 800  # then the name counts as unknown: every call answers within a second
RECEIVE_BYTES = 64 * 1024
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """One request, body read."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Response:
    """One answer; without a content type it has no body."""

    status: int
    body: str = ""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


class _Malformed(Exception):
    """Bytes that are not a request: answered and closed."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


Handler = Callable[[Request], Response]


class HttpServer:
    """Accepts API connections and gives every request to one function."""

    def __init__(
        self, loop: Loop, resolver: Resolver, listener: socket.socket, answer: Handler
    ) -> None:
        self.loop = loop
        self.resolver = resolver
        self.answer = answer
        self._listener = listener
        self._connections: set[_Connection] = set()
        loop.watch(listener.fileno(), self, INCOMING)

    def ready(self, events: int) -> None:
        """Accept one connection; the loop comes back for the next one."""
        del events
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(self, sock)
        self._connections.add(connection)
        self.loop.watch(sock.fileno(), connection)

    def abort(self) -> None:
        """One connection could not be set up; the others go on."""

    def forget(self, connection: _Connection) -> None:
        """The connection is closed."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Close the listener and every connection."""
        self.loop.forget(self._listener.fileno())
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
        self._limit: Timer | None = None
        self._continued = False

    def ready(self, events: int) -> None:
        del events
        self._receive()
        self._serve()

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            self._server.loop.forget(self._sock.fileno())
            self._server.forget(self)
            self._sock.close()

    def _receive(self) -> None:
        bound = MAX_HEAD_BYTES + MAX_BODY_BYTES
        while not self._ended and len(self._received) <= bound:
            try:
                data = self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
                self._closing = True
            if not data:
                self._ended = True
                return
            self._received += data

    def _serve(self) -> None:
        for _ in range(MAX_PIPELINED):
            if self._parked or self._closing or len(self._unsent) > MAX_UNSENT_BYTES:
                break
            try:
                request = self._next_request()
            except _Malformed as problem:
                text = f"{problem.status.value} {problem.status.phrase}"
                self._closing = True
                self._write(Response(problem.status.value, text, PLAIN), head_only=False)
                break
            if request is None:
                break
            self._answer(request)
        else:
            self._server.loop.soon(self._later)
        self._send()

    def _later(self) -> None:
        if not self._closed:
            self._receive()
            self._serve()

    # ------------------------------------------------------------------ answering

    def _answer(self, request: Request) -> None:
        try:
            response = self._server.answer(request)
        except Pending as pending:
            self._park(request, pending)
            return
        self._continued = False
        connection = request.headers.get("connection", "").lower()
        http_1_0 = request.headers.get(":version") == "HTTP/1.0"
        if connection == "close" or (http_1_0 and connection != "keep-alive"):
            self._closing = True
        self._write(response, head_only=request.method == "HEAD")

    def _park(self, request: Request, pending: Pending) -> None:
        """Answer when the names are known, or known to be unknown."""
        self._parked = request
        for host in pending.hosts:
            self._server.resolver.ask(host, lambda: self._resume(request))
        if self._limit is None:
            self._limit = self._server.loop.after_ms(
                LOOK_UP_LIMIT_MS, lambda: self._give_up(pending.hosts)
            )

    def _give_up(self, hosts: tuple[str, ...]) -> None:
        for host in hosts:
            self._server.resolver.give_up(host)

    def _resume(self, request: Request) -> None:
        if self._parked is not request or self._closed:
            return
        self._parked = None
        self._answer(request)
        if self._parked is None:
            if self._limit is not None:
                self._limit.cancel()
                self._limit = None
            self._serve()

    def _write(self, response: Response, *, head_only: bool) -> None:
        status = HTTPStatus(response.status)
        body = response.body.encode("utf-8", "replace")
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        if response.content_type:
            lines.append(f"Content-Type: {response.content_type}")
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
        if status is not HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body)}")
        if self._closing:
            lines.append("Connection: close")
        self._unsent += "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")
        if not head_only:
            self._unsent += body

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
        if (self._closing or self._ended) and self._parked is None:
            self.abort()

    # ------------------------------------------------------------------ reading

    def _next_request(self) -> Request | None:
        """The next whole request, or None until more bytes come; raises _Malformed."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(self._received) > MAX_HEAD_BYTES:
                raise _Malformed(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            if self._ended:
                self._closing = True
            return None
        method, target, headers = _head(bytes(self._received[:end]))
        body = self._body(end + 4, headers)
        if body is None:
            if self._ended:
                self._closing = True
            elif headers.get("expect", "").lower() == "100-continue" and not self._continued:
                self._continued = True
                self._unsent += b"HTTP/1.1 100 Continue\r\n\r\n"
            return None
        content, used = body
        del self._received[:used]
        return Request(method, target, headers, content)

    def _body(self, start: int, headers: dict[str, str]) -> tuple[bytes, int] | None:
        """The body and where the request ends; None while it is not complete."""
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise _Malformed(HTTPStatus.NOT_IMPLEMENTED)
            return _chunked(self._received, start)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise _Malformed(HTTPStatus.BAD_REQUEST)
        if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
            raise _Malformed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        end = start + int(length)
        if len(self._received) < end:
            return None
        return bytes(self._received[start:end]), end


def _head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers (plus `:version`); raises _Malformed."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0") or not words[0].isalpha():
        raise _Malformed(HTTPStatus.BAD_REQUEST)
    headers = {":version": words[2]}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _Malformed(HTTPStatus.BAD_REQUEST)
        headers[name.lower()] = value.strip()
    if words[2] == "HTTP/1.1" and "host" not in headers:
        raise _Malformed(HTTPStatus.BAD_REQUEST)
    return words[0], words[1], headers


def _chunked(received: bytearray, at: int) -> tuple[bytes, int] | None:
    """A chunked body from position `at`, and where it ends; None while it is not complete."""
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        line_end = received.find(b"\r\n", at)
        if line_end < 0:
            return None
        digits = bytes(received[at:line_end]).partition(b";")[0].strip()
        try:
            size = int(digits, 16) if digits.isalnum() else -1
        except ValueError:
            size = -1
        if not 0 <= size <= MAX_BODY_BYTES:
            raise _Malformed(HTTPStatus.BAD_REQUEST)
        at = line_end + 2
        if size == 0:
            return _after_trailers(received, at, bytes(body))
        if len(received) < at + size + 2:
            return None
        body += received[at : at + size]
        at += size + 2
    raise _Malformed(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _after_trailers(received: bytearray, at: int, body: bytes) -> tuple[bytes, int] | None:
    while True:  # bounded by the bytes received
        line_end = received.find(b"\r\n", at)
        if line_end < 0:
            return None
        if line_end == at:
            return body, at + 2
        at = line_end + 2
