"""What runs, who calls whom, where data lies and what fails together: the topology as values.

This module starts nothing and opens nothing; a runtime turns these values into processes or
containers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.terms import NO_WORDS, Terms


class TopologyError(ValueError):
    """A stack that contradicts itself, or a name that is not in it."""


@dataclass(frozen=True, slots=True)
class Room:
    """A place whose services fail together (a server room, a ward, a laboratory floor)."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """Where a service keeps its data: an own folder on the storage array of a room."""

    name: str
    array: str


@dataclass(frozen=True, slots=True)
class Port:
    """One listening port of a service; `protocol` tells probes and reports how it speaks."""

    name: str
    protocol: str = "tcp"  # http, mllp, dicom, postgres or tcp


@dataclass(frozen=True, slots=True)
class Readiness:
    """How a service says that it is ready: HTTP 200 on `path` of `port`, within `within_s`."""

    port: str = "http"
    path: str = "/health"
    within_s: float = 45.0


@dataclass(frozen=True, slots=True)
class Service:
    """One program with its own process, data folder and ports.

    `command` may hold `{python}`, which a runtime replaces by its interpreter. `role` names what
    replicas have in common (`ehr` for `ehr-a` and `ehr-b`). `stop_s` bounds a deliberate stop.
    """

    name: str
    room: str
    command: tuple[str, ...]
    ports: tuple[Port, ...]
    role: str = ""
    volume: Volume | None = None
    ready: Readiness = field(default_factory=Readiness)
    stop_s: float = 8.0
    env: Mapping[str, str] = field(default_factory=dict, compare=False)

    def port(self, name: str) -> Port:
        """The port of that name; raises TopologyError when the service has none."""
        for port in self.ports:
            if port.name == name:
                return port
        have = ", ".join(p.name for p in self.ports)
        raise TopologyError(f"service {self.name} has no port {name!r} (it has: {have})")


@dataclass(frozen=True, slots=True)
class Link:
    """`source` calls `port` of `target`: one link, one proxy, so that one link can be cut."""

    source: str
    target: str
    port: str

    @property
    def name(self) -> str:
        """`source>target.port`: the name of the link's proxy, too."""
        return f"{self.source}>{self.target}.{self.port}"


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the machine that a stack uses where it is found, and can do without.

    All `parts` are needed; of each any alternative will do: a command on PATH, a file by its
    absolute path, or `$NAME` for the file that this environment variable names. `without` says
    what is lost, `get` how to get it.
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    without: str
    get: str


@dataclass(frozen=True, slots=True)
class Stack:
    """A whole system under test.

    `outside` are callers that are not services (wards, admission desk): their links have proxies
    as well. `audit` is the program that reads every store after the traffic has stopped; `load`
    opens the traffic in a web UI; `terms` are its words for reports; `programs` it uses where they
    are installed. `speed` is hospital seconds per real second (human durations only); `defect`
    names the one planted defect that is switched on, if any.
    """

    name: str
    rooms: tuple[Room, ...]
    services: tuple[Service, ...]
    links: tuple[Link, ...]
    outside: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    terms: Terms = field(default=NO_WORDS, compare=False)
    programs: tuple[Program, ...] = field(default=(), compare=False)
    speed: float = 1.0
    defect: str = ""
    env: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        _no_doubles("room", [r.name for r in self.rooms])
        _no_doubles("service", [s.name for s in self.services])
        _no_doubles("link", [link.name for link in self.links])
        rooms = {r.name for r in self.rooms}
        for service in self.services:
            if service.room not in rooms:
                raise TopologyError(f"service {service.name} stands in unknown room {service.room}")
        callers = {s.name for s in self.services} | set(self.outside)
        for link in self.links:
            if link.source not in callers:
                raise TopologyError(f"link {link.name}: unknown source {link.source}")
            self.service(link.target).port(link.port)

    def service(self, name: str) -> Service:
        """The service of that name; raises TopologyError that names the known ones."""
        for service in self.services:
            if service.name == name:
                return service
        known = ", ".join(sorted(s.name for s in self.services))
        raise TopologyError(f"no service {name!r} in stack {self.name} (known: {known})")

    def link(self, name: str) -> Link:
        """The link of that name (`source>target.port`); raises TopologyError when unknown."""
        for link in self.links:
            if link.name == name:
                return link
        known = ", ".join(sorted(link.name for link in self.links))
        raise TopologyError(f"no link {name!r} in stack {self.name} (known: {known})")

    def room_of(self, name: str) -> str | None:
        """The room of a service; None for a caller from outside."""
        return None if name in self.outside else self.service(name).room

    def services_in(self, room: str) -> tuple[Service, ...]:
        """All services of a room; raises TopologyError for an unknown room."""
        if room not in {r.name for r in self.rooms}:
            known = ", ".join(r.name for r in self.rooms)
            raise TopologyError(f"no room {room!r} in stack {self.name} (known: {known})")
        return tuple(s for s in self.services if s.room == room)

    def links_of(self, room: str) -> tuple[Link, ...]:
        """Links with at least one end in the room."""
        inside = {s.name for s in self.services_in(room)}
        return tuple(k for k in self.links if k.source in inside or k.target in inside)

    def links_between(self, one: str, other: str) -> tuple[Link, ...]:
        """Links from a service of one room to a service of the other, both ways."""
        first = {s.name for s in self.services_in(one)}
        second = {s.name for s in self.services_in(other)}
        return tuple(
            k
            for k in self.links
            if (k.source in first and k.target in second)
            or (k.source in second and k.target in first)
        )


def _no_doubles(what: str, names: list[str]) -> None:
    doubles = sorted({n for n in names if names.count(n) > 1})
    if doubles:
        raise TopologyError(f"{what} named twice: {', '.join(doubles)}")
