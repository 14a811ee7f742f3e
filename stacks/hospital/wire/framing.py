"""MLLP frames, `<VT> message <FS><CR>`, from any chunks of bytes; refuses frames above 1 MiB."""

from __future__ import annotations

import contextlib
import socket
from asyncio import StreamWriter
from dataclasses import dataclass

VT, END = b"\x0b", b"\x1c\r"
MAX_MESSAGE_BYTES = 1 << 20
MAX_SKIPPED_BYTES = 16 << 20  # how much of an oversized frame or of garbage is read past
HEAD_BYTES = 4096  # kept of an oversized frame, enough to read its MSH
READ_BYTES = 1 << 16


class MllpError(Exception):
    """A message was not acknowledged. `sent` false: nothing left this machine; true: unknown.

    `late` true: the peer was silent until the time-out, so that it may be anything.
    """

    def __init__(self, reason: str, *, sent: bool, late: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.late = late


@dataclass(frozen=True, slots=True)
class Frame:
    """What stood between VT and FS CR; of an oversized frame only the first HEAD_BYTES."""

    payload: bytes
    oversized: bool = False


def enframe(payload: bytes) -> bytes:
    return VT + payload + END


class Deframer:
    """Cuts a byte stream into frames without ever holding more than limit + one read.

    Bytes outside frames are counted in `garbage_bytes` and skipped; MllpError when a frame or the
    garbage goes on for more than MAX_SKIPPED_BYTES.
    """

    def __init__(self, limit: int = MAX_MESSAGE_BYTES) -> None:
        self.limit = limit
        self.garbage_bytes = 0
        self._buffer = bytearray()
        self._inside = False
        self._head: bytes | None = None  # set while an oversized frame is being skipped
        self._skipped = 0

    @property
    def midframe(self) -> bool:
        return self._inside

    def feed(self, data: bytes) -> list[Frame]:
        """Frames completed by `data`, in order. Raises: MllpError (give the connection up)."""
        frames: list[Frame] = []
        scan = max(0, len(self._buffer) - 1) if self._inside else 0
        self._buffer += data
        while True:
            if not self._inside and not self._open():
                return frames
            end = self._buffer.find(END, scan)
            scan = 0
            if end < 0:
                self._bound()
                return frames
            body = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            if self._head is not None:
                frames.append(Frame(self._head, oversized=True))
            elif len(body) > self.limit:
                frames.append(Frame(body[:HEAD_BYTES], oversized=True))
            else:
                frames.append(Frame(body))
            self._inside, self._head, self._skipped = False, None, 0

    def _open(self) -> bool:
        start = self._buffer.find(VT)
        outside = len(self._buffer) if start < 0 else start
        self.garbage_bytes += len(self._buffer[:outside].strip(b"\r\n"))
        if self.garbage_bytes > MAX_SKIPPED_BYTES:
            raise MllpError("only garbage outside frames", sent=False)
        del self._buffer[: outside + (start >= 0)]
        self._inside = start >= 0
        return self._inside

    def _bound(self) -> None:
        if self._head is None and len(self._buffer) <= self.limit + 1:
            return
        if self._head is None:
            self._head = bytes(self._buffer[:HEAD_BYTES])
        keep = self._buffer[-1:]  # may be the FS of FS CR
        self._skipped += len(self._buffer) - 1
        self._buffer = bytearray(keep)
        if self._skipped > MAX_SKIPPED_BYTES:
            raise MllpError("a frame never ends", sent=False)


def keep_alive(writer: StreamWriter) -> None:
    """Notice a peer whose machine is gone, and send small messages at once."""
    sock = writer.get_extra_info("socket")
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
