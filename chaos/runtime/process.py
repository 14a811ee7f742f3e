"""Runtime `process`: a stack as local processes on loopback ports, as root or not.

It starts nothing before `undo_up` could be put on disk, and finds processes by what they are
(working folder, environment, recorded root), never by a handle that dies with the harness.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chaos import reaper
from chaos.runtime import (
    STORAGE,
    Address,
    Health,
    NotReady,
    Progress,
    RuntimeFailure,
    State,
    Step,
    bare,
)
from chaos.runtime import links as over
from chaos.runtime import surroundings as env
from chaos.runtime.children import Children
from chaos.runtime.health import ask_health
from chaos.runtime.mounted import MountedArrays
from chaos.runtime.ports import HOST, PortBlock, reserve
from chaos.runtime.readiness import await_all
from chaos.stack import Service, Stack
from chaos.toxiproxy.client import ProxyValue, ToxiproxyError

PROXIES = "_toxiproxy"  # the proxy server's name among the processes of a stack
PROXIES_READY_S = 10.0
POLL_S = 0.05  # between two looks at something that is not ready yet
CLASH_TRIES = 3  # a port that somebody took meanwhile: the stack moves to another block
PORTS_CLOSED_S = 2.0
LOOK_S = 0.005  # between two looks at processes that are about to end
STRAGGLER_S = 0.5  # children may end a moment after their stopped root
CLASH_WORDS = ("address already in use", "EADDRINUSE", "Errno 98")


class PortTaken(NotReady):
    """A service could not bind its port: another program took it after we had reserved it."""


class ProcessRuntime:
    """One stack as processes of this machine; logs go to `<run folder>/logs/<service>.log`."""

    name = "process"

    def __init__(
        self,
        stack: Stack,
        run_folder: Path,
        *,
        seed: int | None = None,
        toxiproxy: Sequence[str] | None = None,
    ) -> None:
        """Reserve ports and choose the folder; nothing is created or started yet.

        `toxiproxy`: command of another proxy server, with `{host}` and `{port}`.
        """
        self.stack = stack
        self.raised = False
        self.id = secrets.token_hex(4)
        self._children = Children(self.id, run_folder.absolute() / "logs")
        self.folder = self._children.folder
        self.log = self._children.log
        self._seed = seed
        self._toxiproxy = tuple(toxiproxy) if toxiproxy else _toxiproxy_command()
        self._names = [(s.name, p.name) for s in stack.services for p in s.ports]
        self._links = [link.name for link in stack.links]
        self._block = self._reserve()
        self._template = _template_folder()
        self.storage = MountedArrays(stack, self._children, self._undo_by_restart)

    # ------------------------------------------------------------ up and down

    def undo_up(self) -> tuple[Step, ...]:
        """End every process, unmount the arrays, remove shared memory and the folder."""
        return (
            *self._undo_running(),
            {"do": "remove_shm", "folder": str(self.folder), "shm_list": self._children.shm_list},
            self._children.undo_make(),
        )

    def _undo_running(self) -> tuple[Step, ...]:
        return ({"do": "kill", "service": "", **self._scope()}, *self.storage.undo_up())

    def up(self, progress: Progress) -> None:
        """Proxies first, then every service at once; returns when all are ready."""
        for attempt in range(1, CLASH_TRIES + 1):
            try:
                self._up_once(progress)
                break
            except PortTaken:
                if attempt == CLASH_TRIES:
                    raise
                self.play(self.undo_up())
                self._block.release()
                self._block = self._reserve()
        self.raised = True

    def down(self) -> None:
        """End every process of the stack and see its ports closed; data folders stay."""
        self.raised = False
        self.play(self._undo_running())
        self._see_ports_closed()  # while nobody else may take them
        self._block.release()

    def forget_remains(self) -> None:
        """Remove shared memory and data folders; nothing of the stack may run any more."""
        self.play(self.undo_up())
        self.raised = False
        self._block.release()

    def play(self, steps: tuple[Step, ...]) -> None:
        """Play undo steps in this process; tries all of them, then raises for those failed."""
        troubles = []
        for step in steps:
            try:
                reaper.play_step(step)
            except reaper.StepFailed as failure:
                troubles.append(str(failure))
        if troubles:
            raise RuntimeFailure("; ".join(troubles))

    # ------------------------------------------------------------ seeing

    def lost(self) -> str:
        """The proxy server, when it is gone: no fault of ours ends it."""
        if not self.raised or self.identity(PROXIES):
            return self.storage.lost() if self.raised else ""
        return f"the proxies of all links ended in the middle of the run; see {self.log(PROXIES)}"

    def identity(self, service: str) -> str:
        """`pid/start` of the service's root process; '' when that is gone."""
        root = reaper.read_pidfile(self._scope(service)["pidfile"])
        return f"{root[0]}/{root[1]}" if root and reaper.lives(*root) else ""

    def state(self, service: str) -> State:
        """gone: no process at all; paused: every process is stopped; else running."""
        reaper.bury()
        found = reaper.find(self._scope(service))
        if not found:
            return "gone"
        return "paused" if all(seen.state in "Tt" for seen in found.values()) else "running"

    def health(self, service: str) -> Health:
        """Ask the service itself; a paused or gone one is `silent`."""
        ready = self.stack.service(service).ready
        return ask_health(self.address(service, ready.port), ready.path)

    def address(self, service: str, port: str) -> Address:
        """Where the service listens; the same before and after a restart."""
        self.stack.service(service).port(port)
        return Address(HOST, self._block.port(1 + self._names.index((service, port))))

    def link_address(self, link: str) -> Address:
        """Where the link's proxy listens."""
        self.stack.link(link)
        return Address(HOST, self._block.port(1 + len(self._names) + self._links.index(link)))

    # ------------------------------------------------------------ services

    def kill(self, service: str) -> None:
        """SIGKILL to every process of the service until none is left."""
        self._guarded(reaper.kill, self._scope(service))

    def pause(self, service: str) -> None:
        """SIGSTOP to every process of the service until all are stopped."""
        self._guarded(reaper.freeze, self._scope(service))

    def resume(self, service: str) -> None:
        """SIGCONT to every process of the service until all run."""
        self._guarded(reaper.thaw, self._scope(service))

    def stop(self, service: str) -> None:
        """SIGTERM to the root process, `stop_s` for it to end, then SIGKILL to what is left."""
        scope = self._scope(service)
        self._guarded(reaper.thaw, scope)  # a paused service cannot hear
        if root := reaper.read_pidfile(scope["pidfile"]):
            reaper.send(*root, signal.SIGTERM)
            _await(lambda: not reaper.lives(*root), self.stack.service(service).stop_s)
            _await(lambda: self.state(service) == "gone", STRAGGLER_S)
        self.kill(service)

    def start(self, service: str) -> None:
        """Start the service in its own data folder, on its own ports."""
        self.play(self.undo_kill(service))

    def undo_kill(self, service: str) -> tuple[Step, ...]:
        """Start it again."""
        return (self._spawn_step(self.stack.service(service)),)

    def undo_pause(self, service: str) -> tuple[Step, ...]:
        """Thaw it."""
        return ({"do": "thaw", **self._scope(service)},)

    at_once = 1  # processes are work for one core: side by side they only hinder each other
    abilities = frozenset({STORAGE})
    prepare_clocks, set_clock, clock = bare.prepare_clocks, bare.set_clock, bare.clock
    undo_set_clock, limits, set_limits = bare.undo_set_clock, bare.limits, bare.set_limits
    pressure, undo_set_limits = bare.pressure, bare.undo_set_limits
    disconnect, undo_disconnect = bare.disconnect, bare.undo_disconnect

    # ------------------------------------------------------------ links

    def proxy_api(self, link: str) -> Address:
        """One server holds the proxies of all links."""
        self.stack.link(link)
        return Address(HOST, self._block.port(0))

    add_toxic, toxics, toxic_kinds = over.add_toxic, over.toxics, over.toxic_kinds
    toxic_record, set_link = over.toxic_record, over.set_link
    link_closed_by, link_enabled = over.link_closed_by, over.link_enabled
    look_at_link = over.look_at_link
    undo_toxics, undo_set_link = over.undo_toxics, over.undo_set_link

    # ------------------------------------------------------------ inside

    def _reserve(self) -> PortBlock:
        return reserve(1 + len(self._names) + len(self._links), self._seed)

    def _guarded(self, verb: Callable[[Step], object], scope: Step) -> None:
        try:
            verb(scope)
        except reaper.StepFailed as failure:
            raise RuntimeFailure(str(failure)) from failure

    def _scope(self, service: str = "") -> dict[str, object]:
        """How the reaper finds the processes of one service, or of the whole stack."""
        own = not service or service == PROXIES
        data = None if own else self.storage.folder_of(self.stack.service(service))
        return self._children.scope(service, data)

    def _undo_by_restart(self, service: str, identity: str) -> tuple[Step, ...]:
        return ({"do": "kill", **self._scope(service), "only": identity},)

    def _spawn_step(self, service: Service) -> dict[str, object]:
        found = env.of_service(self.stack, service, self.address, self.link_address)
        own = {**found, **self._own_env(service)}
        if data := self.storage.folder_of(service):
            own["DATA_DIR"] = str(data)
        return self._children.spawn(service.name, service.command, own)

    def _own_env(self, service: Service) -> dict[str, str]:
        return {
            "STACK_TEMPLATE": str(self._template),
            "STOP_S": f"{service.stop_s:g}",
            **self.stack.env,
            **service.env,
        }

    def _up_once(self, progress: Progress) -> None:
        self._make_folders()
        self.storage.up(self.play, progress)
        self._raise_proxies(progress)
        for service in self.stack.services:
            for port in service.ports:
                self._block.let_go(self.address(service.name, port.name).port)
            self.start(service.name)
            progress(service.name, "starting")
        await_all(self, progress)

    def _make_folders(self) -> None:
        self._children.make(PROXIES, *(s.name for s in self.stack.services))
        try:
            self._template.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RuntimeFailure(f"cannot make {self._template}: {error}") from error

    def _raise_proxies(self, progress: Progress) -> None:
        port = self._block.port(0)
        command = [word.format(host=HOST, port=port) for word in self._toxiproxy]
        proxies = over.client(Address(HOST, port))
        self._block.let_go(port)
        self.play((self._children.spawn(PROXIES, command, {}),))
        progress(PROXIES, "starting")
        deadline = time.monotonic() + PROXIES_READY_S
        while True:
            try:
                proxies.version()
                break
            except ToxiproxyError as error:
                self.fail_if_dead(PROXIES)
                if time.monotonic() > deadline:
                    raise NotReady(f"{error}; see {self.log(PROXIES)}") from error
                time.sleep(POLL_S)
        wanted = []
        for link in self.stack.links:
            listen = self.link_address(link.name)
            self._block.let_go(listen.port)
            upstream = self.address(link.target, link.port)
            wanted.append(ProxyValue(link.name, str(listen), str(upstream)))
        try:
            proxies.populate(wanted)
        except ToxiproxyError as error:
            clash = any(word in str(error) for word in CLASH_WORDS)
            raise (PortTaken if clash else NotReady)(str(error)) from error
        progress(PROXIES, "ready")

    def fail_if_dead(self, service: str) -> None:
        """NotReady (or PortTaken) with its last log line when its root process has ended."""
        reaper.bury()
        if self.identity(service):
            return
        line = _last_line(self.log(service))
        kind = PortTaken if any(word in line for word in CLASH_WORDS) else NotReady
        raise kind(f"{service} ended while starting: {line} (see {self.log(service)})")

    def last_words(self, service: str) -> str:
        """The last line of its log, and where that lies."""
        return f"last log line: {_last_line(self.log(service))} (see {self.log(service)})"

    def _see_ports_closed(self) -> None:
        deadline = time.monotonic() + PORTS_CLOSED_S
        left = list(range(self._block.first, self._block.first + self._block.count))
        while left := [port for port in left if _accepts(port)]:
            if time.monotonic() > deadline:
                raise RuntimeFailure(f"port {left[0]} still answers; look with `ss -ltnp`")
            time.sleep(POLL_S)


def _await(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def _accepts(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as wire:
        wire.settimeout(0.2)
        return wire.connect_ex((HOST, port)) == 0


def _toxiproxy_command() -> tuple[str, ...]:
    """A real server where one is on PATH, else the embedded one."""
    if real := shutil.which("toxiproxy-server"):
        return (real, "-host", "{host}", "-port", "{port}")
    return (sys.executable, "-m", "chaos.toxiproxy", "--host", "{host}", "--port", "{port}")


def _template_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache).absolute() / "hospital-chaos" / "template"


def _last_line(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line]
    except OSError:
        return "(no log)"
    return lines[-1][-400:] if lines else "(its log is empty)"
