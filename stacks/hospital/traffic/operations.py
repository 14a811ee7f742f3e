"""What people do when their moment comes: one method per kind of arrival.

It refuses to let the hospital's slowness change what is wanted: it only asks, and writes down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent

from stacks.hospital.fhir import KEY_SYSTEMS
from stacks.hospital.traffic import forms
from stacks.hospital.traffic.callers import (
    COPY,
    LATER_PATIENCE_S,
    READ_S,
    URGENT,
    WRITE_PATIENCE_S,
    Ask,
    Callers,
)
from stacks.hospital.traffic.desks import Desks
from stacks.hospital.traffic.http import Answer, NoAnswer
from stacks.hospital.traffic.ledger import Ledger, Op
from stacks.hospital.traffic.people import (
    MEDICATIONS,
    TESTS,
    Census,
    Dice,
    Order,
    Person,
    TubeRack,
    person,
)
from stacks.hospital.traffic.schedule import Arrival

READ_BOUND_S = 8.0
WRITE_BOUND_S = WRITE_PATIENCE_S
REPORT_PATIENCE_S = 25.0  # longer than a Retry-After for the back office
GAM = ("gam",)
ANALYSERS = ("analysers",)
STAT_SHARE = {"P0": 1.0, "P1": 0.1, "P2": 0.05, "P3": 0.0}
SECOND_TUBE_SHARE = 0.2
CRITICAL_SHARE = 0.07
# Hospital minutes.
DRAWN_AFTER_MIN = {True: (1.0, 2.0), False: (4.0, 12.0)}  # tubes after the order, by STAT
PROBED_AFTER_MIN = 12.0  # the copy takes a snapshot every five
MERGED_AFTER_MIN = 6.0
# A new patient's chart is looked for so often and so long before anybody writes into it.
LOOK_EVERY_S, LOOK_FOR_S = 1.0, 120.0


@dataclass(slots=True)
class Hospital:
    """What every operation needs: the people, the ways, the ledger and the desks."""

    ledger: Ledger
    callers: Callers
    census: Census
    rack: TubeRack
    desks: Desks
    prefix: str
    real_s: Callable[[float], float]
    spawn: Callable[..., object]


class Operations:
    """Carries out arrivals; each call is one operation (or one patient's chain of them)."""

    def __init__(self, hospital: Hospital) -> None:
        self._h = hospital
        self._record_writes = {
            "medication.create": self._medication,
            "administration.create": self._administration,
            "observation.create": self._observation,
        }

    def carry_out(self, arrival: Arrival, intended: float) -> None:
        """Do what the arrival wants; `intended` in monotonic seconds."""
        dice = Dice(arrival.dice)
        match arrival.kind:
            case "chart.read":
                self.read_chart(arrival, intended, dice)
            case "order.create":
                self.order(arrival, intended, dice)
            case "medication.create" | "administration.create" | "observation.create":
                self.note(arrival, intended, dice)
            case "specimen":
                self.load_tube(intended, dice)
            case "admission":
                self.admit(self._new_person(arrival, dice), intended)
            case "patient.update":
                self.update(arrival, intended, dice)
            case "encounter.finish":
                self.finish(arrival, intended, dice)
            case "duplicate":
                self.duplicate(arrival, intended, dice)
            case "copy.write":
                self.write_to_copy(arrival, intended, dice)
            case "back.office" | "mass.report":
                self.back_office(arrival, intended, dice)
            case other:
                raise ValueError(f"no operation for arrivals of kind {other!r}")

    # ------------------------------------------------------------ the record

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
            self.order_for(one, self._key("O", arrival), arrival.klass, intended, dice)

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
        self._h.rack.add(order, time.monotonic() if drawn_already else due, tubes)
        if stat:
            self._h.desks.await_stat(order, klass, intended)

    def note(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A prescription, a dose given, or a vital sign."""
        one = self._h.census.pick(arrival.klass, dice)
        if one is None:
            return
        placer = self._key(arrival.kind[0].upper(), arrival)
        form = self._record_writes[arrival.kind](one, placer, dice)
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

    @staticmethod
    def create_ask(form: forms.Form, key: str, one: Person) -> Ask:
        """The conditional create of a resource."""
        return _create(form["resourceType"], key, forms.encode(form), one.klass, one.ward)

    def _medication(self, one: Person, placer: str, dice: Dice) -> forms.Form:
        drug = MEDICATIONS[dice.below(len(MEDICATIONS))]
        return forms.medication(one.mrn, placer, drug, f"{1 + dice.below(4)} times a day")

    def _administration(self, one: Person, placer: str, dice: Dice) -> forms.Form:
        drug = MEDICATIONS[dice.below(len(MEDICATIONS))]
        return forms.administration(one.mrn, placer, drug, f"{100 + 50 * dice.below(10)} mg")

    def _observation(self, one: Person, placer: str, dice: Dice) -> forms.Form:
        return forms.observation(one.mrn, placer, "heart-rate", 50 + dice.below(90), "/min")

    def _to_record(
        self, kind: str, klass: str, intended: float, one: Person, key: str, form: forms.Form
    ) -> Answer | None:
        body = forms.encode(form)
        callers = self._h.callers
        op = self._h.ledger.invoke(
            kind, klass, intended, WRITE_BOUND_S, key=key, subject=one.mrn, ward=one.ward,
            target=callers.record_nodes(one.ward)[0], value=forms.digest(body, one.mrn),
        )  # fmt: skip
        ask = _create(form["resourceType"], key, body, klass, one.ward)
        return self._write(op, lambda: callers.record_nodes(one.ward), ask, one)

    def write_to_copy(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """Somebody mistakes the read-only copy for the record: it must refuse, with a reason."""
        one = self._h.census.pick("P1", dice)
        if one is None:
            return
        key = self._key("W", arrival)
        form = forms.observation(one.mrn, key, "heart-rate", 50 + dice.below(90), "/min")
        op = self._h.ledger.invoke(
            "copy.write", arrival.klass, intended, READ_BOUND_S, key=key, subject=one.mrn,
            ward=one.ward, target=COPY,
        )  # fmt: skip
        op.attempts = 1
        ask = _create("Observation", key, forms.encode(form), arrival.klass, one.ward)
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
        types = ("DiagnosticReport", "ServiceRequest", "MedicationRequest", "Encounter")
        path = f"/fhir/{types[dice.below(len(types))]}?_count=100"
        if arrival.kind == "mass.report":
            path = "/export"  # everything, of everybody
        op = self._h.ledger.invoke(
            "back.office", arrival.klass, intended, REPORT_PATIENCE_S, key=self._key("B", arrival),
            ward="back-office", target=self._h.callers.record_nodes("back-office")[0],
        )  # fmt: skip
        ask = Ask("GET", path, headers={"X-Priority": arrival.klass, "X-Ward": "back-office"})
        nodes = self._h.callers.record_nodes
        answer = self._h.callers.write(
            op, lambda: nodes("back-office"), ask, patience_s=REPORT_PATIENCE_S
        )
        if answer is not None:
            op.ok(str(answer.status), op.via)

    # ------------------------------------------------------------ administration

    def _new_person(self, arrival: Arrival, dice: Dice) -> Person:
        return person(self._key("M", arrival), arrival.klass, dice)

    def admit(self, one: Person, intended: float) -> bool:
        """Register a patient and open their visit; takes part once the record knows them."""
        if not self.register(one, intended):
            return False
        self._h.spawn(self._until_readable, one)
        return True

    def register(self, one: Person, intended: float) -> bool:
        """Patient, then visit; True when both were acknowledged."""
        body = forms.encode(forms.patient(one))
        op = self._h.ledger.invoke(
            "patient.create", one.klass, intended, WRITE_BOUND_S, key=one.mrn, subject=one.mrn,
            ward=one.ward, target="gam", value=forms.digest(body, one.mrn),
        )  # fmt: skip
        answer = self._write(op, lambda: GAM, _create("Patient", one.mrn, body, one.klass,
                                                      one.ward), one)  # fmt: skip
        if answer is None:
            return False
        one.etags["Patient"] = answer.headers.get("etag", "")
        return self._open_visit(one)

    def _open_visit(self, one: Person) -> bool:
        one.visit = f"{one.mrn}-V"
        body = forms.encode(forms.encounter(one, one.visit))
        op = self._h.ledger.invoke(
            "encounter.create", one.klass, time.monotonic(), WRITE_BOUND_S, key=one.visit,
            subject=one.mrn, ward=one.ward, target="gam", value=forms.digest(body, one.mrn),
        )  # fmt: skip
        ask = _create("Encounter", one.visit, body, one.klass, one.ward)
        answer = self._write(op, lambda: GAM, ask, one)
        if answer is not None:
            one.etags["Encounter"] = answer.headers.get("etag", "")
        return answer is not None

    def _until_readable(self, one: Person) -> bool:
        """Wait until the record knows a new patient; only then do carers write about them."""
        end = time.monotonic() + LOOK_FOR_S
        while time.monotonic() < end:
            if self.is_readable(one):
                one.probed_from = time.monotonic() + self._h.real_s(PROBED_AFTER_MIN * 60)
                self._h.census.admit(one)
                return True
            gevent.sleep(LOOK_EVERY_S)
        return False

    def is_readable(self, one: Person) -> bool:
        """Whether one of the record's nodes shows this patient now."""
        headers = {"X-Priority": one.klass, "X-Ward": one.ward}
        ask = Ask("GET", f"/fhir/Patient/{one.mrn}", headers=headers)
        for node in self._h.callers.record_nodes(one.ward):
            try:
                answer = self._h.callers.attempt(node, ask, READ_S)
            except NoAnswer:
                continue
            if answer.good:
                return True
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
            "patient.update", arrival.klass, intended, WRITE_BOUND_S, key=one.mrn,
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
            "encounter.finish", arrival.klass, intended, WRITE_BOUND_S, key=one.visit,
            subject=one.mrn, ward=one.ward, target="gam",
        )  # fmt: skip
        path = f"/fhir/Encounter/{one.visit}"
        self._replace(op, one, "Encounter", path, body, etag, '"finished"')

    def _replace(
        self, op: Op, one: Person, type_: str, path: str, body: bytes, etag: str, mark: str
    ) -> None:
        """PUT with If-Match; `mark` is a text that the stored resource holds if it happened."""
        headers = {**_marks(op.klass, one.ward), "If-Match": etag}

        def done_already() -> bool:
            try:
                seen = self._h.callers.attempt("gam", Ask("GET", path), READ_S)
            except NoAnswer:
                return False
            one.etags[type_] = seen.headers.get("etag", "")
            return seen.good and mark.encode() in seen.body

        ask = Ask("PUT", path, body, headers)
        answer = self._write(op, lambda: GAM, ask, one, done_already)
        if answer is not None and answer.headers.get("etag"):
            one.etags[type_] = answer.headers["etag"]

    def duplicate(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """Somebody is registered twice in the emergency room; later the two become one."""
        survivor = self._h.census.pick("P1", dice)
        if survivor is None:
            return
        source = person(self._key("D", arrival), "P0", dice)
        if not self.register(source, intended):
            return
        self.order_for(source, self._key("OD", arrival), "P1", time.monotonic(), dice, plain=True)
        self._h.spawn(self._merge_later, source, survivor, arrival)

    def _merge_later(self, source: Person, survivor: Person, arrival: Arrival) -> None:
        gevent.sleep(self._h.real_s(MERGED_AFTER_MIN * 60))
        op = self._h.ledger.invoke(
            "patient.merge", arrival.klass, time.monotonic(), WRITE_BOUND_S, key=source.mrn,
            subject=survivor.mrn, ward=survivor.ward, target="gam",
        )  # fmt: skip
        if survivor.aliases is not None:
            survivor.aliases.add(source.mrn)
        body = forms.encode(forms.merge(source.mrn))
        path = f"/fhir/Patient/{survivor.mrn}/$merge"
        ask = Ask("POST", path, body, _marks(arrival.klass, survivor.ward))
        self._write(op, lambda: GAM, ask, survivor)

    # ------------------------------------------------------------ laboratory

    def load_tube(self, intended: float, dice: Dice) -> None:
        """A technician puts the next tube on the analysers' line."""
        taken = self._h.rack.take(intended, dice)
        if taken is None:
            return
        order, number = taken
        specimen = f"{order.placer}-{number}"
        critical = order.may_be_critical and dice.chance(CRITICAL_SHARE)
        klass = "P0" if order.stat else "P1"
        op = self._h.ledger.invoke(
            "specimen.load", klass, intended, WRITE_BOUND_S, key=specimen, subject=order.mrn,
            ward=order.one.ward, target="analysers", value=order.placer,
        )  # fmt: skip
        body = forms.encode(forms.tube(order, specimen, critical))
        ask = Ask("POST", "/specimens", body, _marks(klass, order.one.ward))
        if self._write(op, lambda: ANALYSERS, ask, order.one) is not None:
            self._h.desks.await_result(order, specimen, klass, intended)

    # ------------------------------------------------------------ common

    def _write(
        self,
        op: Op,
        services: Callable[[], Sequence[str]],
        ask: Ask,
        one: Person,
        done_already: Callable[[], bool] | None = None,
    ) -> Answer | None:
        answer = self._h.callers.write(op, services, ask, done_already)
        if answer is not None:
            found = forms.chart(answer.body)
            named = found.patients[0] if found and found.patients else ""
            op.ok(str(answer.status), op.via, one.mrn if named in (one.aliases or ()) else named)
        return answer

    def _key(self, letter: str, arrival: Arrival) -> str:
        shape = "" if arrival.kind == "specimen" else arrival.klass
        return f"{self._h.prefix}{letter}{shape}{arrival.flow}-{arrival.number}"


def _create(type_: str, key: str, body: bytes, klass: str, ward: str) -> Ask:
    system = KEY_SYSTEMS[type_]
    condition = {"If-None-Exist": f"identifier={system}|{key}"}
    return Ask("POST", f"/fhir/{type_}", body, {**_marks(klass, ward), **condition})


def _marks(klass: str, ward: str) -> dict[str, str]:
    return {"X-Priority": klass, "X-Ward": ward}
