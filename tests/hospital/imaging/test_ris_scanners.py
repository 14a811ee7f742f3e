"""Real scanners and radiology: with the worklist, without it, and together again."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.ports import free_port

from ..programs import Program, until
from .ris_stand import SPEED, RisProgram, request


def scanners_of(folder: Path, ris: RisProgram) -> Program:
    """The scanners beside radiology; no router answers them, so they keep their images."""
    return Program(
        "imaging.modalities",
        folder,
        {
            "SERVICE_NAME": "modalities",
            "HOSPITAL_SPEED": f"{SPEED:g}",
            "BIND_DICOM": f"127.0.0.1:{free_port()}",
            "LINK_RIS_DICOM": f"127.0.0.1:{ris.dicom}",
            "LINK_DICOM_ROUTER_DICOM": f"127.0.0.1:{free_port()}",
        },
    )


def lie_down(scanners: Program, exam: str, mrn: str, placer: str) -> None:
    table = {
        "exam": exam, "modality": "CT", "patient": mrn, "family": "Dubois", "given": "Ana",
        "birth": "1960-02-29", "placer": placer, "instances": 2, "priority": "ROUTINE",
    }  # fmt: skip
    answer = scanners.http.post("/examinations", json=table)
    assert answer.status_code == 201, answer.text


def finished(scanners: Program) -> dict[str, dict[str, Any]]:
    lines = scanners.http.get("/console?limit=1000").json()
    lines = lines if isinstance(lines, list) else lines["examinations"]
    return {line["exam"]: line for line in lines}


def order(ris: RisProgram, placer: str, mrn: str) -> None:
    answer = ris.http.post("/fhir/ServiceRequest", json=request(placer, mrn))
    assert answer.status_code == 201


def test_examinations_find_their_orders_through_an_outage(tmp_path: Path) -> None:
    """Before, while and after radiology is killed patients are examined, some without an order
    number, all of one name: in the end each study is at its own order, which is completed."""
    ris = RisProgram(tmp_path / "ris")
    with ris, scanners_of(tmp_path / "scanners", ris) as scanners:
        order(ris, "P1", "M1")
        order(ris, "P1b", "M1")
        for number in (2, 3, 4):
            order(ris, f"P{number}", f"M{number}")
        lie_down(scanners, "X1", "M1", "P1")
        until("the first is finished", 20, lambda: "X1" in finished(scanners))
        assert not finished(scanners)["X1"]["downtime"]
        assert finished(scanners)["X1"]["accession"].startswith("A")
        ris.end(signal.SIGKILL)
        lie_down(scanners, "X1b", "M1", "P1b")
        lie_down(scanners, "X2", "M2", "")
        lie_down(scanners, "X3", "M3", "P3")
        until("the scanners go on", 30, lambda: len(finished(scanners)) == 4)
        assert all(finished(scanners)[exam]["downtime"] for exam in ("X1b", "X2", "X3"))
        ris.start()
        lie_down(scanners, "X4", "M4", "P4")
        until("the last is finished", 30, lambda: len(finished(scanners)) == 5)
        found = finished(scanners)
        wanted = {found[f"X{one}"]["study"]: f"P{one}" for one in ("1", "1b", "2", "3", "4")}
        until(
            "every study is at its order", 30,
            lambda: {study: one["placer"] for study, one in ris.matches().items()} == wanted,
        )  # fmt: skip
        assert ris.tasks() == []
        until("the orders are completed", 30, lambda: _statuses(ris) == {"completed"})
        kinds = {one["said_placer"]: one["how"] for one in ris.matches().values()}
        assert kinds["P1"] == "scheduled"
        assert kinds["P1b"] == kinds["P3"] == "placer"
        assert kinds[""] == "patient and modality"


def _statuses(ris: RisProgram) -> set[str]:
    return {row["status"] for row in ris.export() if row["kind"] == "order"}
