"""What carers and the laboratory do: read charts, order, prescribe, give, load tubes.

It refuses to let the hospital's slowness change what is wanted: it only asks, and writes down.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from stacks.hospital.traffic import forms
from stacks.hospital.traffic.callers import (
    COPY,
    LATER_PATIENCE_S,
    READ_S,
    URGENT,
    WRITE_PATIENCE_S,
    Ask,
)
from stacks.hospital.traffic.department import Act
from stacks.hospital.traffic.desks import Desks
from stacks.hospital.traffic.http import Answer, NoAnswer
from stacks.hospital.traffic.people import MEDICATIONS, TESTS, Dice, Order, Person, TubeRack
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.surroundings import Hospital, create_ask, marks

ANALYSERS = ("analysers",)
READ_BOUND_S = 8.0
REPORT_PATIENCE_S = 25.0  # longer than a Retry-After for the back office
STAT_SHARE = {"P0": 1.0, "P1": 0.1, "P2": 0.05, "P3": 0.0}
SECOND_TUBE_SHARE = 0.2
CRITICAL_SHARE = 0.07
DRAWN_AFTER_MIN = {True: (1.0, 2.0), False: (4.0, 12.0)}  # hospital minutes, by STAT
LISTS = ("DiagnosticReport", "ServiceRequest", "MedicationRequest", "Encounter")


class Care:
    """What is done for patients who are in the record."""

    def __init__(self, hospital: Hospital, rack: TubeRack, desks: Desks) -> None:
        self._h, self._rack, self._desks = hospital, rack, desks
        self._forms = {
            "medication.create": _medication,
            "administration.create": _administration,
            "observation.create": _observation,
        }
        self.acts: Mapping[str, Act] = {
            "chart.read": self.read_chart,
            "order.create": self.order,
            "medication.create": self.note,
            "administration.create": self.note,
            "observation.create": self.note,
            "specimen": lambda _, intended, dice: self.load_tube(intended, dice),
            "copy.write": self.write_to_copy,
            "back.office": self.back_office,
            "mass.report": self.back_office,
        }

    def read_chart(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A carer opens a chart."""
        one = self._h.census.pick(arrival.klass, dice, now=intended)
        if one is None:
            return
        bound_s = READ_BOUND_S if arrival.klass in URGENT else LATER_PATIENCE_S
        op = self._h.ledger.invoke(
            "chart.read", arrival.klass, intended, bound_s, key=one.mrn, subject=one.mrn,
            ward=one.ward, target=self._h.callers.record_nodes(one.ward)[0],
        )  # fmt: skip
        known = None if one.aliases is None else tuple(one.aliases)
        self._h.callers.read_chart(op, one.ward, one.mrn, known)

    def order(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A laboratory order; later its tubes are drawn, and an urgent one's result is awaited."""
        one = self._h.census.pick(arrival.klass, dice)
        if one is not None:
            self.order_for(one, self._h.key("O", arrival), arrival.klass, intended, dice)

    def order_for(
        self, one: Person, placer: str, klass: str, intended: float, dice: Dice,
        *, plain: bool = False, drawn_already: bool = False,
    ) -> None:  # fmt: skip
        """An order for this patient; `plain`: neither urgent nor ever critical."""
        stat = not plain and dice.chance(STAT_SHARE.get(klass, 0.0))
        first, count = dice.below(len(TESTS)), 1 + dice.below(4)
        tests = tuple(TESTS[(first + n) % len(TESTS)] for n in range(count))
        order = Order(placer, one, one.mrn, tests, stat, may_be_critical=not plain)
        sent = self._to_record("order.create", klass, intended, one, placer, forms.order(order))
        if sent is None:
            return
        earliest, longest = DRAWN_AFTER_MIN[stat]
        drawn = earliest + (longest - earliest) * dice.below(1_000) / 1_000
        tubes = 2 if dice.chance(SECOND_TUBE_SHARE) else 1
        # Drawn so long after the order was wanted, but not before it was acknowledged.
        due = max(time.monotonic(), intended + self._h.real_s(drawn * 60))
        self._rack.add(order, time.monotonic() if drawn_already else due, tubes)
        if stat:
            self._desks.await_stat(order, klass, intended)

    def note(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A prescription, a dose given, or a vital sign."""
        one = self._h.census.pick(arrival.klass, dice)
        if one is None:
            return
        placer = self._h.key(arrival.kind[0].upper(), arrival)
        form = self._forms[arrival.kind](one, placer, dice)
        self._to_record(arrival.kind, arrival.klass, intended, one, placer, form)

    def first_day(self, one: Person, dice: Dice) -> str:
        """What a patient is admitted with: a prescription, an order, a tube; returns trouble."""
        now, placer = time.monotonic(), f"{one.mrn}-M"
        form = forms.medication(one.mrn, placer, "paracetamol", "3 times a day")
        if self._to_record("medication.create", one.klass, now, one, placer, form) is None:
            return f"{placer} was not accepted by the record"
        self.order_for(one, f"{one.mrn}-O", "P1", time.monotonic(), dice, drawn_already=True)
        self.load_tube(time.monotonic(), dice)
        return ""

    def _to_record(
        self, kind: str, klass: str, intended: float, one: Person, key: str, form: forms.Form
    ) -> Answer | None:
        body = forms.encode(form)
        callers = self._h.callers
        op = self._h.ledger.invoke(
            kind, klass, intended, WRITE_PATIENCE_S, key=key, subject=one.mrn, ward=one.ward,
            target=callers.record_nodes(one.ward)[0], value=forms.digest(body, one.mrn),
        )  # fmt: skip
        ask = create_ask(form["resourceType"], key, body, klass, one.ward)
        return self._h.write(op, lambda: callers.record_nodes(one.ward), ask, one)

    def write_to_copy(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """Somebody mistakes the read-only copy for the record: it must refuse, with a reason."""
        one = self._h.census.pick("P1", dice)
        if one is None:
            return
        key = self._h.key("W", arrival)
        form = forms.observation(one.mrn, key, "heart-rate", 50 + dice.below(90), "/min")
        op = self._h.ledger.invoke(
            "copy.write", arrival.klass, intended, READ_BOUND_S, key=key, subject=one.mrn,
            ward=one.ward, target=COPY,
        )  # fmt: skip
        op.attempts = 1
        ask = create_ask("Observation", key, forms.encode(form), arrival.klass, one.ward)
        try:
            answer = self._h.callers.attempt(COPY, ask, READ_S)
        except NoAnswer as silence:
            op.unknown(f"{COPY}: {silence.reason}", COPY)
            return
        if answer.good:
            op.ok(str(answer.status), COPY)
        else:
            op.refused(forms.refusal(answer.body)[1], COPY)

    def back_office(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A statistic over many records: P4, may be shed."""
        path = f"/fhir/{LISTS[dice.below(len(LISTS))]}?_count=100"
        if arrival.kind == "mass.report":
            path = "/export"  # everything, of everybody
        op = self._h.ledger.invoke(
            "back.office", arrival.klass, intended, REPORT_PATIENCE_S,
            key=self._h.key("B", arrival), ward="back-office",
            target=self._h.callers.record_nodes("back-office")[0],
        )  # fmt: skip
        ask = Ask("GET", path, headers={"X-Priority": arrival.klass, "X-Ward": "back-office"})
        nodes = self._h.callers.record_nodes
        answer = self._h.callers.write(
            op, lambda: nodes("back-office"), ask, patience_s=REPORT_PATIENCE_S
        )
        if answer is not None:
            op.ok(str(answer.status), op.via)

    def load_tube(self, intended: float, dice: Dice) -> None:
        """A technician puts the next tube on the analysers' line."""
        taken = self._rack.take(intended, dice)
        if taken is None:
            return
        order, number = taken
        specimen = f"{order.placer}-{number}"
        critical = order.may_be_critical and dice.chance(CRITICAL_SHARE)
        klass = "P0" if order.stat else "P1"
        op = self._h.ledger.invoke(
            "specimen.load", klass, intended, WRITE_PATIENCE_S, key=specimen, subject=order.mrn,
            ward=order.one.ward, target="analysers", value=order.placer,
        )  # fmt: skip
        body = forms.encode(forms.tube(order, specimen, critical))
        ask = Ask("POST", "/specimens", body, marks(klass, order.one.ward))
        if self._h.write(op, lambda: ANALYSERS, ask, order.one) is not None:
            self._desks.await_result(order, specimen, klass, intended)


def _medication(one: Person, placer: str, dice: Dice) -> forms.Form:
    drug = MEDICATIONS[dice.below(len(MEDICATIONS))]
    return forms.medication(one.mrn, placer, drug, f"{1 + dice.below(4)} times a day")


def _administration(one: Person, placer: str, dice: Dice) -> forms.Form:
    drug = MEDICATIONS[dice.below(len(MEDICATIONS))]
    return forms.administration(one.mrn, placer, drug, f"{100 + 50 * dice.below(10)} mg")


def _observation(one: Person, placer: str, dice: Dice) -> forms.Form:
    return forms.observation(one.mrn, placer, "heart-rate", 50 + dice.below(90), "/min")
