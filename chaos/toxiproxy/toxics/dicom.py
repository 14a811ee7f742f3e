"""dicom: C-STORE on an association is aborted, refused, or its response dropped or delayed.

    abort    A-ABORT to both ends after `after` P-DATA of the instance, always before its last
    refuse   A700 to the sender; the archive gets neither the command nor a byte of the data set
    drop, delay      the archive's own response vanishes or comes late

Each instance counts as one exchange. An association that was open before the toxic came is read
from its next PDU on.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.toxiproxy.toxics.choice import MAX_NUMBER, WHOLE, Choice
from chaos.toxiproxy.toxics.dicom_pdus import Command, Pdus
from chaos.toxiproxy.toxics.dicom_sides import OF_REQUESTS, Requests, Responses
from chaos.toxiproxy.toxics.record import Record
from chaos.toxiproxy.toxics.stage import MAX_MS, Memory, Stage
from chaos.toxiproxy.toxics.talk import Side, side_of

ACTIONS = (*OF_REQUESTS, "drop", "delay")
MAX_OPEN = 256  # requests whose response is still to come, per association


@dataclass(frozen=True, slots=True)
class Dicom:
    """`delay` in milliseconds, `after` in P-DATA of the data set; the rest is a Choice."""

    action: str = ""
    delay: int = 0
    after: int = 0
    nth: int = 0
    every: int = 0
    count: int = 0
    KIND: ClassVar[str] = "dicom"
    LIMITS: ClassVar[dict[str, int]] = {
        "delay": MAX_MS,
        "after": MAX_NUMBER,
        "nth": MAX_NUMBER,
        "every": MAX_NUMBER,
        "count": MAX_NUMBER,
    }
    TEXTS: ClassVar[dict[str, int]] = {"action": 20}

    def check(self) -> None:
        if self.action not in ("", *ACTIONS):
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}, got {self.action!r}")

    def stage(self, memory: Memory, random: Random) -> Stage:
        del random
        return side_of(memory, self)

    def talk(self, record: Record) -> DicomTalk:
        """One association."""
        return DicomTalk(self, record)


class DicomTalk:
    """Requests one way, responses the other."""

    def __init__(self, terms: Dicom, record: Record) -> None:
        self.terms = terms
        self.record = record
        self.stirred = False
        self.requests = Requests(self)
        self.responses = Responses(self)
        self.asking: Stage = Side(Pdus(), self.requests)
        self.answering: Stage = Side(Pdus(), self.responses)
        self.aborted = False
        self.stored: dict[int, str] = {}  # SOP instance by message, for responses without one
        self._unread = False

    def heed(self, terms: Any) -> None:
        self.terms = terms

    def takes(self) -> bool:
        """Count one instance; whether it is to be acted upon."""
        terms = self.terms
        self.record.seen += 1
        choice = Choice(terms.nth, terms.every, terms.count, WHOLE)
        return choice.takes(self.record.seen, self.record.acted)

    def note(self, request: Command) -> None:
        """A request goes on to the archive."""
        if len(self.stored) >= MAX_OPEN:
            self.stored.clear()
        self.stored[request.message] = request.sop_instance

    def abort(self) -> None:
        """Both ends are told; nothing passes any more."""
        self.record.unwatched(self)
        self.aborted = self.stirred = True

    def loose(self) -> None:
        """Bytes that are no DICOM."""
        if not self._unread:
            self._unread = True
            self.record.unread += 1
