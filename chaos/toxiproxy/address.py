"""Reads `host:port` as the reference does and says where to listen or dial.

It never looks a name up itself: an unknown name raises `Pending`, the caller asks the resolver
and comes back. It refuses to listen on all interfaces unless the server was told to.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass

from chaos.toxiproxy.errors import ApiError
from chaos.toxiproxy.resolver import Resolver

SocketAddress = tuple[str, int]
MAX_PORT = 65_535
LISTEN_BACKLOG = 4096


class BadAddress(Exception):
    """An address that cannot be used; `text` is worded as the reference words it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def split(address: str) -> SocketAddress:
    """`host:port` to (host, port); the port may be a service name or empty (0)."""
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        raise BadAddress(f"address {address}: missing port in address")
    if host.startswith("["):
        if not host.endswith("]"):
            raise BadAddress(f"address {address}: missing ']' in address")
        host = host[1:-1]
    elif ":" in host:
        raise BadAddress(f"address {address}: too many colons in address")
    return host, _port(port)


def _port(text: str) -> int:
    if text.isascii() and text.removeprefix("-").isdigit():
        if text.startswith("-") or len(text) > len("65535") or int(text) > MAX_PORT:
            raise BadAddress(f"address {text}: invalid port")
        return int(text)
    if not text:
        return 0
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, UnicodeError, ValueError):
        raise BadAddress(f"lookup tcp/{text}: unknown port") from None


def join(host: str, port: int) -> str:
    """(host, port) as text, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_wildcard(host: str) -> bool:
    """True if listening on `host` means all interfaces."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0] or "::")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(address.is_unspecified or (mapped is not None and mapped.is_unspecified))


@dataclass(frozen=True)
class ListenRule:
    """Where this server may listen."""

    resolver: Resolver
    all_interfaces: bool = False

    def resolve(self, address: str) -> SocketAddress:
        """The IP address and port behind a listen text.

        Raises BadAddress, Pending (a name to look up first), ApiError 400 for all interfaces.
        """
        host, port = split(address) if address else ("", 0)
        ip = self.resolver.addresses(host)[0] if host else "::"
        if is_wildcard(ip):
            if not self.all_interfaces:
                raise ApiError(
                    400,
                    f"listen {address!r} means all interfaces: give a host (127.0.0.1:0), "
                    "or start the server with --allow-all-interfaces",
                )
            ip = "::" if socket.has_ipv6 else "0.0.0.0"
        return ip, port


def bound(address: SocketAddress, *, listening: bool = True) -> socket.socket:
    """A non-blocking socket bound to `address`; raises BadAddress when the system refuses."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        if host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        if listening:
            sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise BadAddress(f"{join(host, port)}: bind: {why}") from None
    return sock


def name_of(sock: socket.socket) -> str:
    """The address that a socket is really bound to."""
    host, port = sock.getsockname()[:2]
    return join(host, port)
