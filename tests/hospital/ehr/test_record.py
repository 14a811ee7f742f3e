"""The record over one real database: FHIR, order entry, outbox, ADT, ORU, feed, critical inbox."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stacks.hospital import fhir, records
from stacks.hospital.wire import hl7

from .cluster import Cluster
from .people import Ehr, Engine, admission, order, patient, report, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    found = Engine()
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def ehr(
    shared_cluster: Cluster, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ehr]:
    node = Ehr("ehr-a", tmp_path_factory.mktemp("ehr"), [shared_cluster.primary.port], engine.port)
    node.start()
    yield node
    assert node.stop() == 0, node.log()
    assert "Traceback" not in node.log(), node.log()
    node.client.close()


def test_an_order_is_stored_once_and_reaches_the_engine_once(ehr: Ehr, engine: Engine) -> None:
    """A repeated order with If-None-Exist gives the stored one back and sends nothing twice."""
    first = ehr.post(order("P-1", "M-1", stat=True), **{"X-Ward": "W3", "X-Priority": "P1"})
    again = ehr.post(order("P-1", "M-1", stat=True))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.headers["ETag"] == 'W/"1"'
    assert first.headers["Location"] == "/fhir/ServiceRequest/P-1"
    until("the order at the engine", lambda: "P-1" in engine.orders())
    until("an empty outbox", lambda: ehr.client.get("/queues").json()["engine"]["depth"] == 0)
    assert engine.orders().count("P-1") == 1
    sent = next(
        m.body for m in engine.taken if isinstance(m.body, hl7.Order) and m.body.placer == "P-1"
    )
    assert sent == hl7.Order("P-1", "M-1", ("NA", "K"), True, "", "W3")


def test_an_imaging_order_reaches_the_engine_once(ehr: Ehr, engine: Engine) -> None:
    """It goes through the same outbox as OMI^O23; one without a modality is refused, unsent."""
    imaging = order("P-1i", "M-1", stat=True) | {
        "category": [{"coding": [{"code": fhir.IMAGING}]}],
        "code": {"coding": [{"code": "CT"}]},
    }
    answers = [ehr.post(imaging, **{"X-Ward": "W3"}).status_code for _ in range(2)]
    assert answers == [201, 200]
    none = imaging | {"code": {"coding": [{"code": "NA"}]}}
    assert ehr.post(none).status_code == 400
    found = until(
        "the order at the engine",
        lambda: [m.body for m in engine.taken if isinstance(m.body, hl7.ImagingOrder)],
    )
    assert found == [hl7.ImagingOrder("P-1i", "M-1", "CT", ("CT",), "STAT", "", "W3")]


def test_a_second_order_without_condition_is_refused(ehr: Ehr) -> None:
    """The same placer number cannot be used for a second order by accident."""
    assert ehr.post(order("P-2", "M-1"), conditional=False).status_code == 201
    again = ehr.post(order("P-2", "M-1"), conditional=False)
    assert again.status_code == 409
    assert again.json()["resourceType"] == "OperationOutcome"


def test_bad_input_is_refused_with_its_path(ehr: Ehr) -> None:
    """Malformed JSON, wrong types, missing keys and unknown conditions get 4xx and a reason."""
    wrong: list[tuple[bytes, dict[str, str], int, str]] = [
        (b"{", {}, 400, "not JSON"),
        (b"\xff\xfe", {}, 400, "$"),
        (b"[" * 100_000, {}, 400, "$"),
        (b'{"resourceType":"Potato"}', {}, 400, "Potato"),
        (b'{"resourceType":"Patient"}', {}, 400, "resourceType"),
        (b'{"resourceType":"ServiceRequest","status":7}', {}, 400, "$.status"),
        (
            b'{"resourceType":"ServiceRequest","status":"active","subject":{},"code":{}}',
            {},
            400,
            "$.identifier",
        ),
        (b"x" * 1_100_000, {}, 413, "1048576"),
        (b"{}", {"If-None-Exist": "name=x"}, 400, "If-None-Exist"),
        (b"{}", {"X-Priority": "P7"}, 400, "X-Priority"),
    ]
    for data, headers, status, word in wrong:
        answer = ehr.client.post("/fhir/ServiceRequest", content=data, headers=headers)
        assert answer.status_code == status, (data[:60], answer.text)
        assert word in answer.json()["issue"][0]["diagnostics"], answer.text
    text = order("P-NUL", "M-1")
    text["note"] = [{"text": "a\x00b"}]
    assert ehr.post(text).status_code == 400
    text["note"] = [{"text": 10.0**300}]
    assert ehr.post(text).status_code in (201, 400)
    assert ehr.client.get("/fhir/Potato").status_code == 404
    assert ehr.client.get("/fhir/Patient?name=x").status_code == 400
    assert ehr.client.get("/fhir/Patient/nobody").status_code == 404
    assert ehr.client.get("/fhir/Patient/nobody/$everything").status_code == 404
    assert ehr.client.get("/feed/reports?after=x").status_code == 400


def test_noise_is_refused_and_never_breaks_the_record(ehr: Ehr) -> None:
    """Damaged orders, odd texts, numbers and addresses: 2xx or 4xx, and the record goes on."""
    dice = random.Random(7)
    whole = json.dumps(order("P-N", "M-1") | {"note": [{"text": "é", "time": 1.5}]}).encode()
    odd = [
        b'"\\ud800"',
        b'"\\udc00x"',
        b"1e400",
        b"1e-99999",
        b"1e999999",
        b"123456789" * 60,
        b'"\\\\u0000"',
        b'{"a":1,"a":2}',
        b"[" * 900 + b"]" * 900,
        b"-0",
        b'"\xf0\x9f\x98\x80"',
    ]
    bodies = [whole.replace(b"1.5", one) for one in odd]
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(damaged))
            damaged[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        bodies.append(bytes(damaged))
    for number, data in enumerate(bodies):
        data = data.replace(b"P-N", b"P-N%d" % number)
        answer = ehr.client.post("/fhir/ServiceRequest", content=data)
        assert answer.status_code in (201, 400, 409), (data, ehr.log()[-1500:])
    for path in (
        "/fhir/Patient/%00",
        "/fhir/Patient/%ff/$everything",
        "/fhir/Patient/..%2f..",
        "/fhir/Patient?patient=%00",
        "/fhir/Patient?_count=-1",
        "/fhir/" + "x" * 3000,
        "/fhir/Patient?patient=" + "x" * 3000,
        "/criticals?open=%00",
    ):
        assert ehr.client.get(path).status_code in (200, 400, 404), path
    assert ehr.client.get("/export").status_code == 200
    assert "request_failed" not in ehr.log(), ehr.log()[-2000:]


def test_an_update_needs_the_version_it_is_based_on(ehr: Ehr) -> None:
    """No lost update: 428 without If-Match, 400 if malformed, 412 if stale, 404 if absent."""
    assert ehr.post(patient("M-2")).status_code == 201
    changed = patient("M-2", "Lambert")

    def put(key: str, **headers: str) -> int:
        return ehr.client.put(f"/fhir/Patient/{key}", json=changed, headers=headers).status_code

    assert put("M-2") == 428
    assert put("M-2", **{"If-Match": "1"}) == 400
    assert put("M-2", **{"If-Match": 'W/"9"'}) == 412
    assert put("M-2", **{"If-Match": 'W/"1"'}) == 200
    assert put("M-2", **{"If-Match": 'W/"1"'}) == 412
    assert put("M-3", **{"If-Match": 'W/"1"'}) == 400
    changed["identifier"][0]["value"] = "M-NONE"
    assert put("M-NONE", **{"If-Match": 'W/"1"'}) == 404
    stored = ehr.client.get("/fhir/Patient/M-2")
    assert stored.json()["name"][0]["family"] == "Lambert"
    assert stored.headers["ETag"] == 'W/"2"'
    assert stored.json()["meta"]["versionId"] == "2"


def test_what_we_do_not_know_is_kept(ehr: Ehr) -> None:
    """Elements outside our structs, and the digits of decimals, survive storage."""
    resource = patient("M-4") | {"telecom": [{"system": "phone", "value": "1"}]}
    resource["extension"] = [{"url": "urn:x", "valueDecimal": 4.25}]
    assert ehr.post(resource).status_code == 201
    stored = ehr.client.get("/fhir/Patient/M-4").json()
    assert stored["telecom"] == resource["telecom"]
    assert stored["extension"] == resource["extension"]


def test_admission_update_discharge(ehr: Ehr) -> None:
    """ADT makes patient and encounter; the same message twice changes nothing."""
    assert ehr.tell(admission("M-5", "V-5"), "ID-5").code == "CA"
    assert ehr.tell(admission("M-5", "V-5", ward="W9"), "ID-5").code == "CA"
    visit = ehr.client.get("/fhir/Encounter/V-5").json()
    assert (visit["status"], visit["class"]["code"]) == ("in-progress", "IMP")
    assert visit["location"][0]["location"]["reference"] == "Location/W3"
    moved = hl7.Adt("A08", "M-5", "Durand", "Ana", "19600229", "F", "V-5", "W4", "IMP")
    assert ehr.tell(moved).accepted
    assert ehr.client.get("/fhir/Patient/M-5").json()["name"][0]["family"] == "Durand"
    assert ehr.tell(admission("M-5", "V-5", "A03", "W4")).accepted
    visit = ehr.client.get("/fhir/Encounter/V-5").json()
    assert visit["status"] == "finished"
    assert set(visit["period"]) == {"start", "end"}
    found = ehr.client.get("/fhir/Encounter?patient=M-5&status=finished").json()
    assert found["total"] == 1


def test_report_ranks(ehr: Ehr) -> None:
    """preliminary < final < corrected; the feed shows each stored version once, in order."""
    ehr.tell(admission("M-6", "V-6"))
    start = ehr.client.get("/feed/reports?limit=500").json()["last"]
    told = [
        ("preliminary", "4.0", 10.0),
        ("final", "4.10", 20.0),
        ("preliminary", "9.9", 30.0),
        ("corrected", "4.2", 40.0),
        ("corrected", "4.3", 35.0),
        ("final", "9.9", 50.0),
        ("corrected", "4.4", 60.0),
    ]
    for status, value, at in told:
        assert ehr.tell(report("S-6", "P-6", "M-6", status, value, at=at)).accepted
    feed = ehr.client.get(f"/feed/reports?after={start}").json()["reports"]
    assert [entry["status"] for entry in feed] == ["preliminary", "final", "corrected", "corrected"]
    stored = ehr.client.get("/fhir/DiagnosticReport/S-6")
    assert b'"value": 4.4' in stored.content
    assert stored.headers["ETag"] == 'W/"4"'
    lower = report_json = stored.json()
    lower["status"] = "final"
    answer = ehr.client.put(
        "/fhir/DiagnosticReport/S-6", json=report_json, headers={"If-Match": 'W/"4"'}
    )
    assert answer.status_code == 409, answer.text


def test_a_critical_result_is_listed_until_a_carer_takes_it(ehr: Ehr) -> None:
    """The first carer's name stays; a repeated acknowledgement is harmless."""
    ehr.tell(report("S-7", "P-7", "M-6", "final", "7.9", flag="HH"))

    def listed() -> list[str]:
        return [one["id"] for one in ehr.client.get("/criticals?open=1").json()["criticals"]]

    assert "S-7" in listed()
    assert ehr.client.post("/criticals/S-7/ack", json={"carer": "nurse Peeters"}).status_code == 200
    again = ehr.client.post("/criticals/S-7/ack", json={"carer": "dr Maes"})
    assert again.json()["acknowledged_by"] == "nurse Peeters"
    assert "S-7" not in listed()
    assert ehr.client.post("/criticals/none/ack", json={"carer": "x"}).status_code == 404
    assert ehr.client.post("/criticals/S-7/ack", json={"carer": ""}).status_code == 400
    assert ehr.client.post("/criticals/S-7/ack", content=b"x").status_code == 400


def test_a_result_for_an_unknown_patient_waits_for_him(ehr: Ehr) -> None:
    """Stored as pending, listed, and bound when administration announces the patient."""
    assert ehr.tell(report("S-8", "P-8", "M-8")).accepted
    waiting = {"type": "DiagnosticReport", "key": "S-8", "patient": "M-8"}
    assert waiting in ehr.client.get("/pending").json()["pending"]
    tags = ehr.client.get("/fhir/Patient/M-8/$everything").json()["meta"]["tag"]
    assert tags[0]["code"] == "PENDING-PATIENT"
    assert ehr.tell(admission("M-8", "V-8")).accepted
    assert waiting not in ehr.client.get("/pending").json()["pending"]
    assert {one["resourceType"] for one in ehr.chart("M-8")} == {
        "Patient",
        "Encounter",
        "DiagnosticReport",
    }


def test_a_merge_moves_everything_and_goes_on_moving(ehr: Ehr) -> None:
    """What lay and what still comes under the old mrn is in the survivor's chart, only there."""
    ehr.tell(admission("M-9", "V-9"))
    ehr.tell(admission("M-10", "V-10"))
    ehr.post(order("P-9", "M-9"))
    allergy = {
        "resourceType": "AllergyIntolerance",
        "patient": {"reference": "Patient/M-9"},
        "identifier": [{"system": fhir.PLACER, "value": "A-9"}],
        "code": {"coding": [{"code": "penicillin"}]},
    }
    ehr.post(allergy)
    ehr.tell(report("S-9", "P-9", "M-9", "preliminary", flag="LL"))
    assert ehr.tell(hl7.Adt("A40", "M-10", "Dubois", "Ana", prior_mrn="M-9")).accepted
    assert ehr.tell(report("S-9", "P-9", "M-9", "final")).accepted
    assert ehr.post(order("P-9b", "M-9")).status_code == 201
    chart = ehr.chart("M-10")
    assert ehr.chart("M-9") == chart
    keys = {one["id"] for one in chart}
    assert keys == {"M-10", "V-9", "V-10", "P-9", "P-9b", "A-9", "S-9"}
    for one in chart:
        subject = one.get("subject") or one.get("patient")
        if subject:
            assert subject["reference"] == "Patient/M-10", one
    exported = {(one["kind"], one["key"]): one for one in ehr.export()}
    assert exported["patient", "M-9"]["status"] == "merged"
    assert exported["patient", "M-9"]["patient"] == "M-10"
    assert exported["order", "P-9"]["patient"] == "M-10"
    assert exported["order", "P-9"]["digest"] == records.order_digest(
        "P-9", "M-10", ["K", "NA"], False
    )
    assert ehr.tell(hl7.Adt("A40", "M-9", prior_mrn="M-10")).accepted
    assert {one["id"] for one in ehr.chart("M-10")} == keys


def test_digests_are_those_of_the_message(ehr: Ehr) -> None:
    """A report's digest in the export is the digest of the values as they came in the ORU."""
    told = (
        hl7.Value("K", "4.10", "mmol/L", "", "H"),
        hl7.Value("CRP", "<0.5", "mg/L"),
        hl7.Value("TXT", "007", "", "", ""),
    )
    ehr.tell(hl7.Report("S-11", "P-11", "M-6", "final", told, False, 1.0))
    values = [records.ReportValue(v.test, v.value, v.unit, v.flag) for v in told]
    exported = [one for one in ehr.export() if (one["kind"], one["key"]) == ("report", "S-11")]
    assert [one["digest"] for one in exported] == [
        records.report_digest("S-11", "P-11", "final", values)
    ]
    assert exported[0]["count"] == 1


def test_bad_messages_are_refused_and_the_connection_goes_on(ehr: Ehr) -> None:
    """Garbage gets AR or CR with a reason; a good message afterwards is taken."""
    assert ehr.tell_bytes(b"garbage").code == "AR"
    header = hl7.Header("ID-BAD", sender="ENGINE", at=1.0)
    wrong = hl7.build(header, hl7.Order("P", "M", ("K",)))
    assert ehr.tell_bytes(wrong).code == "CR"
    bad_key = hl7.build(header, admission("M 1\\T\\", "V-X"))
    assert ehr.tell_bytes(bad_key).code == "CE"
    assert ehr.tell(admission("M-12", "V-12")).accepted


def test_an_order_taken_while_the_engine_is_away_reaches_it_later(ehr: Ehr, engine: Engine) -> None:
    """The outbox keeps orders and sends them in order when the engine is back; parked ones wait."""

    def owed() -> object:
        return ehr.client.get("/queues").json()["engine"]["depth"]

    until("nothing is owed", lambda: owed() == 0)
    engine.stop()
    placers = [f"P-20-{n}" for n in range(5)]
    for placer in placers:
        assert ehr.post(order(placer, "M-1")).status_code == 201
    assert owed() == 5
    engine.start()
    until("all orders", lambda: set(placers) <= set(engine.orders()))
    got = [placer for placer in engine.orders() if placer in placers]
    assert list(dict.fromkeys(got)) == placers
    engine.refuse = hl7.Hl7Error("207", "full")
    ehr.post(order("P-21", "M-1"))
    until("trouble", lambda: "full" in ehr.client.get("/queues").json()["engine"]["trouble"])
    engine.refuse = hl7.Hl7Error("101", "no")
    until("parked", lambda: ehr.client.get("/queues").json()["engine"]["parked"] == 1)
    engine.refuse = None
    ehr.post(order("P-22", "M-1"))
    until("the next order", lambda: "P-22" in engine.orders())


def test_a_killed_node_has_lost_nothing_that_it_acknowledged(
    shared_cluster: Cluster, raised: Callable[..., Ehr]
) -> None:
    """Acknowledged orders are in the database after SIGKILL; the other node sends them."""
    first, second = raised(shared_cluster), raised(shared_cluster)
    placers = [f"P-30-{n}" for n in range(20)]
    for placer in placers:
        assert first.post(order(placer, "M-1")).status_code == 201
    first.stop(signal.SIGKILL)
    kept = {one["key"] for one in second.export()}
    assert set(placers) <= kept


def test_a_stopping_node_says_so_and_ends_well(
    shared_cluster: Cluster, raised: Callable[..., Ehr], tmp_path: Path
) -> None:
    """SIGTERM: exit status 0 within the time given, no traceback."""
    node = raised(shared_cluster)
    assert tmp_path.exists()
    assert node.stop() == 0
    assert "service_stopping" in node.log()
    assert "trace" not in node.log()
