"""Runtime `process`: a stack as local processes on loopback ports, as root or not.

It starts nothing before `undo_up` could be put on disk, and finds processes by what they are
(working folder, environment, recorded root), never by a handle that dies with the harness.
"""

from __future__ import annotations

import os
import queue
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos import reaper
from chaos.runtime import (
    Address,
    Health,
    LinkLook,
    NotReady,
    Progress,
    RuntimeFailure,
    State,
    Step,
    Toxic,
    ToxicRecord,
)
from chaos.runtime import surroundings as env
from chaos.runtime.health import ask_health
from chaos.runtime.link_probe import look
from chaos.runtime.ports import HOST, PortBlock, reserve
from chaos.stack import Service, Stack
from chaos.toxiproxy.client import ProxyValue, ToxicValue, Toxiproxy, ToxiproxyError

PROXIES = "_toxiproxy"  # the proxy server's name among the processes of a stack
PROXIES_READY_S = 10.0
POLL_S = 0.05  # between two looks at a service that is not ready yet
ASK_S = 1.0  # one readiness question
DEGRADED_S = 8.0  # a service that stays degraded so long while all rise is taken as it is
CLASH_TRIES = 3  # a port that somebody took meanwhile: the stack moves to another block
PORTS_CLOSED_S = 2.0
LOOK_S = 0.005  # between two looks at processes that are about to end
STRAGGLER_S = 0.5  # children may end a moment after their stopped root
BORN_SLACK_TICKS = 100  # clocks of the kernel may round
SOCKET_ROOM = 40  # characters of TMPDIR that leave room for PostgreSQL's socket paths
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
        self.folder = Path(_short_temp()) / f"hc-{self.id}"
        self.logs = run_folder.absolute() / "logs"
        self._born = max(0, reaper.ticks_now() - BORN_SLACK_TICKS)
        self._seed = seed
        self._toxiproxy = tuple(toxiproxy) if toxiproxy else _toxiproxy_command()
        self._names = [(s.name, p.name) for s in stack.services for p in s.ports]
        self._links = [link.name for link in stack.links]
        self._block = self._reserve()
        self._template = _template_folder()

    # ------------------------------------------------------------ up and down

    def undo_up(self) -> tuple[Step, ...]:
        """End every process of the stack, remove its shared memory and its folder."""
        return (
            {"do": "kill", "service": "", **self._scope()},
            {"do": "remove_shm", "folder": str(self.folder), "shm_list": self._shm_list()},
            {"do": "remove_tree", "folder": str(self.folder), "id": self.id},
        )

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
        self.play(self.undo_up()[:1])
        self._block.release()
        self._see_ports_closed()

    def forget_remains(self) -> None:
        """Remove shared memory and data folders; nothing of the stack may run any more."""
        self.play(self.undo_up())
        self.raised = False
        self._block.release()

    def play(self, steps: tuple[Step, ...]) -> None:
        """Play undo steps in this process; tries all of them, then raises for the first failed."""
        troubles = []
        for step in steps:
            try:
                reaper.play_step(step)
            except reaper.StepFailed as failure:
                troubles.append(str(failure))
        if troubles:
            raise RuntimeFailure("; ".join(troubles))

    # ------------------------------------------------------------ seeing

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

    def log(self, service: str) -> Path:
        """The service's own log file (stdout and stderr)."""
        return self.logs / f"{service}.log"

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

    # ------------------------------------------------------------ links

    @property
    def proxies(self) -> Toxiproxy:
        """Bounded client of the stack's proxy server."""
        return Toxiproxy(HOST, self._block.port(0), reaper.ask)

    def add_toxic(self, link: str, toxic: Toxic, expires_s: float) -> None:
        """Put a toxic on the link's proxy."""
        value = ToxicValue(
            toxic.name, toxic.type, dict(toxic.attributes), toxic.stream, toxic.toxicity
        )
        try:
            self.proxies.add_toxic(self.stack.link(link).name, value, expires_s)
        except ToxiproxyError as error:
            raise RuntimeFailure(str(error)) from error

    def toxics(self, link: str) -> tuple[str, ...]:
        """Names of the toxics on the link's proxy, asked now."""
        try:
            return tuple(t.name for t in self.proxies.toxics(self.stack.link(link).name))
        except ToxiproxyError as error:
            raise RuntimeFailure(str(error)) from error

    def toxic_kinds(self) -> tuple[str, ...]:
        """What the stack's proxy server knows, asked now."""
        try:
            return self.proxies.kinds()
        except ToxiproxyError as error:
            raise RuntimeFailure(str(error)) from error

    def toxic_record(self, link: str, name: str) -> ToxicRecord | None:
        """As the link's proxy keeps it, asked now."""
        try:
            found = self.proxies.records(self.stack.link(link).name).get(name)
        except ToxiproxyError as error:
            raise RuntimeFailure(str(error)) from error
        return None if found is None else _record(found)

    def set_link(self, link: str, enabled: bool, expires_s: float = 0.0, by: str = "") -> None:
        """Close or open the link's proxy."""
        try:
            self.proxies.set_enabled(self.stack.link(link).name, enabled, expires_s, by)
        except ToxiproxyError as error:
            raise RuntimeFailure(str(error)) from error

    def link_closed_by(self, link: str) -> tuple[str, ...]:
        """As the link's proxy says, asked now; '' stands for a caller without a name."""
        try:
            proxy = self.proxies.proxy(self.stack.link(link).name)
        except ToxiproxyError as error:
            raise RuntimeFailure(str(error)) from error
        return () if proxy.enabled else proxy.closed_by or ("",)

    def link_enabled(self, link: str) -> bool:
        """Whether the link's proxy says that it is open, asked now."""
        try:
            return self.proxies.proxy(self.stack.link(link).name).enabled
        except ToxiproxyError as error:
            raise RuntimeFailure(str(error)) from error

    def look_at_link(
        self, link: str, within_s: float, poke: bool = False, padding: int = 0, to_end: bool = False
    ) -> LinkLook:
        """One real connection through the link's proxy."""
        k = self.stack.link(link)
        protocol = self.stack.service(k.target).port(k.port).protocol
        return look(self.link_address(link), protocol, within_s, poke, padding, to_end)

    def undo_toxics(self, link: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """Remove these toxics; the last resort recreates the proxy."""
        return ({"do": "clear_toxics", "toxics": list(names), **self._proxy_step(link)},)

    def undo_set_link(self, link: str, by: str = "") -> tuple[Step, ...]:
        """Open the link's proxy, or let go of it; the last resort recreates it."""
        named = {"by": by} if by else {}
        return ({"do": "open_proxy", **named, **self._proxy_step(link)},)

    # ------------------------------------------------------------ inside

    def _reserve(self) -> PortBlock:
        return reserve(1 + len(self._names) + len(self._links), self._seed)

    def _guarded(self, verb: Callable[[Step], object], scope: Step) -> None:
        try:
            verb(scope)
        except reaper.StepFailed as failure:
            raise RuntimeFailure(str(failure)) from failure

    def _shm_list(self) -> str:
        return str(self.folder / ".run" / "shm")

    def _scope(self, service: str = "") -> dict[str, object]:
        """How the reaper finds the processes of one service, or of the whole stack."""
        scope: dict[str, object] = {
            "folder": str(self.folder),
            "marks": [f"{env.MARK}={self.id}"],
            "shm_list": self._shm_list(),
            "born": self._born,
        }
        if service:
            if service != PROXIES:
                self.stack.service(service)
            scope |= {
                "service": service,
                "folder": str(self.folder / service),
                "marks": [f"{env.MARK}={self.id}", f"SERVICE_NAME={service}"],
                "pidfile": str(self.folder / ".run" / f"{service}.pid"),
            }
        return scope

    def _proxy_step(self, link: str) -> dict[str, object]:
        k = self.stack.link(link)
        return {
            "api": [HOST, self._block.port(0)],
            "proxy": k.name,
            "listen": str(self.link_address(link)),
            "upstream": str(self.address(k.target, k.port)),
        }

    def _spawn_step(self, service: Service) -> dict[str, object]:
        found = env.of_service(self.stack, service, self.address, self.link_address)
        return self._spawn(service.name, service.command, {**found, **self._own_env(service)})

    def _own_env(self, service: Service) -> dict[str, str]:
        return {
            "STACK_TEMPLATE": str(self._template),
            "STOP_S": f"{service.stop_s:g}",
            **self.stack.env,
            **service.env,
        }

    def _spawn(
        self, name: str, command: Sequence[str], own: dict[str, str]
    ) -> dict[str, object]:  # fmt: skip
        folder = self.folder / name
        return {
            "do": "spawn",
            "service": name,
            "argv": [sys.executable if word == "{python}" else word for word in command],
            "env": {
                **env.ambient(os.environ),
                "PYTHONPATH": _with_harness(os.environ.get("PYTHONPATH", "")),
                "PYTHONUNBUFFERED": "1",
                **own,
                "SERVICE_NAME": name,
                "DATA_DIR": str(folder),
                env.MARK: self.id,
            },
            "cwd": str(folder),
            "log": str(self.log(name)),
            "pidfile": str(self.folder / ".run" / f"{name}.pid"),
        }

    def _up_once(self, progress: Progress) -> None:
        self._make_folders()
        self._raise_proxies(progress)
        for service in self.stack.services:
            for port in service.ports:
                self._block.let_go(self.address(service.name, port.name).port)
            self.start(service.name)
            progress(service.name, "starting")
        self._await_all(progress)

    def _make_folders(self) -> None:
        try:
            self.folder.mkdir(mode=0o700)
            (self.folder / reaper.GUARD).write_text(self.id, "ascii")
            for name in (".run", PROXIES, *(s.name for s in self.stack.services)):
                (self.folder / name).mkdir()
            self.logs.mkdir(parents=True, exist_ok=True)
            self._template.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RuntimeFailure(
                f"cannot make the stack's folders: {error}; is the disk full, or the path not ours?"
            ) from error

    def _raise_proxies(self, progress: Progress) -> None:
        port = self._block.port(0)
        command = [word.format(host=HOST, port=port) for word in self._toxiproxy]
        self._block.let_go(port)
        self.play((self._spawn(PROXIES, command, {}),))
        progress(PROXIES, "starting")
        deadline = time.monotonic() + PROXIES_READY_S
        while True:
            try:
                self.proxies.version()
                break
            except ToxiproxyError as error:
                self._fail_if_dead(PROXIES)
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
            self.proxies.populate(wanted)
        except ToxiproxyError as error:
            clash = any(word in str(error) for word in CLASH_WORDS)
            raise (PortTaken if clash else NotReady)(str(error)) from error
        progress(PROXIES, "ready")

    def _await_all(self, progress: Progress) -> None:
        """One watcher per service; the first failure ends the wait at once."""
        results: queue.Queue[tuple[str, NotReady | None]] = queue.Queue()
        over = threading.Event()
        for service in self.stack.services:
            threading.Thread(
                target=self._watch, args=(service, over, results, progress), daemon=True
            ).start()
        try:
            for _ in self.stack.services:
                _, failure = results.get()  # bounded: each watcher ends within `within_s`
                if failure:
                    raise failure
        finally:
            over.set()

    def _watch(
        self,
        service: Service,
        over: threading.Event,
        results: queue.Queue[tuple[str, NotReady | None]],
        progress: Progress,
    ) -> None:
        try:
            status = self._await_ready(service, over)
            progress(service.name, status)
            results.put((service.name, None))
        except NotReady as failure:
            results.put((service.name, failure))
        except Exception as error:  # a watcher that dies silently would hang the wait
            results.put((service.name, NotReady(f"{service.name}: {error}")))

    def _await_ready(self, service: Service, over: threading.Event) -> str:
        address = self.address(service.name, service.ready.port)
        deadline = time.monotonic() + service.ready.within_s
        degraded_since = None
        while True:
            self._fail_if_dead(service.name)
            health = ask_health(address, service.ready.path, ASK_S)
            now = time.monotonic()
            if health.status == "ready":
                return "ready"
            if health.status != "degraded":
                degraded_since = None
            elif degraded_since is None:
                degraded_since = now
            elif now - degraded_since > DEGRADED_S:
                return "degraded"
            if now > deadline:
                said = health.reason or health.status
                raise NotReady(
                    f"{service.name} was not ready within {service.ready.within_s:g} s: {said}; "
                    f"last log line: {_last_line(self.log(service.name))} "
                    f"(see {self.log(service.name)})"
                )
            if over.wait(POLL_S):
                return "starting"

    def _fail_if_dead(self, service: str) -> None:
        reaper.bury()
        if self.identity(service):
            return
        line = _last_line(self.log(service))
        kind = PortTaken if any(word in line for word in CLASH_WORDS) else NotReady
        raise kind(f"{service} ended while starting: {line} (see {self.log(service)})")

    def _see_ports_closed(self) -> None:
        deadline = time.monotonic() + PORTS_CLOSED_S
        left = list(range(self._block.first, self._block.first + self._block.count))
        while left := [port for port in left if _accepts(port)]:
            if time.monotonic() > deadline:
                raise RuntimeFailure(f"port {left[0]} still answers; look with `ss -ltnp`")
            time.sleep(POLL_S)


def _record(shown: Mapping[str, Any]) -> ToxicRecord:
    """A record as the embedded proxy's API shows it."""
    counts = ("seen", "acted", "answered", "again", "moved_on", "closed", "unread")
    latest = tuple(_told(act) for act in shown.get("acts") or ())
    return ToxicRecord(**{name: int(shown.get(name, 0)) for name in counts}, latest=latest)


def _told(act: Mapping[str, Any]) -> str:
    answer = f"answered {act['answer']}" if act["answer"] else "not answered by the receiver"
    return f"{act['of']} ({answer}), then {' and '.join(act['then']) or 'nothing yet'}"


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


def _short_temp() -> str:
    """A temp folder whose real path leaves room for Unix socket paths (107 bytes)."""
    place = os.path.realpath(tempfile.gettempdir())
    return place if len(place) <= SOCKET_ROOM else os.path.realpath("/tmp")


def _template_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache).absolute() / "hospital-chaos" / "template"


def _with_harness(path: str) -> str:
    """PYTHONPATH by which a service finds the same code as we did, wherever its folder is."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([here, path] if path else [here])


def _last_line(log: Path) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line]
    except OSError:
        return "(no log)"
    return lines[-1][-400:] if lines else "(its log is empty)"
