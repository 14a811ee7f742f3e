"""Puts the parts together: one loop, one API, one collection of proxies.

It refuses to start half: whatever cannot be bound or read is a StartError with one clear line.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos.toxiproxy import bodies
from chaos.toxiproxy.address import BadAddress, ListenRule, bound, is_wildcard, join, name_of
from chaos.toxiproxy.api import VERSION, Api
from chaos.toxiproxy.collection import Collection
from chaos.toxiproxy.errors import ApiError
from chaos.toxiproxy.httpd import HttpServer
from chaos.toxiproxy.loop import Loop
from chaos.toxiproxy.proxy import Proxy
from chaos.toxiproxy.resolver import Pending, Resolver, UnknownHost, look_up
from chaos.toxiproxy.site import Seats, Site

EXIT_CANNOT_START = 1
EXIT_USAGE = 64
MAX_DESCRIPTORS = 65_536  # even a proxy whose upstream is itself stops growing
RESERVED_DESCRIPTORS = 256  # for the API, listeners and the loop itself


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    host: str
    port: int
    config: Path | None = None
    proxy_metrics: bool = False
    runtime_metrics: bool = False
    all_interfaces: bool = False
    seed: int | None = None


class StartError(Exception):
    """The server cannot start; the text says why and what to do."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Server:
    """The API and its proxies; `run` serves until a signal or `stop`."""

    def __init__(self, settings: Settings) -> None:
        seats = Seats((_descriptors() - RESERVED_DESCRIPTORS) // 2)  # a link needs two
        self.loop = Loop()
        resolver = Resolver(self.loop)
        rule = ListenRule(resolver, settings.all_interfaces)
        site = Site(self.loop, resolver, rule, Random(settings.seed), seats)
        self.collection = Collection(site)
        api = Api(
            self.collection,
            proxy_metrics=settings.proxy_metrics,
            runtime_metrics=settings.runtime_metrics,
        )
        listener = _api_listener(settings)
        self.address = name_of(listener)
        self._http = HttpServer(self.loop, resolver, listener, api.answer)
        if settings.config is not None:
            _populate(self.collection, settings.config)

    def run(self) -> None:
        """Say where the API listens, serve until SIGTERM or SIGINT, close everything."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.loop.stop())
        ready = {"api": self.address, "version": VERSION, "pid": os.getpid()}
        print(json.dumps(ready), flush=True)
        self.loop.run()
        self._http.close()
        self.collection.close()


def _api_listener(settings: Settings) -> socket.socket:
    host = settings.host
    try:
        ip = _looked_up(host) if host else "::"
        if is_wildcard(ip) and not settings.all_interfaces:
            raise StartError(
                f"--host {host!r} means all interfaces: give one address, "
                "or add --allow-all-interfaces",
                EXIT_USAGE,
            )
        return bound((ip, settings.port))
    except (BadAddress, UnknownHost) as error:
        raise StartError(
            f"the API cannot listen on {join(host, settings.port)}: {error}; "
            "choose another --port (0 takes a free one)",
            EXIT_CANNOT_START,
        ) from None


def _looked_up(host: str) -> str:
    """Before the loop runs, waiting for a name server is allowed."""
    answer = look_up(host)
    if isinstance(answer, UnknownHost):
        raise answer
    return answer[0]


def _populate(collection: Collection, config: Path) -> None:
    try:
        text = config.read_bytes()
    except OSError as error:
        raise StartError(f"--config {config}: {error.strerror or error}", EXIT_USAGE) from None
    done: list[Proxy] = []
    try:
        listed = bodies.proxy_bodies(text)
        for body in listed:
            _wait_for_name(collection, body)
        collection.populate(listed, done)
    except ApiError as error:
        which = f" (after {len(done)} good ones)" if done else ""
        code = EXIT_USAGE if error.status == 400 else EXIT_CANNOT_START
        raise StartError(f"--config {config}{which}: {error.text}", code) from None


def _wait_for_name(collection: Collection, body: bodies.ProxyBody) -> None:
    resolver = collection.site.resolver
    try:
        collection.site.listen_rule.resolve(body.listen or "")
    except Pending as pending:
        for host in pending.hosts:
            resolver.look_up_now(host)
    except (ApiError, BadAddress, UnknownHost):
        return  # populate says it better


def _descriptors() -> int:
    """How many descriptors this process may have: all that the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    except (OSError, ValueError):
        return soft
    return max(soft, most)
