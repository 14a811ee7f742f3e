"""The calling end of MLLP: one outstanding message; refuses an answer to another message."""

from __future__ import annotations

import asyncio

from stacks.hospital.wire.framing import READ_BYTES, Deframer, Frame, MllpError, enframe, keep_alive
from stacks.hospital.wire.hl7 import Ack, Hl7Error, parse_ack

CONNECT_S = 2.0
ACK_S = 5.0

Address = tuple[str, int]


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
        keep_alive(self._writer)

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
