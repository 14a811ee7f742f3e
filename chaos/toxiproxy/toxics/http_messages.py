"""HTTP/1.x messages cut out of a byte stream: heads whole, bodies as they come.

It never changes a byte and holds at most one head; what it does not understand is loose and
passes, and so does all that follows on that side (another version, TLS, an upgraded connection).
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple, Protocol

MAX_HEAD = 1 << 16
MAX_LINE = 1 << 13
GAP = b"\r\n\r\n"
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (\S+) HTTP/1\.([01])\Z")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: .*)?\Z", re.DOTALL)
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*(?:;.*)?\Z", re.DOTALL)
_WORD = re.compile(rb"[!-~]")
SWITCHING = 101
BODILESS = (204, 304)


class Head(NamedTuple):
    """The first line of a message, and what its header says of its body."""

    method: str = ""
    target: str = ""
    status: int = 0
    old: bool = False  # HTTP/1.0
    chunked: bool = False
    length: int | None = None
    expects: bool = False  # 100-continue


class Part(NamedTuple):
    """A head, a piece of a body, or loose bytes (`loose`); `last` ends its message."""

    data: bytes
    head: Head | None = None
    last: bool = False
    loose: bool = False


class Body(Protocol):
    """How long a body is."""

    def eat(self, buffer: bytearray) -> tuple[int, bool]:
        """How many bytes from the front belong to it, and whether it ends there; ValueError."""


class _Counted:
    def __init__(self, length: int) -> None:
        self._left = length

    def eat(self, buffer: bytearray) -> tuple[int, bool]:
        size = min(self._left, len(buffer))
        self._left -= size
        return size, not self._left


class _UntilEnd:
    def eat(self, buffer: bytearray) -> tuple[int, bool]:
        return len(buffer), False


class _Chunked:
    def __init__(self) -> None:
        self._left = 0  # of the present chunk and its CR LF
        self._trailer = False

    def eat(self, buffer: bytearray) -> tuple[int, bool]:
        at = 0
        while at < len(buffer):
            size = min(self._left, len(buffer) - at)
            at, self._left = at + size, self._left - size
            if self._left or at == len(buffer):
                break
            end = buffer.find(b"\r\n", at)
            if end < 0:
                if len(buffer) - at > MAX_LINE:
                    raise ValueError("a chunk without a size")
                break
            line, at = bytes(buffer[at:end]), end + 2
            if self._trailer:
                if not line:
                    return at, True
                continue
            if not _SIZE.match(line):
                raise ValueError("no chunk size")
            count = int(line.partition(b";")[0], 16)
            self._trailer = not count
            self._left = count + 2 if count else 0
        return at, False


class Messages:
    """Cuts one side of a connection into parts."""

    def __init__(self, asked: deque[str] | None = None) -> None:
        """`asked`: methods of the requests whose responses are to come; None: read requests."""
        self._asked = asked
        self._buffer = bytearray()
        self._body: Body | None = None
        self.loose = False

    def feed(self, data: bytes) -> list[Part]:
        """Parts, in order."""
        buffer, parts = self._buffer, list[Part]()
        buffer += data
        while buffer:
            if self.loose or (self._body is None and self._asked is not None and not self._asked):
                parts.append(Part(bytes(buffer), loose=True))  # or nobody asked, as far as we saw
                buffer.clear()
            elif not (self._head(parts) if self._body is None else self._piece(parts, self._body)):
                break
        return parts

    def rest(self) -> bytes:
        """The incomplete head, or a chunk's incomplete first line."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _piece(self, parts: list[Part], body: Body) -> bool:
        try:
            size, done = body.eat(self._buffer)
        except ValueError:
            self.loose = True
            return True
        if size:
            parts.append(Part(bytes(self._buffer[:size]), last=done))
            del self._buffer[:size]
        if done:
            self._body = None
        return bool(size)

    def _head(self, parts: list[Part]) -> bool:
        buffer = self._buffer
        end = buffer.find(GAP, 0, MAX_HEAD)
        if end < 0:
            self.loose = len(buffer) >= MAX_HEAD or not self._plausible()
            return self.loose
        data = bytes(buffer[: end + len(GAP)])
        head = read_head(data, request=self._asked is None)
        if head is None:
            self.loose = True
            return True
        del buffer[: len(data)]
        interim = head.status and head.status < 200
        if interim and head.status != SWITCHING:
            parts.append(Part(data, head))
            return True
        self._body = self._body_of(head)
        if head.status == SWITCHING or head.method == "CONNECT":
            self.loose = True
            self._body = None
        parts.append(Part(data, head, last=self._body is None))
        return True

    def _body_of(self, head: Head) -> Body | None:
        method = self._asked.popleft() if self._asked else ""
        if method == "HEAD" or head.status in BODILESS:
            return None
        if head.chunked:
            return _Chunked()
        if head.length is not None:
            return _Counted(head.length) if head.length else None
        return _UntilEnd() if head.status else None

    def _plausible(self) -> bool:
        """Whether the incomplete head may still become one."""
        line, gap, _ = self._buffer.partition(b"\r\n")
        if not gap:
            return len(line) <= MAX_LINE and b"\n" not in line and bool(_WORD.match(line))
        return bool((_REQUEST if self._asked is None else _STATUS).match(line))


def read_head(data: bytes, *, request: bool) -> Head | None:
    """The head of a message; None when it is none that can be trusted."""
    first, *lines = data[: -len(GAP)].split(b"\r\n")
    match = (_REQUEST if request else _STATUS).match(first)
    if match is None:
        return None
    length, chunked, expects = None, False, False
    for line in lines:
        name, gap, value = line.partition(b":")
        name, value = name.lower(), value.strip().lower()
        if not gap:
            return None
        if name == b"content-length":
            if not value.isdigit() or len(value) > 15 or length not in (None, int(value)):
                return None
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = value.endswith(b"chunked")
        elif name == b"expect":
            expects = value == b"100-continue"
    if not request:
        return Head(status=int(match[1]), chunked=chunked, length=length)
    method, target = match[1].decode("ascii"), match[2].decode("latin-1")
    return Head(method, target, 0, match[3] == b"0", chunked, length, expects)
