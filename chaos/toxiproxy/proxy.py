"""A proxy: one listening address, one upstream, its toxics and its open links.

It refuses half changes: a new address is bound before the old one is given up, so a change that
fails leaves the proxy as it was.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from chaos.toxiproxy.address import (
    BadAddress,
    SocketAddress,
    bound,
    is_wildcard,
    join,
    split,
)
from chaos.toxiproxy.closers import Closers
from chaos.toxiproxy.errors import ApiError
from chaos.toxiproxy.link import Link
from chaos.toxiproxy.listener import Listener
from chaos.toxiproxy.resolver import UnknownHost
from chaos.toxiproxy.site import Site, Traffic
from chaos.toxiproxy.stream import Stream
from chaos.toxiproxy.toxic import DOWNSTREAM, UPSTREAM, NamedToxic

MAX_PAST = 32  # toxics that are gone whose record is kept
RETRY_MS = 250  # between attempts to enable a proxy again whose address is taken


class Proxy:
    """Relays connections from `listen` to `upstream` while it is enabled."""

    def __init__(self, site: Site, name: str, listen: str, upstream: str) -> None:
        self.site = site
        self.loop = site.loop
        self.resolver = site.resolver
        self.random = site.random
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.toxics: list[NamedToxic] = []
        self.links: set[Link] = set()
        self.traffic = Traffic()
        self._listener: Listener | None = None
        self._reserved: socket.socket | None = None  # bound, not listening: until the expiry
        self.closers = Closers(self.loop, self._nobody_keeps_it_closed)
        self._past: dict[str, NamedToxic] = {}  # that spoke a protocol and are gone, by name

    @property
    def enabled(self) -> bool:
        return self._listener is not None

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        order = {UPSTREAM: 0, DOWNSTREAM: 1}
        toxics = sorted(self.toxics, key=lambda toxic: order[toxic.direction])
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            "toxics": [toxic.shown() for toxic in toxics],
            **({"closed_by": self.closers.names} if any(self.closers.names) else {}),
        }

    # ------------------------------------------------------------------ on and off

    def differs(self, listen: str, upstream: str) -> bool:
        """True if these are other addresses than the present ones; raises ApiError 500."""
        return (self._resolved(listen, ""), upstream) != (self.listen, self.upstream)

    def _resolved(self, listen: str, prefix: str) -> str:
        try:
            return join(*self.site.listen_rule.resolve(listen))
        except (BadAddress, UnknownHost) as error:
            raise ApiError(500, f"{prefix}{error}") from None

    def start(self) -> None:
        """Listen; raises ApiError 500 when that is not possible. No-op when enabled."""
        if self._listener is None:
            self._adopt(self._bind(self.listen))

    def update(self, listen: str, upstream: str, *, enabled: bool) -> None:
        """Take over new values, all or none; open links close when an address changes."""
        if not self.differs(listen, upstream):
            if enabled:
                self.start()
            elif self.enabled:
                self.stop()
            return
        if enabled:
            moved = not self.enabled or self._resolved(listen, "") != self.listen
            listener = self._bind(listen) if moved else None
            self._close_links()
            if listener is not None:
                self._drop_listener()
                self._adopt(listener)
        else:
            self.stop()
            self.listen = listen
        self.upstream = upstream

    def _bind(self, listen: str) -> socket.socket:
        """A listening socket; steps aside itself if it holds the very port in another form."""
        try:
            address = self.site.listen_rule.resolve(listen)
            return self._take_reserved(address) or bound(address)
        except (BadAddress, UnknownHost) as error:
            if ": bind: " not in str(error):
                raise ApiError(500, f"listen tcp: {error}") from None
            if not self._holds_port_of(listen):
                raise ApiError(500, f"listen tcp {error}") from None
        own = self.site.listen_rule.resolve(self.listen)
        self._drop_listener()
        try:
            return bound(address)
        except BadAddress as error:
            self._adopt(bound(own))
            raise ApiError(500, f"listen tcp {error}") from None

    def _holds_port_of(self, listen: str) -> bool:
        if self._listener is None:
            return False
        try:
            return split(listen)[1] == split(self._listener.name)[1]
        except BadAddress:
            return False

    def makes_room_for(self, listen: str) -> bool:
        """Stop if this proxy itself holds the port that another address wants."""
        if not self._holds_port_of(listen):
            return False
        self.stop()
        return True

    def _take_reserved(self, address: SocketAddress) -> socket.socket | None:
        reserved, self._reserved = self._reserved, None
        if reserved is None:
            return None
        if reserved.getsockname()[:2] == address:
            try:
                reserved.listen()
                return reserved
            except OSError:
                pass  # bind it anew and say why not
        reserved.close()
        return None

    def _adopt(self, sock: socket.socket) -> None:
        self._drop_reservation()
        self.closers.clear()
        self._listener = Listener(self.loop, sock, self._accept)
        self.listen = self._listener.name

    def stop(self) -> None:
        """Stop listening and close every link; the toxics stay."""
        self._drop_listener()
        self._drop_reservation()
        self._close_links()

    def remove(self) -> None:
        """Stop for good."""
        self.closers.clear()
        self.stop()
        for toxic in self.toxics:
            if toxic.expiry is not None:
                toxic.expiry.cancel()

    def _drop_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _drop_reservation(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _close_links(self) -> None:
        for link in tuple(self.links):
            link.close()

    # ------------------------------------------------------------------ closed for a while

    def close_for(self, name: str, delay_ms: int | None) -> None:
        """Stay closed until `name` lets go, `delay_ms` at most; keeps the port for itself."""
        self.closers.add(name, delay_ms)
        if self._listener is not None:
            self.stop()
        if delay_ms is not None:
            self._reserve()

    def open_for(self, name: str) -> None:
        """`name` lets go: open, unless another keeps it closed; raises ApiError 500."""
        self.closers.drop(name)
        if not self.closers.names:
            self.start()

    def _reserve(self) -> None:
        if self._reserved is None and not is_wildcard(self.listen.rpartition(":")[0].strip("[]")):
            try:
                address = self.site.listen_rule.resolve(self.listen)
                self._reserved = bound(address, listening=False) if address[1] else None
            except Exception:
                self._reserved = None  # not resolvable or taken: bound when it expires

    def _nobody_keeps_it_closed(self) -> None:
        try:
            self.start()
        except Exception:  # the port is taken, or the name is not known now: keep trying
            self.closers.add("", RETRY_MS)

    # ------------------------------------------------------------------ connections

    def _accept(self, client: socket.socket) -> None:
        if self.site.seats.take():
            link = Link(self, client)
            self.links.add(link)
            link.connect()
        else:
            client.close()

    def leave(self, link: Link) -> None:
        """The link is closed."""
        if link in self.links:
            self.links.discard(link)
            self.site.seats.give()

    def upstream_addresses(self) -> list[SocketAddress]:
        """Where to dial; raises Pending, or UnknownHost for an address that cannot be dialled."""
        try:
            host, port = split(self.upstream)
        except BadAddress as error:
            raise UnknownHost(error.text) from None
        if not port:
            raise UnknownHost(f"{self.upstream}: no port")
        return [(ip, port) for ip in self.resolver.addresses(host or "127.0.0.1")]

    def count(self, direction: str, received: int, sent: int) -> None:
        """Add the bytes of a stream that ended."""
        self.traffic.received[direction] += received
        self.traffic.sent[direction] += sent

    # ------------------------------------------------------------------ toxics

    def find(self, name: str) -> NamedToxic | None:
        """The toxic of this name, in either stream."""
        return next((toxic for toxic in self.toxics if toxic.name == name), None)

    def add(self, toxic: NamedToxic) -> None:
        """Put a toxic at the end of its stream's chain, on open links too."""
        self.toxics.append(toxic)
        for link in tuple(self.links):
            if link.connected:
                link.add(toxic)

    def changed(self, toxic: NamedToxic) -> None:
        """The toxic has new attributes or toxicity: open links take them over."""
        self._each_stream(toxic, lambda stream: stream.change(toxic))

    def drop(self, toxic: NamedToxic) -> None:
        """Remove a toxic, on open links too."""
        if toxic not in self.toxics:
            return  # it expired and was deleted in one turn of the loop
        self.toxics.remove(toxic)
        if toxic.expiry is not None:
            toxic.expiry.cancel()
        if toxic.speaks:
            toxic.record.close()
            self._past.pop(toxic.name, None)
            self._past[toxic.name] = toxic
            while len(self._past) > MAX_PAST:
                del self._past[next(iter(self._past))]
        self._each_stream(toxic, lambda stream: stream.remove(toxic))

    def records(self) -> dict[str, Any]:
        """What the toxics that speak protocols did: those that are here, and the latest gone."""
        here = {toxic.name: toxic for toxic in self.toxics if toxic.speaks}
        return {name: toxic.record.shown() for name, toxic in {**self._past, **here}.items()}

    def _each_stream(self, toxic: NamedToxic, change: Callable[[Stream], None]) -> None:
        for link in tuple(self.links):
            if link.connected:
                for direction in toxic.directions:
                    if link.connected:  # the first may have closed it
                        change(link.stream(direction))
