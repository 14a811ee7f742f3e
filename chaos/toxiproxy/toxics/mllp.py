"""mllp: acknowledgements of HL7 messages are dropped, delayed, negated or truncated.

    sender ── message ──▶ receiver          the receiver has accepted it ...
    sender ◀─ nothing, late, AE/AR, half ── acknowledgement      ... and the sender cannot know

`truncate-message` cuts the message instead: half a frame, then the connection ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.toxiproxy.toxics.choice import MAX_NUMBER, WHOLE, Choice
from chaos.toxiproxy.toxics.mllp_frames import (
    POSITIVE,
    Chunk,
    Frames,
    acknowledged,
    control_id,
    half,
    negated,
)
from chaos.toxiproxy.toxics.record import Record
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

CODES = {"error": "AE", "reject": "AR"}
ACTIONS = ("drop", "delay", *CODES, "truncate", "truncate-message")
INTERNAL_ERROR = 207


@dataclass(frozen=True, slots=True)
class Mllp:
    """`delay` in milliseconds; `code` is ERR-3 (HL7 table 0357); the rest is a Choice."""

    action: str = ""
    delay: int = 0
    code: int = 0
    nth: int = 0
    every: int = 0
    count: int = 0
    KIND: ClassVar[str] = "mllp"
    LIMITS: ClassVar[dict[str, int]] = {
        "delay": MAX_MS,
        "code": 999,
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

    def talk(self, record: Record) -> MllpTalk:
        """One sender and one receiver."""
        return MllpTalk(self, record)

    @property
    def choice(self) -> Choice:
        return Choice(self.nth, self.every, self.count, WHOLE)


class MllpTalk:
    """Messages one way, acknowledgements the other."""

    def __init__(self, terms: Mllp, record: Record) -> None:
        self.terms = terms
        self.record = record
        self.stirred = False
        self.asking: Stage = Side(Frames(), Messages(self))
        self.answering: Stage = Side(Frames(), Answers(self))
        self._unread = False

    def heed(self, terms: Any) -> None:
        self.terms = terms

    def takes(self) -> bool:
        """Count one exchange; whether it is to be acted upon."""
        self.record.seen += 1
        return self.terms.choice.takes(self.record.seen, self.record.acted)

    def cut_off(self, frame: bytes, at_ns: int, outlet: Inbox) -> None:
        """Half the frame, and the end of the connection."""
        self.record.unwatched(self)
        outlet.put(Piece(half(frame), at_ns))
        outlet.end(Ending.CUT)

    def loose(self) -> None:
        """Bytes that are no MLLP."""
        if not self._unread:
            self._unread = True
            self.record.unread += 1


class Messages:
    """The sender's side."""

    torn = False
    waits = False

    def __init__(self, talk: MllpTalk) -> None:
        self._talk = talk

    def judge(self, unit: Chunk, at_ns: int, outlet: Inbox) -> Held | None:
        talk = self._talk
        if unit.frame:
            key = control_id(unit.data)
            talk.record.heard(key, talk)
            if talk.terms.action == "truncate-message" and talk.takes():
                talk.record.act(key, "", talk)
                talk.cut_off(unit.data, at_ns, outlet)
                return None
        elif unit.data.strip():
            talk.loose()
        outlet.put(Piece(unit.data, at_ns))
        return None

    def insert(self, now_ns: int, outlet: Inbox) -> int | None:
        del now_ns, outlet
        return None

    def ends(self, ending: Ending) -> Ending | None:
        self._talk.record.hung_up(self._talk)
        return ending


class Answers:
    """The receiver's side."""

    torn = False
    waits = False

    def __init__(self, talk: MllpTalk) -> None:
        self._talk = talk

    def judge(self, unit: Chunk, at_ns: int, outlet: Inbox) -> Held | None:
        talk, terms = self._talk, self._talk.terms
        said = acknowledged(unit.data) if unit.frame else None
        wanted = said is not None and terms.action != "truncate-message"
        if terms.action in CODES and said is not None and said.code not in POSITIVE:
            wanted = False  # it is negative already
        if said is None or not wanted or not talk.takes():
            outlet.put(Piece(unit.data, at_ns))
            return None
        talk.record.act(said.control_id, said.code, talk)
        if terms.action == "delay":
            return Held(at_ns + terms.delay * MILLISECOND_NS, unit.data)
        if terms.action in CODES:
            error = terms.code or INTERNAL_ERROR
            outlet.put(Piece(negated(unit.data, CODES[terms.action], error), at_ns))
        elif terms.action == "truncate":
            talk.cut_off(unit.data, at_ns, outlet)
        return None  # dropped

    def insert(self, now_ns: int, outlet: Inbox) -> int | None:
        del now_ns, outlet
        return None

    def ends(self, ending: Ending) -> Ending | None:
        return ending
