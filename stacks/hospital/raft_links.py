"""Makes Patroni's Raft (pysyncobj) call its peers through the links, with timers for a hospital.

It refuses to change identities: every node goes on naming every other by the same address. And it
refuses to live on without a vote: a node whose Raft has ended (a full disk took no vote) ends as
if it was told to, and begins anew when its disk takes writes again.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_inet_ntop = socket.inet_ntop

import patroni.dcs.raft  # noqa: E402  first: it puts its own `ip` on TCPNode when imported

# pysyncobj 0.3.17 puts a function for Windows in the place of this one, on every system.
socket.inet_ntop = _inet_ntop

from pysyncobj.dns_resolver import globalDnsResolver  # noqa: E402
from pysyncobj.node import TCPNode  # noqa: E402

from stacks.hospital import raft_journal  # noqa: E402
from stacks.hospital.log import Log  # noqa: E402
from stacks.hospital.settings import Address  # noqa: E402

CONNECT_RETRY_S = 0.5
LEADER_SILENT_MIN_S = 0.8
LEADER_SILENT_MAX_S = 1.4
LEADER_ALONE_S = 5.0
DISK_LOOK_S, DISK_WAIT_S = 0.5, 900.0
"""A node without a vote looks so often, and so long, whether its disk takes writes again."""
EXIT_UNAVAILABLE = 69

_identity_port = TCPNode.port


class VotesUnreadable(RuntimeError):
    """The member cannot begin; the text says why and what to do."""


def prepare(data_dir: Path, peers: Mapping[str, tuple[Address, Address]], log: Log) -> None:
    """Everything that Patroni's Raft needs before it starts: its folder, a journal that it can
    read, the ways, the timers. Raises VotesUnreadable."""
    folder = data_dir / "raft"
    try:
        folder.mkdir(exist_ok=True)
        for journal in folder.glob("*.journal"):
            if cut := raft_journal.mend(journal):
                log.warn("raft_journal_cut", bytes=cut, file=journal.name)
    except OSError as error:
        raise VotesUnreadable(f"its votes cannot be read: {error}; look at its disk") from None
    route(peers)
    quicken()
    _end_with_the_votes()


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


_VOTELESS = threading.Event()


def _end_with_the_votes() -> None:
    """When pysyncobj's thread ends by an error, ask this process to end: PostgreSQL is stopped in
    order. pysyncobj itself says nothing, and its node would stay a stranger for ever."""
    ticks = patroni.dcs.raft.KVStoreTTL._autoTickThread

    def until_it_ends(votes: Any) -> None:
        try:
            ticks(votes)
        except Exception:
            _VOTELESS.set()
            os.kill(os.getpid(), signal.SIGTERM)
            raise

    patroni.dcs.raft.KVStoreTTL._autoTickThread = until_it_ends


@contextmanager
def voting(data_dir: Path) -> Iterator[None]:
    """Around the node's work: when it ended for want of a vote, this process begins anew as soon
    as its disk takes writes; ends with a status when that is not within DISK_WAIT_S."""
    try:
        yield
    finally:
        if _VOTELESS.is_set():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # from now on nothing needs an order
            _await_disk(data_dir / "raft")
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _await_disk(folder: Path) -> None:
    until, probe = time.monotonic() + DISK_WAIT_S, folder / "probe"
    while time.monotonic() < until:
        try:
            with probe.open("wb") as file:
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
            probe.unlink()
            return
        except OSError:
            time.sleep(DISK_LOOK_S)
    print(f"{folder} takes no votes for {DISK_WAIT_S:.0f} s; look at the disk", file=sys.stderr)
    raise SystemExit(EXIT_UNAVAILABLE)
