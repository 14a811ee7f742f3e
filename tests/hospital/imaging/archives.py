"""Starts one archive of either kind as its own process, sends it images, and plays a requester."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association

from stacks.hospital.imaging import orthanc
from stacks.hospital.imaging.association import (
    COMMITMENT,
    COMMITMENT_INSTANCE,
    AssociationError,
    AssociationLost,
    Bounds,
    Listening,
    association,
    contexts,
    listen,
    storage_contexts,
    store,
)
from stacks.hospital.imaging.instances import STORAGE, Encoded, Examination, encode, instance, uid
from stacks.hospital.log import Log
from stacks.hospital.settings import Address
from tests.hospital.programs import ROOT, until
from tests.ports import free_port

START_S = 20.0
USUAL = Bounds()
TITLE = "PACS_A"
KINDS = ("archive", "orthanc")


def usable(kind: str) -> str:
    """`kind`, or a skip with its reason."""
    if kind == "orthanc":
        if orthanc.installed() is None:
            pytest.skip("Orthanc or its DICOMweb plugin is not installed")
        if orthanc.compiler() is None:
            pytest.skip("no C compiler: Orthanc cannot be kept to its own address")
    return kind


class Archive:
    """One archive process; a context manager that ends it."""

    def __init__(self, kind: str, folder: Path, environment: Mapping[str, str] | None = None):
        self.kind, self.folder = kind, folder
        self.http, self.dicom = (Address("127.0.0.1", free_port()) for _ in range(2))
        self.log = folder.parent / f"{folder.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.module = "viewer" if kind == "viewer" else "pacs"
        self.environment = {
            **os.environ, "SERVICE_NAME": "pacs-a", "SERVICE_ROOM": "A", "DATA_DIR": str(folder),
            "BIND_HTTP": str(self.http), "BIND_DICOM": str(self.dicom), "PACS_KIND": kind,
            "PYTHONPATH": str(ROOT), **(environment or {}),
        }  # fmt: skip

    def start(self, ready: bool = True) -> Archive:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"stacks.hospital.imaging.{self.module}"],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        if ready:
            until(f"{self.kind} ready", START_S, self.is_ready)
        return self

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return self.get("/dicom-web/studies?limit=1").status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"http://{self.http}{path}", headers=headers, timeout=10)

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(15)

    def lines(self) -> str:
        return self.log.read_text()

    def __enter__(self) -> Archive:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end()


def images(exam: str, count: int, patient: str = "M1", modality: str = "CT") -> list[Encoded]:
    """Images of one examination, as a scanner would send them."""
    asked = Examination(
        exam, modality, patient, "DUPONT", "Anne", "1970-01-02", f"A{exam}", f"P{exam}",
        started_at=1_700_000_000.0,
    )  # fmt: skip
    return [encode(instance(asked, number)) for number in range(1, count + 1)]


def send(archive: Archive, found: Sequence[Encoded], bounds: Bounds = USUAL) -> list[int]:
    """Store images over one association; the statuses."""
    with association(archive.dicom, TITLE, "CT1", storage_contexts(), bounds=bounds) as open_:
        return [store(open_, one, number) for number, one in enumerate(found, 1)]


def send_until_lost(archive: Archive, found: Sequence[Encoded], kept: list[Encoded]) -> None:
    """Store images until the archive is gone; `kept` grows with each acknowledged one."""
    try:
        with association(archive.dicom, TITLE, "CT1", storage_contexts()) as open_:
            for number, one in enumerate(found, 1):
                if store(open_, one, number) == 0:
                    kept.append(one)
    except (AssociationLost, AssociationError):
        return


def commitment_request(asked: Sequence[tuple[str, str]], transaction: str) -> Dataset:
    """What N-ACTION carries: pairs of SOP class and SOP instance."""
    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = []
    for sop_class, sop_uid in asked:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
        request.ReferencedSOPSequence.append(item)
    return request


class Requester:
    """Asks for commitment and collects reports from its own association and from new ones."""

    def __init__(self, title: str = "DICOM_ROUTER") -> None:
        self.title, self.address = title, Address("127.0.0.1", free_port())
        self.reports: list[tuple[int, Dataset, bool]] = []
        """Event type, report, whether it came on the association of the request."""
        self._own: Association | None = None

    def take(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information, event.assoc is self._own))
        return 0, None

    @contextmanager
    def listening(self) -> Iterator[None]:
        handlers = [(evt.EVT_N_EVENT_REPORT, self.take)]
        offered = contexts([COMMITMENT, *STORAGE.values()])
        scp = listen(Listening(self.title, self.address, offered, handlers), Log("test"))
        try:
            yield
        finally:
            scp.stop()

    def ask(self, archive: Archive, asked: Sequence[tuple[str, str]], wait_s: float = 0.0) -> str:
        """Send N-ACTION; keep the association open for at most `wait_s` until a report came."""
        transaction = uid("transaction", time.time_ns())
        handlers = [(evt.EVT_N_EVENT_REPORT, self.take)]
        with association(
            archive.dicom, TITLE, self.title, contexts([COMMITMENT]), handlers=handlers
        ) as open_:
            self._own = open_
            before = len(self.reports)
            status, _ = open_.send_n_action(
                commitment_request(asked, transaction), 1, COMMITMENT, COMMITMENT_INSTANCE
            )
            assert status.Status == 0, status
            if wait_s:
                until("a report", wait_s, lambda: len(self.reports) > before)
        return transaction


def pairs(found: Sequence[Encoded]) -> list[tuple[str, str]]:
    """SOP class and instance of images."""
    return [(one.sop_class, one.sop_uid) for one in found]


def in_background(work: Any, *arguments: Any) -> threading.Thread:
    """Run `work` in a thread that does not outlive the test process."""
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread
