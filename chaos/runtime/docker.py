"""Runtime `docker`: a stack as containers of this machine's engine, each in its room's network.

It publishes no port, touches nothing that does not carry its run's label, and creates nothing
before `undo_up` could be put on disk.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from chaos import reaper
from chaos.runtime import (
    CLOCKS,
    LIMITS,
    NETWORKS,
    STORAGE,
    Address,
    Health,
    NotReady,
    Progress,
    RuntimeFailure,
    Step,
    containers,
    docker_arrays,
    docker_clock,
    docker_limits,
    docker_lost,
    docker_rooms,
    engine,
)
from chaos.runtime import links as over
from chaos.runtime import surroundings as env
from chaos.runtime.children import Children
from chaos.runtime.docker_plan import API_PORT, FRONT, Gateway, Network, Plan
from chaos.runtime.health import ask_health
from chaos.runtime.mounted import MountedArrays
from chaos.runtime.readiness import await_all
from chaos.stack import Service, Stack
from chaos.toxiproxy.client import ProxyValue, ToxiproxyError

OWNER = 1000  # user and group of every container
SUBNET_TRIES = 40
FIRST_NET, LAST_NET = 200 << 8, 250 << 8  # 10.200.0.0 to 10.249.255.255
NANO = 1_000_000_000
MIB = 1 << 20
LABEL_ROOM = "hospital-chaos.room"
PREPARED = 'mkdir -p "$DATA_DIR" && cd "$DATA_DIR" && exec "$@"'
GATEWAY_MEMORY_MIB = 256


class DockerRuntime:
    """One stack as containers; logs go to `<run folder>/logs/<service>.log` when it ends."""

    name = "docker"
    at_once = containers.AT_ONCE
    abilities = frozenset({LIMITS, CLOCKS, NETWORKS, STORAGE})

    def __init__(self, stack: Stack, run_folder: Path, *, seed: int | None = None) -> None:
        """Choose a name and addresses; nothing is created yet. RuntimeFailure without engine."""
        self.stack = stack
        self.raised = False
        self.id = secrets.token_hex(4)
        self.logs = run_folder.absolute() / "logs"
        self.clock_folder = run_folder.absolute() / "clocks"
        self.clocked: set[str] = set()
        self._engine = engine.socket_path()
        self._engine_process = engine.process(self._engine)
        self._api = engine.connect()
        self._children = Children(self.id, self.logs)
        self.folder = self._children.folder  # made only where an array is mounted
        self.storage = MountedArrays(
            stack, self._children, partial(containers.undo_by_restart, self),
            docker_arrays.Containers(self._engine, OWNER),
        )  # fmt: skip
        self._known: dict[str, Mapping[str, Any]] = {}
        self._random = random.Random(f"{seed}-{self.id}")
        self._plan = Plan(stack, self.id, self._some_first())
        self._image = ""
        self._lock = threading.Lock()

    # ------------------------------------------------------------ up and down

    def undo_up(self) -> tuple[Step, ...]:
        """Keep the logs, then remove every container, network, volume and array of this run."""
        arrays = self.storage.undo_up()
        return (
            {
                "do": "remove_stack",
                "engine": self._engine,
                "run": self.id,
                "logs": str(self.logs),
                "asker": reaper.this_process(),
            },
            *arrays,
            *((self._children.undo_make(),) if arrays else ()),
        )

    def up(self, progress: Progress) -> None:
        """Networks, arrays and gateways, then every service at once; returns when all are ready."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._image = containers.built(self.stack, progress)
        self._make_networks()
        if self.storage.prepared:
            self._children.make()
            self.storage.up(self.play, progress)
        plain = {self._plan.volume(s) for s in self._services if not self.storage.folder_of(s)}
        containers.side_by_side(self._make_volume, sorted(plain))
        gateways = list(self._plan.gateways.values())
        containers.side_by_side(self._start_gateway, gateways)
        self._populate(gateways)
        containers.side_by_side(lambda s: self._start_service(s, progress), self._services)
        await_all(self, progress)
        self.raised = True

    def down(self) -> None:
        """Remove everything of this run; idempotent."""
        self.raised = False
        self.play(self.undo_up())

    def forget_remains(self) -> None:
        """Nothing stays after `down`; idempotent."""
        self.down()

    def play(self, steps: tuple[Step, ...]) -> None:
        """Play undo steps here; tries all of them, then raises for those that failed."""
        try:
            containers.play(steps, at_once=True)
        finally:
            self._known.clear()  # a step may have started another instance

    # ------------------------------------------------------------ seeing

    identity, state = containers.identity, containers.state
    fail_if_dead, lost = containers.fail_if_dead, docker_lost.lost

    def health(self, service: str) -> Health:
        """Ask the service itself; a paused or gone one is `silent`."""
        ready = self.stack.service(service).ready
        return ask_health(self.address(service, ready.port), ready.path)

    def address(self, service: str, port: str) -> Address:
        """Where the service listens in its room; the same before and after a restart."""
        return self._plan.address(service, port)

    def link_address(self, link: str) -> Address:
        """Where the link's proxy listens in the caller's room."""
        return self._plan.link_address(link)

    def last_words(self, service: str) -> str:
        """The last line that its container said."""
        line = containers.last_line(self, self._container(service))
        return f"last log line: {line} (docker logs, kept under {self.logs})"

    # ------------------------------------------------------------ services

    kill, pause, resume = containers.kill, containers.pause, containers.resume
    stop, start = containers.stop, containers.start
    undo_kill, undo_pause = containers.undo_kill, containers.undo_pause

    # ------------------------------------------------------------ limits, clocks, networks

    limits, set_limits = docker_limits.limits, docker_limits.set_limits
    pressure, undo_set_limits = docker_limits.pressure, docker_limits.undo_set_limits
    prepare_clocks, set_clock = docker_clock.prepare_clocks, docker_clock.set_clock
    clock, undo_set_clock = docker_clock.clock, docker_clock.undo_set_clock
    disconnect, undo_disconnect = docker_rooms.disconnect, docker_rooms.undo_disconnect

    # ------------------------------------------------------------ links

    def proxy_api(self, link: str) -> Address:
        """The gateway of the target's room holds the link's proxy."""
        return self._plan.proxy_api(link)

    add_toxic, toxics, toxic_kinds = over.add_toxic, over.toxics, over.toxic_kinds
    toxic_record, set_link = over.toxic_record, over.set_link
    link_closed_by, link_enabled = over.link_closed_by, over.link_enabled
    look_at_link = over.look_at_link

    def undo_toxics(self, link: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """Remove these toxics, while the gateway runs."""
        return self._at_gateway(link, over.undo_toxics(self, link, names))

    def undo_set_link(self, link: str, by: str = "") -> tuple[Step, ...]:
        """Open the link's proxy, or let go of it, while the gateway runs."""
        return self._at_gateway(link, over.undo_set_link(self, link, by))

    def _at_gateway(self, link: str, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return containers.in_container(self, steps, self._plan.gateway(link).name)

    # ------------------------------------------------------------ inside: raising

    @property
    def _services(self) -> tuple[Service, ...]:
        return self.stack.services

    def _make_networks(self) -> None:
        """All networks, in subnets that nobody uses; another stack may take one at any moment."""
        for _ in range(SUBNET_TRIES):
            try:
                containers.side_by_side(self._make_network, list(self._plan.networks.values()))
                return
            except engine.SubnetTaken:
                self.play(self.undo_up())
                self._plan = Plan(self.stack, self.id, self._some_first())
        raise RuntimeFailure(
            f"no free subnets for {len(self._plan.networks)} networks below 10.200.0.0; look with "
            "`docker network ls`, and remove what is left over with `hospital-chaos heal`"
        )

    def _make_network(self, network: Network) -> None:
        from docker.types import IPAMConfig, IPAMPool
        from testcontainers.core.network import Network as Made

        pool = IPAMPool(subnet=network.subnet, gateway=f"{network.prefix}1")
        made = Made(
            docker_client_kw={"environment": {"DOCKER_HOST": f"unix://{self._engine}"}},
            docker_network_kw={
                "driver": "bridge",
                "check_duplicate": True,  # engines before 25 make two of one name otherwise
                "internal": True,  # no way out of a room, and none into it but by its gateways
                "ipam": IPAMConfig(pool_configs=[pool]),
                "labels": self._labels({LABEL_ROOM: network.room or FRONT}),
            },
        )
        made.name = network.name
        with engine.told(f"make network {network.name}"):
            made.create()

    def _make_volume(self, name: str) -> None:
        with engine.told(f"make volume {name}"):
            made = self._api.create_volume(name, labels=self._labels({}))
        if (made.get("Labels") or {}).get(reaper.RUN_LABEL) != self.id:  # the engine gave it to us
            raise engine.NameTaken(f"volume {name} exists and is not of this run: remove it")

    def _start_gateway(self, gateway: Gateway) -> None:
        own = self._plan.networks[gateway.room]
        api = gateway.address_in(own)
        image, command = self._proxy_program(api)
        self._create(
            gateway.name, own, api, image=image, command=command,
            labels=self._labels(
                {LABEL_ROOM: gateway.room, reaper.SERVICE_LABEL: f"gate-{gateway.room}"}
            ),
            host=self._host(GATEWAY_MEMORY_MIB * MIB, 128, 2 * NANO, []),
        )  # fmt: skip
        with engine.told(f"attach {gateway.name}"):
            for network in self._plan.networks.values():
                if network.name in gateway.addresses and network is not own:
                    self._api.connect_container_to_network(
                        gateway.name, network.name, ipv4_address=gateway.addresses[network.name]
                    )
            self._api.start(gateway.name)

    def _proxy_program(self, host: str) -> tuple[str, list[str]]:
        """A real server where its image lies here, else the embedded one in the stack's image."""
        if image := containers.real_proxy(self._api):
            return image, ["-host", host, "-port", str(API_PORT)]
        return self._image, [
            "python", "-m", "chaos.toxiproxy", "--host", host, "--port", str(API_PORT)
        ]  # fmt: skip

    def _populate(self, gateways: Sequence[Gateway]) -> None:
        for gateway in gateways:
            wanted, api = [], None
            for link in self.stack.links:
                if self.stack.service(link.target).room == gateway.room:
                    api = self._plan.proxy_api(link.name)
                    listen = str(self.link_address(link.name))
                    upstream = str(self.address(link.target, link.port))
                    wanted.append(ProxyValue(link.name, listen, upstream))
            if api is not None:
                containers.await_proxy(self, gateway.name, api)
                try:
                    over.client(api).populate(wanted)
                except ToxiproxyError as error:
                    raise NotReady(f"{gateway.name}: {error}") from error

    def _start_service(self, service: Service, progress: Progress) -> None:
        network = self._plan.network_of(service.name)
        limits = service.limits
        mount = docker_arrays.bound(self.storage, service, self._plan.volume(service))
        name = self._plan.container(service.name)
        self._create(
            name, network, self._plan.ip(service.name), image=self._image,
            command=["sh", "-c", PREPARED, service.name, *self._words(service)],
            environment=self._environment(service), hostname=service.name,
            labels=self._labels({LABEL_ROOM: service.room, reaper.SERVICE_LABEL: service.name}),
            host=self._host(
                limits.memory_mib * MIB, limits.pids, round(limits.cpus * NANO),
                [mount, *docker_clock.mounts(self, service.name)],
            ),
        )  # fmt: skip
        with engine.told(f"start {service.name}"):
            self._api.start(name)
        progress(service.name, "starting")

    def _create(
        self, name: str, network: Network, ip: str, *, host: Mapping[str, Any], **config: Any
    ) -> None:
        # The engine fills a new volume when its first container is made; two at once would clash.
        with self._lock, engine.told(f"create container {name}"):
            endpoint = self._api.create_endpoint_config(ipv4_address=ip)
            self._api.create_container(
                name=name, user=f"{OWNER}:{OWNER}",
                host_config=self._api.create_host_config(network_mode=network.name, **host),
                networking_config=self._api.create_networking_config({network.name: endpoint}),
                **config,
            )  # fmt: skip

    def _host(self, memory: int, pids: int, nano_cpus: int, mounts: list[Any]) -> dict[str, Any]:
        """What every container of ours may, and may not."""
        found: dict[str, Any] = {
            "init": True,
            "read_only": True,
            "tmpfs": {"/tmp": "rw,mode=1777,size=256m"},
            "shm_size": 256 * MIB,
            "mounts": mounts,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "log_config": {"Type": "json-file", "Config": {"max-size": "50m"}},
        }
        if memory:
            found |= {"mem_limit": memory, "memswap_limit": memory}
        if pids:
            found["pids_limit"] = pids
        if nano_cpus:
            found["nano_cpus"] = min(nano_cpus, (os.cpu_count() or 1) * NANO)
        return found

    def _environment(self, service: Service) -> dict[str, str]:
        ambient = env.ambient(os.environ)
        found = env.of_service(self.stack, service, self.address, self.link_address)
        return {
            **{name: value for name, value in ambient.items() if name.startswith(env.AMBIENT)},
            "PYTHONUNBUFFERED": "1",
            **found,
            "STOP_S": f"{service.stop_s:g}",
            **self.stack.env,
            **service.env,
            "SERVICE_NAME": service.name,
            "DATA_DIR": docker_arrays.data_folder(self.storage, service),
            **docker_clock.environment(self, service.name),
            env.MARK: self.id,
        }

    def _words(self, service: Service) -> list[str]:
        return ["python" if word == "{python}" else word for word in service.command]

    def _labels(self, more: Mapping[str, str]) -> dict[str, str]:
        return {reaper.RUN_LABEL: self.id, "hospital-chaos.stack": self.stack.name, **more}

    def _some_first(self) -> int:
        return self._random.randrange(FIRST_NET, LAST_NET - 64)

    # ------------------------------------------------------------ inside: asking

    def _container(self, service: str) -> str:
        return self._plan.container(service)
