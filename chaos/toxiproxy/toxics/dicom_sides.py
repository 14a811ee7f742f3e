"""The two sides of an association under a dicom toxic: what passes, what is kept, what is answered.

They read commands and count pieces of data sets; which instance is acted upon the talk decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    Pdv,
    p_data,
    pdvs,
    read_command,
    store_response,
)
from chaos.toxiproxy.toxics.record import Act
from chaos.toxiproxy.toxics.stage import MILLISECOND_NS, Ending, Inbox, Piece
from chaos.toxiproxy.toxics.talk import Held

if TYPE_CHECKING:
    from chaos.toxiproxy.toxics.dicom import DicomTalk

OF_REQUESTS = ("abort", "refuse")  # what is done to requests; the rest is done to responses
ABORTED_NS = 2_000 * MILLISECOND_NS  # for the peers to read the abort and close, as ARTIM
MAX_UNSAID = 64  # responses of our own that a sender may leave unread
COMMENT = "out of resources (injected fault)"


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
