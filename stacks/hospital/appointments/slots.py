"""What the hospital gives appointments for, and the slots in which it does.

A slot's name says everything of it: `<service>-<clinic>-<minute since midnight of day 0>`. It
refuses to keep a list of slots: every well-formed name is a slot that somebody can take.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from stacks.hospital.records import digest

SERVICES = {
    "consultation": "P3", "planned-surgery": "P3", "ambulatory-imaging": "P3", "endoscopy": "P3",
    "vital-surgery": "P0", "inpatient-exam": "P1",
    "chemotherapy": "P2", "dialysis": "P2", "radiotherapy": "P2",
}  # fmt: skip
"""Service → its class. P0 to P2 are protected: no decision by class ever touches them."""
PROTECTED = frozenset(name for name, class_ in SERVICES.items() if class_ != "P3")
CHARS_MAX = 64
_SLOT = re.compile(
    rf"(?P<service>{'|'.join(SERVICES)})-(?P<clinic>[A-Za-z0-9.\-]{{1,40}})-(?P<minute>\d{{1,6}})"
)


@dataclass(frozen=True, slots=True)
class Slot:
    """One place for one patient; `minute` is hospital time since midnight of day 0."""

    name: str
    service: str
    clinic: str
    minute: int

    @property
    def schedule(self) -> str:
        """The schedule that the slot is of: one service in one clinic."""
        return f"{self.service}-{self.clinic}"


def slot_of(name: str) -> Slot | None:
    """The slot of that name, or None when it is no name of a slot."""
    match = _SLOT.fullmatch(name) if len(name) <= CHARS_MAX and name.isascii() else None
    if match is None:
        return None
    return Slot(name, match["service"], match["clinic"], int(match["minute"]))


def appointment_digest(appointment: str, patient: str, service: str, slot: str) -> str:
    """Digest of an appointment; `patient` is the mrn that lives on after merges."""
    return digest(
        {"appointment": appointment, "patient": patient, "service": service, "slot": slot}
    )


def slot_resource(slot: Slot, *, taken: bool) -> dict[str, Any]:
    """The FHIR Slot."""
    return {
        "resourceType": "Slot", "id": slot.name, "status": "busy" if taken else "free",
        "serviceType": [{"coding": [{"code": slot.service}]}],
        "schedule": {"reference": f"Schedule/{slot.schedule}"},
        "comment": f"minute {slot.minute} of hospital time since midnight of day 0",
    }  # fmt: skip


def schedule_resource(service: str, clinic: str) -> dict[str, Any]:
    """The FHIR Schedule of one service in one clinic."""
    return {
        "resourceType": "Schedule", "id": f"{service}-{clinic}", "active": True,
        "serviceType": [{"coding": [{"code": service}]}],
        "actor": [{"reference": f"Location/{clinic}"}],
    }  # fmt: skip
