"""What radiology and its wards do: order examinations, put patients on the table, open pictures.

It refuses to examine anybody without an acknowledged order, and to leave the order's number off
when the patient has another open order of the same kind: nobody could tell the two apart.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from stacks.hospital.fhir import IMAGING, PLACER, patient_reference
from stacks.hospital.traffic import forms
from stacks.hospital.traffic.callers import WRITE_PATIENCE_S, Ask
from stacks.hospital.traffic.department import Act, each
from stacks.hospital.traffic.people import Dice, Person
from stacks.hospital.traffic.rates import INSTANCES, MIX
from stacks.hospital.traffic.reading_room import ReadingRoom
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.surroundings import Hospital, create_ask, marks
from stacks.hospital.traffic.wards import dice_of

DESK = ("ris",)
SCANNERS = ("modalities",)
DICOM_PRIORITY = {"P0": "STAT", "P1": "HIGH"}
FHIR_PRIORITY = {"P0": "stat", "P1": "urgent"}
VERBAL_SHARE = 0.3  # examinations for which nobody writes the order's number down
EXAMINED_AFTER_MIN = (1.0, 4.0)  # hospital minutes after the order
ORDERING_TRIES = 8
SEED_CLASSES = ("P0", "P1", "P1", "P0", "P1", "P3")
FIRST_STUDIES = 4  # examined while the department opens, so that there is something to read


@dataclass(slots=True, eq=False)
class Wish:
    """An examination that was ordered; `due` in monotonic seconds."""

    placer: str
    one: Person
    modality: str
    klass: str
    instances: int
    verbal: bool = False
    due: float = 0.0


class WaitingRoom:
    """Who waits for an examination; the stock is taken when no new orders come through."""

    def __init__(self) -> None:
        self._waiting: list[Wish] = []
        self._ordered: Counter[tuple[str, str]] = Counter()
        self._verbal: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def wish(
        self, placer: str, one: Person, klass: str, dice: Dice, verbal_share: float = VERBAL_SHARE
    ) -> Wish | None:
        """What to order for this patient; None when every kind would be mistaken for another."""
        first = dice.below(100)
        kinds = [kind for kind, share in MIX.items() for _ in range(share)]
        for kind in dict.fromkeys((kinds[first], *MIX)):
            key = (one.mrn, kind)
            if key in self._verbal:
                continue
            count = INSTANCES[kind] * (75 + dice.below(51)) // 100
            verbal = not self._ordered[key] and dice.chance(verbal_share)
            self._ordered[key] += 1
            if verbal:
                self._verbal.add(key)
            return Wish(placer, one, kind, klass, max(1, count), verbal)
        return None

    def add(self, wish: Wish) -> None:
        """The order was acknowledged: the patient waits."""
        self._waiting.append(wish)

    def take(self, klass: str, now: float) -> Wish | None:
        """The latest due of a class, else of any: who waited longer is the stock."""
        for fits in (lambda wish: wish.klass == klass, lambda _: True):
            for place in range(len(self._waiting) - 1, -1, -1):
                wish = self._waiting[place]
                if wish.due <= now and fits(wish):
                    return self._waiting.pop(place)
        return None


class Imaging:
    """Orders, examinations and pictures; `stock` orders are made before the traffic begins."""

    def __init__(self, hospital: Hospital, stock: int) -> None:
        self._h, self._stock = hospital, stock
        self.waiting = WaitingRoom()
        self.room = ReadingRoom(hospital)

    @property
    def acts(self) -> Mapping[str, Act]:
        """Order, examine, read."""
        return {
            "imaging.order": self.order,
            "examination": self.examine_next,
            "image.read": self.room.read,
        }

    def sit_down(self) -> None:
        """The scanners' console."""
        self.room.sit_down()

    def open(self, end: float) -> None:
        """Order examinations for those who are here, make the first studies. Raises CannotOpen."""
        numbers = range(self._stock)
        trouble = "imaging could not be opened"
        each(numbers, self._order_ahead, end, trouble, "ehr (or ris), engine")
        self.room.sit_down()  # other departments open after this one: nobody waits for them
        each(range(min(FIRST_STUDIES, len(self.waiting))), self._examine_ahead, end, trouble,
             "modalities")  # fmt: skip

    def _order_ahead(self, number: int, end: float) -> str:
        klass = SEED_CLASSES[number % len(SEED_CLASSES)]
        placer = f"{self._h.prefix}IS-{number}"
        dice = dice_of(placer)
        one = self._h.census.pick(klass, dice)
        wish = self.waiting.wish(placer, one, klass, dice) if one else None
        if wish is None:
            return ""
        if not self.order_for(wish, time.monotonic(), waits_s=0.0):
            return f"the order {placer} was not accepted"
        return "" if time.monotonic() < end else "it takes too long"

    def _examine_ahead(self, number: int, _: float) -> str:
        wish = self.waiting.take("P1", time.monotonic())
        exam = f"{self._h.prefix}XS-{number}"
        if wish is None or self.examine(wish, exam, time.monotonic()):
            return ""
        return f"the scanners did not take the examination {exam}"

    # ------------------------------------------------------------ orders

    def order(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A ward or the emergency room wants a picture."""
        for _ in range(ORDERING_TRIES):
            one = self._h.census.pick(arrival.klass, dice)
            if one is None:
                return
            wish = self.waiting.wish(self._h.key("I", arrival), one, arrival.klass, dice)
            if wish is not None:
                earliest, latest = EXAMINED_AFTER_MIN
                minutes = earliest + (latest - earliest) * dice.below(1_000) / 1_000
                self.order_for(wish, intended, self._h.real_s(minutes * 60))
                return

    def order_for(self, wish: Wish, intended: float, waits_s: float) -> bool:
        """Order it; the patient then waits so long after the order was wanted."""
        one, form = wish.one, order_form(wish)
        body = forms.encode(form)
        op = self._h.ledger.invoke(
            "imaging.order", wish.klass, intended, WRITE_PATIENCE_S, key=wish.placer,
            subject=one.mrn, ward=one.ward, target=self._takers(one.ward)[0],
            value=forms.digest(body, one.mrn),
        )  # fmt: skip
        ask = create_ask("ServiceRequest", wish.placer, body, wish.klass, one.ward)
        if self._h.write(op, lambda: self._takers(one.ward), ask, one) is None:
            return False
        wish.due = max(time.monotonic(), intended + waits_s)
        self.waiting.add(wish)
        return True

    def _takers(self, ward: str) -> tuple[str, ...]:
        """Who takes orders: the record, and radiology's own desk where none stands."""
        return self._h.callers.record_nodes(ward) or DESK

    # ------------------------------------------------------------ examinations

    def examine_next(self, arrival: Arrival, intended: float, _: Dice) -> None:
        """The next patient lies down on a scanner's table."""
        wish = self.waiting.take(arrival.klass, intended)
        if wish is not None:
            self.examine(wish, self._h.key("X", arrival), intended)

    def examine(self, wish: Wish, exam: str, intended: float) -> bool:
        """Start an examination; when the console took it, wait for its pictures."""
        one = wish.one
        op = self._h.ledger.invoke(
            "examination.start", wish.klass, intended, WRITE_PATIENCE_S, key=exam,
            subject=one.mrn, ward=one.ward, target="modalities", value=wish.placer,
        )  # fmt: skip
        ask = Ask("POST", "/examinations", forms.encode(exam_form(wish, exam)),
                  marks(wish.klass, one.ward))  # fmt: skip
        if self._h.write(op, lambda: SCANNERS, ask, one) is None:
            return False
        self.room.await_pictures(wish.one, exam, wish.klass, intended)
        return True


def order_form(wish: Wish) -> forms.Form:
    """The FHIR ServiceRequest of an imaging order."""
    return {
        "resourceType": "ServiceRequest",
        "identifier": [{"system": PLACER, "value": wish.placer}],
        "status": "active",
        "intent": "order",
        "priority": FHIR_PRIORITY.get(wish.klass, "routine"),
        "category": [{"coding": [{"system": "http://snomed.info/sct", "code": IMAGING}]}],
        "code": {"coding": [{"code": wish.modality}]},
        "subject": patient_reference(wish.one.mrn),
    }


def exam_form(wish: Wish, exam: str) -> forms.Form:
    """What the radiographer enters at the scanner's console."""
    one = wish.one
    return {
        "exam": exam, "modality": wish.modality, "patient": one.mrn, "family": one.family,
        "given": one.given, "birth": one.birth_date,
        "placer": "" if wish.verbal else wish.placer, "instances": wish.instances,
        "priority": DICOM_PRIORITY.get(wish.klass, "ROUTINE"),
    }  # fmt: skip
