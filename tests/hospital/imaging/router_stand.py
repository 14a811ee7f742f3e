"""Plays archives and viewers over real DICOM, and starts router and modalities as processes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from pynetdicom import evt

from stacks.hospital.imaging import commitment
from stacks.hospital.imaging.association import (
    COMMITMENT,
    VERIFICATION,
    AssociationError,
    Listening,
    Scp,
    association,
    contexts,
    listen,
    received,
)
from stacks.hospital.imaging.buffer import BOUNDS
from stacks.hospital.imaging.buffer_wire import open_line
from stacks.hospital.imaging.instances import STORAGE, Encoded, Examination, encode, instance
from stacks.hospital.log import Log
from stacks.hospital.settings import Address
from tests.ports import free_port

from ..programs import Program

HOST = "127.0.0.1"
Decide = Callable[[Encoded, int], int | None]
"""(image, how often it came) → a status to answer with instead of keeping it; None = keep."""


def keep(_image: Encoded, _times: int) -> int | None:
    """Keeps everything."""
    return None


class Archive:
    """An archive that keeps data sets in memory and vouches for what it keeps."""

    def __init__(self, title: str, report_to: Address | None = None) -> None:
        self.title = title
        self.port = free_port()
        self.report_to = report_to
        self.kept: dict[str, bytes] = {}
        self.order: list[str] = []
        self.seen: Counter[str] = Counter()
        self.callers: Counter[str] = Counter()
        self.connections = 0
        self.vouches = True
        self.decide: Decide = keep
        self._scp: Scp | None = None
        self._lock = threading.Lock()

    @property
    def address(self) -> Address:
        return Address(HOST, self.port)

    def open(self) -> Archive:
        asked = contexts([VERIFICATION, *STORAGE.values(), COMMITMENT])
        handlers = [
            (evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action),
            (evt.EVT_ACCEPTED, self._accepted),
        ]  # fmt: skip
        self._scp = listen(Listening(self.title, self.address, asked, handlers), Log("test"))
        return self

    def close(self) -> None:
        if self._scp is not None:
            self._scp.stop()
            self._scp = None

    def _accepted(self, _: Any) -> None:
        self.connections += 1

    def _store(self, event: Any) -> int:
        image = received(event)
        with self._lock:
            self.seen[image.sop_uid] += 1
            times = self.seen[image.sop_uid]
        status = self.decide(image, times)
        if status is not None:
            return status
        with self._lock:
            if image.sop_uid not in self.kept:
                self.order.append(image.sop_uid)
            self.kept[image.sop_uid] = image.data
        return 0

    def _action(self, event: Any) -> tuple[int, None]:
        uid, items = commitment.requested(event.action_information)
        if self.vouches and self.report_to is not None:
            threading.Thread(target=self._report, args=(uid, items), daemon=True).start()
        return 0, None

    def _report(self, uid: str, items: Sequence[commitment.Item]) -> None:
        kept = tuple(one for one in items if one.sop_uid in self.kept)
        missing = tuple(one for one in items if one.sop_uid not in self.kept)
        assert self.report_to is not None
        report = commitment.Report(uid, kept, missing)
        with suppress(AssociationError):  # the router is being stopped: it asks again
            commitment.deliver(self.report_to, "DICOM_ROUTER", self.title, report, BOUNDS)


class Requester:
    """A modality's ear: keeps the reports of commitment that it is given."""

    def __init__(self, title: str = "MODALITIES") -> None:
        self.port = free_port()
        self.title = title
        self.reports: list[commitment.Report] = []
        self._scp: Scp | None = None

    def open(self) -> Requester:
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        listening = Listening(
            self.title, Address(HOST, self.port), contexts([VERIFICATION, COMMITMENT]), handlers
        )
        self._scp = listen(listening, Log("test"))
        return self

    def close(self) -> None:
        if self._scp is not None:
            self._scp.stop()
            self._scp = None

    def _take(self, event: Any) -> tuple[int, None]:
        self.reports.append(commitment.reported(event.event_information))
        return 0, None


def images(exam: str, count: int, modality: str = "CT", priority: str = "ROUTINE") -> list[Encoded]:
    one = Examination(exam, modality, f"M-{exam}", "Doe", "Jo", accession="A1", priority=priority)
    return [encode(instance(one, number)) for number in range(1, count + 1)]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def send(port: int, found: Sequence[Encoded], caller: str = "CT1") -> list[int]:
    """C-STORE them one after the other on one association; the statuses."""
    kinds = sorted({(one.sop_class, one.transfer_syntax) for one in found})
    line = open_line(Address(HOST, port), "DICOM_ROUTER", caller, kinds, BOUNDS)
    statuses = [line.store(one, number) for number, one in enumerate(found, 1)]
    line.release()
    return statuses


def ask(port: int, uid: str, found: Sequence[Encoded], caller: str = "MODALITIES") -> None:
    """N-ACTION: request commitment."""
    items = [commitment.Item(one.sop_class, one.sop_uid) for one in found]
    with association(
        Address(HOST, port), "DICOM_ROUTER", caller, contexts([COMMITMENT]), bounds=BOUNDS
    ) as open_:
        commitment.ask(open_, uid, items)


def router(
    folder: Path, links: dict[str, int], bug: str = "", dicom: int = 0, **extra: str
) -> tuple[Program, int]:
    """The router as a process (not started) and its DICOM port."""
    port = dicom or free_port()
    environment = {
        "SERVICE_NAME": "dicom-router", "SERVICE_ROOM": "imaging",
        "BIND_DICOM": f"{HOST}:{port}", "HOSPITAL_BUG": bug,
        **{f"LINK_{name}_DICOM": f"{HOST}:{to}" for name, to in links.items()}, **extra,
    }  # fmt: skip
    return _program("imaging.router", folder / "router", environment), port


def modalities(
    folder: Path, links: dict[str, int], bug: str = "", dicom: int = 0, speed: float = 600.0,
    **extra: str,
) -> tuple[Program, int]:  # fmt: skip
    """The scanners as a process (not started) and their DICOM port."""
    port = dicom or free_port()
    environment = {
        "SERVICE_NAME": "modalities", "SERVICE_ROOM": "imaging", "HOSPITAL_SPEED": str(speed),
        "BIND_DICOM": f"{HOST}:{port}", "HOSPITAL_BUG": bug,
        **{f"LINK_{name}_DICOM": f"{HOST}:{to}" for name, to in links.items()}, **extra,
    }  # fmt: skip
    return _program("imaging.modalities", folder / "modalities", environment), port


def _program(module: str, folder: Path, environment: dict[str, str]) -> Program:
    """A program whose console, too, has a port that stays free."""
    found = Program(module, folder, environment)
    found.http.close()
    found.port = free_port()
    found.url = f"http://{HOST}:{found.port}"
    found.http = httpx.Client(base_url=found.url, timeout=10)
    found.environment["BIND_HTTP"] = f"{HOST}:{found.port}"
    return found


def rows(program: Program) -> list[dict[str, Any]]:
    """The records of its export."""
    answer = program.http.get("/export")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]
