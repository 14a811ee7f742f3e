"""The listening end of MLLP: one frame at a time per connection; refuses silent half-open peers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from stacks.hospital.wire.framing import READ_BYTES, Deframer, Frame, MllpError, enframe, keep_alive

FRAME_S = 30.0  # a frame that began must end within this
IDLE_S = 900.0  # a silent connection is closed after this
WRITE_S = 5.0  # a peer that does not read its acknowledgement is dropped after this
CLOSE_S = 0.5
MAX_CONNECTIONS = 128


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
        keep_alive(writer)
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
