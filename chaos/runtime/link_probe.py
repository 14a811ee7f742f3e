"""Looks through a link's proxy with one real connection, to see what a caller would meet.

It asks only what any server of that protocol answers without a session, and changes nothing there.
"""

from __future__ import annotations

import socket
import struct
import time

from chaos.runtime import Address, LinkLook, Outcome

QUESTIONS = {
    "http": b"GET / HTTP/1.0\r\nHost: probe\r\nUser-Agent: hospital-chaos\r\n\r\n",
    "postgres": struct.pack("!ii", 8, 80877103),  # SSLRequest: answered by one byte, S or N
}
POKE = b"\r"
PADDING_LINE = 2000  # bytes of one header line; servers bound them at 4 KiB and more
PADDING_NAME = len(b"X-Padding: \r\n")
QUIET_S = 0.03  # where nothing can be asked: a connection that stays open so long is open


def look(
    address: Address,
    protocol: str,
    within_s: float,
    poke: bool = False,
    padding: int = 0,
    to_end: bool = False,
) -> LinkLook:
    """Connect, ask (http, postgres) or only listen (mllp, dicom, tcp), and time the first byte.

    `padding`: an http question is that many bytes longer. `to_end`: then wait for the close.
    """
    began = time.monotonic()
    question = QUESTIONS.get(protocol, POKE if poke else b"")
    if padding and protocol == "http":
        question = _padded(question, padding)
    asked = protocol in QUESTIONS
    outcome: Outcome
    answered_ms = close_ms = -1.0
    try:
        wire = socket.create_connection((address.host, address.port), within_s)
    except OSError:
        return LinkLook("refused", (time.monotonic() - began) * 1e3, asked)
    try:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if question:
            wire.sendall(question)
        wait_s = within_s if question else min(QUIET_S, within_s)
        wire.settimeout(max(0.001, wait_s - (time.monotonic() - began)))
        outcome = "answered" if wire.recv(1) else "closed"
        answered_ms = (time.monotonic() - began) * 1e3
        if to_end and outcome == "answered":
            close_ms = _close_ms(wire, began + within_s)
    except TimeoutError:
        outcome = "silent"
    except OSError:
        outcome = "reset"
    finally:
        wire.close()
    ms = answered_ms if answered_ms >= 0 else (time.monotonic() - began) * 1e3
    return LinkLook(outcome, ms, asked, close_ms)


def _padded(question: bytes, padding: int) -> bytes:
    """The question with `padding` more bytes, in header lines that nobody reads."""
    lines = b"".join(
        b"X-Padding: %b\r\n" % (b"p" * max(0, min(PADDING_LINE, padding - at) - PADDING_NAME))
        for at in range(0, padding, PADDING_LINE)
    )
    return question[:-2] + lines + b"\r\n"


def _close_ms(wire: socket.socket, deadline: float) -> float:
    """How long after its last byte the other side closed; -1 when it did not by then."""
    last = time.monotonic()
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            wire.settimeout(left_s)
            if not wire.recv(65536):
                return (time.monotonic() - last) * 1e3
            last = time.monotonic()
    except OSError:
        pass
    return -1.0
