"""A stack's ground plan as containers: networks, addresses and gateways, all known beforehand.

Pure: it starts nothing and asks nobody.

    room A ──────┬────────────────┐   one network per room, no way out of it
     ehr-a       │                │   one gateway per room: the proxies of every link into that room
                 gate-A           gate-B      ◀── attached to the room of every caller
                 │                │
    room B ──────┴────────────────┴── engine, lis, …
    front: callers from outside (this machine) reach the gateways here

Services know each other by their gateways only. Rooms A and B are cut from each other by taking
gate-B off the network of A, and gate-A off the network of B.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from chaos.runtime import Address
from chaos.stack import Service, Stack, TopologyError

FRONT = "front"  # the network of callers from outside
API_PORT = 8474
FIRST_SERVICE_PORT = 7000
FIRST_LINK_PORT = 20_000
FIRST_SERVICE_HOST = 10
FIRST_GATEWAY_HOST = 200
MOST_SERVICES_IN_ROOM = FIRST_GATEWAY_HOST - FIRST_SERVICE_HOST
MOST_ROOMS = 50


@dataclass(frozen=True, slots=True)
class Network:
    """One network: `room` is '' for the front, where callers from outside come in."""

    name: str
    room: str
    subnet: str  # CIDR, /24
    prefix: str  # the first three bytes, with their dots: "10.210.3."


@dataclass(frozen=True, slots=True)
class Gateway:
    """The proxy server of one room: its container, and its address in every network it is in."""

    name: str
    room: str
    addresses: dict[str, str]  # network name → IPv4 address

    def address_in(self, network: Network) -> str:
        """Its address there; TopologyError when it is not attached."""
        if network.name not in self.addresses:
            raise TopologyError(f"{self.name} is not attached to {network.name}")
        return self.addresses[network.name]


@dataclass(frozen=True)
class Plan:
    """Where everything of a stack is. `first` is the number of its first /24 below 10.0.0.0/8."""

    stack: Stack
    id: str
    first: int

    def __post_init__(self) -> None:
        if len(self.stack.rooms) > MOST_ROOMS:
            raise TopologyError(
                f"{len(self.stack.rooms)} rooms are too many (at most {MOST_ROOMS})"
            )
        for room in self.stack.rooms:
            if len(self.stack.services_in(room.name)) > MOST_SERVICES_IN_ROOM:
                raise TopologyError(
                    f"room {room.name} has more than {MOST_SERVICES_IN_ROOM} services"
                )
        self._all_different([net.name for net in self.networks.values()], "rooms")
        self._all_different([self.container(s.name) for s in self.stack.services], "services")
        arrays = {s.volume.array if s.volume else f"disk-{s.name}" for s in self.stack.services}
        self._all_different([self._name("vol", name) for name in sorted(arrays)], "arrays")

    @cached_property
    def networks(self) -> dict[str, Network]:
        """By room; the front under ''."""
        rooms = [room.name for room in self.stack.rooms]
        found = {}
        for number, room in enumerate([*rooms, ""], self.first):
            prefix = f"10.{number >> 8}.{number & 255}."
            name = self._name("net", room or FRONT)
            found[room] = Network(name, room, f"{prefix}0/24", prefix)
        return found

    @cached_property
    def gateways(self) -> dict[str, Gateway]:
        """By room: one for every room that somebody calls into."""
        found = {}
        for number, room in enumerate(self.stack.rooms, FIRST_GATEWAY_HOST):
            into = [k for k in self.stack.links if self.stack.room_of(k.target) == room.name]
            if not into:
                continue
            callers = {self.stack.room_of(k.source) or "" for k in into} | {room.name}
            places = [net for name, net in self.networks.items() if name in callers]
            addresses = {net.name: f"{net.prefix}{number}" for net in places}
            found[room.name] = Gateway(self._name("gate", room.name), room.name, addresses)
        return found

    def container(self, service: str) -> str:
        """The name of the service's container."""
        return self._name("svc", self.stack.service(service).name)

    def volume(self, service: Service) -> str:
        """The name of the volume that holds its data: one per array, shared by what lies there."""
        return self._name("vol", service.volume.array if service.volume else f"disk-{service.name}")

    def network_of(self, service: str) -> Network:
        """The network of the service's room."""
        return self.networks[self.stack.service(service).room]

    def ip(self, service: str) -> str:
        """The service's address in its room."""
        network = self.network_of(service)
        names = [s.name for s in self.stack.services_in(network.room)]
        return f"{network.prefix}{FIRST_SERVICE_HOST + names.index(service)}"

    def address(self, service: str, port: str) -> Address:
        """Where the service itself listens."""
        ports = [p.name for p in self.stack.service(service).ports]
        self.stack.service(service).port(port)
        return Address(self.ip(service), FIRST_SERVICE_PORT + ports.index(port))

    def link_address(self, link: str) -> Address:
        """Where the link's source finds its proxy: at the gateway of the target's room."""
        k = self.stack.link(link)
        number = [one.name for one in self.stack.links].index(link)
        caller = self.networks[self.stack.room_of(k.source) or ""]
        return Address(self.gateway(link).address_in(caller), FIRST_LINK_PORT + number)

    def proxy_api(self, link: str) -> Address:
        """The API of the link's gateway, in its own room."""
        gateway = self.gateway(link)
        return Address(gateway.address_in(self.networks[gateway.room]), API_PORT)

    def gateway(self, link: str) -> Gateway:
        """The gateway that holds the link's proxy: that of its target's room."""
        return self.gateways[self.stack.service(self.stack.link(link).target).room]

    def crossings(self, one: str, other: str) -> tuple[tuple[Gateway, Network], ...]:
        """What joins two rooms: each gateway of the one in the network of the other."""
        for room in (one, other):
            self.stack.services_in(room)  # TopologyError when unknown
        pairs = ((one, other), (other, one))
        return tuple(
            (self.gateways[here], self.networks[there])
            for here, there in pairs
            if here in self.gateways and self.networks[there].name in self.gateways[here].addresses
        )

    def _all_different(self, names: list[str], what: str) -> None:
        """TopologyError where two would be one to the engine, which takes few characters."""
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            name = min(twice).removeprefix(f"hc-{self.id}-").partition("-")[2]
            raise TopologyError(f"two {what} are both {name!r} as containers; rename one of them")

    def _name(self, kind: str, what: str) -> str:
        return f"hc-{self.id}-{kind}-{re.sub(r'[^A-Za-z0-9_.-]', '-', what)}"
