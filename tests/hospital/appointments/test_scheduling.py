"""Scheduling as a real process: answered means stored and told, once, in order; no is no."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stacks.hospital.appointments.slots import PROTECTED, SERVICES, appointment_digest, slot_of
from stacks.hospital.wire.hl7 import Adt, Order

from ..programs import Engine, until
from .scheduling_stand import SYSTEM, Clinic, asked, events, notices


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine().open()
    yield engine
    engine.end()


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Clinic]:
    """One service for all tests; each uses names and slots of its own."""
    clinic = Clinic(tmp_path_factory.mktemp("day"), engine)
    with clinic:
        yield clinic


def text(response: Any) -> str:
    body = response.json()
    assert body["resourceType"] == "OperationOutcome"
    return str(body["issue"][0]["diagnostics"])


def test_booked_moved_cancelled_is_told_in_this_order(clinic: Clinic, engine: Engine) -> None:
    """S12, S13, S14, S15 with growing versions, phone, slot and time as they then are."""
    first, second = "consultation-heart-10", "consultation-heart-11"
    made = clinic.book("A1", first)
    assert (made.status_code, made.headers["etag"]) == (201, 'W/"1"')
    assert clinic.change("A1", second, 1).status_code == 200
    assert clinic.change("A1", second, 2, phone="0499").headers["etag"] == 'W/"3"'
    gone = clinic.change("A1", second, 3, status="cancelled").json()
    assert (gone["status"], gone["slot"][0]["reference"]) == ("cancelled", f"Slot/{second}")
    until("all are told", 5, lambda: len(events(notices(engine), "A1")) == 4)
    told = [one for one in notices(engine) if one.appointment == "A1"]
    assert [one.event for one in told] == ["S12", "S13", "S14", "S15"]
    assert [one.version for one in told] == [1, 2, 3, 4]
    assert [one.slot for one in told] == [first, second, second, second]
    assert [one.phone for one in told] == ["0470", "0470", "0499", "0470"]
    assert {(one.mrn, one.service, one.clinic) for one in told} == {("M1", "consultation", "heart")}
    row = clinic.export("appointment")["A1"]
    assert (row["status"], row["version"], row["patient"]) == ("cancelled", 4, "M1")
    assert row["digest"] == appointment_digest("A1", "M1", "consultation", second)
    slots = clinic.export("slot")
    assert (slots[first]["status"], slots[second]["status"]) == ("free", "free")


def test_a_repeated_booking_is_one_appointment(clinic: Clinic) -> None:
    """The same identifier again: 200, the same resource; for another patient: 409."""
    first = clinic.book("B1", "consultation-heart-20")
    again = clinic.book("B1", "consultation-heart-20")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert clinic.book("B1", "consultation-heart-21", "M2").status_code == 409
    assert clinic.export("slot")["consultation-heart-20"]["count"] == 1


def test_a_slot_has_one_patient(clinic: Clinic) -> None:
    """A slot that is gone is 409 for bookings and moves, and nothing changes; cancelled, it is
    free again, and after a patient who did not come, too."""
    slot, other = "endoscopy-e1-30", "endoscopy-e1-31"
    clinic.book("C1", slot, "M1")
    clinic.book("C2", other, "M2")
    assert "C1 has it" in text(clinic.book("C3", slot, "M3"))
    assert clinic.book("C3", slot, "M3").status_code == 409
    assert clinic.change("C2", slot, 1, "M2").status_code == 409
    assert "C3" not in clinic.export("appointment")
    assert clinic.http.get("/fhir/Appointment/C2").json()["slot"] == [
        {"reference": f"Slot/{other}"}
    ]
    assert clinic.http.get(f"/fhir/Slot/{slot}").json()["status"] == "busy"
    assert clinic.change("C1", slot, 1, "M1", status="cancelled").status_code == 200
    assert clinic.book("C3", slot, "M3").status_code == 201
    assert clinic.change("C2", other, 1, "M2", status="noshow").json()["status"] == "noshow"
    assert clinic.book("C4", other, "M4").status_code == 201


def test_a_cancellation_repeated_is_known_by_its_key(clinic: Clinic) -> None:
    """The same request again is 200; a second one, under another key, is 409, stale or not."""
    slot = "consultation-heart-40"
    clinic.book("D1", slot)
    first = clinic.change("D1", slot, 1, status="cancelled", key="k1")
    again = clinic.change("D1", slot, 1, status="cancelled", key="k1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    for version in (1, 2):
        other = clinic.change("D1", slot, version, status="cancelled", key="k2")
        assert other.status_code == 409
        assert "cancelled already" in text(other)
    assert clinic.export("appointment")["D1"]["version"] == 2


def test_a_move_repeated_without_a_key_is_known_by_its_version(clinic: Clinic) -> None:
    """A move whose answer was lost is asked again with the old version: 200, moved once."""
    clinic.book("D2", "consultation-heart-41")
    for _ in range(2):
        moved = clinic.change("D2", "consultation-heart-42", 1)
        assert (moved.status_code, moved.headers["etag"]) == (200, 'W/"2"')
    assert clinic.change("D2", "consultation-heart-43", 1).status_code == 412


def test_a_stale_change_is_refused(clinic: Clinic) -> None:
    """412 with the version that is stored; 428 without If-Match; 400 for what is no version."""
    slot = "consultation-heart-50"
    clinic.book("E1", slot)
    clinic.change("E1", "consultation-heart-51", 1)
    stale = clinic.change("E1", slot, 1, status="cancelled")
    assert (stale.status_code, "version 2" in text(stale)) == (412, True)
    address, body = "/fhir/Appointment/E1", asked("E1", slot)
    assert clinic.http.put(address, json=body).status_code == 428
    assert clinic.http.put(address, json=body, headers={"If-Match": "2"}).status_code == 400
    assert clinic.http.put(
        "/fhir/Appointment/E9", json=body, headers={"If-Match": 'W/"1"'}
    ).status_code == 400  # fmt: skip
    assert clinic.change("nobody", slot, 1).status_code == 404
    assert clinic.export("appointment")["E1"]["status"] == "booked"


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in asked("F1", SLOT).items() if key != name}


SLOT = "consultation-heart-60"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"resourceType":"Appointment\\u0000"}', 400),
        (b"\xff\xfe", 400),
        (b"", 400),
        ({"resourceType": "Patient"}, 400),
        (without("slot"), 400),
        (without("identifier"), 400),
        (without("participant"), 400),
        (asked("F 1", SLOT), 400),
        (asked("F1", SLOT, "M/1"), 400),
        (asked("F1", "consultation-60"), 400),
        (asked("F1", "consultation-heart-x"), 400),
        (asked("F1", "consultation-heart-" + "9" * 60), 400),
        (asked("F1", SLOT, status="proposed"), 400),
        (asked("F1", SLOT, status="cancelled"), 422),
        (asked("F1", SLOT, at="tomorrow"), 400),
        (asked("F1", SLOT, at="2026-11-22T08:00:00"), 400),
        (asked("F1", SLOT, phone="0" * 99), 400),
        ({**asked("F1", SLOT), "serviceType": [{"coding": [{"code": "astrology"}]}]}, 422),
        ({**asked("F1", SLOT), "serviceType": [{"coding": [{"code": "dialysis"}]}]}, 422),
    ],
)
def test_a_bad_booking_is_refused(clinic: Clinic, body: Any, status: int) -> None:
    """An OperationOutcome with a reason, and nothing is stored."""
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    refused = clinic.http.post("/fhir/Appointment", **given)
    assert refused.status_code == status, refused.text
    assert len(text(refused)) > 10
    assert "F1" not in clinic.export("appointment")
    assert "Traceback" not in (clinic.folder.parent / "appointments.scheduling.log").read_text()


def test_a_condition_for_another_identifier_is_refused(clinic: Clinic) -> None:
    """If-None-Exist must ask for the appointment that is booked."""
    wish = {"If-None-Exist": f"identifier={SYSTEM}|other"}
    body = asked("F2", SLOT)
    assert clinic.http.post("/fhir/Appointment", json=body, headers=wish).status_code == 400


def test_searches_find_and_refuse(clinic: Clinic) -> None:
    """By patient, clinic, day, span, status and identifier, page by page; unknown ones are 400."""
    for number in range(5):
        clinic.book(f"G{number}", f"radiotherapy-ray-{number}", "MG", at="2027-01-05T08:00:00Z")
    clinic.change("G0", "radiotherapy-ray-0", 1, "MG", status="cancelled")

    def found(query: str) -> list[str]:
        answer = clinic.http.get(f"/fhir/Appointment?{query}").json()
        return [one["resource"]["id"] for one in answer["entry"]]

    every = [f"G{number}" for number in range(5)]
    assert found("actor=Patient/MG") == found("date=2027-01-05") == every
    assert found("actor=Location/ray&status=booked") == every[1:]
    assert found("date=ge2027-01-05T07:00:00Z&date=lt2027-01-05T08:00:00Z") == []
    assert found(f"identifier={SYSTEM}|G3") == ["G3"]
    page = clinic.http.get("/fhir/Appointment?actor=MG&_count=2").json()
    assert (page["total"], len(page["entry"])) == (5, 2)
    more = clinic.http.get(page["link"][0]["url"]).json()
    assert [one["resource"]["id"] for one in more["entry"]] == ["G2", "G3"]
    free = clinic.http.get("/fhir/Slot?schedule=Schedule/radiotherapy-ray&status=free").json()
    assert [one["resource"]["id"] for one in free["entry"]] == ["radiotherapy-ray-0"]
    names = [one["resource"]["id"] for one in clinic.http.get("/fhir/Schedule").json()["entry"]]
    assert "radiotherapy-ray" in names
    for bad in ("colour=red", "status=lost", "date=soon", "_count=many", "actor=Device/1"):
        assert clinic.http.get(f"/fhir/Appointment?{bad}").status_code == 400, bad
    assert clinic.http.get("/fhir/Slot/nonsense").status_code == 404
    assert clinic.http.get("/fhir/Appointment/nobody").status_code == 404


def test_a_decision_cancels_a_class_and_nothing_else(clinic: Clinic, engine: Engine) -> None:
    """All booked planned surgery of the span, with S15 and a task each; surgery outside the span,
    cancelled surgery and protected services stay; the same decision again answers the same."""
    at, later = "2026-12-24T08:00:00Z", "2026-12-25T08:00:00Z"
    span = {"from": "2026-12-24T00:00:00Z", "to": "2026-12-25T00:00:00Z"}
    for number in range(3):
        clinic.book(f"H{number}", f"planned-surgery-or-{number}", f"MH{number}", at=at)
    clinic.change("H2", "planned-surgery-or-2", 1, "MH2", status="cancelled", at=at)
    clinic.book("H3", "planned-surgery-or-3", at=later)
    for number, service in enumerate(sorted(PROTECTED)):
        clinic.book(f"HP{number}", f"{service}-or-9", at=at)
    made = clinic.decide("D-1", "planned-surgery", "consultation", **span)
    assert made.status_code == 201
    assert [(one["appointment"], one["patient"]) for one in made.json()["cancelled"]] == [
        ("H0", "MH0"), ("H1", "MH1"),
    ]  # fmt: skip
    again = clinic.decide("D-1", "planned-surgery", "consultation", **span)
    assert (again.status_code, again.json()) == (200, made.json())
    assert clinic.decide("D-1", "endoscopy", **span).status_code == 409
    rows = clinic.export("appointment")
    assert {rows[f"HP{number}"]["status"] for number in range(len(PROTECTED))} == {"booked"}
    assert (rows["H1"]["status"], rows["H3"]["status"]) == ("cancelled", "booked")
    assert {"H0", "H1"} == set(clinic.export("rebooking")) & {f"H{n}" for n in range(4)}
    until("both are told", 5, lambda: events(notices(engine), "H1") == ["S12", "S15"])
    (told,) = (one for one in notices(engine) if (one.appointment, one.event) == ("H1", "S15"))
    assert (told.decision, told.status) == ("D-1", "cancelled")
    late = clinic.change("H1", "planned-surgery-or-1", 2, "MH1", status="cancelled", at=at)
    assert (late.status_code, "D-1" in text(late)) == (409, True)


@pytest.mark.parametrize("service", sorted(PROTECTED))
def test_a_decision_never_touches_a_protected_service(clinic: Clinic, service: str) -> None:
    """Named together with others it is refused as a whole: nothing is cancelled."""
    clinic.book(f"P-{service}", f"{service}-p-1")
    clinic.book("P-e", "endoscopy-p-1")
    assert clinic.decide(f"N-{service}", "endoscopy", service).status_code == 422
    rows = clinic.export("appointment")
    assert rows[f"P-{service}"]["status"] == rows["P-e"]["status"] == "booked"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"decision": "X", "services": ["astrology"]}, 422),
        ({"decision": "X", "services": []}, 422),
        ({"decision": "a b", "services": ["endoscopy"]}, 400),
        ({"decision": "X", "services": ["endoscopy"], "from": "soon"}, 400),
        ({"decision": "X", "services": ["endoscopy"], "to": "2026-11-22T00:00:00Z"}, 400),
        ({"decision": "X", "services": "endoscopy"}, 400),
        ({"decision": "X", "services": ["endoscopy"], "reason": "x" * 501}, 400),
    ],
)
def test_a_bad_decision_is_refused(clinic: Clinic, body: dict[str, Any], status: int) -> None:
    """Nothing is cancelled, and the reason is told."""
    span = {"from": "2026-11-22T00:00:00Z", "to": "2026-11-23T00:00:00Z"}
    refused = clinic.http.post("/decisions", json={**span, **body})
    assert refused.status_code == status, refused.text
    assert len(text(refused)) > 10


def test_a_rebooking_task_is_done_with_a_true_appointment(clinic: Clinic) -> None:
    """Done needs a booked appointment of the same patient and service; then once, by its key."""
    at = "2027-02-01T08:00:00Z"
    span = {"from": "2027-02-01T00:00:00Z", "to": "2027-02-02T00:00:00Z"}
    clinic.book("I1", "endoscopy-i-1", "MI", at=at)
    clinic.decide("D-2", "endoscopy", **span)
    clinic.book("I2", "endoscopy-i-2", "MI", at="2027-03-01T08:00:00Z")
    clinic.book("I3", "endoscopy-i-3", "other", at="2027-03-01T08:00:00Z")
    clinic.book("I4", "consultation-i-4", "MI", at="2027-03-01T08:00:00Z")

    def done(new: str, task: str = "I1") -> int:
        return int(clinic.http.post(f"/tasks/{task}/done", json={"appointment": new}).status_code)

    assert [done("none"), done("I3"), done("I4"), done("I1")] == [409, 409, 409, 409]
    assert done("I2", "I4") == 404
    requested = clinic.http.get("/tasks?status=requested&_count=1000").json()["entry"]
    assert "I1" in {one["resource"]["id"] for one in requested}
    assert [done("I2"), done("I2"), done("I4")] == [200, 200, 409]
    assert clinic.export("rebooking")["I1"]["status"] == "completed"


def test_read_only_refuses_bookings_and_moves_only(clinic: Clinic) -> None:
    """503 with a reason and Retry-After; a repeated booking, a cancellation and a decision work,
    and health says what is the matter."""
    at = "2027-04-01T08:00:00Z"
    span = {"from": "2027-04-01T00:00:00Z", "to": "2027-04-02T00:00:00Z"}
    clinic.book("J1", "endoscopy-j-1", at=at)
    clinic.book("J2", "endoscopy-j-2", at=at)
    assert clinic.http.post("/mode", json={"mode": "half"}).status_code == 400
    assert clinic.http.post("/mode", json={"mode": "read-only"}).json() == {"mode": "read-only"}
    try:
        refused = clinic.book("J3", "endoscopy-j-3", at=at)
        assert (refused.status_code, "read-only" in text(refused)) == (503, True)
        assert int(refused.headers["retry-after"]) > 0
        assert clinic.change("J1", "endoscopy-j-4", 1, at=at).status_code == 503
        assert clinic.book("J1", "endoscopy-j-1", at=at).status_code == 200
        assert clinic.change("J1", "endoscopy-j-1", 1, status="cancelled", at=at).status_code == 200
        assert len(clinic.decide("D-3", "endoscopy", **span).json()["cancelled"]) == 1
        status, health = clinic.health()
        assert (status, health["status"]) == (200, "degraded")
    finally:
        clinic.http.post("/mode", json={"mode": "open"})
    assert clinic.book("J3", "endoscopy-j-3", at=at).status_code == 201


def test_a_merge_moves_appointments_and_tasks(clinic: Clinic, engine: Engine) -> None:
    """A40: the survivor has them, channels are told by S14; later bookings under the old number are
    the survivor's; told twice it happens once; other movements are taken and change nothing."""
    at = "2027-05-01T08:00:00Z"
    span = {"from": "2027-05-01T00:00:00Z", "to": "2027-05-02T00:00:00Z"}
    clinic.book("K1", "dialysis-k-1", "MK1", at=at)
    clinic.book("K2", "endoscopy-k-2", "MK1", at=at)
    clinic.decide("D-4", "endoscopy", **span)
    for _ in range(2):
        assert clinic.tell(Adt("A40", "MK2", prior_mrn="MK1")).accepted
    assert clinic.tell(Adt("A01", "MK1", visit="V1", encounter_class="IMP")).accepted
    assert clinic.tell(Adt("A40", "MK1", prior_mrn="MK2")).code == "CE"
    clinic.book("K3", "dialysis-k-3", "MK1", at=at)
    rows = clinic.export("appointment")
    assert {rows[name]["patient"] for name in ("K1", "K2", "K3")} == {"MK2"}
    assert rows["K1"]["version"] == 2
    assert clinic.export("rebooking")["K2"]["patient"] == "MK2"
    until("it is told", 5, lambda: events(notices(engine), "K1") == ["S12", "S14"])
    assert [one.mrn for one in notices(engine) if one.appointment == "K1"] == ["MK1", "MK2"]
    assert clinic.change("K1", "dialysis-k-1", 2, "MK1", at=at, phone="1").status_code == 200


def test_what_is_no_movement_is_refused(clinic: Clinic) -> None:
    """An order is not for scheduling; the connection and the service live on."""
    assert clinic.tell(Order("P1", "M1", ("NA",))).code == "CR"  # type: ignore[arg-type]
    assert clinic.health()[0] == 200


def test_bookings_go_on_without_the_engine(tmp_path: Path) -> None:
    """The engine is away: appointments and decisions are answered, health is degraded; when it
    comes back, all notices arrive in their order."""
    engine = Engine()
    with Clinic(tmp_path, engine) as clinic:
        for number in range(20):
            assert clinic.book(f"L{number}", f"consultation-l-{number}").status_code == 201
        assert len(clinic.decide("D-5", "consultation").json()["cancelled"]) == 20
        until("health says so", 5, lambda: clinic.health()[1].get("status") == "degraded")
        assert clinic.http.get("/queues").json()["destinations"]["engine"]["depth"] == 40
        engine.open()
        until("all are told", 10, lambda: len(notices(engine)) == 40)
        assert [one.event for one in notices(engine)] == ["S12"] * 20 + ["S15"] * 20
    engine.end()


@pytest.mark.parametrize("service", SERVICES)
def test_a_slot_says_its_service_and_clinic(service: str) -> None:
    """Names with dashes in service and clinic are read as they were meant."""
    slot = slot_of(f"{service}-heart-2-1500")
    assert slot is not None
    assert (slot.service, slot.clinic, slot.minute) == (service, "heart-2", 1500)
