"""The clinics' diary as their desks know it: free slots, and the appointments they were given.

It knows what scheduling acknowledged, and asks nobody. A slot is named after its hospital minute:
`<service>-<clinic>-<minutes since midnight before the traffic began>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stacks.hospital.appointments.slots import SERVICES
from stacks.hospital.traffic.people import Dice, Person

DAY_MIN, HOUR_MIN = 1_440, 60
CLINIC_OPENS_MIN, CLINIC_CLOSES_MIN = 8 * HOUR_MIN, 18 * HOUR_MIN
ELECTIVE_EVERY_MIN = 10  # elective slots lie on this grid, sessions at any minute
SEARCH_MAX = 20_000
RECENT = 30
CLINICS = {
    "consultation": ("cardiology", "neurology", "ophthalmology", "orthopaedics"),
    "planned-surgery": ("theatre.1", "theatre.2", "theatre.3"),
    "ambulatory-imaging": ("radiology.1", "radiology.2"),
    "endoscopy": ("endoscopy.1",),
    "vital-surgery": ("theatre.0",),
    "inpatient-exam": ("functional.1", "functional.2"),
    "chemotherapy": ("oncology.1", "oncology.2"),
    "dialysis": ("nephrology.1", "nephrology.2"),
    "radiotherapy": ("linac.1", "linac.2"),
}
ELECTIVE = ("consultation", "consultation", "consultation", "ambulatory-imaging",
            "planned-surgery", "endoscopy")  # fmt: skip
SESSIONS = ("chemotherapy", "dialysis", "radiotherapy")


class DiaryFull(RuntimeError):
    """No free slot of that service was found; the text says which service."""


@dataclass(slots=True, eq=False)
class Booking:
    """One appointment; `at` in Unix seconds, `minute` in hospital minutes since day 0."""

    id: str
    one: Person
    service: str
    clinic: str
    minute: int
    at: float
    etag: str = ""

    @property
    def klass(self) -> str:
        """P0 to P3: the class of its service."""
        return SERVICES[self.service]

    @property
    def slot(self) -> str:
        """The name of its slot."""
        return f"{self.service}-{self.clinic}-{self.minute}"


class Diary:
    """Slots and appointments of one load generator.

    `began` (Unix seconds) is when the traffic began, at `hour` o'clock of day 0; `suffix` keeps
    the clinics of several generators apart.
    """

    def __init__(
        self, began: float, hour: float, real_s: Callable[[float], float], suffix: str = ""
    ) -> None:
        self._real_s = real_s
        self._midnight = began - real_s(hour * 3_600)
        self._suffix = suffix
        self._taken: set[tuple[str, str, int]] = set()
        self._known: dict[str, Booking] = {}
        self._elective: list[Booking] = []

    def __iter__(self) -> Iterator[Booking]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def minute_at(self, unix_s: float) -> int:
        """The hospital minute that has begun at an instant."""
        return int((unix_s - self._midnight) / self._real_s(60.0))

    def instant_of(self, minute: int) -> float:
        """When a hospital minute begins, in Unix seconds."""
        return self._midnight + self._real_s(minute * 60.0)

    def free(self, id_: str, one: Person, service: str, earliest: int) -> Booking:
        """An appointment in the first free slot not before hospital minute `earliest`.

        The slot is set aside, whether the booking succeeds or not. Raises DiaryFull.
        """
        every = ELECTIVE_EVERY_MIN if SERVICES[service] == "P3" else 1
        first = -(-earliest // every) * every
        for minute in range(first, first + SEARCH_MAX, every):
            if every > 1 and not CLINIC_OPENS_MIN <= minute % DAY_MIN < CLINIC_CLOSES_MIN:
                continue
            for name in CLINICS[service]:
                clinic = f"{name}{self._suffix}"
                if (service, clinic, minute) not in self._taken:
                    self._taken.add((service, clinic, minute))
                    return Booking(id_, one, service, clinic, minute, self.instant_of(minute))
        raise DiaryFull(f"no free slot for {service} after minute {earliest}")

    def keep(self, booking: Booking) -> None:
        """Scheduling acknowledged it."""
        self._known[booking.id] = booking
        if booking.klass == "P3":
            self._elective.append(booking)

    def strike(self, booking: Booking) -> None:
        """It is not to be moved or cancelled any more (cancelled, or nobody knows)."""
        if booking in self._elective:
            self._elective.remove(booking)

    def changeable(self, dice: Dice, after: float) -> Booking | None:
        """An elective appointment later than `after` (Unix seconds) that may be changed."""
        if not self._elective:
            return None
        start = dice.below(1 << 16)
        for offset in range(min(16, len(self._elective))):
            one = self._elective[(start + offset) % len(self._elective)]
            if one.at > after and one.etag:
                return one
        return None

    def contested(self, id_: str, one: Person, dice: Dice) -> Booking | None:
        """An appointment in a slot that somebody was given lately, so far as we know."""
        if not self._elective:
            return None
        recent = self._elective[-RECENT:]
        other = recent[dice.below(len(recent))]
        return Booking(id_, one, other.service, other.clinic, other.minute, other.at)

    def any_of(self, klass: str, dice: Dice) -> Booking | None:
        """Some appointment of a class (P2: of any protected service)."""
        fits = [one for one in self._known.values() if (one.klass == "P3") == (klass == "P3")]
        return fits[dice.below(len(fits))] if fits else None
