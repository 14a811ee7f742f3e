"""What the admission desk does: register, admit, amend, discharge, merge.

It refuses to let carers write about a patient whom the record does not know yet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import gevent

from stacks.hospital.traffic import forms
from stacks.hospital.traffic.callers import READ_S, WRITE_PATIENCE_S, Ask
from stacks.hospital.traffic.care import Care
from stacks.hospital.traffic.department import Act
from stacks.hospital.traffic.http import NoAnswer
from stacks.hospital.traffic.ledger import Op
from stacks.hospital.traffic.people import Dice, Person, person
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.surroundings import Hospital, create_ask, marks

GAM = ("gam",)
# Hospital minutes.
PROBED_AFTER_MIN = 12.0  # the copy takes a snapshot every five
MERGED_AFTER_MIN = 6.0
# A new patient's chart is looked for so often and so long before anybody writes into it.
LOOK_EVERY_S, LOOK_FOR_S = 1.0, 120.0


class Administration:
    """What is done about who is in the hospital."""

    def __init__(self, hospital: Hospital, care: Care | None) -> None:
        self._h = hospital
        self._care = care
        self.acts: Mapping[str, Act] = {
            "admission": self.admit,
            "patient.update": self.update,
            "encounter.finish": self.finish,
            "duplicate": self.duplicate,
        }

    def admit(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """Register a patient and open their visit; takes part once the record knows them."""
        one = person(self._h.key("M", arrival), arrival.klass, dice)
        if self.register(one, intended):
            self._h.spawn(self._until_readable, one)

    def register(self, one: Person, intended: float) -> bool:
        """Patient, then visit; True when both were acknowledged."""
        body = forms.encode(forms.patient(one))
        op = self._h.ledger.invoke(
            "patient.create", one.klass, intended, WRITE_PATIENCE_S, key=one.mrn, subject=one.mrn,
            ward=one.ward, target="gam", value=forms.digest(body, one.mrn),
        )  # fmt: skip
        answer = self._h.write(op, lambda: GAM, create_ask("Patient", one.mrn, body, one.klass,
                                                      one.ward), one)  # fmt: skip
        if answer is None:
            return False
        one.etags["Patient"] = answer.headers.get("etag", "")
        return self._open_visit(one)

    def _open_visit(self, one: Person) -> bool:
        one.visit = f"{one.mrn}-V"
        body = forms.encode(forms.encounter(one, one.visit))
        op = self._h.ledger.invoke(
            "encounter.create", one.klass, time.monotonic(), WRITE_PATIENCE_S, key=one.visit,
            subject=one.mrn, ward=one.ward, target="gam", value=forms.digest(body, one.mrn),
        )  # fmt: skip
        ask = create_ask("Encounter", one.visit, body, one.klass, one.ward)
        answer = self._h.write(op, lambda: GAM, ask, one)
        if answer is not None:
            one.etags["Encounter"] = answer.headers.get("etag", "")
        return answer is not None

    def _until_readable(self, one: Person) -> bool:
        """Wait until the record knows a new patient; only then do carers write about them."""
        end = time.monotonic() + LOOK_FOR_S
        while time.monotonic() < end:
            if self._h.is_readable(one):
                one.probed_from = time.monotonic() + self._h.real_s(PROBED_AFTER_MIN * 60)
                self._h.census.admit(one)
                return True
            gevent.sleep(LOOK_EVERY_S)
        return False

    def update(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A patient's telephone number changes (A08)."""
        one = self._h.census.pick(arrival.klass, dice)
        if one is None or not one.etags.get("Patient"):
            return
        etag, one.etags["Patient"] = one.etags["Patient"], ""  # one change at a time
        phone = f"+33 {dice.below(10**9):09}"
        body = forms.encode(forms.patient(one, phone))
        op = self._h.ledger.invoke(
            "patient.update", arrival.klass, intended, WRITE_PATIENCE_S, key=one.mrn,
            subject=one.mrn, ward=one.ward, target="gam", value=forms.digest(body, one.mrn),
        )  # fmt: skip
        path = f"/fhir/Patient/{one.mrn}"
        self._replace(op, one, "Patient", path, body, etag, phone)

    def finish(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A patient goes home (A03)."""
        one = self._h.census.pick(arrival.klass, dice)
        if one is None or one.klass != arrival.klass or not one.etags.get("Encounter"):
            return
        self._h.census.discharge(one)
        etag, one.etags["Encounter"] = one.etags["Encounter"], ""
        body = forms.encode(forms.encounter(one, one.visit, "finished"))
        op = self._h.ledger.invoke(
            "encounter.finish", arrival.klass, intended, WRITE_PATIENCE_S, key=one.visit,
            subject=one.mrn, ward=one.ward, target="gam",
        )  # fmt: skip
        path = f"/fhir/Encounter/{one.visit}"
        self._replace(op, one, "Encounter", path, body, etag, '"finished"')

    def _replace(
        self, op: Op, one: Person, type_: str, path: str, body: bytes, etag: str, mark: str
    ) -> None:
        """PUT with If-Match; `mark` is a text that the stored resource holds if it happened."""
        headers = {**marks(op.klass, one.ward), "If-Match": etag}

        def done_already() -> bool:
            try:
                seen = self._h.callers.attempt("gam", Ask("GET", path), READ_S)
            except NoAnswer:
                return False
            one.etags[type_] = seen.headers.get("etag", "")
            return seen.good and mark.encode() in seen.body

        ask = Ask("PUT", path, body, headers)
        answer = self._h.write(op, lambda: GAM, ask, one, done_already)
        if answer is not None and answer.headers.get("etag"):
            one.etags[type_] = answer.headers["etag"]

    def duplicate(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """Somebody is registered twice in the emergency room; later the two become one."""
        survivor = self._h.census.pick("P1", dice)
        if survivor is None:
            return
        source = person(self._h.key("D", arrival), "P0", dice)
        if not self.register(source, intended):
            return
        if self._care is not None:
            placer = self._h.key("OD", arrival)
            self._care.order_for(source, placer, "P1", time.monotonic(), dice, plain=True)
        self._h.spawn(self._merge_later, source, survivor, arrival)

    def _merge_later(self, source: Person, survivor: Person, arrival: Arrival) -> None:
        gevent.sleep(self._h.real_s(MERGED_AFTER_MIN * 60))
        op = self._h.ledger.invoke(
            "patient.merge", arrival.klass, time.monotonic(), WRITE_PATIENCE_S, key=source.mrn,
            subject=survivor.mrn, ward=survivor.ward, target="gam",
        )  # fmt: skip
        if survivor.aliases is not None:
            survivor.aliases.add(source.mrn)
        body = forms.encode(forms.merge(source.mrn))
        path = f"/fhir/Patient/{survivor.mrn}/$merge"
        ask = Ask("POST", path, body, marks(arrival.klass, survivor.ward))
        self._h.write(op, lambda: GAM, ask, survivor)
