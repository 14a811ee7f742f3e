"""What runtimes whose links go over Toxiproxy servers have in common, as functions they take over.

It holds no state: every answer is asked of the link's proxy server now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from chaos import reaper
from chaos.runtime import Address, LinkLook, RuntimeFailure, Step, Toxic, ToxicRecord
from chaos.runtime.link_probe import look
from chaos.stack import Stack
from chaos.toxiproxy.client import ToxicValue, Toxiproxy, ToxiproxyError


class OverProxies(Protocol):
    """What such a runtime brings itself."""

    stack: Stack

    def address(self, service: str, port: str) -> Address:
        """Where the service itself listens."""

    def link_address(self, link: str) -> Address:
        """Where the link's proxy listens."""

    def proxy_api(self, link: str) -> Address:
        """The API of the server that holds the link's proxy."""


def client(api: Address) -> Toxiproxy:
    """Bounded client of one proxy server."""
    return Toxiproxy(api.host, api.port, reaper.ask)


def add_toxic(self: OverProxies, link: str, toxic: Toxic, expires_s: float) -> None:
    """Put a toxic on the link's proxy."""
    value = ToxicValue(toxic.name, toxic.type, dict(toxic.attributes), toxic.stream, toxic.toxicity)
    with _told(self, link) as proxies:
        proxies.add_toxic(link, value, expires_s)


def toxics(self: OverProxies, link: str) -> tuple[str, ...]:
    """Names of the toxics on the link's proxy, asked now."""
    with _told(self, link) as proxies:
        return tuple(toxic.name for toxic in proxies.toxics(link))


def toxic_kinds(self: OverProxies) -> tuple[str, ...]:
    """What the stack's proxy servers know, asked now; () where there is no link."""
    if not self.stack.links:
        return ()
    with _told(self, self.stack.links[0].name) as proxies:
        return proxies.kinds()


def toxic_record(self: OverProxies, link: str, name: str) -> ToxicRecord | None:
    """As the link's proxy keeps it, asked now."""
    with _told(self, link) as proxies:
        found = proxies.records(link).get(name)
    return None if found is None else _record(found)


def set_link(
    self: OverProxies, link: str, enabled: bool, expires_s: float = 0.0, by: str = ""
) -> None:
    """Close or open the link's proxy."""
    with _told(self, link) as proxies:
        proxies.set_enabled(link, enabled, expires_s, by)


def link_closed_by(self: OverProxies, link: str) -> tuple[str, ...]:
    """As the link's proxy says, asked now; '' stands for a caller without a name."""
    with _told(self, link) as proxies:
        proxy = proxies.proxy(link)
    return () if proxy.enabled else proxy.closed_by or ("",)


def link_enabled(self: OverProxies, link: str) -> bool:
    """Whether the link's proxy says that it is open, asked now."""
    with _told(self, link) as proxies:
        return proxies.proxy(link).enabled


def look_at_link(
    self: OverProxies,
    link: str,
    within_s: float,
    poke: bool = False,
    padding: int = 0,
    to_end: bool = False,
) -> LinkLook:
    """One real connection through the link's proxy."""
    k = self.stack.link(link)
    protocol = self.stack.service(k.target).port(k.port).protocol
    return look(self.link_address(link), protocol, within_s, poke, padding, to_end)


def undo_toxics(self: OverProxies, link: str, names: tuple[str, ...]) -> tuple[Step, ...]:
    """Remove these toxics; the last resort recreates the proxy."""
    return ({"do": "clear_toxics", "toxics": list(names), **_step(self, link)},)


def undo_set_link(self: OverProxies, link: str, by: str = "") -> tuple[Step, ...]:
    """Open the link's proxy, or let go of it; the last resort recreates it."""
    named = {"by": by} if by else {}
    return ({"do": "open_proxy", **named, **_step(self, link)},)


@contextmanager
def _told(self: OverProxies, link: str) -> Iterator[Toxiproxy]:
    self.stack.link(link)
    try:
        yield client(self.proxy_api(link))
    except ToxiproxyError as error:
        raise RuntimeFailure(str(error)) from error


def _step(self: OverProxies, link: str) -> dict[str, object]:
    k = self.stack.link(link)
    api = self.proxy_api(link)
    return {
        "api": [api.host, api.port],
        "proxy": k.name,
        "listen": str(self.link_address(link)),
        "upstream": str(self.address(k.target, k.port)),
    }


def _record(shown: Mapping[str, Any]) -> ToxicRecord:
    """A record as the embedded proxy's API shows it."""
    counts = ("seen", "acted", "answered", "again", "moved_on", "closed", "unread")
    latest = tuple(_words(act) for act in shown.get("acts") or ())
    return ToxicRecord(**{name: int(shown.get(name, 0)) for name in counts}, latest=latest)


def _words(act: Mapping[str, Any]) -> str:
    answer = f"answered {act['answer']}" if act["answer"] else "not answered by the receiver"
    return f"{act['of']} ({answer}), then {' and '.join(act['then']) or 'nothing yet'}"
