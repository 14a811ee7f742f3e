"""The record's rules without a database: conditions, versions, ranks, the order's message."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

import msgspec
import psycopg
import pytest

from stacks.hospital import fhir, records
from stacks.hospital.ehr import asked, inbound, orders, reports
from stacks.hospital.ehr.pair import NotThisOne, Pair, Unavailable
from stacks.hospital.web import Refusal
from stacks.hospital.wire import hl7

from .people import admission, order, report


def resource(status: str, value: str, at: float) -> fhir.DiagnosticReport:
    told = report("S", "P", "M", status, value, at=at)
    data = msgspec.json.Encoder(decimal_format="number").encode(inbound.report_resource(told))
    found = fhir.decode(data)
    assert isinstance(found, fhir.DiagnosticReport)
    return found


def test_the_last_word_does_not_depend_on_the_order_of_arrival() -> None:
    """Whatever the order of arrival, the newest corrected version is the one that stays."""
    versions = [
        resource("preliminary", "1", 10),
        resource("final", "2", 20),
        resource("corrected", "3", 30),
        resource("corrected", "4", 40),
    ]
    for arrival in itertools.permutations(versions):
        kept = arrival[0]
        for new in arrival[1:]:
            kept = new if reports.supersedes(new, kept) else kept
        assert kept is versions[-1]


def test_a_repeated_version_changes_nothing() -> None:
    """The same values under the same status are not a new version."""
    assert not reports.supersedes(resource("final", "2", 30), resource("final", "2", 20))


def test_the_planted_defect_lets_a_preliminary_result_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """prelim-overwrites-final is felt here."""
    monkeypatch.setenv("HOSPITAL_BUG", "prelim-overwrites-final")
    assert reports.supersedes(resource("preliminary", "1", 10), resource("final", "2", 20))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "name=x",
        "identifier=",
        "identifier=x",
        "identifier=urn:hospital:mrn|P",
        "identifier=urn:hospital:placer|",
        "identifier=urn:hospital:placer|a b",
    ],
)
def test_strange_conditions_are_refused(header: str) -> None:
    """If-None-Exist is understood or refused, never ignored."""
    with pytest.raises((Refusal, fhir.Invalid)):
        asked.if_none_exist(header, "ServiceRequest")


def test_conditions_and_versions() -> None:
    """The understood forms."""
    given = "identifier=urn:hospital:placer|P-1"
    assert asked.if_none_exist(given, "ServiceRequest") == "P-1"
    assert asked.if_none_exist(None, "ServiceRequest") is None
    assert asked.if_match('W/"12"') == 12
    for header, status in ((None, 428), ("12", 400), ("*", 400), ('W/""', 400)):
        with pytest.raises(Refusal) as refused:
            asked.if_match(header)
        assert refused.value.status == status


def test_the_message_of_an_order() -> None:
    """A laboratory order becomes an OML^O21 that says the same; others stay in the record."""
    found = fhir.decode(json.dumps(order("P-1", "M-1", stat=True)).encode())
    assert isinstance(found, fhir.ServiceRequest)
    message = orders.order_message(found, "W3")
    assert message is not None
    parsed = hl7.parse(message.payload)
    assert parsed.header.control_id == message.control_id
    assert parsed.body == hl7.Order("P-1", "M-1", ("NA", "K"), True, "", "W3")
    imaging = order("P-2", "M-1") | {"category": [{"coding": [{"code": "imaging"}]}]}
    found = fhir.decode(json.dumps(imaging).encode())
    assert isinstance(found, fhir.ServiceRequest)
    assert orders.order_message(found, "") is None


def imaging(**changes: object) -> dict[str, object]:
    """A ServiceRequest of category imaging."""
    category = [{"coding": [{"system": "http://snomed.info/sct", "code": "363679005"}]}]
    return {
        **order("P-3", "M-1"),
        "category": category,
        "code": {"coding": [{"code": "CT"}]},
        "encounter": {"reference": "Encounter/V-1"},
        **changes,
    }


@pytest.mark.parametrize(
    ("asked_for", "said"), [("stat", "STAT"), ("urgent", "HIGH"), ("routine", "ROUTINE")]
)
def test_the_message_of_an_imaging_order(asked_for: str, said: str) -> None:
    """An imaging order becomes an OMI^O23 that says the same, and not an OML^O21."""
    found = fhir.decode(json.dumps(imaging(priority=asked_for)).encode())
    assert isinstance(found, fhir.ServiceRequest)
    message = orders.order_message(found, "W3")
    assert message is not None
    parsed = hl7.parse(message.payload)
    assert (parsed.header.kind, parsed.header.event) == ("OMI", "O23")
    assert parsed.body == hl7.ImagingOrder("P-3", "M-1", "CT", ("CT",), said, "V-1", "W3")


def test_an_imaging_order_keeps_the_digest_of_orders() -> None:
    """Record and radiology compare it like a laboratory order: the modality is its test."""
    found = fhir.decode(json.dumps(imaging(priority="stat")).encode())
    digest = records.order_digest("P-3", "M-1", ["CT"], True)
    assert records.of_resource(found, "M-1", 1).digest == digest


@pytest.mark.parametrize("codes", [["XR"], ["CT", "MR"], ["NA"]])
def test_an_imaging_order_names_one_modality(codes: list[str]) -> None:
    """No modality, or two: refused at the desk, with the path, rather than later at radiology."""
    code = {"coding": [{"code": one} for one in codes]}
    with pytest.raises(fhir.Invalid, match=r"\$\.code\.coding"):
        fhir.decode(json.dumps(imaging(code=code)).encode())


def test_movements_become_valid_resources() -> None:
    """Whatever an ADT says, patient and encounter pass our own check."""
    for event in ("A01", "A04", "A03", "A08"):
        adt = admission("M-1", "V-1", event)
        fhir.decode(json.dumps(inbound.identity(adt)).encode(), "Patient")
        visit = {"status": "in-progress", "class": {"code": "AMB"}}
        visit |= inbound.encounter(adt, "M-1", 1.0)
        fhir.decode(json.dumps(visit).encode(), "Encounter")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.DiskFull, Unavailable),
        (psycopg.errors.IoError, Unavailable),
        (psycopg.errors.ReadOnlySqlTransaction, Unavailable),
        (psycopg.errors.AdminShutdown, Unavailable),
        (psycopg.errors.ProgramLimitExceeded, NotThisOne),
        (psycopg.errors.QueryCanceled, NotThisOne),
    ],
)
def test_a_message_is_blamed_only_for_what_is_its_own(
    error: type[psycopg.Error], kind: type[Unavailable]
) -> None:
    """A full or broken disk refuses whatever comes; a write that is too large or too slow itself
    may be the message's own fault."""
    session: Any = SimpleNamespace(connection=SimpleNamespace(closed=False), doubtful=False)
    node: Any = SimpleNamespace(name="ehr-db-a", suspect=lambda: None)
    with pytest.raises(Unavailable) as raised:
        Pair._judge(error("no"), session, node)
    assert type(raised.value) is kind
