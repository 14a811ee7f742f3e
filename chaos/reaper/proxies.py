"""Heals the proxies of links over the Toxiproxy HTTP API: toxics off, open, else created anew.

It believes no answer that it has not read back, and waits for none beyond its bound.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from urllib.parse import quote

from .asking import Silent, ask, ask_engine
from .patience import patient
from .step import Step, StepFailed

OPEN_S = 0.5  # one connection to a port

Ask = Callable[[Step, str, str], tuple[int, bytes]]


def clear_toxics(step: Step) -> str:
    """Remove named toxics from a proxy and read back; else delete and recreate the proxy.

    A step may name the container of the proxy server (`gateway`) and its `engine`: where that does
    not run there is nothing to heal, and nobody is asked who may have its address by now.
    """
    if _server_is_gone(step):
        return "the proxy server is gone, and its toxics with it"
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

    A step that says `by` lets go only for that one: another may keep the proxy closed. For
    `gateway` see `clear_toxics`.
    """
    if _server_is_gone(step):
        return "the proxy server is gone, there is nothing to open"
    host, port = step["api"]
    base = "/proxies/" + quote(str(step["proxy"]), safe="")
    try:
        by = {"by": str(step["by"])} if step.get("by") else {}
        status, content = ask(host, port, "POST", base, {"enabled": True, **by})
        others = json.loads(content).get("closed_by") if status == 200 else None
        if by and others and by["by"] not in others:
            return "let go; another fault keeps it closed"
        if status == 200 and _listens(step):
            return "open"
    except Silent as error:
        if error.refused:
            return "the proxy server is gone, there is nothing to open"
    except (ValueError, AttributeError, TypeError):
        pass  # it answered something else: recreate the proxy
    return recreate_proxy(step)


def recreate_proxy(step: Step) -> str:
    """The last rung: delete the proxy and create it anew, without any toxic, and see it listen."""
    if _server_is_gone(step, patient):
        return "the proxy server is gone"
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
        if status == 200 and not seen["toxics"] and _listens(step):
            return "deleted and recreated the proxy"
    except (Silent, ValueError, KeyError, TypeError) as error:
        raise StepFailed(f"proxy {name} could not be healed: {error}") from error
    raise StepFailed(f"proxy {name} was recreated but does not listen clean on {step['listen']}")


def _server_is_gone(step: Step, ask_so: Ask | None = None) -> bool:
    """Whether the engine says that the proxy server's container (`gateway`) does not run: where
    its address was, nobody is left to refuse a connection."""
    if not step.get("gateway"):
        return False
    path = f"/containers/{quote(str(step['gateway']), safe='')}/json"
    try:
        status, text = (ask_so or _ask_at_once)(step, "GET", path)
        return status == 404 or (status == 200 and not json.loads(text)["State"]["Running"])
    except (Silent, ValueError, KeyError, TypeError):
        return False


def _ask_at_once(step: Step, method: str, path: str) -> tuple[int, bytes]:
    return ask_engine(str(step["engine"]), method, path)


def _listens(step: Step) -> bool:
    """`reach` is where a proxy that listens on every address can be found."""
    host, _, port = str(step.get("reach") or step["listen"]).rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), OPEN_S).close()
    except OSError:
        return False
    return True
