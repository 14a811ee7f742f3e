"""Raises the real database pair with its witness as plain local processes, without proxies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import psycopg

from stacks.hospital import postgres
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
A, B, WITNESS = "ehr-db-a", "ehr-db-b", "ehr-db-witness"
PORTS = {
    A: ("postgres", "rest", "raft"),
    B: ("postgres", "rest", "raft"),
    WITNESS: ("raft", "http"),
}
MODULES = {A: "database", B: "database", WITNESS: "witness"}
POLL_S = 0.05
Found = TypeVar("Found")


class Forwarder:
    """A link: forwards TCP both ways until it is cut (then it refuses and drops everything).

    Hushed it goes on accepting and keeps every connection open, but carries nothing.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.passing = True
        self.carried_bytes = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def in_use(self) -> bool:
        return bool(self._open)

    def cut(self) -> None:
        self.passing = False
        with self._lock:
            ends = list(self._open)
        for end in ends:
            _shut(end)

    def hush(self) -> None:
        self._flowing.clear()

    def heal(self) -> None:
        self.passing = True
        self._flowing.set()

    def close(self) -> None:
        self.cut()
        self._flowing.set()
        _shut(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self.passing:
                    raise ConnectionError("cut")
                far = socket.create_connection(self._target, timeout=2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            if not self.passing:  # cut while it was dialled
                _shut(near)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                self._flowing.wait()
                self.carried_bytes += len(data)
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            _shut(end)
        with self._lock:
            self._open -= {one, other}


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Pair:
    """Two database nodes and their witness; `kill` and friends reach a whole process tree."""

    def __init__(
        self,
        folder: Path,
        template: Path,
        bug: str = "",
        proxied: bool = False,
        votes: str = "raft",
    ) -> None:
        self.folder, self.template, self.bug, self.votes = folder, template, bug, votes
        self.addresses = {
            (service, port): ("127.0.0.1", free_port())
            for service, ports in PORTS.items() for port in ports
        }  # fmt: skip
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        self.links: dict[tuple[str, str, str], Forwarder] = {}
        if proxied:
            for source in PORTS:
                for (target, port), place in self.addresses.items():
                    if source != target and port != "http":
                        self.links[source, target, port] = Forwarder(place)

    def link(self, source: str, target: str, port: str) -> str:
        """Where `source` calls `port` of `target`: the forwarder's address, if there is one."""
        forwarder = self.links.get((source, target, port))
        host, number = forwarder.address if forwarder else self.addresses[target, port]
        return f"{host}:{number}"

    def links_in_use(self) -> int:
        return sum(forwarder.in_use for forwarder in self.links.values())

    def cut(self, service: str, *others: str) -> None:
        """Cut every link between the service and the others (all, if none is named)."""
        for (source, target, _), forwarder in self.links.items():
            ends = {source, target}
            if service in ends and (not others or ends & set(others)):
                forwarder.cut()

    def heal(self) -> None:
        for forwarder in self.links.values():
            forwarder.heal()

    def environment(self, service: str) -> Mapping[str, str]:
        own = {
            "SERVICE_NAME": service,
            "SERVICE_ROOM": service[-1].upper(),
            "DATA_DIR": str(self.folder / service),
            "STACK_TEMPLATE": str(self.template),
            "HOSPITAL_BUG": self.bug,
            "HOSPITAL_DCS": self.votes,
            "PYTHONPATH": str(ROOT),
        }
        for (other, port), (host, number) in self.addresses.items():
            if other == service:
                own[_variable("BIND", port)] = f"{host}:{number}"
                if service != WITNESS:
                    peer = B if service == A else A
                    own[_variable("FRONT", peer, port)] = self.link(peer, service, port)
            elif port == "raft" or (service != WITNESS and other != WITNESS):
                own[_variable("LINK", other, port)] = self.link(service, other, port)
                own[_variable("TARGET", other, port)] = f"{host}:{number}"
        return {**os.environ, **own}

    def start(self, *services: str) -> None:
        for service in services or tuple(PORTS):
            data = self.folder / service
            data.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{service}.log").open("ab") as log:
                self.started[service] = subprocess.Popen(
                    [sys.executable, "-m", f"stacks.hospital.{MODULES[service]}"],
                    cwd=data,
                    env=dict(self.environment(service)),
                    stderr=log,
                    stdout=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )

    def processes(self, service: str) -> list[int]:
        """Every process whose working directory lies inside the service's data folder."""
        data, found = str(self.folder / service), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    inside = os.readlink(entry / "cwd")
                    zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                except OSError:
                    continue
                if not zombie and (inside == data or inside.startswith(data + "/")):
                    found.append(int(entry.name))
        return found

    def callees(self, service: str) -> list[tuple[str, int]]:
        """(host, port) of every connection of its processes; one that ends meanwhile has none."""
        found = list[tuple[str, int]]()
        for pid in self.processes(service):
            with suppress(psutil.NoSuchProcess):
                found += [
                    (one.raddr.ip, one.raddr.port)
                    for one in psutil.Process(pid).net_connections("tcp") if one.raddr
                ]  # fmt: skip
        return found

    def signal(self, service: str, number: signal.Signals) -> None:
        for pid in self.processes(service):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self, service: str) -> None:
        deadline = time.monotonic() + 5
        while self.processes(service) and time.monotonic() < deadline:
            self.signal(service, signal.SIGKILL)
        assert not self.processes(service)
        if service in self.started:
            self.started[service].wait(5)

    def rest(self, service: str, path: str) -> tuple[int, Any]:
        port = "http" if service == WITNESS else "rest"
        host, number = self.addresses[service, port]
        try:
            with urllib.request.urlopen(f"http://{host}:{number}{path}", timeout=2) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, None
        except (OSError, ValueError):
            return 0, None

    def is_primary(self, service: str) -> bool:
        return self.rest(service, "/primary")[0] == 200

    def synchronous(self, primary: str = A, standby: str = B) -> bool:
        """Both say so: a standby that slept answers what it knew before."""
        if not self.is_primary(primary) or self.rest(standby, "/synchronous")[0] != 200:
            return False
        members = (self.rest(primary, "/cluster")[1] or {}).get("members", ())
        return any(one["name"] == standby and one["role"] == "sync_standby" for one in members)

    def connect(self, *services: str, options: str = "") -> psycopg.Connection[Any]:
        places = [self.addresses[s, "postgres"] for s in services or (A, B)]
        mode = "any" if services else "read-write"
        text = postgres.dsn(*places, target_session_attrs=mode)
        return psycopg.connect(text, autocommit=True, options=options or None)

    def query(self, service: str, statement: str) -> Any:
        """The first value of the first row, or None when the node does not answer."""
        try:
            with self.connect(service) as connection:
                row = connection.execute(statement.encode()).fetchone()
        except psycopg.Error:
            return None
        return row[0] if row else None

    def write(self, key: str, *services: str) -> bool:
        """One row committed and acknowledged without doubt (a warning counts as doubt)."""
        warned: list[Any] = []
        try:
            with self.connect(*services, options="-c statement_timeout=2500") as connection:
                connection.add_notice_handler(warned.append)
                connection.execute("INSERT INTO ledger VALUES (%s)", (key,))
        except psycopg.Error:
            return False
        return not warned

    def keys(self, service: str) -> set[str]:
        with self.connect(service) as connection:
            return {row[0] for row in connection.execute("SELECT key FROM ledger")}

    def down(self) -> None:
        for service in PORTS:
            self.signal(service, signal.SIGCONT)
            self.kill(service)
        for forwarder in self.links.values():
            forwarder.close()


def until(what: str, within_s: float, ask: Callable[[], Found | None]) -> Found:
    """Poll `ask` until it answers something true, and fail with `what` after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(POLL_S)


def _variable(prefix: str, *names: str) -> str:
    return "_".join((prefix, *names)).upper().replace("-", "_")
