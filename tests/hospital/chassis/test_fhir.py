"""FHIR resources and records: typed, checked, the same digest in every store."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.hospital import fhir, records
from stacks.hospital.records import ReportValue


def order(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "ServiceRequest",
        "status": "active",
        "priority": "stat",
        "identifier": [{"system": fhir.PLACER, "value": "P-1"}],
        "code": {"coding": [{"code": "NA"}, {"code": "K"}]},
        "subject": {"reference": "Patient/M-1"},
        "unknown": {"kept": "by others"},
    } | changes


def decode(resource: dict[str, Any], expected: str | None = None) -> fhir.Resource:
    return fhir.decode(json.dumps(resource).encode(), expected)


def test_an_order_is_read() -> None:
    """Key, patient, tests and urgency."""
    found = decode(order(), "ServiceRequest")
    assert isinstance(found, fhir.ServiceRequest)
    assert (fhir.key_of(found), fhir.mrn_of(found)) == ("P-1", "M-1")
    assert (fhir.tests_of(found), fhir.is_stat(found), fhir.is_laboratory(found)) == (
        ["NA", "K"],
        True,
        True,
    )
    imaging = decode(order(category=[{"coding": [{"code": "imaging"}]}]))
    assert isinstance(imaging, fhir.ServiceRequest)
    assert not fhir.is_laboratory(imaging)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"status": 3}, "$.status"),
        ({"identifier": [{"system": fhir.PLACER, "value": 7}]}, "$.identifier[0].value"),
        ({"identifier": []}, "$.identifier"),
        ({"identifier": [{"system": fhir.PLACER, "value": "a b"}]}, "$.identifier.value"),
        ({"identifier": [{"system": fhir.PLACER, "value": "x" * 65}]}, "$.identifier.value"),
        ({"subject": {"display": "Ana"}}, "$.subject"),
        ({"subject": {"reference": "Patient/"}}, "$.subject.reference"),
        ({"code": {"coding": []}}, "$.code.coding"),
        ({"priority": "now"}, "$.priority"),
        ({"resourceType": "Patient"}, "$.resourceType"),
        ({"resourceType": "Potato"}, "$.resourceType"),
        ({"note": "\x00"}, "$"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(changes: dict[str, Any], path: str) -> None:
    """One line that begins with where."""
    with pytest.raises(fhir.Invalid) as error:
        decode(order(**changes), "ServiceRequest")
    assert str(error.value).split(":")[0] == path
    assert "\n" not in str(error.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but Invalid comes out (two hundred bytes of noise are no resource)."""
    with pytest.raises(fhir.Invalid, match=r"^\$"):
        fhir.decode(data)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
numbers = st.decimals(-(10**6), 10**6, allow_nan=False, places=3).map(str)
values = st.builds(ReportValue, texts, texts | numbers, texts, st.sampled_from(["", "H", "HH"]))


@given(st.lists(values, max_size=5))
def test_report_values_survive_fhir_exactly(given_values: list[ReportValue]) -> None:
    """Value → contained Observation → JSON → value is the identity, digits and units included."""
    contained = [
        records.observation_of(n, value, "final") for n, value in enumerate(given_values, 1)
    ]
    data = msgspec.json.Encoder(decimal_format="number").encode(
        {
            "resourceType": "DiagnosticReport",
            "status": "final",
            "contained": contained,
            "identifier": [{"system": fhir.SPECIMEN, "value": "S-1"}],
            "subject": fhir.patient_reference("M-1"),
        }
    )
    found = fhir.decode(data.replace(b"\\u0000", b""), "DiagnosticReport")
    assert isinstance(found, fhir.DiagnosticReport)
    assert records.report_values(found) == given_values


def test_digests_do_not_depend_on_order_and_do_on_content() -> None:
    """Tests and values in any order; another patient, status or value is another digest."""
    one = records.order_digest("P", "M", ["A", "B"], True)
    assert one == records.order_digest("P", "M", ["B", "A"], True)
    assert (
        len(
            {
                one,
                records.order_digest("P", "N", ["A", "B"], True),
                records.order_digest("P", "M", ["A"], True),
                records.order_digest("P", "M", ["A", "B"], False),
            }
        )
        == 4
    )
    low, high = ReportValue("A", "1"), ReportValue("B", "2", "", "HH")
    report = records.report_digest("S", "P", "final", [low, high])
    assert report == records.report_digest("S", "P", "final", [high, low])
    assert report != records.report_digest("S", "P", "corrected", [low, high])
    assert report != records.report_digest("S", "P", "final", [low])


def test_a_row_becomes_its_record() -> None:
    """Kind, key, current patient, status, version and digest of a stored order."""
    row = (7, "ServiceRequest", "M-2", 3, 12.5, json.dumps(order()))
    found = records.of_row(row)
    assert found == records.Record(
        "order",
        "P-1",
        "M-2",
        "active",
        3,
        records.order_digest("P-1", "M-2", ["NA", "K"], True),
        1,
        12.5,
    )
    assert json.loads(records.ndjson([found]))["kind"] == "order"
