"""One socket of a link. It reads nothing itself: it tells its streams what is possible now."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from chaos.toxiproxy.loop import GONE, INCOMING, OUTGOING

if TYPE_CHECKING:
    from chaos.toxiproxy.link import Link
    from chaos.toxiproxy.stream import Stream


class End:
    """A socket: what it brings is `inbound`, what goes to it is `outbound`."""

    __slots__ = ("fd", "finished", "inbound", "link", "outbound", "readable", "sock")

    inbound: Stream
    outbound: Stream

    def __init__(self, sock: socket.socket, link: Link) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.link = link
        self.readable = False
        self.finished = False  # the peer has shut its side: read until the end

    def ready(self, events: int) -> None:
        outbound = self.outbound
        if events & (INCOMING | GONE):
            self.readable = True
            if events & GONE:
                self.finished = True
            self.inbound.pump()
        if events & OUTGOING and outbound.blocked:
            outbound.blocked = False
            outbound.pump()

    def abort(self) -> None:
        self.link.close()
