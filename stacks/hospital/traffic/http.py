"""A small HTTP/1.1 client over kept-alive connections: one question, one bounded attempt.

It refuses to retry, except once on a kept connection that turns out to be closed (every question
of this traffic may safely be asked twice), and to take half an answer for an answer.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import gevent
from gevent import socket as green

from stacks.hospital.settings import Address

MAX_IDLE = 64  # kept connections per address
MAX_HEADER_BYTES = 65_536
MAX_BODY_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 65_536


class NoAnswer(Exception):
    """No complete answer; `sent` says whether the question may have reached the service."""

    def __init__(self, reason: str, sent: bool) -> None:
        super().__init__(reason)
        self.reason, self.sent = reason, sent


class _Stale(Exception):
    """A kept connection was closed before any byte of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def good(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        """The seconds of Retry-After; None without one."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isdecimal() and len(text) < 6 else None


class Caller:
    """Asks one address; safe for many green threads."""

    def __init__(self, name: str, address: Address) -> None:
        self.name = name
        self._address = address
        self._idle: deque[socket.socket] = deque()

    def ask(
        self,
        method: str,
        path: str,
        within_s: float,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One attempt, `within_s` seconds in all; raises NoAnswer."""
        question = self._question(method, path, body, headers or {})
        progress = {"sent": False}
        timeout = gevent.Timeout(within_s)
        try:
            with timeout:
                return self._ask(question, progress)
        except gevent.Timeout as late:
            if late is not timeout:
                raise
            raise NoAnswer(f"no answer within {within_s:g} s", progress["sent"]) from None
        except (OSError, _Stale) as error:
            raise NoAnswer(_words(error), progress["sent"]) from None
        except ValueError as error:
            raise NoAnswer(f"not HTTP: {error}", True) from None

    def close(self) -> None:
        """Close kept connections."""
        while self._idle:
            self._idle.pop().close()

    def _question(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._address}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
            lines.append("Content-Type: application/fhir+json")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _ask(self, question: bytes, progress: dict[str, bool]) -> Answer:
        while self._idle:
            kept = self._idle.pop()
            try:
                return self._exchange(kept, question, progress)
            except _Stale:
                self.close()  # if one is closed, its contemporaries most often are, too
        fresh = green.create_connection(self._address)
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._exchange(fresh, question, progress, fresh=True)

    def _exchange(
        self,
        connection: socket.socket,
        question: bytes,
        progress: dict[str, bool],
        fresh: bool = False,
    ) -> Answer:
        keep = False
        try:
            try:
                connection.sendall(question)
                progress["sent"] = True
                first = connection.recv(CHUNK_BYTES)
            except (ConnectionResetError, BrokenPipeError):
                if fresh:
                    raise
                raise _Stale from None
            if not first:
                raise _Stale
            answer, keep = _read(connection, first, head=question.startswith(b"HEAD "))
            return answer
        finally:
            if keep and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
            else:
                connection.close()


def _words(error: Exception) -> str:
    if isinstance(error, _Stale):
        return "connection closed without an answer"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "connection reset"
    text = error.strerror if isinstance(error, OSError) else str(error)
    return text or type(error).__name__


def _read(connection: socket.socket, data: bytes, head: bool) -> tuple[Answer, bool]:
    """Read one answer that begins with `data`; returns it and whether to keep the connection."""
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > MAX_HEADER_BYTES:
            raise ValueError("headers without end")
        data += _more(connection)
    lines = data[:end].decode("latin-1").split("\r\n")
    rest = data[end + 4 :]
    version, _, words = lines[0].partition(" ")
    if not version.startswith("HTTP/1.") or not words[:3].isdecimal():
        raise ValueError(f"status line {lines[0][:60]!r}")
    status = int(words[:3])
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    keep = headers.get("connection", "").lower() != "close" and version == "HTTP/1.1"
    if head or status in (204, 304):
        body = b""
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = _chunked(connection, rest)
    elif "content-length" in headers:
        body = _sized(connection, rest, int(headers["content-length"]))
    else:
        body, keep = _to_end(connection, rest), False
    return Answer(status, headers, body), keep


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(CHUNK_BYTES)
    if not part:
        raise ConnectionResetError("closed in the middle of an answer")
    return part


def _sized(connection: socket.socket, data: bytes, size: int) -> bytes:
    if not 0 <= size <= MAX_BODY_BYTES:
        raise ValueError(f"body of {size} bytes")
    parts, have = [data], len(data)
    while have < size:
        parts.append(_more(connection))
        have += len(parts[-1])
    return b"".join(parts)[:size]


def _to_end(connection: socket.socket, data: bytes) -> bytes:
    while part := connection.recv(CHUNK_BYTES):
        data += part
        if len(data) > MAX_BODY_BYTES:
            raise ValueError("body without end")
    return data


def _chunked(connection: socket.socket, data: bytes) -> bytes:
    body = b""
    while len(body) <= MAX_BODY_BYTES:
        while (end := data.find(b"\r\n")) < 0:
            data += _more(connection)
        size = int(data[:end].split(b";")[0], 16)
        data = data[end + 2 :]
        while len(data) < size + 2:
            data += _more(connection)
        body, data = body + data[:size], data[size + 2 :]
        if size == 0:
            return body
    raise ValueError("body without end")
