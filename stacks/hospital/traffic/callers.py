"""How people ask: whom first, whom next, how long, how often, and what an answer is worth.

It refuses to call a write refused when any of its attempts may have happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from gevent.event import Event

from stacks.hospital.clock import monotonic_of
from stacks.hospital.traffic import forms
from stacks.hospital.traffic.config import Config
from stacks.hospital.traffic.http import Answer, Caller, NoAnswer
from stacks.hospital.traffic.ledger import Ledger, Op

READ_S = 2.0  # one attempt to read
WRITE_S = 4.0  # one attempt to write
WRITE_PATIENCE_S = 45.0  # then a person writes it down on paper
READ_PATIENCE_S = 6.5  # one look at every sanctioned place
LATER_PATIENCE_S = 45.0  # elective work comes again when it is told to
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 2.0
URGENT = ("P0", "P1", "P2")
NOT_OVERLOAD = ("transient", "timeout")  # FHIR issue codes of a 503 that sheds nobody
RECORD = ("ehr-a", "ehr-b")
COPY = "ro-copy"
LINKS = {
    "ehr-a": "wards>ehr-a.http", "ehr-b": "wards>ehr-b.http", COPY: "wards>ro-copy.http",
    "gam": "admissions>gam.http", "analysers": "laboratory>analysers.http",
    "lis": "laboratory>lis.http", "modalities": "radiology>modalities.http",
    "ris": "radiology>ris.http", "pacs-a": "wards>pacs-a.http", "pacs-b": "wards>pacs-b.http",
    "emergency-viewer": "wards>emergency-viewer.http", "scheduling": "clinics>scheduling.http",
    "clinic-lists": "clinics>clinic-lists.http", "website": "patients>website.http",
    "callcentre": "patients>callcentre.http", "sms": "patients>sms.http",
}  # fmt: skip
"""Service → the link by which people reach it; a topology may lack whole departments."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question, the same for whoever is asked."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Said:
    """What the attempts of one operation have said so far."""

    maybe: str = ""  # why it may have happened
    last: str = "nobody was asked"
    via: str = ""
    retry_after_s: float = 0.0
    refused: bool = False  # a definite no that asking again will not change


class Callers:
    """The people's ways to the services, with what wards remember of them."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        seed: str,
        closing: Event | None = None,
        direct: bool = False,
    ) -> None:
        """`direct`: to the services themselves, as one who stands at their consoles."""
        self.ledger = ledger
        self._closing = closing or Event()
        self._ways = dict(_direct(config) if direct else _by_link(config))
        self._last_good: dict[str, str] = {}
        self._chance = Random(f"{seed}/pauses")

    def close(self) -> None:
        """Close kept connections."""
        for way in self._ways.values():
            way.close()

    def reaches(self, service: str) -> bool:
        """Whether this topology has a way to that service."""
        return service in self._ways

    def record_nodes(self, ward: str) -> tuple[str, ...]:
        """The record's nodes in the order in which a ward asks them: the last good one first.

        None where the record does not stand.
        """
        known = tuple(name for name in RECORD if name in self._ways)
        if not known:
            return ()
        last = self._last_good.get(ward)
        if last is None:  # the wards' stations are shared out among the nodes
            last = self._last_good[ward] = known[len(self._last_good) % len(known)]
        return (last, *(name for name in known if name != last))

    def attempt(self, service: str, ask: Ask, within_s: float) -> Answer:
        """One bounded attempt; raises NoAnswer. Every answer of the copy is checked for marks."""
        if service not in self._ways:
            raise NoAnswer(f"there is no {service}", sent=False)
        answer = self._ways[service].ask(ask.method, ask.path, within_s, ask.body, ask.headers)
        if service == COPY and answer.status != 503:  # 503 shows nothing to be mistaken for
            self._look_at_marks(answer)
        return answer

    def read_chart(self, op: Op, ward: str, mrn: str, known: Sequence[str] | None) -> None:
        """Read a chart from whoever answers.

        `known` are the identities that were merged into the patient; None: the reader does not
        know them, and takes for the patient's own every chart in which the patient is.
        """
        ask = Ask("GET", f"/fhir/Patient/{mrn}/$everything", headers=_marks(op, ward))
        end = op.intended + (READ_PATIENCE_S if op.klass in URGENT else LATER_PATIENCE_S)
        while True:
            said = _Said()
            for service in (*self.record_nodes(ward), COPY):
                answer = self._read_attempt(op, service, ask, said)
                if answer is None:
                    continue
                if service in RECORD:
                    self._last_good[ward] = service
                _close_read(op, service, answer, mrn, known)
                return
            pause = said.retry_after_s
            if op.klass in URGENT or not pause or time.monotonic() + pause > end:
                break
            if self._closing.wait(pause * (1 + 0.2 * self._chance.random())):
                return  # nobody asks again after closing time; the ledger says so
        if said.maybe:
            op.unknown(said.maybe, said.via)
        else:
            op.refused(said.last, said.via)

    def _read_attempt(self, op: Op, service: str, ask: Ask, said: _Said) -> Answer | None:
        op.attempts += 1
        try:
            answer = self.attempt(service, ask, READ_S)
        except NoAnswer as silence:
            said.via, said.last = service, f"{service}: {silence.reason}"
            if silence.sent:
                said.maybe = said.last
            return None
        if answer.good:
            return answer
        self._note_refusal(op, service, answer, said)
        return None

    def write(
        self,
        op: Op,
        services: Callable[[], Sequence[str]],
        ask: Ask,
        done_already: Callable[[], bool] | None = None,
        patience_s: float = WRITE_PATIENCE_S,
        attempt_s: float = 0.0,
    ) -> Answer | None:
        """Write until acknowledged, refused for good, or `patience_s` after the intention.

        One attempt takes at most `attempt_s` (0: WRITE_S).

        Everything but the acknowledgement is written into the ledger here; None then. A 412 after
        an attempt that may have happened is settled by `done_already` (reads the stored state).
        """
        said, end, cycle = _Said(), op.intended + patience_s, 0
        while time.monotonic() < end:
            for service in services():
                answer = self._write_attempt(op, service, ask, said, end, attempt_s)
                if answer is not None:
                    op_end = self._settle(op, service, answer, said, done_already)
                    if op_end is not None:
                        return op_end if op_end.good else None
                if time.monotonic() >= end:
                    break
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 1.6**cycle)
            if op.klass not in URGENT:
                pause = max(pause, said.retry_after_s)
            if self._closing.wait(pause * (0.8 + 0.4 * self._chance.random())):
                return None  # nobody asks again after closing time; the ledger says so
            cycle += 1
        if said.maybe:
            op.unknown(said.maybe, said.via)
        else:
            op.refused(said.last, said.via)
        return None

    def _write_attempt(
        self, op: Op, service: str, ask: Ask, said: _Said, end: float, attempt_s: float
    ) -> Answer | None:
        op.attempts += 1
        op.via = service
        within_s = max(0.2, min(attempt_s or WRITE_S, end - time.monotonic()))
        try:
            return self.attempt(service, ask, within_s)
        except NoAnswer as silence:
            said.via, said.last = service, f"{service}: {silence.reason}"
            if silence.sent:
                said.maybe = said.last
            return None

    def _settle(
        self,
        op: Op,
        service: str,
        answer: Answer,
        said: _Said,
        done_already: Callable[[], bool] | None,
    ) -> Answer | None:
        """The answer when it ends the operation, else None."""
        said.via = service
        if answer.good:
            return answer
        if answer.status == 412 and said.maybe and done_already is not None and done_already():
            return Answer(200, answer.headers, b"")
        self._note_refusal(op, service, answer, said)
        if not said.refused:
            return None
        if said.maybe:
            op.unknown(f"{said.maybe}; then {said.last}", service)
        else:
            op.refused(said.last, service)
        return answer

    def _note_refusal(self, op: Op, service: str, answer: Answer, said: _Said) -> None:
        code, reason = forms.refusal(answer.body)
        said.via, said.last = service, f"{service}: {answer.status} {reason}".strip()
        wait_s = answer.retry_after_s
        if answer.status == 503 and wait_s is not None:
            said.retry_after_s = max(said.retry_after_s, wait_s)
            if code not in NOT_OVERLOAD:
                op.shed(service, wait_s, reason)
        if answer.headers.get("x-outcome") == "unknown" or answer.status in (500, 502, 504):
            said.maybe = said.last
        said.refused = 400 <= answer.status < 500 and answer.status not in (408, 425, 429)

    def _look_at_marks(self, answer: Answer) -> None:
        as_of = answer.headers.get("x-as-of", "")
        at = monotonic_of(as_of)
        ok = answer.headers.get("x-read-only") == "READ-ONLY" and at is not None
        if ok and answer.status == 200 and b'"Bundle"' in answer.body[:200]:
            found = forms.chart(answer.body)
            ok = found is not None and "READ-ONLY" in found.tags and bool(found.as_of)
        self.ledger.sample("copy.marker", COPY, at or 0.0, as_of, ok)


def _by_link(config: Config) -> Iterator[tuple[str, Caller]]:
    for name, link in LINKS.items():
        if link in config.links:
            yield name, Caller(name, config.link(link))


def _direct(config: Config) -> Iterator[tuple[str, Caller]]:
    for key in config.direct:
        name, _, port = key.rpartition(".")
        address = config.service(name, port) if port == "http" else None
        if address is not None:
            yield name, Caller(name, address)


def _marks(op: Op, ward: str) -> dict[str, str]:
    return {"X-Priority": op.klass, "X-Ward": ward}


def _close_read(
    op: Op, service: str, answer: Answer, mrn: str, known: Sequence[str] | None
) -> None:
    found = forms.chart(answer.body)
    if found is None or not found.patients:
        op.refused("the answer is no chart", service)
        return
    strange = [other for other in found.patients if other != mrn and other not in (known or ())]
    if known is None and mrn in found.patients:
        strange = []
    op.ok("200", service, strange[0] if strange else mrn)
