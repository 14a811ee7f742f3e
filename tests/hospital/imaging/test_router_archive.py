"""Scanners, router and the real small archives and radiology together, as processes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port

from ..programs import Program, until
from .router_stand import HOST, modalities, router, rows

WITHIN_S = 40.0
pytestmark = pytest.mark.slow


@pytest.fixture(params=["archive", "orthanc"])
def department(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Program]]:
    """Everything of imaging but the viewer, started."""
    if request.param == "orthanc" and shutil.which("Orthanc") is None:
        pytest.skip("Orthanc is not installed")
    dicom = {name: free_port() for name in ("router", "ear", "a", "b", "ris")}
    found = {
        name: Program(
            "imaging.pacs",
            tmp_path / name,
            {
                "SERVICE_NAME": name,
                "PACS_KIND": request.param,
                "BIND_DICOM": f"{HOST}:{dicom[name[-1]]}",
                "LINK_DICOM_ROUTER_DICOM": f"{HOST}:{dicom['router']}",
            },
        )
        for name in ("pacs-a", "pacs-b")
    }
    found["ris"] = Program(
        "imaging.ris",
        tmp_path / "ris",
        {
            "SERVICE_NAME": "ris",
            "BIND_DICOM": f"{HOST}:{dicom['ris']}",
            "BIND_MLLP": f"{HOST}:{free_port()}",
        },
    )
    found["router"], _ = router(
        tmp_path,
        {"PACS_A": dicom["a"], "PACS_B": dicom["b"], "MODALITIES": dicom["ear"]},
        dicom=dicom["router"],
    )
    found["modalities"], _ = modalities(
        tmp_path, {"DICOM_ROUTER": dicom["router"], "RIS": dicom["ris"]}, dicom=dicom["ear"]
    )
    for name, program in found.items():
        program.start(ready=not name.startswith("pacs"))
    for name in ("pacs-a", "pacs-b"):
        until(f"{name} ready", WITHIN_S, lambda name=name: _answers(found[name]))  # type: ignore[misc]
    yield found
    for program in found.values():
        program.__exit__(None, None, None)


def _answers(program: Program) -> bool:
    try:
        answer = program.http.get("/dicom-web/studies", params={"limit": "1"})
    except httpx.HTTPError:
        return False
    return answer.status_code in (200, 204)


def _instances(program: Program) -> dict[str, str]:
    """What an archive holds by QIDO-RS: SOP UID → study UID."""
    answer = program.http.get("/dicom-web/instances", params={"limit": "1000"})
    if answer.status_code == 204:
        return {}
    return {one["00080018"]["Value"][0]: one["0020000D"]["Value"][0] for one in answer.json()}


def _buffer(program: Program) -> dict[str, Any]:
    found: dict[str, Any] = program.http.get("/buffer").json()
    return found


def _waiting(program: Program) -> int:
    found = program.http.get("/queues").json()["destinations"].values()
    return sum(one["depth"] + one.get("uncommitted", 0) for one in found)


def test_a_study_reaches_both_archives_and_radiology_though_one_archive_was_killed(
    department: dict[str, Program],
) -> None:
    """Archive A killed in the middle: deleted at the scanner after B's commitment, later in A."""
    scanners, a, b = department["modalities"], department["pacs-a"], department["pacs-b"]
    table = {"exam": "x1", "modality": "MR", "patient": "M1", "instances": 60, "placer": "P1"}
    assert scanners.http.post("/examinations", json=table).status_code == 201
    until("some sent", WITHIN_S, lambda: _buffer(scanners)["held"] < 60 and _instances(b))
    a.end(signal.SIGKILL)
    until("deleted", WITHIN_S, lambda: _buffer(scanners)["deleted"] == 60)
    a.start(ready=False)
    until("A ready", WITHIN_S, lambda: _answers(a))
    kept = {row["key"] for row in rows(scanners) if row["kind"] == "instance"}
    until("A has all", WITHIN_S, lambda: set(_instances(a)) == kept)
    assert set(_instances(b)) == kept
    study = scanners.http.get("/console").json()[0]["study"]
    assert set(_instances(a).values()) == {study}
    until("settled", WITHIN_S, lambda: not _waiting(department["router"]))
    until("radiology told", WITHIN_S, lambda: not _waiting(scanners))
    assert not scanners.http.get("/tasks").json()
    assert not department["router"].http.get("/tasks").json()
