"""http: requests are refused with 503 in the server's place, or its responses dropped or delayed.

    refuse       client ── request ──▶ |        the server gets nothing of it
                 client ◀─ 503, Retry-After, OperationOutcome
    drop, delay  the server has done its work; the client hears nothing, or hears late

`method` and `path` (a prefix of the target) choose requests; '' is any. HTTP/1.x only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.toxiproxy.toxics.choice import MAX_NUMBER, WHOLE, Choice
from chaos.toxiproxy.toxics.http_messages import Head, Messages
from chaos.toxiproxy.toxics.http_sides import MAX_OPEN, Asked, Requests, Responses
from chaos.toxiproxy.toxics.record import Record
from chaos.toxiproxy.toxics.stage import MAX_MS, Inbox, Memory, Piece, Stage
from chaos.toxiproxy.toxics.talk import Side, side_of

ACTIONS = ("refuse", "drop", "delay")
MAX_PATH = 500
MAX_RETRY_S = 86_400


@dataclass(frozen=True, slots=True)
class Http:
    """`delay` in milliseconds, `retry_after` in seconds, `share` in thousandths (0: all)."""

    action: str = ""
    method: str = ""
    path: str = ""
    delay: int = 0
    retry_after: int = 0
    nth: int = 0
    every: int = 0
    count: int = 0
    share: int = 0
    seed: int = 0
    KIND: ClassVar[str] = "http"
    LIMITS: ClassVar[dict[str, int]] = {
        "delay": MAX_MS,
        "retry_after": MAX_RETRY_S,
        "nth": MAX_NUMBER,
        "every": MAX_NUMBER,
        "count": MAX_NUMBER,
        "share": WHOLE,
        "seed": MAX_NUMBER,
    }
    TEXTS: ClassVar[dict[str, int]] = {"action": 20, "method": 32, "path": MAX_PATH}

    def check(self) -> None:
        if self.action not in ("", *ACTIONS):
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}, got {self.action!r}")

    def stage(self, memory: Memory, random: Random) -> Stage:
        del random
        return side_of(memory, self)

    def talk(self, record: Record) -> HttpTalk:
        """One client and one server."""
        return HttpTalk(self, record)

    def matches(self, head: Head) -> bool:
        """Whether this request is one of those meant."""
        return self.method in ("", head.method) and head.target.startswith(self.path)


class HttpTalk:
    """Requests one way, responses the other, in the same order."""

    def __init__(self, terms: Http, record: Record) -> None:
        self.terms = terms
        self.record = record
        self.stirred = False
        self.asked: deque[Asked] = deque()
        self.methods: deque[str] = deque()  # of requests that the server got
        self.asking: Stage = Side(Messages(), Requests(self))
        self.answering: Stage = Side(Messages(self.methods), Responses(self))
        self._unread = False

    def heed(self, terms: Any) -> None:
        self.terms = terms

    def takes(self) -> bool:
        """Count one exchange; whether it is to be acted upon."""
        terms = self.terms
        self.record.seen += 1
        choice = Choice(terms.nth, terms.every, terms.count, terms.share or WHOLE, terms.seed)
        return choice.takes(self.record.seen, self.record.acted)

    def answered(self, outlet: Inbox, now_ns: int) -> None:
        """Say our own answers whose turn has come."""
        while self.asked and not outlet.full and (own := self.asked[0].own) is not None:
            outlet.put(Piece(own, now_ns))
            self.done()

    def done(self) -> None:
        """The oldest request is answered."""
        if self.asked:
            self.asked.popleft()
            self.stirred |= len(self.asked) == MAX_OPEN - 1  # the client is heard again

    def loose(self) -> None:
        """Bytes that are no HTTP/1.x."""
        if not self._unread:
            self._unread = True
            self.record.unread += 1
