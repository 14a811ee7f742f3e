"""Asks an HTTP server one question within a bound, over TCP or a Unix socket.

It follows nothing, keeps no connection, and believes no answer that is not HTTP.
"""

from __future__ import annotations

import json
import socket
import time

CALL_S = 1.0  # one call, unless the caller says otherwise
MOST_BYTES = 64 << 20  # longest answer that is read: a service's log


class Silent(OSError):
    """A server did not answer (properly) within its bound; `refused` when nothing listens."""

    def __init__(self, text: str, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


def ask(
    host: str, port: int, method: str, path: str, body: object = None, bound_s: float = CALL_S
) -> tuple[int, bytes]:
    """One HTTP call that ends within `bound_s` seconds, whatever the server does.

    Returns status and body; raises Silent. HTTP/1.0, so that no answer comes in chunks.
    """
    return _call((host, port), f"{host}:{port}", method, path, body, bound_s)


def ask_engine(
    engine: str, method: str, path: str, body: object = None, bound_s: float = CALL_S
) -> tuple[int, bytes]:
    """The same over the Unix socket `engine`, where a container engine listens."""
    return _call(engine, "engine", method, path, body, bound_s)


def _call(
    where: str | tuple[str, int], host: str, method: str, path: str, body: object, bound_s: float
) -> tuple[int, bytes]:
    deadline = time.monotonic() + bound_s
    text = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: hospital-chaos\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        "Connection: close\r\n\r\n"
    )
    what = f"{method} {where if isinstance(where, str) else 'http://' + host}{path}"
    try:
        with _connected(where, bound_s) as wire:
            wire.settimeout(max(0.001, deadline - time.monotonic()))
            wire.sendall(head.encode() + text)
            answer = _read_answer(wire, deadline)
        top, _, content = answer.partition(b"\r\n\r\n")
        return int(top.split(None, 2)[1]), content
    except ConnectionRefusedError as error:
        raise Silent(f"{what}: nothing listens there", refused=True) from error
    except OSError as error:
        raise Silent(f"{what}: {error or 'no answer'} (bound {bound_s:g} s)") from error
    except (IndexError, ValueError) as error:
        raise Silent(f"{what}: answered something that is not HTTP") from error


def _connected(where: str | tuple[str, int], bound_s: float) -> socket.socket:
    if not isinstance(where, str):
        return socket.create_connection(where, bound_s)
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        wire.settimeout(bound_s)
        wire.connect(where)
    except OSError:
        wire.close()
        raise
    return wire


def _read_answer(wire: socket.socket, deadline: float) -> bytes:
    answer = bytearray()
    wanted = MOST_BYTES
    while len(answer) < wanted:
        wire.settimeout(max(0.001, deadline - time.monotonic()))
        piece = wire.recv(65536)
        if not piece:
            break
        answer += piece
        head, gap, _ = answer.partition(b"\r\n\r\n")
        if gap and wanted == MOST_BYTES:  # servers that keep the connection open say how much
            for line in head.lower().split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name == b"content-length":
                    wanted = min(MOST_BYTES, len(head) + 4 + int(value))
    return bytes(answer)
