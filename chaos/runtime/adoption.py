"""Finds the containers of an existing Compose project by their labels, and says what is theirs.

It changes nothing: what it reads is what an undo will put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.runtime import RuntimeFailure, engine
from chaos.stack import Project, Stack

OPT_IN = "hospital-chaos.opt-in"
OPTED = f"{OPT_IN}=true"
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"  # `compose run`: not the service itself
BEHIND = "hospital-chaos-"  # begins the name under which a gateway finds the container behind it
SHORT_ID = 12
WITHOUT_NAMES = ("bridge", "host", "none")  # networks on which nobody is found by a name


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container on one network: its address and the names that callers there know it by."""

    network: str  # id
    network_name: str
    ip: str
    aliases: tuple[str, ...]
    config: Mapping[str, Any]  # as the engine keeps it


@dataclass(frozen=True, slots=True)
class Found:
    """One container of the project, as it was when it was looked at."""

    id: str
    name: str
    service: str
    opted_in: bool
    status: str
    restart: str  # its restart policy
    endpoints: tuple[Endpoint, ...]
    published: tuple[str, ...] = ()  # addresses of this machine that lead to it

    def moved(self, endpoint: Endpoint) -> tuple[str, ...]:
        """The names there that can lead to a gateway instead; its own name stays with it."""
        own = (self.id[:SHORT_ID], self.id, self.name)
        return tuple(name for name in endpoint.aliases if name not in own)

    @property
    def led(self) -> tuple[Endpoint, ...]:
        """The networks on which callers can be led to a gateway."""
        return tuple(one for one in self.endpoints if self.moved(one))


def survey(api: Any, project: Project) -> tuple[Found, ...]:
    """Every container of the project, in the order of their names. RuntimeFailure when none."""
    label = f"{PROJECT}={project.name}"
    with engine.told(f"look for project {project.name}"):
        listed = api.containers(all=True, filters={"label": [label]})
    every = []
    for one in listed:
        if str((one.get("Labels") or {}).get(ONE_OFF)) != "True":
            ident = one["Id"]
            seen = engine.gently(lambda i=ident: api.inspect_container(i), "look at it", None)  # type: ignore[misc]
            if seen is not None:
                every.append(_found(seen))
    if not every:
        raise RuntimeFailure(
            f"there is no Compose project {project.name}: no container carries the label {label}; "
            f"start it (docker compose up -d), or name one of: {_others(api)}"
        )
    return tuple(sorted(every, key=lambda found: found.name))


def of_services(stack: Stack, every: Sequence[Found]) -> dict[str, Found]:
    """The one running container of each service. RuntimeFailure: missing, several, ended."""
    assert stack.project is not None
    project = stack.project.name
    chosen = {}
    for service in stack.services:
        mine = [found for found in every if found.service == service.name]
        if not mine:
            known = ", ".join(sorted({found.service for found in every}))
            raise RuntimeFailure(
                f"project {project} has no container of service {service.name} (it has: {known})"
            )
        if len(mine) > 1:
            names = ", ".join(found.name for found in mine)
            raise RuntimeFailure(
                f"service {service.name} of project {project} has {len(mine)} containers "
                f"({names}): which one a fault would hit were chance; scale it to one"
            )
        if mine[0].status != "running":
            raise RuntimeFailure(
                f"container {mine[0].name} of project {project} is {mine[0].status}: start it "
                f"first (docker start {mine[0].name})"
            )
        chosen[service.name] = mine[0]
    return chosen


def must_be_opted_in(found: Found) -> None:
    """RuntimeFailure unless the container carries the label that lets us touch it."""
    if not found.opted_in:
        raise RuntimeFailure(
            f"container {found.name} (service {found.service}) does not carry the label {OPTED}, "
            "so it is never touched; add the label in its Compose file if it may be"
        )


def must_be_led(found: Found) -> None:
    """RuntimeFailure unless a gateway can be put before the container."""
    for endpoint in found.endpoints:
        if left := [name for name in endpoint.aliases if name.startswith(BEHIND)]:
            raise RuntimeFailure(
                f"container {found.name} is behind the proxy of another run ({left[0]}); wait for "
                "its end, or `hospital-chaos heal` when it was killed"
            )
    if found.led:
        return
    networks = ", ".join(one.network_name for one in found.endpoints) or "none"
    why = (
        "callers know it by its container's own name only (container_name), which stays with it"
        if any(one.network_name not in WITHOUT_NAMES for one in found.endpoints)
        else "callers do not find it by a name there"
    )
    raise RuntimeFailure(
        f"no proxy can be put before container {found.name} (on network {networks}): {why}; "
        "drop its link from the stack, or its container_name from the Compose file"
    )


def _found(seen: Mapping[str, Any]) -> Found:
    labels = seen["Config"].get("Labels") or {}
    networks = seen["NetworkSettings"].get("Networks") or {}
    policy = (seen["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no"
    return Found(
        id=seen["Id"],
        name=seen["Name"].lstrip("/"),
        service=labels.get(SERVICE, ""),
        opted_in=labels.get(OPT_IN) == "true",
        status="paused" if seen["State"].get("Paused") else seen["State"]["Status"],
        restart=policy,
        endpoints=tuple(_endpoint(name, one) for name, one in sorted(networks.items())),
        published=tuple(_published(seen["NetworkSettings"].get("Ports") or {})),
    )


def _published(ports: Mapping[str, Any]) -> list[str]:
    return sorted(
        f"{one.get('HostIp') or '0.0.0.0'}:{one.get('HostPort')}"
        for bound in ports.values()
        for one in bound or ()
    )


def _endpoint(name: str, one: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        network=one.get("NetworkID", ""),
        network_name=name,
        ip=one.get("IPAddress", ""),
        aliases=tuple(one.get("Aliases") or ()),
        config={key: one.get(key) for key in ("IPAMConfig", "Links", "DriverOpts")},
    )


def _others(api: Any) -> str:
    with engine.told("look for projects"):
        listed = api.containers(all=True, filters={"label": [PROJECT]})
    return ", ".join(sorted({one["Labels"][PROJECT] for one in listed})) or "(there is none here)"
