"""Sound patients, appointments and imaging orders beside which bad input is sent.

They are written into the ledger like everybody's, so that every claim on lost or mixed-up data
looks at them, too. It refuses to begin without them: NoNeighbours.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import httpx
import msgspec

from stacks.hospital.appointments.slots import appointment_digest
from stacks.hospital.bad_input.web import Web
from stacks.hospital.fhir import IMAGING, MRN, PLACER, patient_reference
from stacks.hospital.imaging.ris_pages import ACCESSION, STUDY
from stacks.hospital.traffic import forms
from stacks.hospital.traffic.appointment_forms import SYSTEM, appointment_form, patient_of, slot_in
from stacks.hospital.traffic.diary import Booking
from stacks.hospital.traffic.ledger import Ledger, Op
from stacks.hospital.traffic.people import Dice, Person, person, phone_of

KLASS = "P3"
SERVICE, CLINIC = "consultation", "general.1"
MODALITY = "CT"
WITHIN_S, PAUSE_S = 30.0, 0.3
DAY_MIN, OPENS_MIN, EVERY_MIN = 1_440, 480, 10


class NoNeighbours(Exception):
    """They could not be set up; the text says who refused."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """An imaging order on the worklist, as radiology numbered it."""

    placer: str
    one: Person
    accession: str
    study: str


class Neighbours:
    """Makes them over HTTP, each acknowledged; `prefix` keeps their keys apart from others'."""

    def __init__(self, ledger: Ledger, prefix: str, real_s_per_min: float) -> None:
        self._ledger, self.prefix, self._minute_s = ledger, prefix, real_s_per_min

    def someone(self, name: str) -> Person:
        """A person of that number, by the seed in the prefix; nobody is told of him."""
        mrn = f"{self.prefix}-{name}"
        return person(mrn, KLASS, Dice(Random(mrn).getrandbits(63)))

    def registered(self, desk: Web, name: str) -> Person:
        """A patient whom administration knows. Raises: NoNeighbours."""
        one = self.someone(name)
        body = forms.encode(forms.patient(one, phone_of(one.mrn)))
        op = self._invoke("patient.create", one.mrn, one, "gam", forms.digest(body, one.mrn))
        once = {"If-None-Exist": f"identifier={MRN}|{one.mrn}"}
        self._write(op, desk, "gam", "POST", "/fhir/Patient", body, once)
        return one

    def booking(self, id_: str, one: Person, number: int) -> Booking:
        """Slot `number` of our own clinic, three hospital days from now."""
        minutes = OPENS_MIN + number * EVERY_MIN
        at = round(time.time() + (3 * DAY_MIN + minutes) * self._minute_s, 3)
        return Booking(id_, one, SERVICE, CLINIC, 3 * DAY_MIN + minutes, at)

    def booked(self, desk: Web, one: Person, number: int) -> Booking:
        """An appointment that scheduling acknowledged. Raises: NoNeighbours."""
        wanted = self.booking(f"{self.prefix}-A{number}", one, number)
        digest = appointment_digest(wanted.id, one.mrn, SERVICE, wanted.slot)
        op = self._invoke("appointment.book", wanted.id, one, "scheduling", digest)
        body = msgspec.json.encode(appointment_form(wanted))
        once = {"If-None-Exist": f"identifier={SYSTEM}|{wanted.id}"}
        answer = self._write(op, desk, "scheduling", "POST", "/fhir/Appointment", body, once)
        wanted.etag = answer.headers.get("etag", "")
        return wanted

    def cancel(self, desk: Web, known: Booking) -> None:
        """Cancel it; its new version is kept in the booking. Raises: NoNeighbours."""
        op = self._invoke("appointment.cancel", known.id, known.one, "scheduling")
        body = msgspec.json.encode(appointment_form(known, "cancelled"))
        marks = {"If-Match": known.etag, "Idempotency-Key": f"{known.id}-first"}
        path = f"/fhir/Appointment/{known.id}"
        answer = self._write(op, desk, "scheduling", "PUT", path, body, marks)
        known.etag = answer.headers.get("etag", "")

    def ordered(self, desk: Web, one: Person, number: int) -> Ordered:
        """An order on radiology's worklist. Raises: NoNeighbours."""
        placer = f"{self.prefix}-I{number}"
        body = forms.encode(_order_form(placer, one.mrn))
        digest = forms.digest(body, one.mrn)
        op = self._invoke("imaging.order", placer, one, "ris", digest)
        once = {"If-None-Exist": f"identifier={PLACER}|{placer}"}
        answer = self._write(op, desk, "ris", "POST", "/fhir/ServiceRequest", body, once)
        numbers = {each["system"]: each["value"] for each in answer.json()["identifier"]}
        return Ordered(placer, one, numbers[ACCESSION], numbers[STUDY].removeprefix("urn:oid:"))

    def _invoke(self, kind: str, key: str, one: Person, target: str, value: str = "") -> Op:
        return self._ledger.invoke(
            kind, KLASS, time.monotonic(), WITHIN_S, key=key, subject=one.mrn, ward=one.ward,
            target=target, value=value,
        )  # fmt: skip

    def _write(
        self, op: Op, desk: Web, name: str, method: str, path: str, body: bytes,
        marks: Mapping[str, str],
    ) -> httpx.Response:  # fmt: skip
        trouble = "never tried"
        while time.monotonic() < op.intended + WITHIN_S:
            op.attempts += 1
            try:
                answer = desk.ask(method, path, body, {"X-Priority": KLASS, **marks})
            except httpx.HTTPError as error:
                trouble = f"{type(error).__name__} {error}".strip()
            else:
                if answer.is_success:
                    booked = op.kind == "appointment.book"
                    op.ok(
                        str(answer.status_code), name, patient_of(answer.content),
                        slot_in(answer.content) if booked else "",
                    )  # fmt: skip
                    return answer
                trouble = f"{answer.status_code} {forms.refusal(answer.content)[1]}"
            time.sleep(PAUSE_S)
        op.unknown(trouble, name)
        raise NoNeighbours(f"{name} did not take {op.kind} within {WITHIN_S:.0f} s: {trouble}")


def _order_form(placer: str, mrn: str) -> forms.Form:
    return {
        "resourceType": "ServiceRequest",
        "identifier": [{"system": PLACER, "value": placer}],
        "status": "active",
        "intent": "order",
        "priority": "routine",
        "category": [{"coding": [{"system": "http://snomed.info/sct", "code": IMAGING}]}],
        "code": {"coding": [{"code": MODALITY}]},
        "subject": patient_reference(mrn),
    }
