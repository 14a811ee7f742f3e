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
from chaos.toxiproxy.toxics.dicom_pdus import (
    ABORT,
    ABORT_BY_PROVIDER,
    ASSOCIATE_RQ,
    C_STORE_RQ,
    C_STORE_RSP,
    MAX_COMMAND,
    OUT_OF_RESOURCES,
    P_DATA,
    Command,
    Pdu,
    Pdus,
    Pdv,
    p_data,
    pdvs,
    read_command,
    store_response,
)
from chaos.toxiproxy.toxics.record import Act, Record
from chaos.toxiproxy.toxics.stage import (
    MAX_MS,
    MILLISECOND_NS,
    Ending,
    Inbox,
    Memory,
    Piece,
    Stage,
)
from chaos.toxiproxy.toxics.talk import Held, Side, side_of

OF_REQUESTS = ("abort", "refuse")
ACTIONS = (*OF_REQUESTS, "drop", "delay")
ABORTED_NS = 2_000 * MILLISECOND_NS  # for the peers to read the abort and close, as ARTIM
MAX_OPEN = 256  # requests whose response is still to come, per association
MAX_UNSAID = 64  # responses of our own that a sender may leave unread
COMMENT = "out of resources (injected fault)"


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


class _Assembly:
    """Puts the fragments of one command set together; None while it is incomplete."""

    def __init__(self) -> None:
        self._text = bytearray()

    def add(self, value: Pdv) -> Command | None:
        self._text += value.fragment[: MAX_COMMAND + 1]
        if not value.last:
            del self._text[MAX_COMMAND + 1 :]
            return None
        command = read_command(bytes(self._text)) if len(self._text) <= MAX_COMMAND else None
        self._text.clear()
        return command


class Requests:
    """The sender's side."""

    def __init__(self, talk: DicomTalk) -> None:
        self._talk = talk
        self._command = _Assembly()
        self._kept: list[bytes] = []  # PDVs of a command that is not complete yet
        self._doomed: Command | None = None  # the request that is being acted upon
        self._passed = 0  # P-DATA of its data set
        self._told_ns: int | None = None

    @property
    def waits(self) -> bool:
        return self._talk.responses.unsaid >= MAX_UNSAID

    @property
    def torn(self) -> bool:
        return self._doomed is not None or bool(self._kept) or self._talk.aborted

    def judge(self, unit: Pdu, at_ns: int, outlet: Inbox) -> Held | None:
        talk = self._talk
        if talk.aborted:
            return None
        if unit.kind in (0, ASSOCIATE_RQ, ABORT):
            if unit.kind == 0:
                talk.loose()
            self._kept.clear()
        values = pdvs(unit.data) if unit.kind == P_DATA else None
        if values is None:
            outlet.put(Piece(unit.data, at_ns))
            return None
        was_whole = not self._kept
        passing = list[bytes]()
        for value in values:
            passing += self._of_value(value)
        if was_whole and len(passing) == len(values):
            outlet.put(Piece(unit.data, at_ns))
        elif passing:
            outlet.put(Piece(p_data(passing), at_ns))
        return None

    def _of_value(self, value: Pdv) -> list[bytes]:
        """The PDVs that may go on now."""
        if self._talk.aborted:
            return []
        if value.command:
            return self._of_command(value)
        if self._doomed is None:
            return [value.data]
        return self._of_doomed(value, self._doomed)

    def _of_command(self, value: Pdv) -> list[bytes]:
        talk = self._talk
        self._kept.append(value.data)
        command = self._command.add(value)
        if not value.last and sum(map(len, self._kept)) <= MAX_COMMAND:
            return []
        kept, self._kept = self._kept, []
        if command is None or command.field != C_STORE_RQ:
            return kept
        talk.record.heard(command.sop_instance, talk)
        if talk.terms.action in OF_REQUESTS and talk.takes():
            self._doomed, self._passed = command, 0
            if talk.terms.action == "abort":
                return kept if command.has_data else self._abort(command)
            return [] if command.has_data else self._refuse(value, command)
        talk.note(command)
        return kept

    def _of_doomed(self, value: Pdv, request: Command) -> list[bytes]:
        if self._talk.terms.action == "abort":
            if value.last or self._passed >= self._talk.terms.after:
                return self._abort(request)
            self._passed += 1
            return [value.data]
        return self._refuse(value, request) if value.last else []

    def _abort(self, request: Command) -> list[bytes]:
        talk = self._talk
        talk.record.act(request.sop_instance, "", talk)
        talk.abort()
        return []

    def _refuse(self, value: Pdv, request: Command) -> list[bytes]:
        talk = self._talk
        talk.record.act(request.sop_instance, "", talk)
        answer = store_response(value.context, request, OUT_OF_RESOURCES, COMMENT)
        talk.responses.say(answer)
        self._doomed = None
        return []

    def insert(self, now_ns: int, outlet: Inbox) -> int | None:
        if not self._talk.aborted:
            return None
        if self._told_ns is None:
            self._told_ns = now_ns
            outlet.put(Piece(ABORT_BY_PROVIDER, now_ns))
        if now_ns - self._told_ns >= ABORTED_NS:
            outlet.end(Ending.CUT)
            return None
        return self._told_ns + ABORTED_NS

    def ends(self, ending: Ending) -> Ending | None:
        self._talk.record.hung_up(self._talk)
        return Ending.CUT if self.torn else ending


class Responses:
    """The archive's side."""

    def __init__(self, talk: DicomTalk) -> None:
        self._talk = talk
        self._command = _Assembly()
        self._kept: list[bytes] = []
        self._own: list[bytes] = []  # responses of our own that are not said yet
        self._told = False

    waits = False

    @property
    def torn(self) -> bool:
        return bool(self._kept) or self._talk.aborted or bool(self._own)

    @property
    def unsaid(self) -> int:
        """How many of our own responses the sender has not taken yet."""
        return len(self._own)

    def say(self, answer: bytes) -> None:
        """Answer in the archive's place."""
        self._own.append(answer)
        self._talk.stirred = True

    def judge(self, unit: Pdu, at_ns: int, outlet: Inbox) -> Held | None:
        if self._talk.aborted:
            return None
        values = pdvs(unit.data) if unit.kind == P_DATA else None
        of_requests = self._talk.terms.action in OF_REQUESTS
        if values is None or (of_requests and not self._kept):
            outlet.put(Piece(unit.data, at_ns))
            return None
        passing, act = list[bytes](), None
        for value in values:
            if not value.command:
                passing.append(value.data)
                continue
            more, one = self._of_command(value)
            passing += more
            act = act or one
        data = p_data(passing) if passing else b""
        if act is not None and self._talk.terms.action == "delay":
            return Held(at_ns + self._talk.terms.delay * MILLISECOND_NS, data)
        if data:
            outlet.put(Piece(data, at_ns))
        return None

    def _of_command(self, value: Pdv) -> tuple[list[bytes], Act | None]:
        """The PDVs that go on, and what was done if something was."""
        talk = self._talk
        self._kept.append(value.data)
        command = self._command.add(value)
        if not value.last and sum(map(len, self._kept)) <= MAX_COMMAND:
            return [], None
        kept, self._kept = self._kept, []
        if command is None or command.field != C_STORE_RSP:
            return kept, None
        instance = talk.stored.pop(command.message, "")
        if not talk.takes():
            return kept, None
        act = talk.record.act(command.sop_instance or instance, f"{command.status:04X}", talk)
        return (kept if talk.terms.action == "delay" else []), act

    def insert(self, now_ns: int, outlet: Inbox) -> int | None:
        while self._own and not outlet.full:
            outlet.put(Piece(self._own.pop(0), now_ns))
            self._talk.stirred |= len(self._own) == MAX_UNSAID - 1  # the sender is heard again
        if self._talk.aborted and not self._told:
            self._told = True
            outlet.put(Piece(ABORT_BY_PROVIDER, now_ns))
        return None

    def ends(self, ending: Ending) -> Ending | None:
        if self._talk.aborted and ending is Ending.EOF:
            return None  # the sender may still be reading the abort: its own end closes both
        return ending
