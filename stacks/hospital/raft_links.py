"""Makes Patroni's Raft (pysyncobj) call its peers through the links, with timers for a hospital.

It refuses to change identities: every node goes on naming every other by the same address.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Mapping
from typing import Any

_inet_ntop = socket.inet_ntop

import patroni.dcs.raft  # noqa: E402  first: it puts its own `ip` on TCPNode when imported

# pysyncobj 0.3.17 puts a function for Windows in the place of this one, on every system.
socket.inet_ntop = _inet_ntop

from pysyncobj.dns_resolver import globalDnsResolver  # noqa: E402
from pysyncobj.node import TCPNode  # noqa: E402

from stacks.hospital.settings import Address  # noqa: E402

CONNECT_RETRY_S = 0.5
LEADER_SILENT_MIN_S = 0.8
LEADER_SILENT_MAX_S = 1.4
LEADER_ALONE_S = 5.0

_identity_port = TCPNode.port


def route(peers: Mapping[str, tuple[Address, Address]]) -> None:
    """From now on, pysyncobj dials each peer's link instead of its identity.

    pysyncobj knows one address per node and uses it both to name the node and to dial it. Here
    the name must be equal on all nodes while each node dials through its own proxy, so that a
    cut between two rooms cuts the votes as well. It dials `node.ip`, `node.port` in exactly two
    places and uses these for nothing else (names are `node.address`), so those two are replaced.
    Of each pair only the node with the greater address dials: that one's link carries both ways.
    """
    links = {str(identity): link for identity, link in peers.values()}

    def ip(peer: Any) -> str | None:
        link = links.get(peer.address)
        resolved: str | None = globalDnsResolver().resolve(link.host if link else peer.host)
        return resolved

    def port(peer: Any) -> int:
        link = links.get(peer.address)
        number: int = link.port if link else _identity_port.fget(peer)
        return number

    TCPNode.ip = property(ip)
    TCPNode.port = property(port)


def quicken() -> None:
    """Give pysyncobj the timers that Patroni has no setting for.

    A peer is dialled again after half a second instead of five (a cold start would wait for it),
    and a raft leader without majority steps down after 5 s instead of 30, well within the ttl.
    """
    patroni.dcs.raft.SyncObjConf = functools.partial(
        patroni.dcs.raft.SyncObjConf,
        connectionRetryTime=CONNECT_RETRY_S,
        raftMinTimeout=LEADER_SILENT_MIN_S,
        raftMaxTimeout=LEADER_SILENT_MAX_S,
        leaderFallbackTimeout=LEADER_ALONE_S,
    )
