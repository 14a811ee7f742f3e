"""What scheduling must refuse: a slot that a neighbour has, and a second cancellation.

It refuses to ask for anything that scheduling should give.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from stacks.hospital.bad_input import inputs
from stacks.hospital.bad_input.inputs import BadInput
from stacks.hospital.bad_input.neighbours import KLASS, Neighbours
from stacks.hospital.bad_input.web import Web
from stacks.hospital.traffic.appointment_forms import SYSTEM, appointment_form
from stacks.hospital.traffic.diary import Booking


class Clinic:
    """Makes scheduling's bad inputs, over the link by which clinics book."""

    def __init__(self, scheduling: Web, neighbours: Neighbours) -> None:
        self._scheduling, self._neighbours = scheduling, neighbours

    def inputs(self, times: int, admission: Web) -> Iterator[BadInput]:
        """`times` of each sort; sets up their neighbours. Raises: NoNeighbours."""
        for number in range(times):
            one = self._neighbours.registered(admission, f"B{number}")
            yield self._gone(number, self._neighbours.booked(self._scheduling, one, 2 * number))
            known = self._neighbours.booked(self._scheduling, one, 2 * number + 1)
            self._neighbours.cancel(self._scheduling, known)
            yield self._cancelled(known)

    def _gone(self, number: int, holder: Booking) -> BadInput:
        """Somebody else wants the slot of a neighbour."""
        one = self._neighbours.someone(f"G{number}")
        name = f"{self._neighbours.prefix}-G{number}"
        wanted = Booking(name, one, holder.service, holder.clinic, holder.minute, holder.at)
        body = msgspec.json.encode(appointment_form(wanted))
        marks = {"X-Priority": KLASS, "If-None-Exist": f"identifier={SYSTEM}|{name}"}
        return BadInput(
            inputs.SLOT, name, one.mrn, "scheduling",
            f"{one.mrn} wants the slot that {holder.id} has",
            lambda: self._scheduling.hear("POST", "/fhir/Appointment", body, marks),
        )  # fmt: skip

    def _cancelled(self, known: Booking) -> BadInput:
        """A neighbour's appointment, cancelled already, is to be cancelled by another request."""
        body = msgspec.json.encode(appointment_form(known, "cancelled"))
        path = f"/fhir/Appointment/{known.id}"
        marks = {
            "X-Priority": KLASS, "If-Match": known.etag, "Idempotency-Key": f"{known.id}-second",
        }  # fmt: skip
        return BadInput(
            inputs.CANCEL, known.id, known.one.mrn, "scheduling",
            f"cancel {known.id}, which is cancelled already",
            lambda: self._scheduling.hear("PUT", path, body, marks),
        )  # fmt: skip
