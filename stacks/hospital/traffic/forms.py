"""The FHIR resources that people write, as JSON bytes, and who the patient of an answer is.

It refuses to know where they are sent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stacks.hospital.fhir import MRN, PLACER, VISIT, decode, patient_reference
from stacks.hospital.records import of_resource
from stacks.hospital.traffic.people import CLASSES, Order, Person

Form = dict[str, Any]


def encode(form: Form) -> bytes:
    """A form as the bytes that are sent."""
    return msgspec.json.encode(form)


def digest(body: bytes, mrn: str) -> str:
    """The digest that every store computes of this resource, as long as nobody is merged."""
    return of_resource(decode(body), mrn, 1).digest


def patient(one: Person, phone: str = "") -> Form:
    """A patient's identity; `phone` is what an update changes."""
    form: Form = {
        "resourceType": "Patient",
        "id": one.mrn,
        "identifier": [{"system": MRN, "value": one.mrn}],
        "active": True,
        "name": [{"family": one.family, "given": [one.given]}],
        "birthDate": one.birth_date,
    }
    if phone:
        form["telecom"] = [{"system": "phone", "value": phone}]
    return form


def encounter(one: Person, visit: str, status: str = "in-progress") -> Form:
    """A visit of a patient on their ward."""
    return {
        "resourceType": "Encounter",
        "id": visit,
        "identifier": [{"system": VISIT, "value": visit}],
        "status": status,
        "class": {"code": CLASSES[one.klass]},
        "subject": patient_reference(one.mrn),
        "location": [{"location": {"reference": f"Location/{one.ward}", "display": one.ward}}],
    }


def merge(source: str) -> Form:
    """The body of $merge."""
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "source", "valueString": source}],
    }


def order(one: Order) -> Form:
    """A laboratory order."""
    return {
        "resourceType": "ServiceRequest",
        "identifier": [{"system": PLACER, "value": one.placer}],
        "status": "active",
        "intent": "order",
        "priority": "stat" if one.stat else "routine",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"code": test} for test in one.tests]},
        "subject": patient_reference(one.mrn),
    }


def allergy(mrn: str, placer: str, substance: str) -> Form:
    """An allergy."""
    return _about(
        "AllergyIntolerance", "patient", mrn, placer, code={"coding": [{"code": substance}]},
        clinicalStatus={"coding": [{"code": "active"}]}, criticality="high",
    )  # fmt: skip


def medication(mrn: str, placer: str, drug: str, dose: str) -> Form:
    """A prescription."""
    return _about(
        "MedicationRequest", "subject", mrn, placer, status="active", intent="order",
        medicationCodeableConcept={"coding": [{"code": drug}]},
        dosageInstruction=[{"text": dose}],
    )  # fmt: skip


def administration(mrn: str, placer: str, drug: str, dose: str) -> Form:
    """A dose given."""
    return _about(
        "MedicationAdministration", "subject", mrn, placer, status="completed",
        medicationCodeableConcept={"coding": [{"code": drug}]}, dosage={"text": dose},
    )  # fmt: skip


def observation(mrn: str, placer: str, code: str, value: float, unit: str) -> Form:
    """A vital sign."""
    return _about(
        "Observation", "subject", mrn, placer, status="final", code={"coding": [{"code": code}]},
        category=[{"coding": [{"code": "vital-signs"}]}],
        valueQuantity={"value": value, "unit": unit},
    )  # fmt: skip


def _about(type_: str, link: str, mrn: str, placer: str, **more: Any) -> Form:
    identifier = [{"system": PLACER, "value": placer}]
    subject = {link: patient_reference(mrn)}
    return {"resourceType": type_, "identifier": identifier, **subject, **more}


def tube(order: Order, specimen: str, critical: bool) -> Form:
    """A barcoded tube for the analysers' line."""
    return {
        "specimen": specimen, "placer": order.placer, "patient": order.mrn,
        "tests": list(order.tests), "stat": order.stat, "critical": critical,
    }  # fmt: skip


# ---------------------------------------------------------------- answers


class _Identifier(msgspec.Struct):
    system: str | None = None
    value: str | None = None


class _Reference(msgspec.Struct):
    reference: str | None = None


class _Coding(msgspec.Struct):
    code: str | None = None


class _Meta(msgspec.Struct):
    tag: list[_Coding] = []
    lastUpdated: str | None = None


class _Resource(msgspec.Struct):
    resourceType: str = ""
    identifier: list[_Identifier] = []
    subject: _Reference | None = None
    patient: _Reference | None = None


class _Entry(msgspec.Struct):
    resource: _Resource | None = None


class _Answer(_Resource):
    meta: _Meta | None = None
    entry: list[_Entry] = []


_answers = msgspec.json.Decoder(_Answer)


class Chart(msgspec.Struct, frozen=True):
    """What an answer says about whom: all patients named in it, its tags and its as-of time."""

    patients: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    as_of: str = ""
    entries: int = 0


def chart(body: bytes) -> Chart | None:
    """Read a Patient or a Bundle; None when the body is neither."""
    try:
        found = _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    resources = [found, *(entry.resource for entry in found.entry if entry.resource)]
    patients = dict.fromkeys(mrn for each in resources if (mrn := _mrn(each)))
    meta = found.meta or _Meta()
    tags = tuple(tag.code for tag in meta.tag if tag.code)
    return Chart(tuple(patients), tags, meta.lastUpdated or "", len(found.entry))


def _mrn(each: _Resource) -> str:
    if each.resourceType == "Patient":
        return next((i.value for i in each.identifier if i.system == MRN and i.value), "")
    link = each.subject or each.patient
    if link is None or not link.reference or not link.reference.startswith("Patient/"):
        return ""
    return link.reference.removeprefix("Patient/")


class _Issue(msgspec.Struct):
    code: str = ""
    diagnostics: str = ""


class _Outcome(msgspec.Struct):
    issue: list[_Issue] = []


_outcomes = msgspec.json.Decoder(_Outcome)


def refusal(body: bytes) -> tuple[str, str]:
    """(code, reason) of an OperationOutcome; empty texts when it gives none."""
    try:
        issues = _outcomes.decode(body).issue
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    return (issues[0].code, issues[0].diagnostics) if issues else ("", "")
