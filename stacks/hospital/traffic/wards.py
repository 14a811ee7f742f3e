"""The wards and the admission desk: who is here when the traffic begins, and what happens there.

It refuses to begin before the people of its wards are readable in the record, where one stands;
where none does, its people are known to patient administration alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from random import Random

import gevent
import msgspec

from stacks.hospital.traffic import forms
from stacks.hospital.traffic.administration import Administration
from stacks.hospital.traffic.callers import READ_S, Ask
from stacks.hospital.traffic.care import Care
from stacks.hospital.traffic.department import Act, CannotOpen, each
from stacks.hospital.traffic.desks import Desks
from stacks.hospital.traffic.http import NoAnswer
from stacks.hospital.traffic.people import WARDS, Dice, Person, TubeRack, person
from stacks.hospital.traffic.surroundings import Hospital, create_ask

EMERGENCIES, DAY_PATIENTS, OUTPATIENTS = 12, 6, 8
ALLERGIC_EVERY = 3
SUBSTANCES = ("penicillin", "latex", "iodine", "peanut")


class Wards:
    """Admission, and care where the record stands. `rush`: read of those who are here already."""

    def __init__(self, hospital: Hospital, inpatients: int, rush: bool = False) -> None:
        self._h = hospital
        self._inpatients, self._rush = inpatients, rush
        self._desks = Desks(hospital.callers, hospital.ledger, hospital.real_s)
        care = Care(hospital, TubeRack(), self._desks)
        self._care = care if hospital.has_record else None
        self.administration = Administration(hospital, self._care)

    @property
    def acts(self) -> Mapping[str, Act]:
        """Administration, and what carers and the laboratory do."""
        return {**self.administration.acts, **(self._care.acts if self._care else {})}

    def sit_down(self) -> None:
        """The laboratory's console, the ward screens, the desk for criticals."""
        if self._care:
            self._desks.sit_down(self._h.spawn)

    def open(self, end: float) -> None:
        """Admit the wards' population and wait until the record shows it. Raises CannotOpen."""
        if self._rush:
            self._take_census()
            return
        people, trouble = self._population(), "the wards could not be opened"
        each(people, self._admit, end, trouble, "gam, engine, ehr")
        if self._care:
            each(people, self._write_history, end, trouble, "gam, engine, ehr")

    def _population(self) -> list[Person]:
        wanted = {
            "P1": self._inpatients, "P0": EMERGENCIES, "P2": DAY_PATIENTS, "P3": OUTPATIENTS,
        }  # fmt: skip
        people = []
        for klass, count in wanted.items():
            for number in range(count):
                mrn = f"{self._h.prefix}S{klass}-{number}"
                one = person(mrn, klass, dice_of(mrn))
                if klass == "P1":
                    one.ward = WARDS[number % len(WARDS)]
                people.append(one)
        return people

    def _admit(self, one: Person, end: float) -> str:
        if not self.administration.register(one, time.monotonic()):
            return f"{one.mrn} was not admitted by gam"
        while not self._h.is_readable(one):
            if time.monotonic() > end:
                return f"{one.mrn} was admitted and cannot be read in the record"
            gevent.sleep(0.1)
        self._h.census.admit(one)
        return ""

    def _write_history(self, one: Person, end: float) -> str:
        """An inpatient's first hours: for some an allergy; a prescription, an order, a tube."""
        if one.klass not in ("P0", "P1") or self._care is None:
            return ""
        number = one.place
        if number % ALLERGIC_EVERY == 0:
            key = f"{one.mrn}-A"
            form = forms.allergy(one.mrn, key, SUBSTANCES[number % len(SUBSTANCES)])
            trouble = self._write_once_more(one, form, key, end)
            if trouble:
                return trouble
        return self._care.first_day(one, dice_of(f"{one.mrn}-first"))

    def _write_once_more(self, one: Person, form: forms.Form, key: str, end: float) -> str:
        ask = create_ask(form["resourceType"], key, forms.encode(form), one.klass, one.ward)
        trouble = "nobody was asked"
        while time.monotonic() < end:
            for node in self._h.callers.record_nodes(one.ward):
                try:
                    answer = self._h.callers.attempt(node, ask, READ_S)
                except NoAnswer as silence:
                    trouble = f"{node}: {silence.reason}"
                    continue
                if answer.good:
                    return ""
                trouble = f"{node}: {answer.status} {forms.refusal(answer.body)[1]}"
            gevent.sleep(0.1)
        return f"{key}: {trouble}"

    def _take_census(self) -> None:
        """A rush reads the charts of those who are here already."""
        try:
            answer = self._h.callers.attempt("gam", Ask("GET", "/census"), READ_S)
        except NoAnswer as silence:
            raise CannotOpen(f"gam does not tell its census: {silence.reason}") from None
        lines = msgspec.json.decode(answer.body).get("patients", []) if answer.good else []
        for line in lines:
            klass = "P0" if line.get("class") == "EMER" else "P1"
            self._h.census.admit(
                Person(line["mrn"], klass, line.get("ward", ""), "", "", "", aliases=None)
            )
        if not lines:
            raise CannotOpen("gam's census is empty: start hospital_day() first")


def dice_of(text: str) -> Dice:
    """Chance that a text decides."""
    return Dice(Random(text).getrandbits(63))
