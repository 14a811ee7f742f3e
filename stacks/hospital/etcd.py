"""What an etcd member is told, as pure functions of a service's place: names, addresses, timers.

It refuses to start anything (etcd_member.py does) and to let members know an address of each
other that could be dialled without the link's proxy.

etcd names a member by one URL that must be equal everywhere, while each caller must dial its own
link. So the URLs are addresses of a network that exists nowhere (TEST-NET-1 of RFC 5737), counted
over the members' sorted names: they are equal on all members, on any machine and after any
restart, and can only be reached through the relay of etcd_links.py, which knows the links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stacks.hospital.database_place import raft_peers
from stacks.hospital.settings import Address, Settings, SettingsError

HEARTBEAT_MS = 100
ELECTION_MS = 1500
"""On a busy machine of two cores a member may well be late by half a second."""
KEEP_HISTORY = "1h"
NOWHERE = "192.0.2.{}"
PEER_PORT = 2380
MEMBERS_MAX = 250
CLIENT_HOST = "127.1.0.1"
"""A loopback address that nothing else uses. There the number of the member's own port is free at
every start; one that is free somewhere is an outgoing connection's a moment later."""
FOREIGN = ("ETCD_", "ETCDCTL_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""Variables of the surroundings that etcd would obey; it is to obey the command line only."""


@dataclass(frozen=True, slots=True)
class Member:
    """One etcd member: who it is, where it listens, where it keeps its data."""

    name: str
    listen: Address
    """Where the links to this member end."""
    client: Address
    """Where its own service, and nobody else, asks it."""
    data_dir: Path
    identities: Mapping[str, Address]
    """Member, this one included → the address that names it; nobody listens there."""
    links: Mapping[Address, Address]
    """Identity of another member → the address to call instead."""


def member(settings: Settings) -> Member:
    """The member that these Settings describe; raises SettingsError."""
    listen, peers = settings.bind("raft"), raft_peers(settings)
    calls = {_name(variable): link for variable, (_, link) in peers.items()}
    me = _name(settings.name)
    names = sorted({me, *calls})
    if len(names) > MEMBERS_MAX:
        raise SettingsError(f"{settings.name}: {len(names)} members; etcd takes a handful")
    identities = {
        name: Address(NOWHERE.format(1 + rank), PEER_PORT) for rank, name in enumerate(names)
    }
    return Member(
        name=me,
        listen=listen,
        client=Address(CLIENT_HOST, listen.port),
        data_dir=settings.data_dir / "etcd",
        identities=identities,
        links={identities[name]: link for name, link in calls.items()},
    )


def _name(variable: str) -> str:
    return variable.lower().replace("_", "-")


def url(place: Address) -> str:
    """An address as etcd wants it."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    return f"http://{host}:{place.port}"


def command(binary: Path, own: Member) -> tuple[str, ...]:
    """The command line of this member."""
    cluster = ",".join(f"{name}={url(place)}" for name, place in own.identities.items())
    options = {
        "name": own.name,
        "data-dir": str(own.data_dir),
        "initial-cluster": cluster,
        "initial-cluster-state": "new",  # read at the very first start only
        "initial-cluster-token": "ehr-db",
        "initial-advertise-peer-urls": url(own.identities[own.name]),
        "listen-peer-urls": url(own.listen),
        "listen-client-urls": url(own.client),
        "advertise-client-urls": url(own.client),
        "heartbeat-interval": str(HEARTBEAT_MS),
        "election-timeout": str(ELECTION_MS),
        "pre-vote": "true",  # a member that was cut off does not depose the leader on its return
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": KEEP_HISTORY,
        "logger": "zap",  # JSON, one line per event
        "log-outputs": "stderr",
        "log-level": "warn",
    }
    return (str(binary), *(f"--{option}={value}" for option, value in options.items()))


def environment(ambient: Mapping[str, str], relay: Address) -> dict[str, str]:
    """The surroundings of etcd: every call to another address than loopback goes by the relay."""
    kept = {name: text for name, text in ambient.items() if not name.upper().startswith(FOREIGN)}
    return kept | {"HTTP_PROXY": f"socks5://{relay}"}


def patroni_section(client: Address) -> dict[str, object]:
    """Patroni's `etcd3` section: it talks to its own member only, and asks for no others.

    A node whose member is cut off therefore loses the votes, even where a client could still
    reach another member by some other way.
    """
    return {"proxy": url(client)}
