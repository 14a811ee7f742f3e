"""The scanners: work with everything down, keep what is not committed, find the order."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt

from stacks.hospital.imaging.association import PENDING, Listening, Scp, contexts, listen
from stacks.hospital.imaging.instances import Encoded, decode, pixel_digest
from stacks.hospital.imaging.modalities_ris import PERFORMED_STEP, WORKLIST, Scheduled, choose
from stacks.hospital.log import Log
from stacks.hospital.settings import Address
from tests.ports import free_port

from ..programs import Program, until
from .router_stand import HOST, Archive, modalities, router, rows

WITHIN_S = 20.0
RAW = "1.2.840.10008.1.2.1"


class Radiology:
    """A worklist with entries, and a book of reported steps; `hangs` answers nothing."""

    def __init__(self) -> None:
        self.port = free_port()
        self.entries: dict[str, list[Scheduled]] = {}
        self.steps: dict[str, list[str]] = {}
        self.begun: list[Dataset] = []
        self.hangs = threading.Event()
        self._scp: Scp | None = None

    def open(self) -> Radiology:
        handlers = [
            (evt.EVT_C_FIND, self._find), (evt.EVT_N_CREATE, self._create),
            (evt.EVT_N_SET, self._set),
        ]  # fmt: skip
        asked = contexts([WORKLIST, PERFORMED_STEP])
        self._scp = listen(Listening("RIS", Address(HOST, self.port), asked, handlers), Log("test"))
        return self

    def close(self) -> None:
        self.hangs.clear()
        if self._scp is not None:
            self._scp.stop()
            self._scp = None

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        while self.hangs.is_set():
            time.sleep(0.02)
        for one in self.entries.get(str(event.identifier.PatientID), []):
            found = Dataset()
            found.AccessionNumber, found.StudyInstanceUID = one.accession, one.study
            found.PlacerOrderNumberImagingServiceRequest = one.placer
            yield PENDING, found

    def _create(self, event: Any) -> tuple[int, Dataset]:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in self.steps:
            return 0x0111, Dataset()
        self.begun.append(event.attribute_list)
        self.steps[uid] = ["IN PROGRESS"]
        return 0, Dataset()

    def _set(self, event: Any) -> tuple[int, Dataset]:
        uid = str(event.request.RequestedSOPInstanceUID)
        if uid not in self.steps:
            return 0x0112, Dataset()
        self.steps[uid].append(str(event.modification_list.PerformedProcedureStepStatus))
        return 0, Dataset()


class Floor:
    """Scanners, radiology, and (when opened) a real router with two archives."""

    def __init__(self, folder: Path, bug: str = "", **extra: str) -> None:
        self.ris, self.a, self.b = Radiology(), Archive("PACS_A"), Archive("PACS_B")
        port, ear = free_port(), free_port()
        self.scanners, _ = modalities(
            folder, {"DICOM_ROUTER": port, "RIS": self.ris.port}, bug, ear, **extra
        )
        links = {"PACS_A": self.a.port, "PACS_B": self.b.port, "MODALITIES": ear}
        self.router, _ = router(folder, links, bug, port)
        self.a.report_to = self.b.report_to = Address(HOST, port)

    def open(self) -> None:
        self.a.open()
        self.b.open()
        self.router.start()

    def close(self) -> None:
        for program in (self.scanners, self.router):
            program.__exit__(None, None, None)
        for one in (self.ris, self.a, self.b):
            one.close()

    def examine(self, exam: str, count: int = 4, status: int = 201, **other: object) -> str:
        table = {"exam": exam, "modality": "CT", "patient": "M1", "instances": count, **other}
        answer = self.scanners.http.post("/examinations", json=table)
        assert answer.status_code == status, answer.text
        return answer.text

    def finished(self, count: int) -> list[dict[str, Any]]:
        def look() -> list[dict[str, Any]] | None:
            found: list[dict[str, Any]] = self.scanners.http.get("/console").json()
            return found if len(found) >= count else None

        return until("finished", WITHIN_S, look)

    def buffer(self) -> dict[str, Any]:
        found: dict[str, Any] = self.scanners.http.get("/buffer").json()
        return found


@pytest.fixture
def floors() -> Iterator[list[Floor]]:
    """Floors to be closed at the end."""
    found: list[Floor] = []
    yield found
    for one in found:
        one.close()


@pytest.fixture
def floor(tmp_path: Path, floors: list[Floor]) -> Floor:
    floors.append(Floor(tmp_path))
    return floors[0]


def _digests(archive: Archive) -> dict[str, str]:
    found = {}
    for uid, data in archive.kept.items():
        image = Encoded("1.2.840.10008.5.1.4.1.1.2", uid, RAW, data)
        found[uid] = pixel_digest(decode(image))
    return found


def test_scanners_work_with_everything_down(floor: Floor) -> None:
    """No router, no radiology: examinations finish under downtime numbers, nothing is deleted."""
    floor.scanners.start()
    floor.examine("x1", placer="P1", family="Doe")
    floor.examine("x2", modality="MR", priority="STAT")
    found = {one["exam"]: one for one in floor.finished(2)}
    assert found["x1"]["accession"] == "DTCT-000001"
    assert found["x2"]["accession"] == "DTMR-000001"
    assert found["x1"]["downtime"] is True
    assert found["x1"]["placer"] == "P1"
    assert floor.buffer()["held"] == 8
    kinds = Counter((row["kind"], row["status"]) for row in rows(floor.scanners))
    assert kinds == {("instance", "held"): 8, ("study", "downtime"): 2}
    status, health = floor.scanners.health()
    assert (status, health["status"]) == (200, "degraded")


def test_the_worklist_gives_accession_and_study(floor: Floor) -> None:
    """The order on the request is taken; radiology hears of begin and end, under its accession."""
    floor.ris.open()
    floor.ris.entries["M1"] = [Scheduled("A7", "2.25.7", "P7"), Scheduled("A8", "2.25.8", "P8")]
    floor.scanners.start()
    floor.examine("x1", placer="P8")
    one = floor.finished(1)[0]
    assert (one["accession"], one["study"], one["downtime"]) == ("A8", "2.25.8", False)
    until("two reports", WITHIN_S, lambda: list(floor.ris.steps.values()) == [
        ["IN PROGRESS", "COMPLETED"]])  # fmt: skip
    scheduled = floor.ris.begun[0].ScheduledStepAttributesSequence[0]
    assert (scheduled.AccessionNumber, scheduled.StudyInstanceUID) == ("A8", "2.25.8")
    assert floor.ris.begun[0].PatientID == "M1"


def test_a_worklist_that_hangs_delays_for_two_seconds_only(floor: Floor) -> None:
    """Radiology accepts and never answers: manual entry after the time-out; reports come later."""
    floor.ris.open()
    floor.ris.hangs.set()
    floor.scanners.start()
    began = time.monotonic()
    floor.examine("x1")
    assert time.monotonic() - began < 4.0
    assert floor.finished(1)[0]["downtime"] is True
    floor.ris.hangs.clear()
    until("reports", WITHIN_S, lambda: any(len(one) == 2 for one in floor.ris.steps.values()))


def test_the_choice_of_an_order_is_never_a_guess() -> None:
    """By the placer when there is one; else only when there is exactly one order."""
    one, other = Scheduled("A1", "2.25.1", "P1"), Scheduled("A2", "2.25.2", "P2")
    assert choose([one, other], "P2") == other
    assert choose([one, other], "P3") is None
    assert choose([one, other], "") is None
    assert choose([one], "") == one
    assert choose([], "") is None


def test_pixels_go_only_after_commitment(floor: Floor) -> None:
    """Sent but not vouched for: kept. Vouched: deleted, both archives have equal pixels once."""
    floor.a.vouches = floor.b.vouches = False
    floor.open()
    floor.scanners.start()
    floor.examine("x1", 12)
    until("both have all", WITHIN_S, lambda: len(floor.a.kept) == len(floor.b.kept) == 12)
    until("sent", WITHIN_S, lambda: floor.buffer()["sent"] == 12)
    assert floor.buffer()["deleted"] == 0
    assert floor.buffer()["bytes"] > 0
    floor.b.vouches = True
    until("deleted", WITHIN_S, lambda: floor.buffer()["deleted"] == 12)
    assert floor.buffer()["bytes"] == 0
    kept = {row["key"]: row for row in rows(floor.scanners) if row["kind"] == "instance"}
    assert {row["status"] for row in kept.values()} == {"deleted"}
    assert _digests(floor.a) == _digests(floor.b)
    assert _digests(floor.a) == {key: row["digest"] for key, row in kept.items()}
    assert set(floor.a.seen.values()) == {1}


def test_a_modality_that_deletes_on_store_is_seen_in_its_export(
    tmp_path: Path, floors: list[Floor]
) -> None:
    """Planted: deleted though no archive vouched; the export says so."""
    floor = Floor(tmp_path, "modality-deletes-on-store")
    floors.append(floor)
    floor.a.vouches = floor.b.vouches = False
    floor.open()
    floor.scanners.start()
    floor.examine("x1", 3)
    until("deleted", WITHIN_S, lambda: floor.buffer()["deleted"] == 3)
    found = {row["status"] for row in rows(floor.scanners) if row["kind"] == "instance"}
    assert found == {"deleted-uncommitted"}


def test_a_modality_that_needs_the_worklist_refuses(tmp_path: Path, floors: list[Floor]) -> None:
    """Planted: worklist away, examination refused with the reason."""
    floor = Floor(tmp_path, "modality-needs-worklist")
    floors.append(floor)
    floor.scanners.start()
    assert "worklist, which is away" in floor.examine("x1", status=409)
    floor.ris.open()
    floor.examine("x1")


def test_a_full_buffer_refuses_with_the_reason(tmp_path: Path, floors: list[Floor]) -> None:
    """Capacity 10: 4 + 4 fit, 4 more are refused; another scanner works."""
    floor = Floor(tmp_path, BUFFER_INSTANCES="10")
    floors.append(floor)
    floor.scanners.start()
    floor.examine("x1")
    floor.examine("x2")
    assert "CT1 holds 8 of 10" in floor.examine("x3", status=507)
    floor.examine("x4", modality="US")


def test_the_same_examination_again_is_one_and_bad_ones_are_refused(floor: Floor) -> None:
    """Idempotent by exam; other content is a conflict; nonsense is 400 with the reason."""
    floor.scanners.start()
    floor.examine("x1")
    floor.examine("x1", status=200)
    floor.examine("x1", 5, status=409)
    floor.examine("x2", modality="PT", status=400)
    floor.examine("x2", 0, status=400)
    floor.examine("", status=400)
    floor.examine("x2", patient="a^b", status=400)
    floor.examine("x2", colour="red", status=400)
    floor.examine("x2", priority="NOW", status=400)
    assert floor.scanners.http.post("/examinations", content=b"\xff{").status_code == 400
    assert len(floor.finished(1)) == 1


def test_a_deliberate_stop_ends_in_time_though_radiology_hangs(floor: Floor) -> None:
    """SIGTERM while a worklist question and the router hang: status 0 within the stop bound."""
    floor.ris.open()
    floor.ris.hangs.set()
    floor.scanners.start()
    floor.examine("x1")
    began = time.monotonic()
    assert floor.scanners.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 6.0


@pytest.mark.slow
def test_sigkill_of_everybody_loses_and_doubles_nothing(
    tmp_path: Path, floors: list[Floor]
) -> None:
    """Scanners and router killed again and again: every image is in both archives once."""
    floor = Floor(tmp_path, HOSPITAL_SPEED="60")
    floors.append(floor)
    floor.ris.open()
    floor.open()
    floor.scanners.start()
    total = 0
    for number in range(6):
        count = 20 + number
        floor.examine(f"x{number}", count, modality=("CT", "MR", "CR")[number % 3])
        total += count
        victim: Program = (floor.scanners, floor.router)[number % 2]
        time.sleep(0.3 + 0.1 * number)
        victim.end(signal.SIGKILL)
        victim.start()
    until("deleted", 60.0, lambda: floor.buffer()["deleted"] == total)
    until("both", WITHIN_S, lambda: len(floor.a.kept) == len(floor.b.kept) == total)
    kept = {r["key"]: r["digest"] for r in rows(floor.scanners) if r["kind"] == "instance"}
    assert len(kept) == total
    assert set(floor.a.kept) == set(floor.b.kept) == set(kept)
    assert len(floor.finished(6)) == 6
    until("reports", WITHIN_S, lambda: Counter(map(tuple, floor.ris.steps.values())) == {
        ("IN PROGRESS", "COMPLETED"): 6})  # fmt: skip
