"""Turns frames into acknowledgements: the receiving side of a system that speaks HL7 over MLLP.

    server = MllpServer(Intake("LIS", receive).answer)     # async def receive(header, payload)

`receive` returns when the message is stored safely, and raises Hl7Error to refuse it. Refuses to
acknowledge what was not stored, and to let a bad message end the connection.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from stacks.hospital.wire.hl7 import (
    Header,
    Hl7Error,
    parse_header,
    replies,
    rescue_header,
)
from stacks.hospital.wire.mllp import MAX_MESSAGE_BYTES, Frame

REFUSALS_KEPT = 100

Receive = Callable[[Header, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One message that was not taken, and why."""

    control_id: str
    sender: str
    kind: str
    code: str
    reason: str
    at: float  # Unix seconds


class Intake:
    """Answers frames for one system `name` (its MSH-3). `application` false: accept only."""

    def __init__(
        self,
        name: str,
        receive: Receive,
        *,
        application: bool = True,
        on_refusal: Callable[[Refusal], None] | None = None,
    ) -> None:
        self._name = name
        self._receive = receive
        self._application = application
        self._on_refusal = on_refusal
        self.accepted = 0
        self.refused = 0
        self.refusals: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)

    async def answer(self, frame: Frame) -> list[bytes]:
        """The replies owed for one frame; see hl7.replies."""
        header: Header | None = None
        refusal: Hl7Error | None = None
        try:
            header = parse_header(_whole_header(frame))
            if frame.oversized:
                raise Hl7Error("102", f"message exceeds {MAX_MESSAGE_BYTES} bytes; send less")
            await self._receive(header, frame.payload)
            self.accepted += 1
        except Hl7Error as error:
            refusal = error
            header = header or rescue_header(frame.payload)
            self._note(header, error)
        return replies(header, refusal, self._name, application=self._application)

    def _note(self, header: Header, error: Hl7Error) -> None:
        self.refused += 1
        kind = f"{header.kind}^{header.event}" if header.kind else ""
        known = Refusal(
            header.control_id, header.sender, kind, error.code, error.reason, time.time()
        )
        self.refusals.append(known)
        if self._on_refusal:
            self._on_refusal(known)


def _whole_header(frame: Frame) -> bytes:
    if not frame.oversized:
        return frame.payload
    head, end, _ = frame.payload.partition(b"\r")
    return head if end else b""  # a header that alone fills the head is no header
