"""Asks a service for its health, directly and within a bound.

It believes what the service answers now and remembers nothing.
"""

from __future__ import annotations

import json
import socket

from chaos import reaper
from chaos.runtime import Address, Health

ASK_S = 2.0
KNOWN = ("ready", "degraded", "starting", "stopping")


def ask_health(address: Address, path: str, bound_s: float = ASK_S) -> Health:
    """What the service says of itself; `silent` when it says nothing within the bound.

    Without a `path` there is nothing to ask: it is ready when it accepts a connection.
    """
    if not path:
        return _accepts(address, bound_s)
    try:
        status, content = reaper.ask(address.host, address.port, "GET", path, None, bound_s)
    except reaper.Silent as error:
        return Health("silent", str(error))
    said = _object(content)
    word = str(said.get("status", ""))
    if status == 200:
        return Health(word if word in KNOWN else "ready", _reason(said))
    reason = _reason(said) or f"HTTP {status} on {path}"
    return Health(word if word in KNOWN[1:] else "starting", reason)


def _accepts(address: Address, bound_s: float) -> Health:
    try:
        socket.create_connection((address.host, address.port), bound_s).close()
    except OSError as error:
        return Health("silent", f"{address}: {error}")
    return Health("ready")


def _object(content: bytes) -> dict[str, object]:
    try:
        data = json.loads(content)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _reason(said: dict[str, object]) -> str:
    if reason := said.get("reason"):
        return str(reason)
    checks = said.get("checks")
    bad = [
        f"{name}: {check.get('reason', 'not ok')}"
        for name, check in (checks.items() if isinstance(checks, dict) else ())
        if isinstance(check, dict) and not check.get("ok", True)
    ]
    return "; ".join(bad)
