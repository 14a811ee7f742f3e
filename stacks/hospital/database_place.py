"""One database node's own place, derived from its environment: names, folders, addresses.

It refuses to guess: a missing address is one clear SettingsError.

With two members, the only one that calls a member over the network is the other, so each
advertises the address through which that other reaches it (its link's proxy): a cut between the
rooms cuts replication, pg_rewind and Patroni's own REST calls. Patroni reaches its own PostgreSQL
by the unix socket. Raft identifies nodes by address, and an identity must be the same for
everybody, so identities are the bound addresses; raft_links.py makes the calls go through the
links nevertheless.

Who is primary is agreed over the port `raft`: by Patroni's own Raft, or by etcd where
HOSPITAL_DCS=etcd (in containers). etcd.py says how etcd's members are named and reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stacks.hospital.settings import Address, Settings, SettingsError, address

UNIX_SOCKET_BYTES = 107  # sun_path of Linux, less its final NUL
SOCKET_NAME = ".s.PGSQL.65535"
Dcs = Literal["raft", "etcd"]


@dataclass(frozen=True, slots=True)
class Node:
    """One database node's own place, derived from its environment."""

    name: str
    other: str | None
    """The other database node; None in a topology without a standby."""
    first: bool
    """Whether this node, and not the other, initialises a cluster that does not exist yet."""
    data_dir: Path
    binaries: Path
    listen: Address
    rest: Address
    advertised_postgres: Address
    advertised_rest: Address
    raft: Address
    raft_peers: Mapping[str, tuple[Address, Address]]
    """Peer → (its identity, the address to call)."""

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's data directory."""
        return self.data_dir / "pgdata"

    @property
    def initdb(self) -> Path:
        """The program that makes the first data directory (see cluster_template)."""
        return self.data_dir / "initdb"

    @property
    def socket_dir(self) -> Path | None:
        """Where the unix socket lies; None when its path would be too long (then TCP only)."""
        folder = self.data_dir / "s"
        fits = len(str(folder / SOCKET_NAME).encode()) <= UNIX_SOCKET_BYTES
        return folder if fits and "," not in str(folder) else None


def dcs(settings: Settings) -> Dcs:
    """What keeps the votes on who is primary; raises SettingsError for anything unknown."""
    text = settings.environment.get("HOSPITAL_DCS") or "raft"
    known: dict[str, Dcs] = {"raft": "raft", "etcd": "etcd"}
    if text in known:
        return known[text]
    raise SettingsError(f"HOSPITAL_DCS={text!r}: this hospital knows raft and etcd; choose one")


def raft_peers(settings: Settings) -> dict[str, tuple[Address, Address]]:
    """Raft peers by variable name (`EHR_DB_B`): (identity, address to call)."""
    peers = {}
    for variable, text in settings.environment.items():
        if variable.startswith("TARGET_") and variable.endswith("_RAFT") and text:
            peer = variable.removeprefix("TARGET_").removesuffix("_RAFT")
            peers[peer] = (address(variable, text), settings.link(peer, "raft"))
    return peers


def voters(of: Node) -> set[str]:
    """The names of the members that only vote and keep no database."""
    return {name.lower().replace("_", "-") for name in of.raft_peers if name != of.other}


def node(settings: Settings, binaries: Path) -> Node:
    """The database node that these Settings describe; raises SettingsError."""
    listen, rest = settings.bind("postgres"), settings.bind("rest")
    me = settings.name.upper().replace("-", "_")
    others = sorted(
        variable.removeprefix("FRONT_").removesuffix("_REST")
        for variable in settings.environment
        if variable.startswith("FRONT_") and variable.endswith("_REST")
    )
    other = others[0] if others else None
    return Node(
        name=settings.name,
        other=other,
        first=other is None or me < other,
        data_dir=settings.data_dir,
        binaries=binaries,
        listen=listen,
        rest=rest,
        advertised_postgres=settings.front(other, "postgres") if other else listen,
        advertised_rest=settings.front(other, "rest") if other else rest,
        raft=settings.bind("raft"),
        raft_peers=raft_peers(settings),
    )
