"""Administration as a real process: answered means stored and announced, once and in order."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .programs import Engine, Program, until

MRN, VISIT = "urn:hospital:mrn", "urn:hospital:visit"


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine().open()
    yield engine
    engine.end()


@pytest.fixture
def desk(tmp_path: Path, engine: Engine) -> Iterator[Program]:
    with program(tmp_path, engine) as desk:
        yield desk


@pytest.fixture(scope="module")
def lasting_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One desk for all requests that it refuses."""
    engine = Engine().open()
    with program(tmp_path_factory.mktemp("desk"), engine) as desk:
        post(desk, patient("P1"))
        yield desk
    engine.end()


def program(folder: Path, engine: Engine, bug: str = "") -> Program:
    link = {"LINK_ENGINE_MLLP": f"127.0.0.1:{engine.port}", "HOSPITAL_BUG": bug}
    return Program("gam", folder / "gam", link)


def patient(mrn: str, family: str = "Janssens") -> dict[str, Any]:
    return {
        "resourceType": "Patient", "identifier": [{"system": MRN, "value": mrn}],
        "name": [{"family": family, "given": ["An"]}], "gender": "female",
        "birthDate": "1956-04-03",
    }  # fmt: skip


def stay(visit: str, mrn: str, class_: str = "IMP", status: str = "in-progress") -> dict[str, Any]:
    return {
        "resourceType": "Encounter", "identifier": [{"system": VISIT, "value": visit}],
        "status": status, "class": {"code": class_}, "subject": {"reference": f"Patient/{mrn}"},
        "location": [{"location": {"reference": "Location/ward-3"}}],
    }  # fmt: skip


def post(desk: Program, resource: dict[str, Any]) -> Any:
    one = resource["identifier"][0]
    return desk.http.post(
        f"/fhir/{resource['resourceType']}", json=resource,
        headers={"If-None-Exist": f"identifier={one['system']}|{one['value']}"},
    )  # fmt: skip


def merge(desk: Program, survivor: str, source: str) -> Any:
    named = {"resourceType": "Parameters", "parameter": [{"name": "source", "valueString": source}]}
    return desk.http.post(f"/fhir/Patient/{survivor}/$merge", json=named)


def test_a_stay_is_announced_in_the_order_of_events(desk: Program, engine: Engine) -> None:
    """Admission, change, discharge and merge reach the engine as A01, A08, A03, A40."""
    assert post(desk, patient("P1")).status_code == 201
    assert post(desk, patient("P2")).status_code == 201
    admitted = post(desk, stay("V1", "P1"))
    assert (admitted.status_code, admitted.headers["ETag"]) == (201, 'W/"1"')
    assert admitted.headers["Location"].endswith("/fhir/Encounter/V1")
    assert [one["visit"] for one in desk.http.get("/census").json()["patients"]] == ["V1"]
    changed = desk.http.put(
        "/fhir/Patient/P1", json=patient("P1", "Peeters"), headers={"If-Match": 'W/"1"'}
    )
    assert (changed.status_code, changed.headers["ETag"]) == (200, 'W/"2"')
    left = desk.http.put(
        "/fhir/Encounter/V1", json=stay("V1", "P1", status="finished"),
        headers={"If-Match": 'W/"1"'},
    )  # fmt: skip
    assert left.status_code == 200
    assert merge(desk, "P2", "P1").status_code == 200
    until("four movements", 5, lambda: len(engine.movements) == 4)
    assert [one.event for one in engine.movements] == ["A01", "A08", "A03", "A40"]
    first, last = engine.movements[0], engine.movements[-1]
    assert (first.mrn, first.visit, first.ward, first.encounter_class) == (
        "P1", "V1", "ward-3", "IMP")  # fmt: skip
    assert (first.family, first.given, first.birth, first.sex) == (
        "Janssens", "An", "19560403", "F")  # fmt: skip
    assert (last.mrn, last.prior_mrn) == ("P2", "P1")
    assert desk.http.get("/census").json()["patients"] == []


def test_an_emergency_is_registered_and_in_the_census(desk: Program, engine: Engine) -> None:
    """EMER and AMB give A04; of these only the emergency is in the census."""
    post(desk, patient("P1"))
    post(desk, stay("V1", "P1", "EMER"))
    post(desk, stay("V2", "P1", "AMB"))
    until("two movements", 5, lambda: len(engine.movements) == 2)
    assert [one.event for one in engine.movements] == ["A04", "A04"]
    assert [one["visit"] for one in desk.http.get("/census").json()["patients"]] == ["V1"]


def test_a_repeated_request_changes_nothing(desk: Program, engine: Engine) -> None:
    """The same create again: 200, the same resource, no second movement."""
    first = post(desk, patient("P1"))
    again = post(desk, patient("P1", "Somebody-Else"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert post(desk, stay("V1", "P1")).status_code == 201
    assert post(desk, stay("V1", "P1")).status_code == 200
    assert merge(desk, "P1", "P9").status_code == 404
    post(desk, patient("P9"))
    assert merge(desk, "P1", "P9").status_code == 200
    assert merge(desk, "P1", "P9").status_code == 200
    until("both movements", 5, lambda: len(engine.movements) >= 2)
    until("the charge, too", 5, lambda: _waiting(desk) == 0)
    assert [one.event for one in engine.movements] == ["A01", "A40"]


def test_nobody_gets_another_patients_visit(desk: Program) -> None:
    """A visit number that is already another patient's is a conflict, not an answer."""
    for mrn in ("P1", "P2"):
        post(desk, patient(mrn))
    post(desk, stay("V1", "P1"))
    assert post(desk, stay("V1", "P2")).status_code == 409


def test_a_merged_patient_lives_on_under_one_number(desk: Program) -> None:
    """Visits move; the old number stays known, says so, and admits to the survivor."""
    for mrn in ("P1", "P2"):
        post(desk, patient(mrn))
    post(desk, stay("V1", "P1"))
    merge(desk, "P2", "P1")
    gone = desk.http.get("/fhir/Patient/P1")
    assert gone.json()["active"] is False
    assert "/fhir/Patient/P2" in gone.headers["Link"]
    assert desk.http.get("/fhir/Encounter/V1").json()["subject"]["reference"] == "Patient/P2"
    post(desk, stay("V2", "P1"))
    assert {one["mrn"] for one in desk.http.get("/census").json()["patients"]} == {"P2"}
    lines = [line for line in desk.http.get("/export").text.splitlines() if '"encounter"' in line]
    assert len(lines) == 2
    assert all('"patient":"P2"' in line for line in lines)
    assert all(json.loads(line)["stored_at"] > 1e9 for line in lines)


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("POST", "/fhir/Patient", b"{", {}, 400),
        ("POST", "/fhir/Patient", b'{"resourceType":"Patient"}', {}, 400),
        ("POST", "/fhir/Patient", b"\xff\xfe", {}, 400),
        ("POST", "/fhir/Patient", b" " * (1024 * 1024 + 1), {}, 413),
        ("GET", "/fhir/Patient/nobody", b"", {}, 404),
        ("GET", "/fhir/Elsewhere/1", b"", {}, 404),
        ("POST", "/fhir/Patient/P1/$merge", b"[]", {}, 400),
        ("POST", "/fhir/Patient", b"ok", {"If-None-Exist": "identifier=urn:x|1"}, 400),
        ("PUT", "/fhir/Patient/P1", b"ok", {}, 428),
        ("PUT", "/fhir/Patient/P1", b"ok", {"If-Match": "1"}, 400),
        ("PUT", "/fhir/Patient/P1", b"ok", {"If-Match": 'W/"7"'}, 412),
        ("PUT", "/fhir/Patient/P2", b"ok", {"If-Match": 'W/"1"'}, 400),
    ],
)
def test_bad_requests_get_a_reason(
    lasting_desk: Program,
    method: str,
    path: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    """Whatever is wrong is an OperationOutcome with the right status, and the desk goes on."""
    desk = lasting_desk
    body: dict[str, Any] = {"json": patient("P1")} if content == b"ok" else {"content": content}
    answer = desk.http.request(method, path, headers=headers, **body)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert answer.json()["issue"][0]["diagnostics"]
    assert post(desk, patient("P1")).status_code == 200


def test_a_stay_of_an_unknown_patient_or_class_is_refused(desk: Program, engine: Engine) -> None:
    """Nothing is stored and nothing announced."""
    assert post(desk, stay("V1", "nobody")).status_code == 422
    post(desk, patient("P1"))
    assert post(desk, stay("V1", "P1", "HH")).status_code == 400
    assert desk.http.get("/fhir/Encounter/V1").status_code == 404
    assert engine.messages == []


def test_admissions_go_on_without_the_engine_and_outlive_a_kill(
    tmp_path: Path, engine: Engine
) -> None:
    """Engine away, SIGKILL, engine back: every answered movement arrives once, in order."""
    engine.close()
    with program(tmp_path, engine) as desk:
        for number in range(20):
            assert post(desk, patient(f"P{number}")).status_code == 201
            assert post(desk, stay(f"V{number}", f"P{number}")).status_code == 201
        until("degraded, not unready", 5, lambda: desk.health()[1].get("status") == "degraded")
        assert desk.health()[0] == 200
        desk.end(signal.SIGKILL)
        desk.start()
        engine.open()
        until("all movements", 15, lambda: len(engine.movements) >= 20)
        assert [one.visit for one in engine.movements] == [f"V{n}" for n in range(20)]
        assert len(desk.http.get("/census").json()["patients"]) == 20
        assert desk.end(signal.SIGTERM) == 0


def test_defect_gam_needs_ehr_refuses_admissions_when_nobody_listens(
    tmp_path: Path, engine: Engine
) -> None:
    """The planted defect: with the way to the record closed, an admission is refused."""
    with program(tmp_path, engine, "gam-needs-ehr") as desk:
        assert post(desk, patient("P1")).status_code == 201
        assert post(desk, stay("V1", "P1")).status_code == 201
        engine.close()
        post(desk, stay("V2", "P1"))
        until(
            "trouble",
            10,
            lambda: desk.http.get("/queues").json()["destinations"]["engine"]["trouble"],
        )
        refused = post(desk, stay("V3", "P1"))
        assert refused.status_code == 503
        assert desk.http.get("/fhir/Encounter/V3").status_code == 404


def test_defect_merge_wrong_patient_announces_somebody_else(tmp_path: Path, engine: Engine) -> None:
    """The planted defect: the A40 names a patient whom the merge does not concern."""
    with program(tmp_path, engine, "merge-wrong-patient") as desk:
        engine.close()
        for mrn in ("P1", "P2", "P3"):
            post(desk, patient(mrn))
            post(desk, stay(f"V-{mrn}", mrn))
        merge(desk, "P2", "P1")
        told = sqlite3.connect(tmp_path / "gam" / "gam.db")
        assert b"MRG|P3" in told.execute("SELECT payload FROM queue ORDER BY id DESC").fetchone()[0]


def _waiting(desk: Program) -> int:
    depth: int = desk.http.get("/queues").json()["destinations"]["engine"]["depth"]
    return depth
