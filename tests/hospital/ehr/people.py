"""Those around the record in its tests: an engine that takes orders, and nodes as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from stacks.hospital import fhir
from stacks.hospital.wire import hl7
from stacks.hospital.wire.mllp import Frame, MllpServer
from tests.ports import free_port

from .cluster import REPO

WAIT_S = 15.0
T = TypeVar("T")


def until(what: str, look: Callable[[], T], wait_s: float = WAIT_S) -> T:
    """What `look` finds, as soon as it is true."""
    deadline = time.monotonic() + wait_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {wait_s} s: {what}"
        time.sleep(0.02)


class Engine:
    """Takes messages over MLLP in a thread of its own; `refuse` answers instead of accepting."""

    def __init__(self) -> None:
        self.port = free_port()
        self.taken: list[hl7.Message] = []
        self.refuse: hl7.Hl7Error | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: MllpServer | None = None
        self._thread: threading.Thread | None = None

    async def _answer(self, frame: Frame) -> Sequence[bytes]:
        try:
            message = hl7.parse(frame.payload)
        except hl7.Hl7Error as unknown:
            header = hl7.parse_header(frame.payload)
            return hl7.replies(header, unknown, "ENGINE", application=False)
        if self.refuse is None:
            self.taken.append(message)
        return hl7.replies(message.header, self.refuse, "ENGINE", application=False)

    def start(self) -> None:
        """Listen (again)."""
        started = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._server = MllpServer(self._answer)
            await self._server.start("127.0.0.1", self.port)
            self._stop = asyncio.Event()
            started.set()
            await self._stop.wait()
            await self._server.stop()

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        self._thread.start()
        assert started.wait(5)

    def stop(self) -> None:
        """Go away."""
        if self._thread is not None and self._thread.is_alive():
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(5)

    def orders(self) -> list[str]:
        """The placer numbers taken, in order, repetitions included."""
        return [one.body.placer for one in self.taken if isinstance(one.body, hl7.Order)]


class Ehr:
    """One ehr node as its own process."""

    def __init__(
        self, name: str, folder: Path, databases: Sequence[int], engine: int, bug: str = ""
    ) -> None:
        self.name, self.http, self.mllp = name, free_port(), free_port()
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = {
            "SERVICE_NAME": name,
            "SERVICE_ROOM": "A",
            "DATA_DIR": str(self.folder),
            "BIND_HTTP": f"127.0.0.1:{self.http}",
            "BIND_MLLP": f"127.0.0.1:{self.mllp}",
            "LINK_ENGINE_MLLP": f"127.0.0.1:{engine}",
            "HOSPITAL_BUG": bug,
            "PYTHONPATH": str(REPO),
            "PATH": os.environ["PATH"],
        }
        for letter, port in zip("AB", databases, strict=False):
            self.environment[f"LINK_EHR_DB_{letter}_POSTGRES"] = f"127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.http}", timeout=8)

    def start(self, ready: bool = True) -> None:
        """Start, and wait until it is ready (writes and all)."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stacks.hospital.ehr"],
                cwd=self.folder,
                env=self.environment,
                stderr=log,
            )
        if ready:
            until(f"{self.name} ready", lambda: self.health()["status"] == "ready")

    def health(self) -> dict[str, Any]:
        """What it says about itself; {"status": "away"} if it does not answer."""
        try:
            answer = self.client.get("/health")
        except httpx.TransportError:
            return {"status": "away"}
        return {**answer.json(), "code": answer.status_code}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(15)

    def log(self) -> str:
        """Its whole log."""
        return (self.folder / "log").read_text()

    def post(
        self, resource: dict[str, Any], conditional: bool = True, **headers: str
    ) -> httpx.Response:
        """Create a resource; with If-None-Exist on its business key unless told otherwise."""
        type_ = resource["resourceType"]
        if conditional:
            system = fhir.KEY_SYSTEMS[type_]
            value = next(i["value"] for i in resource["identifier"] if i["system"] == system)
            headers["If-None-Exist"] = f"identifier={system}|{value}"
        return self.client.post(f"/fhir/{type_}", json=resource, headers=headers)

    def tell(self, body: hl7.Adt | hl7.Report, control_id: str = "") -> hl7.Ack:
        """Send one HL7 message as the engine does; its acknowledgement."""
        header = hl7.Header(
            control_id or hl7.new_control_id(), sender="ENGINE", receiver="EHR", at=time.time()
        )
        return self.tell_bytes(hl7.build(header, body))

    def tell_bytes(self, payload: bytes) -> hl7.Ack:
        """Send these bytes in a frame; the acknowledgement."""
        with socket.create_connection(("127.0.0.1", self.mllp), timeout=8) as connection:
            connection.sendall(b"\x0b" + payload + b"\x1c\r")
            received = b""
            while not received.endswith(b"\x1c\r"):
                more = connection.recv(65536)
                assert more, "closed without acknowledgement"
                received += more
        return hl7.parse_ack(received.strip(b"\x0b\x1c\r"))

    def chart(self, mrn: str) -> list[dict[str, Any]]:
        """The resources of a patient's chart."""
        answer = self.client.get(f"/fhir/Patient/{mrn}/$everything")
        assert answer.status_code == 200, answer.text
        return [entry["resource"] for entry in answer.json()["entry"]]

    def export(self) -> list[dict[str, Any]]:
        """Every record."""
        lines = self.client.get("/export").text.splitlines()
        return [json.loads(line) for line in lines]


def order(placer: str, mrn: str, stat: bool = False) -> dict[str, Any]:
    """A laboratory order."""
    return {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "identifier": [{"system": fhir.PLACER, "value": placer}],
        "priority": "stat" if stat else "routine",
        "code": {"coding": [{"code": "NA"}, {"code": "K"}]},
        "subject": {"reference": f"Patient/{mrn}"},
    }


def patient(mrn: str, family: str = "Dubois") -> dict[str, Any]:
    """A patient."""
    return {
        "resourceType": "Patient",
        "identifier": [{"system": fhir.MRN, "value": mrn}],
        "name": [{"family": family, "given": ["Ana"]}],
        "birthDate": "1960-02-29",
    }


def admission(mrn: str, visit: str, event: str = "A01", ward: str = "W3") -> hl7.Adt:
    """A movement of an inpatient."""
    return hl7.Adt(event, mrn, "Dubois", "Ana", "19600229", "F", visit, ward, "IMP")


def report(
    specimen: str,
    placer: str,
    mrn: str,
    status: str = "final",
    value: str = "4.10",
    flag: str = "",
    at: float = 1000.0,
) -> hl7.Report:
    """A report with one potassium value."""
    values = (hl7.Value("K", value, "mmol/L", "3.5-5.1", flag),)
    return hl7.Report(specimen, placer, mrn, status, values, False, at)
