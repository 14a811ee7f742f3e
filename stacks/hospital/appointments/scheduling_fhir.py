"""Appointments and rebooking tasks as FHIR R4 JSON, in and out.

It refuses what it does not understand with one line that says where, and keeps nothing of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from stacks.hospital import fhir
from stacks.hospital.appointments.decisions import Decision
from stacks.hospital.appointments.scheduling_rows import Booked, Rebooking
from stacks.hospital.appointments.scheduling_rules import Asked
from stacks.hospital.appointments.slots import PROTECTED, SERVICES, Slot, slot_of
from stacks.hospital.pages import instant
from stacks.hospital.web import Refusal

APPOINTMENT = "urn:hospital:appointment"
DECISION = "urn:hospital:decision"
PHONE = "urn:hospital:phone"
"""Extension: the number that the notices carry in PID-13."""
STATUSES = ("booked", "cancelled", "fulfilled", "noshow")
TEXT_MAX = 500
PHONE_MAX = 32
T = TypeVar("T")


class _Participant(msgspec.Struct):
    actor: fhir.Reference | None = None
    status: str = "accepted"


class _Appointment(msgspec.Struct, tag_field="resourceType", tag="Appointment", kw_only=True):
    status: str
    start: str
    slot: list[fhir.Reference]
    serviceType: list[fhir.CodeableConcept]
    participant: list[_Participant]
    identifier: list[fhir.Identifier] = []
    extension: list[fhir.Extension] = []


class _Decision(msgspec.Struct):
    decision: str
    services: list[str]
    start: str | float = msgspec.field(name="from")
    end: str | float = msgspec.field(name="to")
    reason: str = ""


def decoded(data: bytes, type_: type[T]) -> T:
    """A request's body. Raises: Refusal 400."""
    if b"\\u0000" in data or b"\x00" in data:
        raise Refusal(400, "invalid", "NUL characters are not text")
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "invalid", f"not acceptable: {error}") from None


def asked_of(data: bytes) -> Asked:
    """What an Appointment resource asks for. Raises: Refusal 400, 422."""
    one = decoded(data, _Appointment)
    names = [each.value for each in one.identifier if each.system == APPOINTMENT]
    if len(names) != 1:
        raise Refusal(400, "invalid", f"$.identifier: exactly one of system {APPOINTMENT}")
    if one.status not in STATUSES:
        raise Refusal(
            400, "value", f"$.status: {one.status[:20]!r} is not one of {', '.join(STATUSES)}"
        )
    patient, clinic = _actors(one)
    slot = _slot(one)
    if clinic and clinic != slot.clinic:
        raise Refusal(422, "business-rule", f"slot {slot.name} is not of clinic {clinic[:40]!r}")
    phones = [each.valueString or "" for each in one.extension if each.url == PHONE]
    phone = phones[0] if phones else ""
    if len(phone) > PHONE_MAX or not phone.isprintable():
        raise Refusal(400, "value", f"$.extension: a phone number has at most {PHONE_MAX} signs")
    name = key(names[0] or "", "$.identifier.value")
    return Asked(name, patient, slot, when(one.start, "$.start"), one.status, phone)


def _actors(one: _Appointment) -> tuple[str, str]:
    found = {"Patient": "", "Location": ""}
    for each in one.participant:
        type_, _, name = ((each.actor and each.actor.reference) or "").partition("/")
        if type_ in found:
            if found[type_]:
                raise Refusal(400, "invalid", f"$.participant: more than one {type_}")
            found[type_] = key(name, "$.participant.actor.reference")
    if not found["Patient"]:
        raise Refusal(400, "required", "$.participant: no actor Patient/<mrn>")
    return found["Patient"], found["Location"]


def _slot(one: _Appointment) -> Slot:
    codes = [coding.code or "" for concept in one.serviceType for coding in concept.coding]
    if len(codes) != 1 or codes[0] not in SERVICES:
        raise Refusal(
            422, "not-supported",
            f"$.serviceType: {', '.join(codes)[:80]!r} is not one of {', '.join(SERVICES)}",
        )  # fmt: skip
    name = (one.slot[0].reference or "").removeprefix("Slot/") if len(one.slot) == 1 else ""
    slot = slot_of(name)
    if slot is None:
        raise Refusal(
            400, "value", f"$.slot: {name[:80]!r} is not one Slot/<service>-<clinic>-<minute>"
        )
    if slot.service != codes[0]:
        raise Refusal(422, "business-rule", f"slot {slot.name} is not for {codes[0]}")
    return slot


def decision_of(data: bytes) -> Decision:
    """What the crisis cell decides. Raises: Refusal 400, 422."""
    one = decoded(data, _Decision)
    unknown = [name for name in one.services if name not in SERVICES]
    if unknown or not one.services:
        raise Refusal(
            422, "not-supported",
            f"$.services: {', '.join(unknown)[:80]!r}; known are {', '.join(SERVICES)}",
        )  # fmt: skip
    protected = sorted(PROTECTED.intersection(one.services))
    if protected:
        raise Refusal(
            422, "business-rule", f"{', '.join(protected)}: protected (P0 to P2), never cancelled"
            " by class; nothing was cancelled",
        )  # fmt: skip
    start, end = when(one.start, "$.from"), when(one.end, "$.to")
    if start >= end:
        raise Refusal(400, "value", "$.from is not before $.to")
    if len(one.reason) > TEXT_MAX:
        raise Refusal(400, "value", f"$.reason: at most {TEXT_MAX} characters")
    services = tuple(sorted(set(one.services)))
    return Decision(key(one.decision, "$.decision"), services, start, end, one.reason)


def key(text: str, path: str) -> str:
    """A business key. Raises: Refusal 400."""
    try:
        return fhir.key(text, path)
    except fhir.Invalid as error:
        raise Refusal(400, "invalid", str(error)) from None


def when(text: str | float, path: str) -> float:
    """An RFC 3339 instant with its zone, or Unix seconds, to the millisecond. Raises: Refusal."""
    try:
        if isinstance(text, str):
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError
            text = moment.timestamp()
        if not 0 < text < 1e11:
            raise ValueError
    except (ValueError, OverflowError):
        raise Refusal(
            400, "value", f"{path}: {str(text)[:40]!r} is not an instant with a zone (RFC 3339)"
        ) from None
    return round(text, 3)


def appointment_resource(one: Booked) -> dict[str, Any]:
    """The FHIR Appointment."""
    extension = [{"url": PHONE, "valueString": one.phone}] if one.phone else []
    if one.decision:
        extension.append({"url": DECISION, "valueString": one.decision})
    reason = {"cancelationReason": {"text": f"decision {one.decision}"}} if one.decision else {}
    return {
        "resourceType": "Appointment", "id": one.id,
        "meta": {"versionId": str(one.version), "lastUpdated": instant(one.stored_at)},
        "identifier": [{"system": APPOINTMENT, "value": one.id}],
        "status": one.status, **reason,
        "serviceType": [{"coding": [{"code": one.service}]}],
        "slot": [{"reference": f"Slot/{one.slot}"}], "start": instant(one.at),
        "participant": [
            {"actor": {"reference": f"Patient/{one.patient}"}, "status": "accepted"},
            {"actor": {"reference": f"Location/{one.clinic}"}, "status": "accepted"},
        ],
        "extension": extension,
    }  # fmt: skip


def task_resource(one: Rebooking) -> dict[str, Any]:
    """The FHIR Task to find another date; its id is the cancelled appointment's."""
    output = [
        {"type": {"text": "new appointment"},
         "valueReference": {"reference": f"Appointment/{one.rebooked}"}}
    ]  # fmt: skip
    return {
        "resourceType": "Task", "id": one.appointment, "status": one.status, "intent": "order",
        "code": {"text": "rebook"}, "focus": {"reference": f"Appointment/{one.appointment}"},
        "for": {"reference": f"Patient/{one.patient}"},
        "groupIdentifier": {"system": DECISION, "value": one.decision},
        "authoredOn": instant(one.authored_at), "lastModified": instant(one.changed_at),
        "output": output if one.rebooked else [],
    }  # fmt: skip


def day_after(text: str) -> tuple[float, float] | None:
    """The span of a whole UTC day `yyyy-mm-dd`, or None when it is no day."""
    try:
        start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return start, start + 86_400.0
