"""What people do when their moment comes: one act for each kind of arrival.

It decides nothing but who does it; see care.py and administration.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stacks.hospital.traffic.administration import Administration
from stacks.hospital.traffic.care import Care
from stacks.hospital.traffic.people import Dice
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.surroundings import Hospital

Act = Callable[[Arrival, float, Dice], None]
"""(arrival, intended instant in monotonic seconds, dice)."""


class Operations:
    """Carries out arrivals; each call is one operation (or one patient's chain of them)."""

    def __init__(self, hospital: Hospital) -> None:
        self.care = Care(hospital)
        self.administration = Administration(hospital, self.care)
        care, desk = self.care, self.administration
        self._acts: Mapping[str, Act] = {
            "chart.read": care.read_chart,
            "order.create": care.order,
            "medication.create": care.note,
            "administration.create": care.note,
            "observation.create": care.note,
            "specimen": lambda _, intended, dice: care.load_tube(intended, dice),
            "copy.write": care.write_to_copy,
            "back.office": care.back_office,
            "mass.report": care.back_office,
            "admission": desk.admit,
            "patient.update": desk.update,
            "encounter.finish": desk.finish,
            "duplicate": desk.duplicate,
        }

    def carry_out(self, arrival: Arrival, intended: float) -> None:
        """Do what the arrival wants; `intended` in monotonic seconds."""
        act = self._acts.get(arrival.kind)
        if act is None:
            raise ValueError(f"nobody knows what to do for arrivals of kind {arrival.kind!r}")
        act(arrival, intended, Dice(arrival.dice))
