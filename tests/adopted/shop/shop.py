"""A shop's price service: answers GET /price from Redis; with KEEP=1 from memory when it must.

A stranger to the harness: plain HTTP in front, plain Redis behind, found by its service name.
"""

from __future__ import annotations

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STORE = ("store", 6379)
ASK_S = 0.8
KEEP = os.environ.get("KEEP") == "1"
last = b""


def price() -> bytes:
    """Ask Redis; a first question puts the price there."""
    with socket.create_connection(STORE, ASK_S) as wire:
        wire.settimeout(ASK_S)
        wire.sendall(b"SET price 42 NX\r\nGET price\r\n")
        answer = b""
        while answer.count(b"\r\n") < 3:
            piece = wire.recv(100)
            if not piece:
                raise ConnectionError("the store closed the connection")
            answer += piece
    return answer.split(b"\r\n")[-2]


class Shop(BaseHTTPRequestHandler):
    """One request, one question to the store."""

    def do_GET(self) -> None:
        """/health: whether we live. Anything else: the price."""
        global last
        status, body = 200, b"{}"
        if self.path != "/health":
            try:
                body = last = price()
            except OSError as error:
                status, body = (200, last) if KEEP and last else (503, str(error).encode())
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", 80), Shop).serve_forever()
