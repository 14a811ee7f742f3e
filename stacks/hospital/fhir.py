"""The eight FHIR R4 resources that the hospital exchanges, decoded into typed structs.

It refuses what is malformed with one line that names the path (`$.identifier[0].value`), and
keeps no element that it does not know: who must store a resource stores the JSON it was given.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec

MRN = "urn:hospital:mrn"
VISIT = "urn:hospital:visit"
PLACER = "urn:hospital:placer"
SPECIMEN = "urn:hospital:specimen"
REPORT = "urn:hospital:report"
IMAGING = "363679005"
"""SNOMED CT code of the category of an imaging order."""
MODALITIES = ("CT", "MR", "CR", "US")
_KEY = re.compile(r"[A-Za-z0-9.\-]{1,64}")


class Invalid(ValueError):
    """The resource is not acceptable; the text says where and why."""


class _Element(msgspec.Struct, omit_defaults=True, rename={"class_": "class"}):
    pass


class Coding(_Element):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class CodeableConcept(_Element):
    coding: list[Coding] = []
    text: str | None = None


class Identifier(_Element):
    system: str | None = None
    value: str | None = None


class Reference(_Element):
    reference: str | None = None
    identifier: Identifier | None = None
    display: str | None = None


class Meta(_Element):
    versionId: str | None = None
    lastUpdated: str | None = None
    tag: list[Coding] = []


class HumanName(_Element):
    family: str | None = None
    given: list[str] = []
    text: str | None = None


class Period(_Element):
    start: str | None = None
    end: str | None = None


class Quantity(_Element):
    value: Decimal | None = None
    """Exactly as it was written: 4.10 stays 4.10."""
    unit: str | None = None


class Extension(_Element):
    url: str
    valueString: str | None = None


class Place(_Element):
    location: Reference


class PatientLink(_Element):
    other: Reference
    type: str


class Dosage(_Element):
    text: str | None = None


class _Resource(_Element, tag_field="resourceType", tag=True):
    id: str | None = None
    meta: Meta | None = None
    identifier: list[Identifier] = []


class Patient(_Resource):
    active: bool | None = None
    name: list[HumanName] = []
    gender: str | None = None
    birthDate: str | None = None
    link: list[PatientLink] = []


class Encounter(_Resource, kw_only=True):
    status: str
    class_: Coding
    subject: Reference
    location: list[Place] = []
    period: Period | None = None


class Observation(_Resource, kw_only=True):
    status: str
    code: CodeableConcept
    subject: Reference | None = None
    category: list[CodeableConcept] = []
    effectiveDateTime: str | None = None
    valueQuantity: Quantity | None = None
    valueString: str | None = None
    interpretation: list[CodeableConcept] = []
    extension: list[Extension] = []


class AllergyIntolerance(_Resource, kw_only=True):
    patient: Reference
    code: CodeableConcept | None = None
    clinicalStatus: CodeableConcept | None = None
    criticality: str | None = None


class MedicationRequest(_Resource, kw_only=True):
    status: str
    subject: Reference
    medicationCodeableConcept: CodeableConcept
    intent: str = "order"
    priority: str | None = None
    dosageInstruction: list[Dosage] = []


class MedicationAdministration(_Resource, kw_only=True):
    status: str
    subject: Reference
    medicationCodeableConcept: CodeableConcept
    request: Reference | None = None
    effectiveDateTime: str | None = None
    dosage: Dosage | None = None


class ServiceRequest(_Resource, kw_only=True):
    """An order; `code` has a laboratory order's tests, or an imaging order's modality."""

    status: str
    subject: Reference
    code: CodeableConcept
    intent: str = "order"
    priority: str = "routine"
    category: list[CodeableConcept] = []
    encounter: Reference | None = None
    authoredOn: str | None = None


class DiagnosticReport(_Resource, kw_only=True):
    """A report; its values are the contained Observations."""

    status: str
    subject: Reference
    code: CodeableConcept | None = None
    basedOn: list[Reference] = []
    contained: list[Observation] = []
    result: list[Reference] = []
    issued: str | None = None


Resource = (
    Patient
    | Encounter
    | Observation
    | AllergyIntolerance
    | MedicationRequest
    | MedicationAdministration
    | ServiceRequest
    | DiagnosticReport
)
TYPES: dict[str, type[Any]] = {
    type_.__name__: type_
    for type_ in (
        Patient,
        Encounter,
        Observation,
        AllergyIntolerance,
        MedicationRequest,
        MedicationAdministration,
        ServiceRequest,
        DiagnosticReport,
    )
}
KEY_SYSTEMS: dict[str, str] = {
    "Patient": MRN,
    "Encounter": VISIT,
    "Observation": PLACER,
    "AllergyIntolerance": PLACER,
    "MedicationRequest": PLACER,
    "MedicationAdministration": PLACER,
    "ServiceRequest": PLACER,
    "DiagnosticReport": SPECIMEN,
}
"""The identifier system whose value is a resource's business key."""
_decoder = msgspec.json.Decoder(Resource)


def name_of(resource: Resource) -> str:
    """The resourceType."""
    return type(resource).__name__


def decode(data: bytes, expected: str | None = None) -> Resource:
    """Decode one resource of the eight, of type `expected` if given; raises Invalid."""
    if b"\\u0000" in data or b"\x00" in data:
        raise Invalid("$: NUL characters are not text")
    try:
        resource: Resource = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Invalid(_with_path(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"$: not JSON: {error}") from None
    except RecursionError:
        raise Invalid("$: nested too deeply") from None
    if expected is not None and name_of(resource) != expected:
        raise Invalid(f"$.resourceType: expected {expected}, got {name_of(resource)}")
    _check(resource)
    return resource


def _with_path(text: str) -> str:
    problem, at, path = text.rpartition(" - at `")
    return f"{path.rstrip('`')}: {problem}" if at else f"$: {text}"


def _check(resource: Resource) -> None:
    key_of(resource)
    if not isinstance(resource, Patient):
        mrn_of(resource)
    if isinstance(resource, ServiceRequest):
        if resource.priority not in ("routine", "urgent", "asap", "stat"):
            raise Invalid(f"$.priority: {resource.priority!r} is not routine, urgent, asap or stat")
        if not tests_of(resource):
            raise Invalid("$.code.coding: an order needs at least one test code")
        if is_imaging(resource):
            modality_of(resource)


def identifier(resource: Resource, system: str) -> str | None:
    """The value of the first identifier of `system`, or None."""
    for one in resource.identifier:
        if one.system == system and one.value:
            return one.value
    return None


def key_of(resource: Resource) -> str:
    """The business key: mrn, visit, placer number or specimen; raises Invalid without one."""
    system = KEY_SYSTEMS[name_of(resource)]
    value = identifier(resource, system)
    if value is None:
        raise Invalid(f"$.identifier: no identifier of system {system}")
    return key(value, "$.identifier.value")


def key(value: str, path: str) -> str:
    """`value` if it can be a business key (1 to 64 letters, digits, dots, dashes)."""
    if not _KEY.fullmatch(value):
        raise Invalid(f"{path}: {value[:80]!r} is not 1 to 64 letters, digits, dots or dashes")
    return value


def subject_of(resource: Resource) -> Reference | None:
    """The reference to the patient whom the resource is about."""
    if isinstance(resource, AllergyIntolerance):
        return resource.patient
    return None if isinstance(resource, Patient) else resource.subject


def mrn_of(resource: Resource) -> str:
    """The mrn of the patient whom the resource is about; raises Invalid without one."""
    if isinstance(resource, Patient):
        return key_of(resource)
    path = "$.patient" if isinstance(resource, AllergyIntolerance) else "$.subject"
    subject = subject_of(resource)
    if subject is not None:
        if subject.identifier is not None and subject.identifier.system == MRN:
            return key(subject.identifier.value or "", f"{path}.identifier.value")
        if subject.reference and subject.reference.startswith("Patient/"):
            return key(subject.reference.removeprefix("Patient/"), f"{path}.reference")
    raise Invalid(f"{path}: must be Patient/<mrn> or an identifier of system {MRN}")


def patient_reference(mrn: str) -> dict[str, Any]:
    """The reference that the hospital itself writes for a patient."""
    return {"reference": f"Patient/{mrn}", "identifier": {"system": MRN, "value": mrn}}


def tests_of(order: ServiceRequest) -> list[str]:
    """The test codes of a laboratory order, in the order given."""
    return [coding.code for coding in order.code.coding if coding.code]


def is_laboratory(order: ServiceRequest) -> bool:
    """Whether an order goes to the laboratory: no category, or one coded `laboratory`."""
    codes = {coding.code for concept in order.category for coding in concept.coding}
    return not codes or "laboratory" in codes


def is_imaging(order: ServiceRequest) -> bool:
    """Whether an order goes to radiology: a category coded SNOMED CT 363679005."""
    return IMAGING in {coding.code for concept in order.category for coding in concept.coding}


def modality_of(order: ServiceRequest) -> str:
    """CT, MR, CR or US of an imaging order; raises Invalid unless it names exactly one."""
    named = [code for code in tests_of(order) if code in MODALITIES]
    if len(named) != 1:
        wanted = ", ".join(MODALITIES)
        raise Invalid(f"$.code.coding: an imaging order names exactly one of {wanted}")
    return named[0]


def imaging_priority(order: ServiceRequest) -> str:
    """STAT, HIGH or ROUTINE, as DICOM says it."""
    return {"stat": "STAT", "routine": "ROUTINE"}.get(order.priority, "HIGH")


def visit_of(order: ServiceRequest) -> str:
    """The visit that an order belongs to; empty if it says none."""
    reference = order.encounter.reference if order.encounter else None
    return (reference or "").rpartition("/")[2]


def is_stat(order: ServiceRequest) -> bool:
    """Whether an order is urgent."""
    return order.priority == "stat"


def placer_of(report: DiagnosticReport) -> str | None:
    """The placer number of the order that a report answers, or None."""
    for reference in report.basedOn:
        if reference.identifier is not None and reference.identifier.system == PLACER:
            return reference.identifier.value
        if reference.reference and reference.reference.startswith("ServiceRequest/"):
            return reference.reference.removeprefix("ServiceRequest/")
    return None
