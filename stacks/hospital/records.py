"""What a store holds, said the same way by every store, so that an auditor can compare them.

It refuses to hide anything: rows are exported as they lie, duplicates included.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from stacks.hospital import fhir

KINDS = {
    "Patient": "patient",
    "Encounter": "encounter",
    "Observation": "observation",
    "AllergyIntolerance": "allergy",
    "MedicationRequest": "medication",
    "MedicationAdministration": "administration",
    "ServiceRequest": "order",
    "DiagnosticReport": "report",
}
"""FHIR resourceType → record kind; further kinds: `message` (engine), `specimen` (analysers)."""
RANKS = {"preliminary": 1, "final": 2, "corrected": 3}
"""A report of a lower rank never replaces one of a higher rank."""
CRITICAL_FLAGS = frozenset({"HH", "LL"})
UNIT_EXTENSION = "urn:hospital:unit"
"""Holds the unit of a value that is not a number."""
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")


class Record(msgspec.Struct, frozen=True):
    """One stored business object; `key` is the same in every store.

    `status` is the FHIR status (an encounter: in-progress or finished); of a patient `active`, or
    `merged` when the mrn was merged away.
    """

    kind: str
    key: str
    patient: str
    """The current mrn, merges followed; empty if the object has none (a message)."""
    status: str
    version: int
    digest: str
    count: int = 1
    stored_at: float = 0.0
    """When the store took this version, Unix seconds; 0 if it does not say."""


class ReportValue(msgspec.Struct, frozen=True, order=True):
    """One value of a report, as texts exactly as in OBX-3, OBX-5, OBX-6 and OBX-8."""

    test: str
    value: str
    unit: str = ""
    flag: str = ""


def digest(value: object) -> str:
    """The first 16 hex digits of SHA-256 of the canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]


def order_digest(placer: str, patient: str, tests: Iterable[str], stat: bool) -> str:
    """Digest of a laboratory order; the tests' order does not matter."""
    priority = "stat" if stat else "routine"
    return digest(
        {"placer": placer, "patient": patient, "tests": sorted(tests), "priority": priority}
    )


def report_digest(specimen: str, placer: str, status: str, values: Iterable[ReportValue]) -> str:
    """Digest of a report of `status` preliminary, final or corrected; values in any order."""
    return digest(
        {"specimen": specimen, "placer": placer, "status": status, "values": sorted(values)}
    )


def patient_digest(mrn: str, family: str, given: str, birth_date: str) -> str:
    """Digest of a patient's identity; `birth_date` is yyyy-mm-dd, `given` the first given name."""
    return digest({"mrn": mrn, "family": family, "given": given, "birth_date": birth_date})


def encounter_digest(visit: str, patient: str, class_: str, ward: str) -> str:
    """Digest of a visit; `class_` is IMP, EMER or AMB."""
    return digest({"visit": visit, "patient": patient, "class": class_, "ward": ward})


def of_resource(resource: fhir.Resource, patient: str, version: int) -> Record:
    """The record of a FHIR resource of which `patient` is the current mrn."""
    kind, key = KINDS[fhir.name_of(resource)], fhir.key_of(resource)
    return Record(kind, key, patient, _status(resource), version, _digest(resource, key, patient))


def _status(resource: fhir.Resource) -> str:
    if isinstance(resource, fhir.Patient):
        merged = any(link.type == "replaced-by" for link in resource.link)
        return "merged" if merged else "active"
    if isinstance(resource, fhir.AllergyIntolerance):
        concept = resource.clinicalStatus
        return concept.coding[0].code or "" if concept and concept.coding else "active"
    return resource.status


def _digest(resource: fhir.Resource, key: str, patient: str) -> str:
    match resource:
        case fhir.ServiceRequest():
            return order_digest(key, patient, fhir.tests_of(resource), fhir.is_stat(resource))
        case fhir.DiagnosticReport():
            placer = fhir.placer_of(resource) or ""
            return report_digest(key, placer, resource.status, report_values(resource))
        case fhir.Patient():
            name = resource.name[0] if resource.name else fhir.HumanName()
            given = name.given[0] if name.given else ""
            return patient_digest(key, name.family or "", given, resource.birthDate or "")
        case fhir.Encounter():
            ward = ward_of(resource) or ""
            return encounter_digest(key, patient, resource.class_.code or "", ward)
        case fhir.Observation():
            what: object = [_codes(resource.code), resource.valueString, resource.valueQuantity]
        case fhir.AllergyIntolerance():
            what = [_codes(resource.code), resource.criticality]
        case fhir.MedicationRequest():
            what = [_codes(resource.medicationCodeableConcept), resource.dosageInstruction]
        case fhir.MedicationAdministration():
            what = [_codes(resource.medicationCodeableConcept), resource.dosage]
    return digest({"placer": key, "patient": patient, "what": what})


def _codes(concept: fhir.CodeableConcept | None) -> list[str]:
    return [coding.code or "" for coding in concept.coding] if concept else []


def ward_of(encounter: fhir.Encounter) -> str | None:
    """The ward of an encounter: the last part of its last location's reference, or its name."""
    if not encounter.location:
        return None
    location = encounter.location[-1].location
    if location.reference:
        return location.reference.rpartition("/")[2]
    return location.display or (location.identifier.value if location.identifier else None)


def report_values(report: fhir.DiagnosticReport) -> list[ReportValue]:
    """The values of a report, from its contained Observations."""
    return [_report_value(one) for one in report.contained]


def _report_value(one: fhir.Observation) -> ReportValue:
    code = one.code.coding[0].code if one.code.coding else None
    quantity = one.valueQuantity
    value, unit = one.valueString, ""
    if quantity is not None:
        unit = quantity.unit or ""
        if value is None and quantity.value is not None:
            value = str(quantity.value)
    for extension in one.extension:
        if extension.url == UNIT_EXTENSION:
            unit = extension.valueString or ""
    flag = ""
    if one.interpretation and one.interpretation[0].coding:
        flag = one.interpretation[0].coding[0].code or ""
    return ReportValue(code or "", value or "", unit, flag)


def observation_of(number: int, value: ReportValue, status: str) -> dict[str, Any]:
    """The contained Observation of a report's value; `report_values` reads it back exactly."""
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"v{number}",
        "status": status,
        "code": {"coding": [{"code": value.test}]},
    }
    if _NUMBER.fullmatch(value.value):
        quantity: dict[str, Any] = {"value": Decimal(value.value)}
        if value.unit:
            quantity["unit"] = value.unit
        observation["valueQuantity"] = quantity
    else:
        observation["valueString"] = value.value
        if value.unit:
            observation["extension"] = [{"url": UNIT_EXTENSION, "valueString": value.unit}]
    if value.flag:
        observation["interpretation"] = [{"coding": [{"code": value.flag}]}]
    return observation


def ndjson(records: Iterable[Record]) -> bytes:
    """The body of GET /export: one record per line."""
    return msgspec.json.Encoder().encode_lines(list(records))


def export_sql() -> str:
    """The SELECT that reads every stored resource of the ehr's database, page by page.

    Parameters: `(after_row, limit)`; columns: `row, type, patient, version, stored_at, body` where
    body is JSON text, ordered by row. Give each row to `of_row`; begin with after_row 0.
    """
    return (
        "SELECT row, type, patient, version, extract(epoch FROM stored_at)::float8, body::text "
        "FROM resource WHERE row > %s ORDER BY row LIMIT %s"
    )


def of_row(row: Sequence[Any]) -> Record:
    """The record of one row of `export_sql`; raises fhir.Invalid if the body is damaged."""
    _, type_, patient, version, stored_at, body = row
    record = of_resource(fhir.decode(body.encode(), type_), patient, version)
    return msgspec.structs.replace(record, stored_at=stored_at)
