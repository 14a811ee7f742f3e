"""The copy's file: whole or the old one, and true about its age."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stacks.hospital import copy_snapshot, fhir
from stacks.hospital.copy_snapshot import Damaged, Snapshot, tagged
from stacks.hospital.copy_source import Reading


def row(type_: str, key: str, mrn: str, **body: object) -> tuple[str, str, str, int, float, str]:
    system = fhir.KEY_SYSTEMS[type_]
    about = {} if type_ == "Patient" else {"subject": fhir.patient_reference(mrn)}
    whole = {"resourceType": type_, "identifier": [{"system": system, "value": key}]}
    return type_, key, mrn, 1, 50.0, json.dumps(whole | about | body)


def reading(as_of: float, *mrns: str) -> Reading:
    rows = [row("Patient", mrn, mrn) for mrn in mrns]
    rows += [
        row("Encounter", f"V-{mrn}", mrn, status="in-progress", **{"class": {"code": "IMP"}},
            location=[{"location": {"reference": "Location/w1"}}])
        for mrn in mrns
    ]  # fmt: skip
    return Reading(as_of, "ehr-db-b", rows, [("OLD", "P1")])


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Charts, single resources, census, export and age; a merged number finds its survivor."""
    copy_snapshot.write(tmp_path, reading(100.0, "P1", "P2"), now=101.0)
    held = Snapshot(tmp_path)
    assert (held.as_of, held.refreshed_at, held.patients, held.source) == (
        100.0, 101.0, 2, "ehr-db-b")  # fmt: skip
    assert [line.type for line in held.chart("P1")] == ["Patient", "Encounter"]
    assert held.chart("OLD") == held.chart("P1")
    assert held.chart("nobody") == []
    assert held.find("Encounter", "V-P2") is not None
    assert held.census()[0] == {"mrn": "P1", "visit": "V-P1", "ward": "w1", "class": "IMP"}
    records, last = held.page(0, 3)
    assert [one.kind for one in records] == ["patient", "patient", "encounter"]
    assert {one.stored_at for one in records} == {50.0}
    assert [one.key for one in held.page(last, 3)[0]] == ["V-P2"]


def test_a_reader_keeps_its_state_while_a_younger_one_takes_the_name(tmp_path: Path) -> None:
    """An answer in progress is never mixed from two states."""
    copy_snapshot.write(tmp_path, reading(100.0, "P1"), now=100.0)
    old = Snapshot(tmp_path)
    copy_snapshot.write(tmp_path, reading(200.0, "P2"), now=200.0)
    assert old.chart("P1")
    assert not old.chart("P2")
    assert Snapshot(tmp_path).as_of == 200.0


def test_a_refresh_that_dies_halfway_leaves_the_last_good_copy(tmp_path: Path) -> None:
    """The half-written file has another name; damage under the right name is said, not served."""
    copy_snapshot.write(tmp_path, reading(100.0, "P1"), now=100.0)
    (tmp_path / copy_snapshot.NEXT).write_bytes(b"half a file")
    assert Snapshot(tmp_path).chart("P1")
    copy_snapshot.write(tmp_path, reading(200.0, "P1"), now=200.0)
    assert Snapshot(tmp_path).as_of == 200.0
    (tmp_path / copy_snapshot.NAME).write_bytes(b"x" * 5000)
    with pytest.raises(Damaged):
        Snapshot(tmp_path)
    with pytest.raises(Damaged):
        Snapshot(tmp_path / "nowhere")


def test_a_tagged_resource_keeps_its_numbers() -> None:
    """1.10 mmol/l stays 1.10; the tag and the as-of time are added to what meta held."""
    text = tagged('{"meta":{"tag":[{"code":"x"}],"versionId":"3"},"value":1.10}', "READ-ONLY", "T")
    assert b'"value":1.10' in text
    meta = json.loads(text)["meta"]
    assert [tag["code"] for tag in meta["tag"]] == ["x", "READ-ONLY"]
    assert (meta["versionId"], meta["lastUpdated"]) == ("3", "T")
