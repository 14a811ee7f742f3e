"""MLLP: HL7 messages over TCP, `<VT> message <FS><CR>`, one outstanding message per connection.

    wards' sender ──frame──▶ MllpServer ──answer(frame)──▶ replies ──▶ MllpClient.send() -> Ack

Refuses frames above 1 MiB, acknowledgements for another message, and to retry by itself: a caller
that gets `MllpError` decides.
"""

from __future__ import annotations

from stacks.hospital.wire.framing import (
    END,
    MAX_MESSAGE_BYTES,
    VT,
    Deframer,
    Frame,
    MllpError,
    enframe,
)
from stacks.hospital.wire.receiving import Answer, MllpServer
from stacks.hospital.wire.sending import ACK_S, Address, MllpClient

__all__ = [
    "ACK_S", "END", "MAX_MESSAGE_BYTES", "VT", "Address", "Answer", "Deframer", "Frame",
    "MllpClient", "MllpError", "MllpServer", "enframe",
]  # fmt: skip
