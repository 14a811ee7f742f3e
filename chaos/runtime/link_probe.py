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
QUIET_S = 0.03  # where nothing can be asked: a connection that stays open so long is open


def look(address: Address, protocol: str, within_s: float, poke: bool = False) -> LinkLook:
    """Connect, ask (http, postgres) or only listen (mllp, dicom, tcp), and time the first byte."""
    began = time.monotonic()
    question = QUESTIONS.get(protocol, POKE if poke else b"")
    asked = protocol in QUESTIONS
    outcome: Outcome
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
    except TimeoutError:
        outcome = "silent"
    except OSError:
        outcome = "reset"
    finally:
        wire.close()
    return LinkLook(outcome, (time.monotonic() - began) * 1e3, asked)
