"""Heals the proxies of links over the Toxiproxy HTTP API: toxics off, open, else created anew.

It believes no answer that it has not read back, and waits for none beyond its bound.
"""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import quote

from .step import Step, StepFailed

CALL_S = 1.0  # one call to a proxy's API
OPEN_S = 0.5  # one connection to a port
MOST_BYTES = 8 << 20  # longest answer that is read from a proxy's API


class Silent(OSError):
    """An API did not answer (properly) within its bound; `refused` when nothing listens."""

    def __init__(self, text: str, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


def ask(
    host: str, port: int, method: str, path: str, body: object = None, bound_s: float = CALL_S
) -> tuple[int, bytes]:
    """One HTTP call that ends within `bound_s` seconds, whatever the server does.

    Returns status and body; raises Silent. HTTP/1.0, so that no answer comes in chunks.
    """
    deadline = time.monotonic() + bound_s
    text = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.0\r\nHost: {host}:{port}\r\nUser-Agent: hospital-chaos\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        "Connection: close\r\n\r\n"
    )
    what = f"{method} http://{host}:{port}{path}"
    try:
        with socket.create_connection((host, port), bound_s) as wire:
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


def clear_toxics(step: Step) -> str:
    """Remove named toxics from a proxy and read back; else delete and recreate the proxy."""
    host, port = step["api"]
    base = "/proxies/" + quote(str(step["proxy"]), safe="")
    names = {str(name) for name in step["toxics"]}
    try:
        for name in sorted(names):
            ask(host, port, "DELETE", f"{base}/toxics/{quote(name, safe='')}")
        status, content = ask(host, port, "GET", base)
        left = names if status != 200 else {t["name"] for t in json.loads(content)["toxics"]}
        if status == 200 and not names & left:
            return "removed"
    except Silent as error:
        if error.refused:
            return "the proxy server is gone, and its toxics with it"
    except (ValueError, KeyError, TypeError):
        pass
    return recreate_proxy(step)


def open_proxy(step: Step) -> str:
    """Open a closed proxy and see it listen; else delete and recreate it.

    A step that says `by` lets go only for that one: another may keep the proxy closed.
    """
    host, port = step["api"]
    base = "/proxies/" + quote(str(step["proxy"]), safe="")
    try:
        by = {"by": str(step["by"])} if step.get("by") else {}
        status, content = ask(host, port, "POST", base, {"enabled": True, **by})
        others = json.loads(content).get("closed_by") if status == 200 else None
        if by and others and by["by"] not in others:
            return "let go; another fault keeps it closed"
        if status == 200 and _listens(str(step["listen"])):
            return "open"
    except Silent as error:
        if error.refused:
            return "the proxy server is gone, there is nothing to open"
    except (ValueError, AttributeError, TypeError):
        pass  # it answered something else: recreate the proxy
    return recreate_proxy(step)


def recreate_proxy(step: Step) -> str:
    """The last rung: delete the proxy and create it anew, without any toxic, and see it listen."""
    host, port = step["api"]
    name = str(step["proxy"])
    base = "/proxies/" + quote(name, safe="")
    wanted = {"name": name, "listen": step["listen"], "upstream": step["upstream"], "enabled": True}
    try:
        ask(host, port, "DELETE", base)
        status, content = ask(host, port, "POST", "/proxies", wanted)
        if status not in (201, 409):
            text = content[:200].decode("utf-8", "replace").strip()
            raise StepFailed(f"proxy {name} could not be recreated: {status} {text}")
        status, content = ask(host, port, "GET", base)
        seen = json.loads(content)
        if status == 200 and not seen["toxics"] and _listens(str(step["listen"])):
            return "deleted and recreated the proxy"
    except (Silent, ValueError, KeyError, TypeError) as error:
        raise StepFailed(f"proxy {name} could not be healed: {error}") from error
    raise StepFailed(f"proxy {name} was recreated but does not listen clean on {step['listen']}")


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), OPEN_S).close()
    except OSError:
        return False
    return True
