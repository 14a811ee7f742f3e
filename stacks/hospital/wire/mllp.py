"""MLLP: HL7 messages over TCP, `<VT> message <FS><CR>`, one outstanding message per connection.

    wards' sender ──frame──▶ MllpServer ──answer(frame)──▶ replies ──▶ MllpClient.send() -> Ack

Refuses frames above 1 MiB, acknowledgements for another message, and to retry by itself: a caller
that gets `MllpError` decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from stacks.hospital.wire.hl7 import Ack, Hl7Error, parse_ack

VT, END = b"\x0b", b"\x1c\r"
MAX_MESSAGE_BYTES = 1 << 20
MAX_SKIPPED_BYTES = 16 << 20  # how much of an oversized frame or of garbage is read past
HEAD_BYTES = 4096  # kept of an oversized frame, enough to read its MSH
READ_BYTES = 1 << 16
CONNECT_S = 2.0
ACK_S = 5.0
FRAME_S = 30.0  # a frame that began must end within this
IDLE_S = 900.0  # a silent connection is closed after this
WRITE_S = 5.0  # a peer that does not read its acknowledgement is dropped after this
CLOSE_S = 0.5
MAX_CONNECTIONS = 128

Address = tuple[str, int]


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


def _keepalive(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


async def _hang_up(writer: asyncio.StreamWriter, *, politely: bool) -> None:
    if politely:  # what was written still goes out
        writer.close()
        with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(CLOSE_S):
                await writer.wait_closed()
    writer.transport.abort()


Answer = Callable[[Frame], Awaitable[Sequence[bytes]]]


class MllpServer:
    """Listens and answers each frame with what `answer` returns, one frame at a time.

    `answer` decides about acknowledgements (see hl7.replies); if it raises MllpError the connection
    is closed without one, so that the sender tries again.
    """

    def __init__(self, answer: Answer, *, on_error: Callable[[str], None] | None = None) -> None:
        self._answer = answer
        self._on_error = on_error or (lambda _: None)
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._stopping = False

    @property
    def connections(self) -> int:
        return len(self._talks)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises: OSError when it cannot."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=READ_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, drain_s: float = 2.0) -> None:
        """Accept nothing more, finish the messages in hand (at most `drain_s`), close."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + drain_s
        while self._busy and loop.time() < deadline:
            await asyncio.sleep(0.01)
        for talk in list(self._talks):
            talk.cancel()
        if self._talks:
            await asyncio.wait(list(self._talks), timeout=1.0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._stopping or len(self._talks) >= MAX_CONNECTIONS:
            await _hang_up(writer, politely=False)
            return
        politely = False
        self._talks.add(task)
        _keepalive(writer)
        try:
            await self._converse(reader, writer)
            politely = True
        except (MllpError, OSError, TimeoutError) as error:
            self._on_error(str(error) or type(error).__name__)
        except Exception as error:  # a defect of ours: no acknowledgement, the sender repeats it
            self._on_error(f"unexpected {type(error).__name__}: {error}")
        except asyncio.CancelledError:
            politely = True  # stop() ends the conversation between two messages
        finally:
            self._talks.discard(task)
            await _hang_up(writer, politely=politely)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deframer = Deframer()
        loop = asyncio.get_running_loop()
        frame_deadline = 0.0
        while not self._stopping:
            if deframer.midframe:
                frame_deadline = frame_deadline or loop.time() + FRAME_S
            else:
                frame_deadline = 0.0
            async with asyncio.timeout_at(frame_deadline or loop.time() + IDLE_S):
                data = await reader.read(READ_BYTES)
            if not data:
                return
            for frame in deframer.feed(data):
                frame_deadline = 0.0
                self._busy += 1
                try:
                    for reply in await self._answer(frame):
                        writer.write(enframe(reply))
                    async with asyncio.timeout(WRITE_S):
                        await writer.drain()
                finally:
                    self._busy -= 1


class MllpClient:
    """One connection to one peer, opened when needed, one outstanding message.

    With `check_ack_id` (leave it on) an acknowledgement counts only if MSA-2 is the message's
    MSH-10; any doubt closes the connection, so that a late answer can never be read later.
    """

    def __init__(
        self, address: Address, *, ack_s: float = ACK_S, check_ack_id: bool = True
    ) -> None:
        self.address = address
        self.ack_s = ack_s
        self._check_ack_id = check_ack_id
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._deframer = Deframer()
        self._frames: list[Frame] = []
        self._unanswered, self._last_id = 0, ""
        self._turn = asyncio.Lock()
        self.connects = 0

    @property
    def connected(self) -> bool:
        return (
            self._writer is not None
            and not self._writer.is_closing()
            and self._reader is not None
            and not self._reader.at_eof()
        )

    async def send(self, payload: bytes, control_id: str, ack_s: float | None = None) -> Ack:
        """Send one message and wait for its acknowledgement, at most `ack_s` (real seconds).

        A negative acknowledgement is an answer, not an error. Raises: MllpError.
        """
        async with self._turn:
            sent = False
            try:
                await self._connect()
                assert self._writer is not None
                if self._check_ack_id and self._frames:
                    raise MllpError("an acknowledgement that nobody asked for", sent=False)
                sent = True
                async with asyncio.timeout(ack_s or self.ack_s):
                    if self._is_due(control_id):
                        self._writer.write(enframe(payload))
                        await self._writer.drain()
                    ack = await self._next_ack()
                self._unanswered -= 1
                if self._check_ack_id and ack.control_id != control_id:
                    raise MllpError(
                        f"acknowledgement for {ack.control_id!r}, not {control_id!r}", sent=True
                    )
                return ack
            except TimeoutError:
                if self._check_ack_id:  # else the late answer stays in the pipe
                    self._abandon()
                reason = f"no acknowledgement from {self._peer()}"
                raise MllpError(reason, sent=sent, late=True) from None
            except (OSError, Hl7Error) as error:
                self._abandon()
                raise MllpError(f"{self._peer()}: {error}", sent=sent) from None
            except (MllpError, asyncio.CancelledError):
                self._abandon()
                raise

    async def close(self) -> None:
        self._abandon()

    def _peer(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    async def _connect(self) -> None:
        if self.connected:
            return
        self._abandon()
        try:
            async with asyncio.timeout(CONNECT_S):
                self._reader, self._writer = await asyncio.open_connection(
                    *self.address, limit=READ_BYTES
                )
        except TimeoutError:
            raise MllpError(f"cannot connect to {self._peer()}", sent=False) from None
        self.connects += 1
        _keepalive(self._writer)

    def _is_due(self, control_id: str) -> bool:
        """Whether the message must be written now: always, with the check.

        Without it the client counts answers instead of comparing them: one that is still expected
        (a message was sent again after a time-out) is believed to be this message's.
        """
        if not self._check_ack_id and self._unanswered and control_id != self._last_id:
            return False
        self._unanswered += 1
        self._last_id = control_id
        return True

    async def _next_ack(self) -> Ack:
        assert self._reader is not None
        while not self._frames:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise MllpError(f"{self._peer()} closed the connection", sent=True)
            self._frames += self._deframer.feed(data)
        frame = self._frames.pop(0)
        if frame.oversized:
            raise MllpError("oversized acknowledgement", sent=True)
        return parse_ack(frame.payload)

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None
        self._deframer, self._frames = Deframer(), []
        self._unanswered, self._last_id = 0, ""
