"""The way of an etcd member to its peers: a relay on loopback that dials the peers' links.

It refuses every destination that is not the identity of a known peer, so nothing gets around the
links. It speaks SOCKS5 (RFC 1928: CONNECT to an IPv4 address, no login), which Go programs use
when HTTP_PROXY says so; each tunnel is a plain TCP connection to one peer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Mapping

from stacks.hospital.settings import Address

DIAL_S = 1.0
ASK_S = 2.0
UNANSWERED_MS = 10_000
"""A far end that answers nothing for so long is given up: a cut network sends no farewell."""
CHUNK_BYTES = 65_536
TCP_USER_TIMEOUT = 18  # of Linux; the socket module of some builds does not name it

VERSION, NO_LOGIN, CONNECT, IPV4 = 5, 0, 1, 1
DONE, NOT_ALLOWED, REFUSED, NOT_SUPPORTED = 0, 2, 5, 7


class NotSpoken(Exception):
    """The caller does not speak the part of SOCKS5 that etcd speaks."""


class Relay:
    """Listens on a free port of loopback from its making until the process ends."""

    def __init__(self, links: Mapping[Address, Address]) -> None:
        self._links = dict(links)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = Address(*self._listener.getsockname())
        threading.Thread(target=self._accept, name="etcd-relay", daemon=True).start()

    def close(self) -> None:
        """Accept nobody any more; open tunnels end with their ends."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(near,), daemon=True).start()

    def _tunnel(self, near: socket.socket) -> None:
        far: socket.socket | None = None
        with near, contextlib.suppress(OSError, NotSpoken):
            near.settimeout(ASK_S)
            status, far = self._dial(_destination(near))
            near.sendall(struct.pack("!BBBB4sH", VERSION, status, 0, IPV4, b"\0" * 4, 0))
            if far is not None:
                with far:
                    _both_ways(near, far)

    def _dial(self, identity: Address | None) -> tuple[int, socket.socket | None]:
        if identity is None:
            return NOT_SUPPORTED, None
        link = self._links.get(identity)
        if link is None:
            return NOT_ALLOWED, None
        try:
            far = socket.create_connection(link, timeout=DIAL_S)
        except OSError:
            return REFUSED, None
        far.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, UNANSWERED_MS)
        return DONE, far


def _destination(near: socket.socket) -> Address | None:
    """Whom the caller wants; None where it asks for something that is not served here."""
    if _exactly(near, 1)[0] != VERSION:
        raise NotSpoken
    if NO_LOGIN not in _exactly(near, _exactly(near, 1)[0]):
        raise NotSpoken
    near.sendall(bytes((VERSION, NO_LOGIN)))
    version, asked, _, kind = _exactly(near, 4)
    if version != VERSION:
        raise NotSpoken
    if asked != CONNECT or kind != IPV4:
        return None
    host, port = socket.inet_ntoa(_exactly(near, 4)), int.from_bytes(_exactly(near, 2), "big")
    return Address(host, port)


def _exactly(near: socket.socket, count: int) -> bytes:
    taken = b""
    while len(taken) < count:
        more = near.recv(count - len(taken))
        if not more:
            raise NotSpoken
        taken += more
    return taken


def _both_ways(near: socket.socket, far: socket.socket) -> None:
    """Carry bytes until either end has closed, then end both: etcd's peers never half-close."""
    for end in (near, far):
        end.settimeout(None)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    back = threading.Thread(target=_carry, args=(far, near), daemon=True)
    back.start()
    _carry(near, far)
    back.join()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(CHUNK_BYTES):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
