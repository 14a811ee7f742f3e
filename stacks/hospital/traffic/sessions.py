"""The units that treat: at its time each protected session is held, by the book or by the list.

It refuses to call a session held that stands in no book and on no list.
"""

from __future__ import annotations

import time

import gevent
import msgspec

from stacks.hospital.traffic.callers import READ_S, Ask
from stacks.hospital.traffic.channels import question
from stacks.hospital.traffic.channels import word_in as word_at
from stacks.hospital.traffic.diary import SESSIONS, Booking
from stacks.hospital.traffic.http import NoAnswer
from stacks.hospital.traffic.surroundings import Hospital, marks

LISTS = "clinic-lists"
STANDS = ("booked", "fulfilled", "confirmed", "moved")
SURGERY_EVERY, EXAM_EVERY = 10, 8  # of the sessions: vital surgery P0, exams of inpatients P1
HOLD_PATIENCE_S = 12.0
HOLD_EVERY_S = 1.0


class Units:
    """Oncology, dialysis, radiotherapy, the theatre, the wards' examinations."""

    def __init__(self, hospital: Hospital) -> None:
        self._h = hospital

    def hold(self, one: Booking) -> None:
        """At slot time the unit looks who comes: in scheduling, else on the printed list."""
        gevent.sleep(max(0.0, one.at - time.time()))
        intended = time.monotonic()
        op = self._h.ledger.invoke(
            "session.held", one.klass, intended, HOLD_PATIENCE_S, key=one.id, subject=one.one.mrn,
            ward=one.clinic, target="scheduling", value=one.service,
        )  # fmt: skip
        trouble = ""
        while time.monotonic() < intended + HOLD_PATIENCE_S:
            for place, look in (("scheduling", self._in_book), (LISTS, self._on_list)):
                op.attempts += 1
                status, trouble = look(one)
                if status in STANDS:
                    op.ok("seen", place, one.one.mrn, status)
                    return
                if status == "cancelled":
                    op.refused(f"{place}: it is cancelled there", place)
                    return
            gevent.sleep(HOLD_EVERY_S)
        op.refused(f"it stands nowhere: {trouble}")

    def _in_book(self, one: Booking) -> tuple[str, str]:
        """(status or empty, trouble) as scheduling shows it."""
        ask = Ask("GET", f"/fhir/Appointment/{one.id}", headers=marks(one.klass, one.clinic))
        try:
            answer = self._h.callers.attempt("scheduling", ask, READ_S)
        except NoAnswer as silence:
            return "", f"scheduling: {silence.reason}"
        if not answer.good:
            return "", f"scheduling: {answer.status}"
        return str(msgspec.json.decode(answer.body).get("status", "")), ""

    def _on_list(self, one: Booking) -> tuple[str, str]:
        """(word or empty, trouble) as the printed list has it."""
        ask = question(LISTS, one.id, one.one.mrn, one.clinic)
        try:
            answer = self._h.callers.attempt(LISTS, ask, READ_S)
        except NoAnswer as silence:
            return "", f"{LISTS}: {silence.reason}"
        word = word_at(LISTS, answer, one.id) if answer.good else ""
        return word, "" if answer.good else f"{LISTS}: {answer.status}"


def service_of(number: int) -> str:
    """The service of the how manieth session: mostly P2, some P0 and P1."""
    if number % SURGERY_EVERY == SURGERY_EVERY - 1:
        return "vital-surgery"
    if number % EXAM_EVERY == EXAM_EVERY - 1:
        return "inpatient-exam"
    return SESSIONS[number % len(SESSIONS)]
