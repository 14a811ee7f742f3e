"""Radiology as a real process: worklist, reports, orders, merges, kills, refusals."""

from __future__ import annotations

import itertools
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from stacks.hospital import records
from stacks.hospital.bugs import VARIABLE
from stacks.hospital.imaging.association import AssociationError
from stacks.hospital.wire import hl7
from tests import dcmtk

from ..programs import until
from .ris_stand import RisProgram, findscu, question, report, request

DCMTK = dcmtk.needed("findscu", "dcmdump")
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def ris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RisProgram]:
    program = RisProgram(tmp_path_factory.mktemp("ris") / "data")
    with program:
        yield program
        assert program.end(signal.SIGTERM) == 0
    assert "Traceback" not in program.log
    assert '"trace"' not in program.log


def fresh() -> str:
    return f"{next(numbers):04d}"


# -- the worklist -----------------------------------------------------------------------------


def test_a_scanner_finds_its_patient(ris: RisProgram) -> None:
    """By patient and modality: name, accession, study, placer and priority of that order alone."""
    one = fresh()
    ris.admit(f"M{one}", "Çelik-Müller", "Zoë")
    ris.order(f"P{one}", f"M{one}", "CT", "STAT")
    ris.order(f"P{one}b", f"M{one}", "MR")
    status, (entry,) = ris.ask(question(f"M{one}", "CT"))
    assert status == 0
    assert str(entry.PatientName) == "Çelik-Müller^Zoë"
    assert entry.PlacerOrderNumberImagingServiceRequest == f"P{one}"
    assert entry.RequestedProcedurePriority == "STAT"
    assert entry.AccessionNumber.startswith("A")
    assert entry.StudyInstanceUID.startswith("2.25.")
    assert entry.ScheduledProcedureStepSequence[0].Modality == "CT"
    assert "PatientBirthDate" not in entry, "only what was asked for"
    assert len(ris.ask(question(f"M{one}"))[1]) == 2
    assert ris.ask(question("nobody", "CT")) == (0, [])


def test_the_scanner_finds_a_merged_patient_under_both_numbers(ris: RisProgram) -> None:
    """The wristband still has the old number: the entry comes, under the number of today."""
    one = fresh()
    ris.order(f"P{one}", f"M{one}")
    (ack,) = ris.tell(hl7.Adt("A40", f"N{one}", "Dubois", "Ana", prior_mrn=f"M{one}"))
    assert ack.accepted
    for number in (f"M{one}", f"N{one}"):
        _, (entry,) = ris.ask(question(number, "CT"))
        assert (entry.PatientID, str(entry.PatientName)) == (f"N{one}", "Dubois^Ana")


@pytest.mark.parametrize(
    ("keys", "finds"),
    [
        ({"name": "wild*"}, True),
        ({"name": "W?LD*"}, True),
        ({"name": "Wil"}, False),
        ({"name": "[w]ild*"}, False),
        ({"date": "20200101-"}, True),
        ({"date": "-20200101"}, False),
        ({"date": "20200101"}, False),
        ({"PlacerOrderNumberImagingServiceRequest": "P-wild"}, True),
        ({"AccessionNumber": "A9999999"}, False),
    ],
)
def test_keys_narrow_the_list(ris: RisProgram, keys: dict[str, str], finds: bool) -> None:
    """Wildcards in names, ranges of dates, exact numbers."""
    ris.admit("M-wild", "Wild")
    ris.tell(hl7.ImagingOrder("P-wild", "M-wild", "US", ("US",)))
    _, found = ris.ask(question("M-wild", "US", **keys))
    assert [one.PatientID for one in found] == (["M-wild"] if finds else [])


def _no_step() -> Dataset:
    asked = question("M1")
    del asked.ScheduledProcedureStepSequence
    return asked


def _two_steps() -> Dataset:
    asked = question("M1")
    asked.ScheduledProcedureStepSequence = [Dataset(), Dataset()]
    return asked


@pytest.mark.parametrize(
    "asked", [_no_step(), _two_steps(), question("M1", date="yesterday"), question("M" * 65)]
)
def test_a_question_that_is_none_is_refused(ris: RisProgram, asked: Dataset) -> None:
    """A900 (identifier does not match the SOP class); the next question is answered."""
    status, found = ris.ask(asked)
    assert (status, found) == (0xA900, [])
    assert ris.ask(question("nobody"))[0] == 0


@DCMTK
def test_dcmtk_reads_the_worklist(ris: RisProgram) -> None:
    """Another implementation asks and understands: one entry, its values readable."""
    one = fresh()
    ris.admit(f"M{one}", "Dubois")
    ris.order(f"P{one}", f"M{one}", "MR", "HIGH")
    status, (entry,) = findscu(
        ris.dicom, f"PatientID=M{one}", "PatientName", "AccessionNumber", "StudyInstanceUID",
        "RequestedProcedurePriority", "ScheduledProcedureStepSequence[0].Modality=MR",
        "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate",
    )  # fmt: skip
    assert status == 0
    assert (entry["PatientID"], entry["PatientName"]) == (f"M{one}", "Dubois^Ana")
    assert (entry["Modality"], entry["RequestedProcedurePriority"]) == ("MR", "HIGH")
    assert entry["AccessionNumber"].startswith("A")
    assert findscu(ris.dicom, "PatientID=nobody", "ScheduledProcedureStepSequence[0].Modality")[
        1
    ] == []  # fmt: skip


@DCMTK
def test_dcmtk_is_refused_under_another_title(ris: RisProgram) -> None:
    """A called AE title that is not ours: the association is rejected."""
    assert findscu(ris.dicom, "PatientID=M1", called="PACS_A")[0] != 0


def test_only_scanners_are_let_in(ris: RisProgram) -> None:
    """An unknown calling AE title, or another called one: rejected; a scanner may echo."""
    for titles in ({"calling": "LAPTOP"}, {"called": "LIS"}):
        with pytest.raises(AssociationError, match="rejects"), ris.associate(**titles):
            pass
    with ris.associate("MR1") as open_:
        assert open_.send_c_echo().Status == 0


# -- examinations -------------------------------------------------------------------------------


def test_an_examination_completes_its_order(ris: RisProgram) -> None:
    """Worklist → N-CREATE → off the list → N-SET → the order is completed, matched as scheduled."""
    one = fresh()
    ris.order(f"P{one}", f"M{one}")
    _, (entry,) = ris.ask(question(f"M{one}", "CT"))
    study, uid = str(entry.StudyInstanceUID), f"2.25.77{one}"
    begun = report(study, f"M{one}", entry.AccessionNumber, f"P{one}")
    assert ris.create(uid, begun).Status == 0
    assert ris.ask(question(f"M{one}", "CT"))[1] == []
    assert ris.set(uid, "COMPLETED").Status == 0
    found = ris.matches()[study]
    assert (found["placer"], found["status"], found["state"]) == (
        f"P{one}", "scheduled", "completed",
    )  # fmt: skip
    rows = {(row["kind"], row["key"]): row for row in ris.export()}
    digest = records.order_digest(f"P{one}", f"M{one}", ["CT"], False)
    order, match = rows["order", f"P{one}"], rows["match", study]
    assert (order["status"], order["digest"], order["count"]) == ("completed", digest, 1)
    assert (match["status"], match["digest"], match["patient"]) == (
        "scheduled", f"P{one}", f"M{one}",
    )  # fmt: skip


def test_repetitions_and_contradictions_have_their_status(ris: RisProgram) -> None:
    """Again: 0111. The same end again: 0000, another end: 0110. Never begun: 0112."""
    one = fresh()
    uid, begun = f"2.25.78{one}", report(f"2.25.5{one}", f"M{one}", f"DTCT-{one}")
    assert [ris.create(uid, begun).Status for _ in range(2)] == [0, 0x0111]
    assert [ris.set(uid, "COMPLETED").Status for _ in range(2)] == [0, 0]
    assert ris.set(uid, "DISCONTINUED").Status == 0x0110
    assert ris.set("2.25.404", "COMPLETED").Status == 0x0112


def _changed(**changes: object) -> Dataset:
    found = report("2.25.9", "M1")
    for keyword, value in changes.items():
        if value is None:
            delattr(found, keyword)
        else:
            setattr(found, keyword, value)
    return found


def _only(keyword: str, value: str) -> Dataset:
    found = Dataset()
    setattr(found, keyword, value)
    return found


@pytest.mark.parametrize(
    ("uid", "begun", "status"),
    [
        ("2.25.31", _changed(PerformedProcedureStepStatus="COMPLETED"), 0x0106),
        ("2.25.32", _changed(PerformedProcedureStepStatus="LUNCH"), 0x0106),
        ("2.25.33", _changed(PerformedProcedureStepStatus=None), 0x0120),
        ("2.25.34", _changed(ScheduledStepAttributesSequence=[]), 0x0120),
        ("2.25.35", _changed(ScheduledStepAttributesSequence=[Dataset()]), 0x0120),
        ("2.25.36", _changed(Modality=None), 0x0120),
        ("2.25.37", _changed(PatientID="M" * 65), 0x0106),
        ("2.25.38", report("2.25.x", "M1"), 0x0106),
        ("2.25.39", report("2.25.9", "M1", "A" * 17), 0x0106),
        ("1.2.840", _only("PatientID", "M1"), 0x0120),
        ("1.2.840", _only("Modality", "CT"), 0x0120),
    ],
)
def test_a_report_that_cannot_be_kept_is_refused(
    ris: RisProgram, uid: str, begun: Dataset, status: int
) -> None:
    """Missing and invalid attributes: the DIMSE status that says so, a comment, nothing kept."""
    answer = ris.create(uid, begun)
    assert answer.Status == status
    assert answer.ErrorComment
    assert ris.set(uid, "COMPLETED").Status == 0x0112


def test_downtime_studies_are_matched_or_tasks(ris: RisProgram) -> None:
    """By placer at once; by patient and modality a moment later; what is not certain is a task
    until a person says, and a refused choice changes nothing."""
    one = fresh()
    for placer in ("a", "b"):
        ris.order(f"P{one}{placer}", f"M{one}")
    ris.order(f"P{one}c", f"N{one}")
    written, alone, open_ = (f"2.25.6{one}{n}" for n in range(1, 4))
    assert ris.create(f"2.25.41{one}", report(written, f"M{one}", "DTCT-1", f"P{one}a")).Status == 0
    assert ris.matches()[written]["placer"] == f"P{one}a"
    assert ris.create(f"2.25.42{one}", report(alone, f"N{one}", "DTCT-2")).Status == 0
    settling = {"destinations": {"reconciliation": {"depth": 0, "oldest_s": 0.0}}}
    until("nothing waits", 5, lambda: ris.http.get("/queues").json() == settling)
    until("matched alone", 5, lambda: ris.matches()[alone]["placer"] == f"P{one}c")
    assert ris.create(f"2.25.43{one}", report(open_, f"X{one}", "DTCT-3")).Status == 0
    until("a task with its reason", 5, lambda: "no open CT" in ris.matches()[open_]["reason"])
    assert open_ in ris.tasks()
    for body, status in (
        ({"placer": f"P{one}b"}, 409), ({"placer": "P-none"}, 404), ({"order": "x"}, 400),
    ):  # fmt: skip
        answer = ris.http.post(f"/tasks/{open_}/match", json=body)
        assert answer.status_code == status
        assert answer.json()["issue"][0]["diagnostics"]
    assert open_ in ris.tasks()
    (ack,) = ris.tell(hl7.Adt("A40", f"M{one}", prior_mrn=f"X{one}"))
    assert ack.accepted
    until("the merge brought the order", 5, lambda: open_ not in ris.tasks())
    assert ris.matches()[open_]["placer"] == f"P{one}b"


def test_a_person_matches_a_study(ris: RisProgram) -> None:
    """Several orders: a task; the person's choice is stored, the same choice again is the same."""
    one = fresh()
    for placer in ("a", "b"):
        ris.order(f"P{one}{placer}", f"M{one}")
    study = f"2.25.8{one}"
    ris.create(f"2.25.44{one}", report(study, f"M{one}", "DTCT-9"))
    until("a task", 5, lambda: "several open CT" in ris.matches()[study]["reason"])
    for _ in range(2):
        answer = ris.http.post(f"/tasks/{study}/match", json={"placer": f"P{one}b"})
        assert (answer.status_code, answer.json()["placer"]) == (200, f"P{one}b")
    assert study not in ris.tasks()
    assert ris.http.post("/tasks/2.25.404/match", json={"placer": "P"}).status_code == 404


# -- orders -----------------------------------------------------------------------------------


def test_an_order_at_the_desk_is_taken_once(ris: RisProgram) -> None:
    """Conditional create: 201, then 200 with the same resource; it is on the worklist once, and
    another order under its number is refused."""
    one = fresh()
    wish = {"If-None-Exist": f"identifier=urn:hospital:placer|P{one}"}
    answers = [
        ris.http.post("/fhir/ServiceRequest", json=request(f"P{one}", f"M{one}"), headers=wish)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["identifier"][1]["value"].startswith("A")
    assert len(ris.ask(question(f"M{one}", "CT"))[1]) == 1
    again = ris.http.post("/fhir/ServiceRequest", json=request(f"P{one}", f"M{one}"))
    assert again.status_code == 409
    other = request(f"P{one}", f"X{one}")
    assert ris.http.post("/fhir/ServiceRequest", json=other, headers=wish).status_code == 409
    assert ris.http.get(f"/fhir/ServiceRequest/P{one}").json() == answers[0].json()
    assert ris.http.get("/fhir/ServiceRequest/P-none").status_code == 404
    rows = [row for row in ris.export() if row["key"] == f"P{one}"]
    assert [row["count"] for row in rows] == [1]


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense",
        b"[" * 5_000,
        b'{"resourceType":"Patient","identifier":[]}',
        request("P-x", "M1", category=[{"coding": [{"code": "laboratory"}]}]),
        request("P-x", "M1", "XR"),
        request("P x", "M1"),
        request("P-x", "M1", status="revoked"),
        request("P-x", "M1", subject={}),
    ],
)
def test_what_is_no_imaging_order_is_refused(ris: RisProgram, content: object) -> None:
    """400 with an OperationOutcome that says why; nothing on the list."""
    sent = {"content": content} if isinstance(content, bytes) else {"json": content}
    answer = ris.http.post("/fhir/ServiceRequest", **sent)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["diagnostics"]
    assert ris.http.get("/fhir/ServiceRequest/P-x").status_code == 404


def test_messages_that_are_not_for_radiology_are_refused(ris: RisProgram) -> None:
    """A laboratory order 200, another order under a known placer 205, a circular merge 204; the
    connection goes on."""
    one = fresh()
    acks = ris.tell(
        hl7.Order(f"L{one}", f"M{one}", ("NA",)),
        hl7.ImagingOrder(f"P{one}", f"M{one}", "CT", ("CT",)),
        hl7.ImagingOrder(f"P{one}", f"X{one}", "CT", ("CT",)),
        hl7.Adt("A40", f"N{one}", prior_mrn=f"M{one}"),
        hl7.Adt("A40", f"M{one}", prior_mrn=f"N{one}"),
    )
    assert [ack.error for ack in acks] == ["200", "", "205", "", "204"]


def test_noise_on_the_dicom_port_harms_nobody(ris: RisProgram) -> None:
    """Bytes that are no association, a peer that says nothing: the scanner beside it is served."""
    with socket.create_connection(("127.0.0.1", ris.dicom)) as silent:
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\xff\xff\xff\xff" + b"\0" * 64, b"\xff"):
            with socket.create_connection(("127.0.0.1", ris.dicom)) as wrong:
                wrong.sendall(noise)
        assert ris.ask(question("nobody"))[0] == 0
        assert silent.fileno() > 0
    assert ris.health()[0] == 200


# -- kills and defects ----------------------------------------------------------------------------


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """SIGKILL while orders and reports come in, three times: what was answered is there, once,
    with the accession that it had."""
    program = RisProgram(tmp_path / "ris")
    ordered: dict[str, str] = {}
    reported: list[str] = []
    with program:
        for life in range(3):
            halt = threading.Event()

            def desk(life: int = life, halt: threading.Event = halt) -> None:
                for number in itertools.count():
                    placer = f"P{life}-{number}"
                    try:
                        answer = program.http.post(
                            "/fhir/ServiceRequest", json=request(placer, f"M{life}-{number}")
                        )
                    except Exception:
                        return
                    ordered[placer] = answer.json()["identifier"][1]["value"]
                    if halt.is_set():
                        return

            def scanner(life: int = life, halt: threading.Event = halt) -> None:
                for number in itertools.count():
                    study = f"2.25.{life + 1}{number:05d}"
                    mrn, placer = f"M{life}-{number}", f"P{life}-{number}"
                    try:
                        begun = report(study, mrn, f"DTCT-{number}", placer)
                        status = program.create(f"2.25.9{study[4:]}", begun)
                    except Exception:
                        return
                    if status.get("Status") == 0:
                        reported.append(study)
                    if halt.is_set():
                        return

            callers = [threading.Thread(target=one) for one in (desk, scanner)]
            before = len(ordered), len(reported)
            for one in callers:
                one.start()
            until(
                "some were answered", 20,
                lambda b=before: len(ordered) > b[0] + 30 and len(reported) > b[1] + 8,
            )  # fmt: skip
            program.end(signal.SIGKILL)
            halt.set()
            for one in callers:
                one.join(20)
            program.start()
        orders = {row["placer"]: row for row in program.http.get("/worklist").json()}
        rows = Counter((row["kind"], row["key"]) for row in program.export())
        matches = program.matches()
    assert set(rows.values()) == {1}
    assert {("order", placer) for placer in ordered} <= set(rows)
    assert {("match", study) for study in reported} <= set(rows)
    kept = {placer: orders[placer]["accession"] for placer in ordered if placer in orders}
    assert kept == {placer: ordered[placer] for placer in kept}
    assert len(set(ordered.values())) == len(ordered)
    for study in reported:
        placer = f"P{int(study[5:6]) - 1}-{int(study[6:])}"
        wanted = {placer} if placer in ordered else {placer, None}
        assert matches[study]["placer"] in wanted, "its own order, or none where none was taken"


@pytest.mark.parametrize("bug", ["downtime-studies-forgotten", "matched-by-name"])
def test_the_planted_defects_show(tmp_path: Path, bug: str) -> None:
    """A downtime study's report is acknowledged; then the study is nowhere, or a namesake's."""
    with RisProgram(tmp_path / "ris", {VARIABLE: bug}) as program:
        assert isinstance(program, RisProgram)
        for mrn in ("M1", "M2"):
            program.admit(mrn, "Dubois")
            program.order(f"P{mrn}", mrn)
        assert program.create("2.25.1", report("2.25.2", "M2", "DTCT-1", "PM2")).Status == 0
        assert program.set("2.25.1", "COMPLETED").Status == 0
        found = {study: one["placer"] for study, one in program.matches().items()}
        assert found == ({} if bug == "downtime-studies-forgotten" else {"2.25.2": "PM1"})
        assert program.tasks() == []
