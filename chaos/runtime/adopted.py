"""Runtime `docker` on an existing Compose project: it puts proxies before containers of others.

It starts and ends none of the project's containers to raise the stack, and never touches one that
does not carry the opt-in label; what it changes is undone by steps that lie on disk before.

    callers ──name──▶ target            callers ──name──▶ gateway ──behind-name──▶ target
          before                                while the stack is raised
"""

from __future__ import annotations

import ipaddress
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos import reaper
from chaos.runtime import (
    LIMITS,
    Address,
    Health,
    NotReady,
    Progress,
    RuntimeFailure,
    Step,
    Toxic,
    adoption,
    containers,
    docker_limits,
    engine,
    theirs,
)
from chaos.runtime import links as over
from chaos.runtime.adoption import Endpoint, Found
from chaos.runtime.bare import NoArrays
from chaos.runtime.gateways import Gateways
from chaos.runtime.health import ask_health
from chaos.runtime.readiness import await_all
from chaos.stack import Limits, Link, Stack

THROUGH_S = 10.0  # a link's target must be reached through its proxy by then
LOOK_S = 1.0
POLL_S = 0.05


class AdoptedRuntime:
    """The stack of an existing project: its own containers, and a gateway before each target."""

    name = "docker"
    at_once = 1  # each blow counts first what is down, and targets come back in order
    abilities = frozenset({LIMITS})
    storage = NoArrays()

    def __init__(self, stack: Stack, run_folder: Path, *, seed: int | None = None) -> None:
        """Find the containers; nothing is changed. RuntimeFailure says what does not fit."""
        assert stack.project is not None
        self.stack = stack
        self.raised = False
        self.id = secrets.token_hex(4)
        self.logs = run_folder.absolute() / "logs"
        self._project = stack.project
        self._engine = engine.socket_path()
        self._api = engine.connect()
        self._known: dict[str, Mapping[str, Any]] = {}
        self.every = adoption.survey(self._api, stack.project)
        self.found = adoption.of_services(stack, self.every)
        self._ips: dict[str, str] = {}  # as last seen: a container that is ended has none
        targets = {link.target for link in stack.links}
        self.behind = tuple(s.name for s in stack.services if s.name in targets)
        for service in self.behind:
            adoption.must_be_opted_in(self.found[service])
            adoption.must_be_led(self.found[service])
        self._gateways = Gateways(stack, self.id, self._api, self.behind, f"{seed}-{self.id}")
        self._hitting = threading.Lock()

    # ------------------------------------------------------------ up and down

    def undo_up(self) -> tuple[Step, ...]:
        """All that may be touched runs again, targets get their names back, then gateways go.

        Where the engine chooses addresses it takes the lowest that is free: gateways leave last,
        and targets come back in the order of their addresses, so that each gets its own. Once more
        at the end: while gateways went, a call of a killed harness may have come through.
        """
        alive = tuple(
            self._step(do, found.service)
            for found in sorted(self.found.values(), key=_first_address)
            if found.opted_in
            for do in ("unpause_container", "start_container")
        )
        ends = sorted(
            (
                (self.found[service], one)
                for service in self.behind
                for one in self.found[service].led
            ),
            key=lambda pair: _number_of(pair[1].ip),
        )
        leave = tuple(self._restore("leave_endpoint", *end) for end in ends)
        back = tuple(self._restore("restore_endpoint", *end) for end in ends)
        gone = {
            "do": "remove_stack",
            "engine": self._engine,
            "run": self.id,
            "logs": str(self.logs),
            "asker": reaper.this_process(),
        }
        return (*alive, *leave, *back, gone, *back)

    def up(self, progress: Progress) -> None:
        """Gateways first, then each takes over its target's names; returns when all answer."""
        self.logs.mkdir(parents=True, exist_ok=True)
        now = adoption.of_services(self.stack, adoption.survey(self._api, self._project))
        if changed := [name for name, found in self.found.items() if now[name] != found]:
            raise RuntimeFailure(f"{', '.join(changed)} changed since it was looked at; run again")
        if self.behind:
            self._gateways.raise_all(self, progress)
            self._gateways.take_over(self.found, progress)
        await_all(self, progress)
        for link in self.stack.links:
            self._await_through(link)
        self.raised = True

    def down(self) -> None:
        """Everything as it was; idempotent."""
        self.raised = False
        self.play(self.undo_up())

    def forget_remains(self) -> None:
        """Nothing stays after `down`; idempotent."""
        self.down()

    def play(self, steps: tuple[Step, ...]) -> None:
        """Play undo steps here; tries all of them, then raises for those that failed."""
        try:
            containers.play(steps)
        finally:
            self._known.clear()  # a step may have started another instance

    # ------------------------------------------------------------ seeing

    identity, state = containers.identity, containers.state
    fail_if_dead = containers.fail_if_dead
    limits, pressure = docker_limits.limits, docker_limits.pressure

    def health(self, service: str) -> Health:
        """Ask the service itself; a paused or gone one is `silent`."""
        if (state := self.state(service)) != "running":
            return Health("silent", f"its container is {state}")
        ready = self.stack.service(service).ready
        return ask_health(self.address(service, ready.port), ready.path)

    def address(self, service: str, port: str) -> Address:
        """Where its container is now on the project's network (the last place, if it is ended)."""
        number = self.stack.service(service).port(port).number
        seen = self._seen(self._container(service)) or {}
        networks = (seen.get("NetworkSettings") or {}).get("Networks") or {}
        for endpoint in self.found[service].endpoints:
            if ip := (networks.get(endpoint.network_name) or {}).get("IPAddress"):
                self._ips[service] = ip
                break
            self._ips.setdefault(service, endpoint.ip)
        return Address(self._ips.get(service, ""), number)

    def link_address(self, link: str) -> Address:
        """Where the gateway before the link's target listens for us: the target's own port."""
        return self._gateways.link_address(self.stack.link(link))

    def last_words(self, service: str) -> str:
        """The last line that its container said."""
        name = self.found[service].name
        return f"last log line: {containers.last_line(self, name)} (docker logs {name})"

    def lost(self) -> str:
        """What somebody else has removed: a container of the project, a gateway; '' if nothing."""
        for found in self.found.values():
            if self._seen(found.id) is None:
                return f"container {found.name} was removed by somebody else"
        for service in self.behind:
            seen = self._seen(self._gateways.container(service))
            if seen is None or not seen["State"]["Running"]:
                return f"the proxy before {service} ({self._gateways.container(service)}) is gone"
        return ""

    # ------------------------------------------------------------ services

    def kill(self, service: str) -> None:
        """SIGKILL, ordered of the engine: it then stays down whatever its restart policy is, until
        it is started by name (or the engine itself restarts), so no policy has to be changed."""
        with self._hitting:
            self._may_hit(service)
            containers.kill(self, service)

    def pause(self, service: str) -> None:
        """Freeze the container."""
        with self._hitting:
            self._may_hit(service)
            containers.pause(self, service)

    def stop(self, service: str) -> None:
        """SIGTERM, `stop_s` to drain, then SIGKILL; stays down as after `kill`."""
        with self._hitting:
            self._may_hit(service)
            containers.stop(self, service)

    def resume(self, service: str) -> None:
        """Thaw the container."""
        self.play(self.undo_pause(service))

    def start(self, service: str) -> None:
        """Start the container again."""
        self.play(self.undo_kill(service))

    def undo_kill(self, service: str) -> tuple[Step, ...]:
        """Start it again. RuntimeFailure when it must not be touched."""
        return (self._step("start_container", service),)

    def undo_pause(self, service: str) -> tuple[Step, ...]:
        """Thaw it. RuntimeFailure when it must not be touched."""
        return (self._step("unpause_container", service),)

    def set_limits(self, service: str, limits: Limits) -> None:
        """Put these limits in force at once; one of 0 stays as it is."""
        with self._hitting:
            self._may_hit(service)
            docker_limits.set_limits(self, service, limits)

    def undo_set_limits(self, service: str, limits: Limits) -> tuple[Step, ...]:
        """Its own limits back. RuntimeFailure when it must not be touched."""
        self._permitted(service)
        return docker_limits.undo_set_limits(self, service, limits)

    prepare_clocks, set_clock, clock = theirs.prepare_clocks, theirs.set_clock, theirs.clock
    undo_set_clock = theirs.undo_set_clock
    disconnect, undo_disconnect = theirs.disconnect, theirs.undo_disconnect

    # ------------------------------------------------------------ links

    toxics, toxic_kinds, toxic_record = over.toxics, over.toxic_kinds, over.toxic_record
    link_closed_by, link_enabled = over.link_closed_by, over.link_enabled
    look_at_link = over.look_at_link

    def proxy_api(self, link: str) -> Address:
        """The gateway before the link's target."""
        return self._gateways.api_address(self.stack.link(link).target)

    def add_toxic(self, link: str, toxic: Toxic, expires_s: float) -> None:
        """Put a toxic on the link's proxy."""
        with self._hitting:
            self._may_hit(self.stack.link(link).target)
            over.add_toxic(self, link, toxic, expires_s)

    def set_link(self, link: str, enabled: bool, expires_s: float = 0.0, by: str = "") -> None:
        """Close or open the link's proxy."""
        with self._hitting:
            if not enabled:
                self._may_hit(self.stack.link(link).target)
            over.set_link(self, link, enabled, expires_s, by)

    def undo_toxics(self, link: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """Remove these toxics; the last resort recreates the proxy."""
        return self._at_gateway(link, over.undo_toxics(self, link, names))

    def undo_set_link(self, link: str, by: str = "") -> tuple[Step, ...]:
        """Open the link's proxy, or let go of it; the last resort recreates it."""
        return self._at_gateway(link, over.undo_set_link(self, link, by))

    def _at_gateway(self, link: str, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """The proxy listens on every address of its gateway, and finds its target by name."""
        proxy = self._gateways.proxy(self.stack.link(link))
        more = {
            "listen": proxy.listen,
            "upstream": proxy.upstream,
            "reach": str(self.link_address(link)),
            "engine": self._engine,
            "gateway": self._gateways.container(self.stack.link(link).target),
        }
        return tuple({**step, **more} for step in steps)

    # ------------------------------------------------------------ inside: what may be touched

    def _permitted(self, service: str) -> None:
        adoption.must_be_opted_in(self.found[self.stack.service(service).name])

    def _may_hit(self, service: str) -> None:
        """Opted in, and not one too many of those that are hit at the same time. Asked and done
        under one lock: faults hit several containers side by side."""
        self._permitted(service)
        hit = {s.name for s in self.stack.services if self.state(s.name) != "running"}
        for link in self.stack.links:
            if link.target not in hit and (
                self.toxics(link.name) or not self.link_enabled(link.name)
            ):
                hit.add(link.target)
        if len(hit - {service}) >= self._project.most_targets:
            raise RuntimeFailure(
                f"{', '.join(sorted(hit))} of project {self._project.name} are down or slowed "
                f"already, and at most {self._project.most_targets} may be at the same time "
                f"(most_targets); {service} was left alone"
            )

    def _container(self, service: str) -> str:
        return self.found[self.stack.service(service).name].id

    def _seen(self, container: str) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = engine.gently(
            lambda: self._api.inspect_container(container), f"look at {container}", None
        )
        return found

    def _step(self, do: str, service: str) -> Step:
        self._permitted(service)
        return containers.step(self, do, service)

    def _await_through(self, link: Link) -> None:
        deadline = time.monotonic() + THROUGH_S
        while True:
            met = self.look_at_link(link.name, LOOK_S)
            if met.outcome in ("answered", "silent"):
                return
            if time.monotonic() > deadline:
                raise NotReady(
                    f"nothing comes through the proxy of {link.name} ({met.outcome}): does "
                    f"{link.target} listen at its port on every address? "
                    f"{self.last_words(link.target)}"
                )
            time.sleep(POLL_S)

    def _restore(self, do: str, found: Found, endpoint: Endpoint) -> dict[str, object]:
        ipam = endpoint.config.get("IPAMConfig") or {}
        return {
            "do": do,
            "engine": self._engine,
            "service": found.service,
            "container": found.id,
            "name": found.name,
            "network": endpoint.network,
            "network_name": endpoint.network_name,
            "ip": endpoint.ip,
            "fixed": bool(ipam.get("IPv4Address")),
            "aliases": list(endpoint.aliases),
            "ipam": dict(ipam),
            "links": endpoint.config.get("Links"),
            "driver_opts": endpoint.config.get("DriverOpts"),
        }


def _number_of(ip: str) -> int:
    return int(ipaddress.ip_address(ip)) if ip else 0


def _first_address(found: Found) -> int:
    return min((_number_of(one.ip) for one in found.endpoints), default=0)
