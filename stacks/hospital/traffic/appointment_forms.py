"""The FHIR Appointment that desks write, and whose and which slot one is; sends nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from stacks.hospital.traffic.diary import Booking
from stacks.hospital.traffic.forms import Form
from stacks.hospital.traffic.people import phone_of

SYSTEM, PHONE = "urn:hospital:appointment", "urn:hospital:phone"


def appointment_form(one: Booking, status: str = "booked") -> Form:
    """The FHIR Appointment."""
    actors = (f"Patient/{one.one.mrn}", f"Location/{one.clinic}")
    return {
        "resourceType": "Appointment",
        "identifier": [{"system": SYSTEM, "value": one.id}],
        "status": status,
        "serviceType": [{"coding": [{"code": one.service}]}],
        "slot": [{"reference": f"Slot/{one.slot}"}],
        "start": datetime.fromtimestamp(one.at, UTC).isoformat(timespec="milliseconds"),
        "participant": [{"actor": {"reference": actor}, "status": "accepted"} for actor in actors],
        "extension": [{"url": PHONE, "valueString": phone_of(one.one.mrn)}],
    }


def patient_of(body: bytes) -> str:
    """The mrn in an Appointment resource; empty when it names none."""
    try:
        actors = [each["actor"]["reference"] for each in msgspec.json.decode(body)["participant"]]
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
    names = (actor.removeprefix("Patient/") for actor in actors if actor.startswith("Patient/"))
    return next(names, "")


def slot_in(body: bytes) -> str:
    """The slot that an Appointment resource promises; empty when it names none."""
    try:
        reference = msgspec.json.decode(body)["slot"][0]["reference"]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        return ""
    return reference.removeprefix("Slot/") if isinstance(reference, str) else ""
