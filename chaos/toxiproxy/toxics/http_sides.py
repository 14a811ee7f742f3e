"""The two sides of a connection under an http toxic: requests refused, responses dropped or held.

Answers keep the order of their requests, the real ones and ours.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.toxiproxy.toxics.http_messages import Head, Part
from chaos.toxiproxy.toxics.stage import MILLISECOND_NS, Ending, Inbox, Piece
from chaos.toxiproxy.toxics.talk import Held

if TYPE_CHECKING:
    from chaos.toxiproxy.toxics.http import HttpTalk

MAX_OPEN = 1000  # requests without an answer on one connection; then no more are read


@dataclass(eq=False, slots=True)
class Asked:
    """A request whose answer is still to come."""

    key: str
    matches: bool
    own: bytes | None = None  # the answer, when it is ours


class Requests:
    """The client's side."""

    def __init__(self, talk: HttpTalk) -> None:
        self._talk = talk
        self._present: Asked | None = None  # its body is still on the way
        self._refused: Head | None = None
        self._sum = 0
        self._over = False  # refused before its body was sent: nothing more is heard

    @property
    def waits(self) -> bool:
        return len(self._talk.asked) >= MAX_OPEN

    @property
    def torn(self) -> bool:
        return self._refused is not None or self._over

    def judge(self, unit: Part, at_ns: int, outlet: Inbox) -> Held | None:
        talk = self._talk
        if self._over:
            return None
        if unit.loose:
            talk.loose()
        if unit.head is not None:
            self._begin(unit.head)
        elif not unit.loose:
            self._sum = zlib.crc32(unit.data, self._sum)
        if self._refused is None:
            outlet.put(Piece(unit.data, at_ns))
        if unit.last or (self._refused is not None and self._refused.expects):
            self._finish(whole=unit.last)
        return None

    def _begin(self, head: Head) -> None:
        talk = self._talk
        self._sum = 0
        self._present = Asked(f"{head.method} {head.target}", talk.terms.matches(head))
        if self._present.matches and talk.terms.action == "refuse" and talk.takes():
            self._refused = head
        else:
            talk.asked.append(self._present)
            talk.methods.append(head.method)

    def _finish(self, *, whole: bool) -> None:
        talk, present = self._talk, self._present
        if present is None:
            return
        present.key += f" #{self._sum:08x}"
        talk.record.heard(present.key, talk)
        if self._refused is not None:
            present.own = refusal(self._refused, talk.terms.retry_after, close=not whole)
            talk.asked.append(present)
            talk.record.act(present.key, "", talk)
            talk.stirred = True
            self._over = not whole
        self._present = self._refused = None

    def insert(self, now_ns: int, outlet: Inbox) -> int | None:
        del now_ns, outlet
        return None

    def ends(self, ending: Ending) -> Ending | None:
        self._talk.record.hung_up(self._talk)
        return ending


class Responses:
    """The server's side."""

    def __init__(self, talk: HttpTalk) -> None:
        self._talk = talk
        self._dropping = False
        self._within = False  # a response has begun and not ended

    waits = False

    @property
    def torn(self) -> bool:
        return self._dropping or any(asked.own is not None for asked in self._talk.asked)

    def judge(self, unit: Part, at_ns: int, outlet: Inbox) -> Held | None:
        talk = self._talk
        held = None
        if unit.head is not None and unit.head.status >= 200 and talk.asked:
            self._within = True
            held = self._begin(unit, unit.head.status, at_ns)
        if not self._dropping and held is None:
            outlet.put(Piece(unit.data, at_ns))
        if unit.last:
            self._within = self._dropping = False
            talk.done()
            if held is None:
                talk.answered(outlet, at_ns)
        return held

    def _begin(self, unit: Part, status: int, at_ns: int) -> Held | None:
        talk, asked = self._talk, self._talk.asked[0]
        if not asked.matches or talk.terms.action not in ("drop", "delay") or not talk.takes():
            return None
        talk.record.act(asked.key, str(status), talk)
        if talk.terms.action == "delay":
            return Held(at_ns + talk.terms.delay * MILLISECOND_NS, unit.data)
        self._dropping = True
        return None

    def insert(self, now_ns: int, outlet: Inbox) -> int | None:
        if not self._within:
            self._talk.answered(outlet, now_ns)
        return None

    def ends(self, ending: Ending) -> Ending | None:
        return ending


def refusal(head: Head, retry_after_s: int, *, close: bool) -> bytes:
    """A 503 with an OperationOutcome (FHIR R4), as the server itself would send it."""
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [
            {"severity": "error", "code": "transient", "diagnostics": "refused (injected fault)"}
        ],
    }
    body = json.dumps(outcome).encode()
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/fhir+json",
        f"Content-Length: {len(body)}",
        *([f"Retry-After: {retry_after_s}"] if retry_after_s else []),
        *(["Connection: close"] if close or head.old else []),
    ]
    text = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return text if head.method == "HEAD" else text + body
