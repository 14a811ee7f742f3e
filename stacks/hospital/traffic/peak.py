"""The morning peak of imaging: a fixed number of big CT studies, evenly over the fault window.

It refuses to share patients with the hospital's day: it registers its own, each with one order.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from stacks.hospital.traffic.administration import Administration
from stacks.hospital.traffic.department import Act, each
from stacks.hospital.traffic.imaging import Imaging, Wish
from stacks.hospital.traffic.people import Dice, person
from stacks.hospital.traffic.rates import PEAK_INSTANCES
from stacks.hospital.traffic.schedule import Arrival, Flow
from stacks.hospital.traffic.surroundings import Hospital
from stacks.hospital.traffic.wards import dice_of

MODALITY = "CT"
URGENT_EVERY = 4  # every fourth is an inpatient's, the others are elective


class PeakParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many instances in so many real seconds."""

    instances: int
    window_s: float

    @property
    def studies(self) -> int:
        """How many studies that makes."""
        return max(1, round(self.instances / PEAK_INSTANCES))

    @property
    def flow(self) -> Flow:
        """The arrivals of the patients."""
        return Flow("examination", "P3", self.studies / self.window_s)


class Peak:
    """The scanners' morning; people of radiology only."""

    def __init__(self, hospital: Hospital, params: PeakParams) -> None:
        self._h, self._params = hospital, params
        self._imaging = Imaging(hospital, stock=0)
        self._administration = Administration(hospital, None)
        self._left = params.studies

    @property
    def acts(self) -> Mapping[str, Act]:
        """They examine."""
        return {"examination": self._examine}

    def open(self, end: float) -> None:
        """Register the morning's patients and their orders. Raises CannotOpen."""
        each(range(self._params.studies), self._announce, end,
             "the imaging peak could not be prepared", "gam, ehr (or ris)")  # fmt: skip

    def sit_down(self) -> None:
        """The scanners' console."""
        self._imaging.sit_down()

    def _examine(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        if self._left > 0:  # then the peak is over
            self._left -= 1
            self._imaging.examine_next(arrival, intended, dice)

    def _announce(self, number: int, _: float) -> str:
        klass = "P3" if number % URGENT_EVERY else "P1"
        mrn = f"{self._h.prefix}K{klass}-{number}"
        one = person(mrn, klass, dice_of(mrn))
        if not self._administration.register(one, time.monotonic()):
            return f"{mrn} was not admitted by gam"
        wish = Wish(f"{mrn}-I", one, MODALITY, klass, PEAK_INSTANCES)
        ok = self._imaging.order_for(wish, time.monotonic(), waits_s=0.0)
        return "" if ok else f"the order {wish.placer} was not accepted"
