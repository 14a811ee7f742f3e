"""Who waits for pictures: at the scanners' console, and at the archives and the viewer.

It refuses to call a study readable before one place shows all of its instances, and to name a
place that it has not asked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gevent

from stacks.hospital.clock import monotonic_of
from stacks.hospital.traffic.callers import Ask
from stacks.hospital.traffic.desks import GIVE_UP_FACTOR, again_and_again, items_of
from stacks.hospital.traffic.http import Answer, NoAnswer
from stacks.hospital.traffic.ledger import Op
from stacks.hospital.traffic.people import Dice, Person
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.surroundings import Hospital, marks

ARCHIVES = ("pacs-a", "pacs-b")
VIEWER = "emergency-viewer"
EMERGENCIES = ("P0", "P1")
ASK_S = 1.5
LOOK_EVERY_S, LOOK_RARELY_S = 0.8, 3.0  # between two looks for a study
LOOK_URGENTLY_S = 1.5  # the longest pause of who waits for an emergency's pictures
READ_BOUND_S = 8.0
READ_ROUNDS = 3
PAGE = 400
KEPT = 300  # studies that people open again
SURPRISES_MAX = 2_000
# Hospital minutes.
DONE_BOUND_MIN = 15.0  # an examination takes three
VIEW_BOUND_MIN = 15.0  # last image to readable
PATIENT_ID, SERIES, SOP, INSTANCES = "00100020", "0020000E", "00080018", "00201208"
_PATIENT_ID = b"\x10\x00\x20\x00LO"

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Study:
    """A study that was seen complete somewhere."""

    uid: str
    mrn: str
    klass: str


class ReadingRoom:
    """Looks at the console, then looks for each study where its readers would."""

    def __init__(self, hospital: Hospital) -> None:
        self._h = hospital
        self._seated = False
        self._after = 0
        self._awaited: dict[str, tuple[Op, Person]] = {}
        self._surprises: dict[str, Item] = {}
        self._readable: deque[Study] = deque(maxlen=KEPT)
        self._last_good = ARCHIVES[0]

    def sit_down(self) -> None:
        """Begin to look at the console; harmless when somebody looks already."""
        if not self._seated:
            self._seated = True
            self._h.spawn(again_and_again, self.look_at_console)

    # ------------------------------------------------------------ the console

    def await_pictures(self, one: Person, exam: str, klass: str, intended: float) -> None:
        """An examination was taken: the radiographer waits until it is finished."""
        op = self._h.ledger.invoke(
            "examination.done", klass, intended, self._h.real_s(DONE_BOUND_MIN * 60), key=exam,
            subject=one.mrn, ward=one.ward, target="modalities",
        )  # fmt: skip
        self._awaited[exam] = (op, one)
        early = self._surprises.pop(exam, None)
        if early is not None:
            self._finished(early)

    def look_at_console(self) -> None:
        """See which examinations are finished."""
        if not self._awaited:
            return
        path = f"/console?after={self._after}&limit={PAGE}"
        for item in items_of(self._ask("modalities", path, "P0")):
            self._after = max(self._after, int(item["seq"]))
            self._finished(item)
        now = time.monotonic()
        for exam, (op, _) in list(self._awaited.items()):
            if now - op.intended > op.bound_s * GIVE_UP_FACTOR:
                op.unknown(f"nothing within {now - op.intended:.1f} s")
                del self._awaited[exam]

    def _finished(self, item: Item) -> None:
        exam = str(item["exam"])
        awaited = self._awaited.pop(exam, None)
        if awaited is None:
            if len(self._surprises) < SURPRISES_MAX:
                self._surprises[exam] = item
            return
        op, one = awaited
        study = str(item.get("study", ""))
        op.ok("seen", "modalities", str(item.get("patient", "")), study)
        self._h.spawn(self._find, item, study, one, op.klass)

    # ------------------------------------------------------------ is it readable?

    def _find(self, item: Item, study: str, one: Person, klass: str) -> None:
        """Look for a study until one place shows it whole; an emergency's reader is on record."""
        finished = monotonic_of(item.get("finished_at")) or time.monotonic()
        count = int(item.get("instances", 0))
        bound_s = self._h.real_s(VIEW_BOUND_MIN * 60)
        op = None
        if klass in EMERGENCIES:
            op = self._h.ledger.invoke(
                "study.view", klass, finished, bound_s, key=study, subject=one.mrn,
                ward=one.ward, target=self._last_good, value=str(count),
            )  # fmt: skip
        pause_s, rarely_s = LOOK_EVERY_S, LOOK_URGENTLY_S if op else LOOK_RARELY_S
        while time.monotonic() < finished + bound_s * GIVE_UP_FACTOR:
            for place in self._places(klass):
                if op:
                    op.attempts += 1
                patient = self._shown_at(place, study, count, klass)
                if patient is None:
                    continue
                if place in ARCHIVES:
                    self._last_good = place
                if op:
                    op.ok("seen", place, patient)
                self._readable.append(Study(study, one.mrn, klass))
                return
            gevent.sleep(pause_s)
            pause_s = min(rarely_s, pause_s * 1.3)
        if op:
            op.unknown(f"nothing within {time.monotonic() - finished:.1f} s")

    def _places(self, klass: str) -> tuple[str, ...]:
        """Where a reader of this class looks, in order: the archive that answered last first."""
        others = tuple(name for name in ARCHIVES if name != self._last_good)
        viewer = (VIEWER,) if klass in EMERGENCIES else ()
        return (self._last_good, *others, *viewer)

    def _shown_at(self, place: str, study: str, count: int, klass: str) -> str | None:
        """The patient whom this place names for a study that it has whole; None when not."""
        path = f"/dicom-web/studies?StudyInstanceUID={study}&includefield={INSTANCES}&limit=1"
        found = items_of(self._ask(place, path, klass))
        if not found or int(value_of(found[0], INSTANCES) or 0) < count:
            return None
        return value_of(found[0], PATIENT_ID)

    # ------------------------------------------------------------ pictures

    def read(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A doctor opens one picture of a study that was readable before."""
        fits = [one for one in self._readable if one.klass == arrival.klass]
        fits = fits or list(self._readable)
        if not fits:
            return
        study = fits[dice.below(len(fits))]
        op = self._h.ledger.invoke(
            "image.read", arrival.klass, intended, READ_BOUND_S, key=study.uid,
            subject=study.mrn, ward="reading-room", target=self._last_good,
        )  # fmt: skip
        trouble = "nobody was asked"
        for _ in range(READ_ROUNDS):
            for place in self._places(study.klass):
                op.attempts += 1
                try:
                    patient = self._picture(place, study, arrival.klass)
                except NoAnswer as silence:
                    trouble = f"{place}: {silence.reason}"
                    continue
                if place in ARCHIVES:
                    self._last_good = place
                op.ok("200", place, patient)
                return
            gevent.sleep(LOOK_EVERY_S)
        op.refused(trouble)

    def _picture(self, place: str, study: Study, klass: str) -> str:
        """Fetch the first picture; returns whose it says it is. Raises NoAnswer: no picture."""
        base = f"/dicom-web/studies/{study.uid}"
        found = items_of(self._answer(place, f"{base}/instances?limit=1", klass))
        if not found:
            raise NoAnswer("it does not know the study", sent=True)
        series, sop = value_of(found[0], SERIES), value_of(found[0], SOP)
        answer = self._answer(place, f"{base}/series/{series}/instances/{sop}", klass)
        if not answer.good or b"DICM" not in answer.body or sop.encode() not in answer.body:
            raise NoAnswer(f"{answer.status}, no picture", sent=True)
        return patient_in(answer.body)

    # ------------------------------------------------------------ common

    def _answer(self, place: str, path: str, klass: str) -> Answer:
        ask = Ask("GET", path, headers=marks(klass, "reading-room"))
        return self._h.callers.attempt(place, ask, ASK_S)

    def _ask(self, place: str, path: str, klass: str) -> Answer | None:
        try:
            return self._answer(place, path, klass)
        except NoAnswer:
            return None


def value_of(found: Item, tag: str) -> str:
    """The first value of a DICOM JSON attribute as text; empty without one."""
    attribute = found.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def patient_in(data: bytes) -> str:
    """The PatientID in the bytes of a DICOM file of explicit VR; empty when there is none."""
    at = data.find(_PATIENT_ID)
    if at < 0:
        return ""
    start = at + len(_PATIENT_ID) + 2
    length = int.from_bytes(data[start - 2 : start], "little")
    return data[start : start + length].decode("utf-8", "replace").strip(" \0")
