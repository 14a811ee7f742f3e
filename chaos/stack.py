"""What runs, who calls whom, where data lies and what fails together: the topology as values.

This module starts nothing and opens nothing; a runtime turns these values into processes or
containers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.systems import System
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
    """One listening port of a service; `protocol` tells probes and reports how it speaks.

    `number` is only for services of an existing project, which chose it themselves.
    """

    name: str
    protocol: str = "tcp"  # http, mllp, dicom, postgres or tcp
    number: int = 0


@dataclass(frozen=True, slots=True)
class Readiness:
    """How a service says that it is ready: HTTP 200 on `path` of `port`, within `within_s`.

    Where it speaks no HTTP, `path=""`: it is ready when it accepts a connection.
    """

    port: str = "http"
    path: str = "/health"
    within_s: float = 45.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of its machine a service may use; 0 stands for "as much as there is".

    Kept by runtimes that can (containers); processes of this machine share it freely.
    """

    cpus: float = 0.0
    memory_mib: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """One program with its own process, data folder and ports.

    `command` may hold `{python}`, which a runtime replaces by its interpreter. `role` names what
    replicas have in common (`ehr` for `ehr-a` and `ehr-b`). `stop_s` bounds a deliberate stop.
    """

    name: str
    room: str
    command: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    role: str = ""
    volume: Volume | None = None
    ready: Readiness = field(default_factory=Readiness)
    stop_s: float = 8.0
    limits: Limits = Limits(cpus=2.0, memory_mib=1024, pids=512)
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
class Project:
    """An existing Compose project that a stack names instead of raising services of its own.

    `name` is the value of its containers' label `com.docker.compose.project`; a service is found
    by `com.docker.compose.service`. Only containers that carry `hospital-chaos.opt-in=true` are
    ever touched, `most_targets` of them at the same time at most.
    """

    name: str
    most_targets: int = 2


@dataclass(frozen=True, slots=True)
class Stack:
    """A whole system under test.

    `outside` are callers that are not services (wards, admission desk): their links have proxies
    as well. `audit` is the program that reads every store after the traffic has stopped; `load`
    opens the traffic in a web UI; `terms` are its words for reports; `systems` are
    what its people call its parts: how soon each is back and what it loses is measured; `programs`
    it uses where they are installed. `image` is the program that makes sure that the image of all
    services exists and prints its tag (containers only). `project` names an existing Compose
    project: nothing is raised then but proxies, from `image`. `speed` is hospital seconds per real
    second (human durations only); `defect` names the one planted defect that is switched on, if
    any.
    """

    name: str
    rooms: tuple[Room, ...]
    services: tuple[Service, ...]
    links: tuple[Link, ...]
    outside: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()
    load: tuple[str, ...] = ()
    terms: Terms = field(default=NO_WORDS, compare=False)
    systems: tuple[System, ...] = field(default=(), compare=False)
    programs: tuple[Program, ...] = field(default=(), compare=False)
    image: tuple[str, ...] = field(default=(), compare=False)
    project: Project | None = None
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
        if self.project is not None:
            _fits(self, self.project)

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

    def hit_by(self, target: str) -> Service:
        """The service that a fault on `target` hits: itself, or what the link leads to."""
        links = {link.name: link.target for link in self.links}
        return self.service(links.get(target, target))

    def volumes_on(self, array: str) -> tuple[Service, ...]:
        """The services whose data lie on an array; raises TopologyError when there are none."""
        found = tuple(s for s in self.services if s.volume and s.volume.array == array)
        if not found:
            known = ", ".join(dict.fromkeys(s.volume.array for s in self.services if s.volume))
            raise TopologyError(
                f"nothing of stack {self.name} is on an array {array!r} (known: {known or 'none'})"
            )
        return found

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


def _fits(stack: Stack, project: Project) -> None:
    """What a stack that names an existing project must say, and must not."""
    if project.most_targets < 1:
        raise TopologyError(f"most_targets of project {project.name} must be at least 1")
    for service in stack.services:
        if not service.ports:
            raise TopologyError(f"service {service.name} of project {project.name} has no port")
        service.port(service.ready.port)
        for port in service.ports:
            if not 1 <= port.number <= 65_535:
                raise TopologyError(
                    f"port {port.name} of service {service.name} needs its number: "
                    f'Port("{port.name}", "{port.protocol}", number=...)'
                )
    before: dict[tuple[str, str], Link] = {}
    for link in stack.links:
        other = before.setdefault((link.target, link.port), link)
        if other is not link:
            raise TopologyError(
                f"{other.name} and {link.name} lead to the same port: the proxy of an existing "
                "project stands before the target, for all its callers; name one link"
            )
