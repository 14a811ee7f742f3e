"""Gateways before containers of an existing project: one each, which takes over its names there.

They stand in a network of their own that the project is not on, where the harness reaches them. It
undoes nothing: what brings the names back are steps on disk before (chaos/reaper/endpoints.py).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from chaos import reaper
from chaos.runtime import Address, NotReady, Progress, RuntimeFailure, adoption, containers, engine
from chaos.runtime import links as over
from chaos.runtime.adoption import Endpoint, Found
from chaos.runtime.containers import OfContainers
from chaos.stack import Link, Stack
from chaos.toxiproxy.client import ProxyValue, ToxiproxyError

USER = "1000:1000"
ANYWHERE = ("[::]", "0.0.0.0")  # the second where a kernel has no IPv6 at all
API_PORT = 8474
FIRST_HOST = 10  # of a gateway, in the network that they share with us
FIRST_NET, LAST_NET = 200 << 8, 250 << 8  # 10.200.0.0 to 10.249.255.255
SUBNET_TRIES = 40
MEMORY, PIDS, NANO_CPUS = 256 << 20, 128, 2_000_000_000
NO_SUBNET = "user configured subnets"  # how the engine refuses an address that it gave itself


class Gateways:
    """Before each of `targets`: a container with the proxies of the links to it."""

    def __init__(self, stack: Stack, run: str, api: Any, targets: Sequence[str], seed: str) -> None:
        """Choose names and addresses; nothing is made yet."""
        self.stack = stack
        self.targets = tuple(targets)
        self._run = run
        self._api = api
        self._random = random.Random(seed)
        self._prefix = self._some_prefix()
        self._anywhere = ANYWHERE[0]

    # ------------------------------------------------------------ where they are

    def container(self, service: str) -> str:
        """The name of the gateway before a service."""
        return f"hc-{self._run}-gate-{service}"

    def link_address(self, link: Link) -> Address:
        """Where we reach the link's proxy: at the target's own port."""
        return Address(self._ip(link.target), self._number(link))

    def api_address(self, service: str) -> Address:
        """The API of the gateway's proxy server, which only we can reach."""
        taken = {self._number(link) for link in self._links_to(service)}
        free = (port for port in range(API_PORT, API_PORT + len(taken) + 1) if port not in taken)
        return Address(self._ip(service), next(free))

    def proxy(self, link: Link) -> ProxyValue:
        """It listens on every network of its gateway, and finds the target by a name of ours."""
        number = self._number(link)
        listen = f"{self._anywhere}:{number}"
        return ProxyValue(link.name, listen, f"{self._behind(link.target)}:{number}")

    # ------------------------------------------------------------ raising

    def raise_all(self, runtime: OfContainers, progress: Progress) -> None:
        """All run and hold their proxies; callers still go straight to the targets."""
        image = self._image(progress)
        self._make_network()
        containers.side_by_side(lambda service: self._start(service, image), self.targets)
        for service in self.targets:
            self._populate(runtime, service)

    def take_over(self, found: Mapping[str, Found], progress: Progress) -> None:
        """Callers are led to the gateways from now on."""
        for service in self.targets:
            self._attach(found[service])
        for service in self.targets:
            self._move(found[service], progress)

    def _image(self, progress: Progress) -> str:
        """The real proxy's image where it lies here, else one with the harness in it."""
        if real := containers.real_proxy(self._api):
            return real
        if not self.stack.image:
            raise RuntimeFailure(
                f"there is no image for proxies: name one in stack {self.stack.name} (image=...), "
                f"or docker pull {containers.TOXIPROXY_IMAGES[0]}"
            )
        return containers.built(self.stack, progress)

    def _make_network(self) -> None:
        """The network on which we reach the gateways; the project is not on it."""
        from docker.types import IPAMConfig, IPAMPool

        for _ in range(SUBNET_TRIES):
            pool = IPAMPool(subnet=f"{self._prefix}0/24", gateway=f"{self._prefix}1")
            try:
                with engine.told("make a network for the gateways"):
                    self._api.create_network(
                        self._network, driver="bridge", internal=True, labels=self._labels(""),
                        ipam=IPAMConfig(pool_configs=[pool]),
                    )  # fmt: skip
                return
            except engine.SubnetTaken:
                self._prefix = self._some_prefix()
        raise RuntimeFailure("no free subnet below 10.200.0.0; look with `docker network ls`")

    def _start(self, service: str, image: str) -> None:
        api = self.api_address(service)
        real = image in containers.TOXIPROXY_IMAGES
        command = ["-host", api.host, "-port", str(api.port)] if real else [
            "python", "-m", "chaos.toxiproxy", "--host", api.host, "--port", str(api.port),
            "--allow-all-interfaces",
        ]  # fmt: skip
        name = self.container(service)
        with engine.told(f"start {name}"):
            endpoint = self._api.create_endpoint_config(ipv4_address=api.host)
            self._api.create_container(
                name=name, user=USER, image=image, command=command,
                labels=self._labels(f"gate-{service}"),
                host_config=self._api.create_host_config(network_mode=self._network, **_HOST),
                networking_config=self._api.create_networking_config({self._network: endpoint}),
            )  # fmt: skip
            self._api.start(name)

    def _populate(self, runtime: OfContainers, service: str) -> None:
        api = self.api_address(service)
        containers.await_proxy(runtime, self.container(service), api)
        for self._anywhere in ANYWHERE:
            try:
                over.client(api).populate([self.proxy(link) for link in self._links_to(service)])
                return
            except ToxiproxyError as error:
                if self._anywhere == ANYWHERE[-1]:
                    raise NotReady(f"{self.container(service)}: {error}") from error

    def _attach(self, found: Found) -> None:
        """Under the names of its target. Before any target moves, so that it takes an address
        which is free now, and not the one that a target is to get again."""
        gateway = self.container(found.service)
        for endpoint in found.led:
            with engine.told(f"attach {gateway}"):
                self._api.connect_container_to_network(
                    gateway, endpoint.network, aliases=list(found.moved(endpoint))
                )

    def _move(self, found: Found, progress: Progress) -> None:
        """The target leaves its names to its gateway and keeps its address; connections that are
        open at that moment break."""
        for endpoint in found.led:
            with engine.told(f"detach {found.name}"):
                self._api.disconnect_container_from_network(found.id, endpoint.network)
            self._attach_behind(found, endpoint)
            names = ", ".join(found.moved(endpoint))
            progress(found.service, f"behind a proxy on {endpoint.network_name}: {names}")

    def _attach_behind(self, found: Found, endpoint: Endpoint) -> None:
        """At the same address; one that the engine chose cannot be asked for, only come again."""
        for ip in (endpoint.ip, None):
            try:
                with engine.told(f"attach {found.name}"):
                    self._api.connect_container_to_network(
                        found.id, endpoint.network, ipv4_address=ip,
                        aliases=[self._behind(found.service)],
                        links=endpoint.config.get("Links"),
                        driver_opt=endpoint.config.get("DriverOpts"),
                    )  # fmt: skip
                return
            except RuntimeFailure as failure:
                if ip is None or NO_SUBNET not in str(failure):
                    raise

    def _behind(self, service: str) -> str:
        return f"{adoption.BEHIND}{self._run}-{service}"

    def _ip(self, service: str) -> str:
        return f"{self._prefix}{FIRST_HOST + self.targets.index(service)}"

    def _links_to(self, service: str) -> tuple[Link, ...]:
        return tuple(link for link in self.stack.links if link.target == service)

    def _number(self, link: Link) -> int:
        return self.stack.service(link.target).port(link.port).number

    @property
    def _network(self) -> str:
        return f"hc-{self._run}-net-gateways"

    def _labels(self, service: str) -> dict[str, str]:
        named = {reaper.SERVICE_LABEL: service} if service else {}
        return {reaper.RUN_LABEL: self._run, "hospital-chaos.stack": self.stack.name, **named}

    def _some_prefix(self) -> str:
        number = self._random.randrange(FIRST_NET, LAST_NET)
        return f"10.{number >> 8}.{number & 255}."


_HOST: Mapping[str, Any] = {
    "init": True,
    "read_only": True,
    "tmpfs": {"/tmp": "rw,mode=1777,size=64m"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},  # a target may listen at port 80
    "dns": ["127.0.0.1"],  # a name that is gone is nobody's: no question leaves the machine
    "mem_limit": MEMORY,
    "memswap_limit": MEMORY,
    "pids_limit": PIDS,
    "nano_cpus": NANO_CPUS,
    "log_config": {"Type": "json-file", "Config": {"max-size": "10m"}},
}
