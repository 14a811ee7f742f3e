"""The people of the traffic: patients with their wards and visits, and the tubes drawn from them.

It knows what the hospital was told and has acknowledged, and asks nobody.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

WARDS = (
    "cardiology", "surgery", "icu", "neurology", "oncology", "paediatrics", "geriatrics",
    "maternity", "orthopaedics", "pneumology", "nephrology", "medicine",
)  # fmt: skip
PLACES = {"P0": "emergency", "P2": "day-hospital", "P3": "outpatients"}
CLASSES = {"P0": "EMER", "P1": "IMP", "P2": "AMB", "P3": "AMB"}
FAMILIES = (
    "Martin", "Bernard", "Dubois", "Thomas", "Robert", "Richard", "Petit", "Durand", "Leroy",
    "Moreau", "Simon", "Laurent", "Lefebvre", "Michel", "Garcia", "David", "Bertrand", "Roux",
)  # fmt: skip
GIVEN = (
    "Camille", "Louise", "Jules", "Emma", "Hugo", "Alice", "Gabriel", "Jade", "Arthur", "Lina",
    "Paul", "Anna", "Victor", "Rose", "Simon", "Eva",
)  # fmt: skip
TESTS = ("NA", "K", "CREA", "GLU", "HB", "WBC", "PLT", "CRP", "TROP", "LAC", "INR", "BILI")
MEDICATIONS = ("paracetamol", "amoxicillin", "heparin", "insulin", "bisoprolol", "furosemide")
RECENT_ORDERS = 400


class Dice:
    """Chance drawn from the bits of one arrival, so that a seed decides it."""

    __slots__ = ("bits",)

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def below(self, n: int) -> int:
        """A number from 0 to n - 1."""
        self.bits, drawn = divmod(self.bits, n)
        return drawn

    def chance(self, share: float) -> bool:
        """True with probability `share` (steps of a thousandth)."""
        return self.below(1_000) < share * 1_000


@dataclass(slots=True, eq=False)
class Person:
    """A patient as the hospital's people know them."""

    mrn: str
    klass: str
    ward: str
    family: str
    given: str
    birth_date: str
    visit: str = ""
    probed_from: float = 0.0
    """From this instant their chart is read by probes: the read-only copy had time to take it."""
    etags: dict[str, str] = field(default_factory=dict)
    aliases: set[str] | None = field(default_factory=set)
    """Identities that were merged into this one; None = we did not admit them and cannot know."""
    place: int = -1


def person(mrn: str, klass: str, dice: Dice) -> Person:
    """A new patient of a class; name, ward and age by the dice."""
    ward = PLACES.get(klass) or WARDS[dice.below(len(WARDS))]
    year, month, day = 1930 + dice.below(90), 1 + dice.below(12), 1 + dice.below(28)
    return Person(
        mrn, klass, ward, FAMILIES[dice.below(len(FAMILIES))], GIVEN[dice.below(len(GIVEN))],
        f"{year}-{month:02}-{day:02}",
    )  # fmt: skip


LANDLINE_EVERY, LANDLINE_AT = 50, 33
"""Which of the numbered patients have a number that no text message reaches."""


def phone_of(mrn: str) -> str:
    """The phone number that a patient gives: of an identity always the same.

    A number that ends in 00 is a landline.
    """
    bits = int.from_bytes(hashlib.sha256(mrn.encode()).digest()[:8], "big")
    dice = Dice(bits)
    numbered = re.search(r"\d+$", mrn)
    landline = numbered is not None and int(numbered[0]) % LANDLINE_EVERY == LANDLINE_AT
    last = "00" if landline else f"{1 + dice.below(99):02}"
    return f"+336{dice.below(10**6):06}{last}"


class Census:
    """Who is here now, by class; taking part means: readable in the record."""

    def __init__(self) -> None:
        self._here: dict[str, list[Person]] = {klass: [] for klass in CLASSES}

    def __iter__(self) -> Iterator[Person]:
        for people in self._here.values():
            yield from people

    def __len__(self) -> int:
        return sum(map(len, self._here.values()))

    def count(self, klass: str) -> int:
        """How many of a class are here."""
        return len(self._here[klass])

    def admit(self, one: Person) -> None:
        """They take part from now on."""
        people = self._here[one.klass]
        one.place = len(people)
        people.append(one)

    def discharge(self, one: Person) -> None:
        """They take part no longer; harmless when they did not."""
        people = self._here[one.klass]
        if one.place < 0 or one.place >= len(people) or people[one.place] is not one:
            return
        last = people.pop()
        if last is not one:
            people[one.place] = last
            last.place = one.place
        one.place = -1

    def pick(self, klass: str, dice: Dice, now: float | None = None) -> Person | None:
        """Somebody of a class; with `now`, somebody whose chart is probed already."""
        for candidates in self._pools(klass):
            start = dice.below(1 << 16)
            for offset in range(min(len(candidates), 8)):
                one = candidates[(start + offset) % len(candidates)]
                if now is None or one.probed_from <= now:
                    return one
        return None

    def _pools(self, klass: str) -> Iterable[list[Person]]:
        own = self._here.get(klass, [])
        yield own
        if klass not in ("P0", "P1"):  # nobody of that class here: others come for a consultation
            yield self._here["P1"]


@dataclass(slots=True, eq=False)
class Order:
    """A laboratory order that was acknowledged."""

    placer: str
    one: Person
    mrn: str
    tests: tuple[str, ...]
    stat: bool
    may_be_critical: bool = True
    tubes: int = 0


class TubeRack:
    """Tubes waiting to be put on the line; urgent first. Without any, a repeat is drawn.

    The laboratory gets its tubes at its own pace even while no new order is acknowledged: recent
    routine orders are repeated, so that a silent record does not stop the analysers' work.
    """

    def __init__(self) -> None:
        self._due: dict[bool, deque[tuple[float, Order]]] = {True: deque(), False: deque()}
        self._recent: deque[Order] = deque(maxlen=RECENT_ORDERS)

    def add(self, order: Order, due: float, tubes: int) -> None:
        """Tubes of an order will be drawn at `due` (monotonic seconds)."""
        for _ in range(tubes):
            self._due[order.stat].append((due, order))
        if not order.stat or not self._recent:
            self._recent.append(order)

    def take(self, now: float, dice: Dice) -> tuple[Order, int] | None:
        """The next tube as (order, how manieth of it); None before any order was acknowledged."""
        for stat in (True, False):
            due = self._due[stat]
            if due and due[0][0] <= now:
                return self._numbered(due.popleft()[1])
        if not self._recent:
            return None
        return self._numbered(self._recent[dice.below(len(self._recent))])

    @staticmethod
    def _numbered(order: Order) -> tuple[Order, int]:
        order.tubes += 1
        return order, order.tubes
