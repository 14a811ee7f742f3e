"""Patients ring and ask the channels all the time whether their appointment stands.

It refuses to ask scheduling: what it knows of appointments it read from the channels themselves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import gevent

from stacks.hospital.traffic.callers import READ_S, Ask
from stacks.hospital.traffic.channels import ASK_BOUND_S, CHANNELS, Line, ask_channel, lines_of
from stacks.hospital.traffic.department import Act, CannotOpen
from stacks.hospital.traffic.http import NoAnswer
from stacks.hospital.traffic.people import Dice
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.surroundings import Hospital

LEARN_EVERY_S = 3.0
LOOK_EVERY_S = 0.2
WEIGHTS = {"callcentre": 4, "website": 3, "sms": 2, "clinic-lists": 1}


class Telephone:
    """Callers; an arrival of class P3 asks about an elective appointment, others about a kept."""

    def __init__(self, hospital: Hospital) -> None:
        self._h = hospital
        self._known: dict[bool, list[Line]] = {True: [], False: []}  # by: is it elective
        self._channels = [
            name for name in CHANNELS if hospital.callers.reaches(name)
            for _ in range(WEIGHTS[name])
        ]  # fmt: skip

    @property
    def acts(self) -> Mapping[str, Act]:
        """They ask."""
        return {"appointment.ask": self.ask}

    def open(self, end: float) -> None:
        """Learn which appointments there are. Raises CannotOpen: no channel knows any."""
        while not any(self._known.values()):
            self._learn()
            if time.monotonic() > end:
                raise CannotOpen(
                    "no channel tells of any appointment: start hospital_day() with the department"
                    " appointments first, and look at the logs of website and callcentre"
                )
            gevent.sleep(LOOK_EVERY_S)

    def sit_down(self) -> None:
        """New appointments are learnt, too."""
        self._h.spawn(self._keep_learning)

    def ask(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """One patient asks one channel."""
        lines = self._known[arrival.klass == "P3"] or self._known[True]
        if not lines or not self._channels:
            return
        line = lines[dice.below(len(lines))]
        channel = self._channels[dice.below(len(self._channels))]
        op = self._h.ledger.invoke(
            "appointment.ask", line.klass, intended, ASK_BOUND_S, key=line.appointment,
            subject=line.patient, ward=line.clinic, target=channel,
        )  # fmt: skip
        ask_channel(self._h.callers, op, channel, line.appointment, line.patient, line.clinic)

    def _keep_learning(self) -> None:
        while True:
            gevent.sleep(LEARN_EVERY_S)
            self._learn()

    def _learn(self) -> None:
        """Read one channel's whole list, whoever answers first."""
        for name in dict.fromkeys(self._channels):
            try:
                lines = lines_of(self._h.callers.attempt(name, Ask("GET", "/says"), READ_S))
            except NoAnswer:
                continue
            if lines:
                self._known = {
                    elective: [line for line in lines if (line.klass == "P3") == elective]
                    for elective in (True, False)
                }
                return
