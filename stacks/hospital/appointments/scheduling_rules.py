"""What an appointment may become: the agenda's rules, and the reasons with which it says no.

It refuses to store anything: every rule looks, inside its caller's transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from msgspec.structs import replace

from stacks.hospital.appointments import scheduling_rows as rows
from stacks.hospital.appointments.scheduling_rows import Booked, Rebooking
from stacks.hospital.appointments.slots import Slot


class Unknown(Exception):
    """No such appointment or task."""


class Conflict(Exception):
    """The request contradicts what is stored: the slot is gone, the appointment is cancelled."""


class Stale(Exception):
    """Based on a version that is no longer the stored one."""


class Closed(Exception):
    """The agenda takes no bookings and moves now; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants an appointment to be; `at` in Unix seconds."""

    id: str
    patient: str
    slot: Slot
    at: float
    status: str = "booked"
    phone: str = ""


def is_repetition(known: Booked, asked: Asked, request: str) -> bool:
    """Whether the request was done already: under the same key, with the same result."""
    return (
        known.request == request
        and (known.status, known.slot) == (asked.status, asked.slot.name)
        and (known.phone, known.at) == (asked.phone or known.phone, asked.at)
    )


def require_same(connection: sqlite3.Connection, known: Booked, asked: Asked) -> None:
    """Patient and service of an appointment never change. Raises: Conflict."""
    patient = rows.current(connection, asked.patient)
    if (known.patient, known.service) != (patient, asked.slot.service):
        raise Conflict(
            f"{known.id} is {known.patient}'s {known.service}: patient and service never change"
        )


def require_free(connection: sqlite3.Connection, asked: Asked) -> None:
    """A slot has one patient. Raises: Conflict."""
    holder = rows.holder(connection, asked.slot.name)
    if holder is not None:
        raise Conflict(f"slot {asked.slot.name} is gone, {holder.id} has it; choose another")


def changed(known: Booked, asked: Asked, request: str, at: float) -> Booked:
    """The next version; what is cancelled, missed or over keeps the place that it had."""
    changed = replace(
        known, status=asked.status, version=known.version + 1, request=request, stored_at=at,
        phone=asked.phone or known.phone,
    )  # fmt: skip
    if asked.status != "booked":
        return changed
    return replace(changed, slot=asked.slot.name, clinic=asked.slot.clinic, at=asked.at)


def require_rebooked(connection: sqlite3.Connection, task: Rebooking, new: str) -> None:
    """What replaces a cancelled appointment is booked, for its patient. Raises: Conflict."""
    old, found = rows.find(connection, task.appointment), rows.find(connection, new)
    if found is None or old is None:
        raise Conflict(f"there is no appointment {new}; book it first")
    if found.status != "booked":
        raise Conflict(f"{new} is {found.status}: it does not replace {task.appointment}")
    if (found.patient, found.service) != (old.patient, old.service):
        raise Conflict(f"{new} is {found.patient}'s {found.service}, not the one cancelled")
