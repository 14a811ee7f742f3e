"""The read-only copy over the real pair: recent, complete, marked, there when all else is away."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stacks.hospital import fhir
from stacks.hospital.ehr import schema

from ..programs import Program
from .pair import A, B, Pair, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
Raise = Callable[..., Pair]
SPEED = 300  # a refresh every real second


@pytest.fixture
def pair(raised: Raise) -> Pair:
    pair = raised()
    with pair.connect() as connection:
        for step in schema.steps():
            connection.execute(step.encode())
    return pair


def program(pair: Pair, bug: str = "") -> Program:
    links = {
        f"LINK_{name}_POSTGRES": "{}:{}".format(*pair.addresses[service, "postgres"])
        for name, service in (("EHR_DB_A", A), ("EHR_DB_B", B))
    }
    folder = pair.folder / f"copy{bug}"
    return Program("ro_copy", folder, {**links, "HOSPITAL_SPEED": str(SPEED), "HOSPITAL_BUG": bug})


@pytest.fixture
def copy(pair: Pair) -> Iterator[Program]:
    with program(pair) as copy:
        yield copy


def store(pair: Pair, type_: str, key: str, mrn: str, **body: Any) -> float:
    """Put a resource into the record; returns when it was acknowledged (Unix seconds)."""
    identifier = [{"system": fhir.KEY_SYSTEMS[type_], "value": key}]
    about = {} if type_ == "Patient" else {"subject": fhir.patient_reference(mrn)}
    whole = {"resourceType": type_, "identifier": identifier, **about, **body}
    with pair.connect() as connection:
        connection.execute(
            "INSERT INTO resource (type, key, patient, pending, body) VALUES (%s, %s, %s, false,"
            " %s)", (type_, key, mrn, json.dumps(whole)),
        )  # fmt: skip
    return time.time()


def admit(pair: Pair, mrn: str, class_: str = "IMP", status: str = "in-progress") -> float:
    store(pair, "Patient", mrn, mrn, name=[{"family": "Peeters"}])
    return store(pair, "Encounter", f"V-{mrn}", mrn, status=status, **{"class": {"code": class_}})


def as_of(answer: Any) -> float:
    return datetime.fromisoformat(answer.headers["X-As-Of"]).timestamp()


def wait_as_of(copy: Program, moment: float, within_s: float = 15.0) -> None:
    until("a copy that young", within_s, lambda: as_of(copy.http.get("/snapshot")) >= moment)


def test_inpatients_charts_are_recent_and_complete(pair: Pair, copy: Program) -> None:
    """What was acknowledged before as-of is there: the inpatient's whole chart, nobody else's."""
    admit(pair, "P1")
    admit(pair, "P2", "EMER")
    admit(pair, "P3", "AMB")
    admit(pair, "P4", status="finished")
    store(
        pair,
        "MedicationRequest",
        "M1",
        "P1",
        status="active",
        medicationCodeableConcept={"coding": [{"code": "heparin"}]},
    )
    store(
        pair,
        "MedicationRequest",
        "M0",
        "P1",
        status="completed",
        medicationCodeableConcept={"coding": [{"code": "past"}]},
    )
    last = store(pair, "DiagnosticReport", "S1", "P1", status="final", contained=[])
    wait_as_of(copy, last)
    chart = copy.http.get("/fhir/Patient/P1/$everything")
    kinds = {entry["fullUrl"] for entry in chart.json()["entry"]}
    assert kinds == {"Patient/P1", "Encounter/V-P1", "MedicationRequest/M1", "DiagnosticReport/S1"}
    meta = chart.json()["meta"]
    assert [tag["code"] for tag in meta["tag"]] == ["READ-ONLY"]
    assert meta["lastUpdated"] == chart.headers["X-As-Of"]
    assert [p["mrn"] for p in copy.http.get("/census").json()["patients"]] == ["P1", "P2"]
    for stranger in ("P3", "P4"):
        assert copy.http.get(f"/fhir/Patient/{stranger}").status_code == 404
    exported = [json.loads(line) for line in copy.http.get("/export").text.splitlines()]
    assert {(one["kind"], one["key"]) for one in exported} == {
        ("patient", "P1"), ("patient", "P2"), ("encounter", "V-P1"), ("encounter", "V-P2"),
        ("medication", "M1"), ("report", "S1"),
    }  # fmt: skip


def test_as_of_never_claims_what_the_copy_lacks(pair: Pair, copy: Program) -> None:
    """Write, read at once, again and again: a row acknowledged before as-of is in the copy."""
    admitted: dict[str, float] = {}
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        mrn = f"P{len(admitted)}"
        admitted[mrn] = admit(pair, mrn)
        census = copy.http.get("/census")
        held = {one["mrn"] for one in census.json()["patients"]}
        missing = {m for m, at in admitted.items() if at <= as_of(census)} - held
        assert not missing
    until("the standby is asked", 10, lambda: copy.http.get("/snapshot").json()["source"] == B)


def test_every_write_is_refused_with_a_reason(copy: Program) -> None:
    """405 with what this is, as of when and where to go; marked like every other answer."""
    paths = ("/fhir/Patient", "/fhir/Patient/P1", "/census", "/anything")
    for method, path in itertools.product(("POST", "PUT", "PATCH", "DELETE"), paths):
        answer = copy.http.request(method, path, content=b"{}")
        assert answer.status_code == 405
        said = answer.json()["issue"][0]["diagnostics"]
        assert "READ-ONLY copy as of" in said
        assert "ehr-a" in said
        assert answer.headers["X-Read-Only"] == "READ-ONLY"


def test_the_copy_outlives_everything_and_tells_its_age(pair: Pair, copy: Program) -> None:
    """Both databases dead, the copy killed and started again: it answers, older each second."""
    admit_at = admit(pair, "P1")
    wait_as_of(copy, admit_at)
    pair.kill(A)
    pair.kill(B)
    time.sleep(2.5)
    copy.end(signal.SIGKILL)
    copy.start()
    chart = copy.http.get("/fhir/Patient/P1/$everything")
    assert chart.status_code == 200
    age_s = time.time() - as_of(chart)
    assert age_s > 2
    told_s = copy.http.get("/snapshot").json()["age_s"]
    assert age_s - 0.1 <= told_s <= time.time() - as_of(chart) + 0.1
    until("said degraded", 10, lambda: copy.health()[1].get("status") == "degraded")
    missing = copy.http.get("/nothing/here/at/all")
    assert (missing.status_code, missing.headers["X-Read-Only"]) == (404, "READ-ONLY")


def test_the_copy_follows_a_failover(pair: Pair, copy: Program) -> None:
    """After the primary's death the copy reads the standby, then the new primary."""
    wait_as_of(copy, admit(pair, "P1"))
    pair.kill(A)
    until("promotion", 25, lambda: pair.is_primary(B))
    until("a write", 15, lambda: _tried(lambda: admit(pair, "P2")))
    wait_as_of(copy, time.time())
    assert {p["mrn"] for p in copy.http.get("/census").json()["patients"]} == {"P1", "P2"}


def _tried(act: Callable[[], float]) -> float | None:
    try:
        return act()
    except psycopg.Error:
        return None


def test_an_empty_copy_is_not_ready(tmp_path: Path) -> None:
    """Without any snapshot and any source: 503 with the reason, but marked."""
    empty = Program("ro_copy", tmp_path / "copy", {"LINK_EHR_DB_A_POSTGRES": "127.0.0.1:9"})
    try:
        empty.start(ready=False)
        until("an answer", 10, lambda: empty.health()[0] == 503)
        refused = until("the service", 10, lambda: _marked(empty))
        assert refused.status_code == 503
        assert refused.headers["X-As-Of"] == "never"
    finally:
        empty.end()


def _marked(copy: Program) -> Any:
    answer = copy.http.get("/census")
    return answer if "X-Read-Only" in answer.headers else None


def test_defects_of_the_copy(pair: Pair) -> None:
    """Each planted defect does what its story says."""
    admit(pair, "P1")
    with program(pair, "copy-accepts-writes") as copy:
        assert copy.http.post("/fhir/Patient", content=b"{}").status_code == 200
    with program(pair, "copy-no-marker") as copy:
        chart = copy.http.get("/fhir/Patient/P1/$everything")
        assert "X-Read-Only" not in chart.headers
        assert "READ-ONLY" not in chart.text
    with (
        program(pair, "copy-stale-marked-now") as stale,
        program(pair, "copy-misses-new-patients") as missing,
    ):
        admitted = admit(pair, "P2")
        for copy in (stale, missing):
            wait_as_of(copy, admitted)
            census = copy.http.get("/census")
            assert [p["mrn"] for p in census.json()["patients"]] == ["P1"]
