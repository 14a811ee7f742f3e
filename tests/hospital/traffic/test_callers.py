"""The people's ladder: whom they ask next, and what each kind of silence or answer is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from gevent.event import Event

from chaos.journal import events as ev
from stacks.hospital.traffic import callers as c
from stacks.hospital.traffic.callers import Ask, Callers
from stacks.hospital.traffic.config import Config
from stacks.hospital.traffic.ledger import Ledger, Op
from tests.hospital.traffic.fakes import (
    FakeService,
    Pages,
    Reply,
    Silence,
    chart_of,
    nobody,
    outcome,
)

MARKS = {"X-Read-Only": "READ-ONLY", "X-As-Of": "2026-11-22T01:00:00+00:00"}
UNAVAILABLE = (503, {"Retry-After": "1"}, outcome("transient", "no writable primary"))
THROTTLED = (503, {"Retry-After": "1"}, outcome("throttled", "overloaded: P3 is shed"))
CREATED = (201, {"ETag": 'W/"1"'}, {"resourceType": "Observation"})


@dataclass
class Town:
    """Services by name, and the people's ways to them."""

    pages: Pages = field(default_factory=Pages)
    addresses: dict[str, str] = field(default_factory=dict)
    services: dict[str, Any] = field(default_factory=dict)

    def has(self, name: str, *replies: Reply | None) -> FakeService:
        """A service that gives these replies in turn, the last one for ever."""
        left = list(replies)
        service = FakeService(lambda *_: left.pop(0) if len(left) > 1 else left[0])
        self.services[name] = service
        self.addresses[name] = service.address
        return service

    def frozen(self, name: str) -> None:
        """A service that accepts connections and says nothing."""
        self.services[name] = Silence()
        self.addresses[name] = self.services[name].address

    def callers(self, closing: Event | None = None) -> Callers:
        """The ways; whoever was not set up is not there (connection refused)."""
        links = {link: self.addresses.get(name) or nobody() for name, link in c.LINKS.items()}
        self.ledger = Ledger(self.pages, "t")
        return Callers(Config("t", links=links), self.ledger, "seed", closing)

    def op(self, klass: str = "P1", kind: str = "chart.read") -> Op:
        """An operation that is wanted now."""
        return self.ledger.invoke(kind, klass, time.monotonic(), 8.0, key="k", subject="M1")

    def end(self) -> Any:
        """The only last word."""
        last_words = (ev.OpOk, ev.OpRefused, ev.OpUnknown)
        ends = [e for e in self.pages.events if isinstance(e, last_words)]
        assert len(ends) == 1, ends
        return ends[0]


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setattr(c, "READ_S", 0.3)
    monkeypatch.setattr(c, "WRITE_S", 0.3)
    monkeypatch.setattr(c, "FIRST_PAUSE_S", 0.02)
    made = Town()
    yield made
    for service in made.services.values():
        service.close()


def read(town: Town, klass: str = "P1", ward: str = "icu") -> None:
    ways = town.callers()
    ways.read_chart(town.op(klass), ward, "M1", ())


def write(town: Town, klass: str = "P1", patience_s: float = 0.8, **more: Any) -> Any:
    ways = town.callers(more.pop("closing", None))
    op = town.op(klass, "order.create")
    ask = Ask("POST", "/fhir/ServiceRequest", b"{}", {"If-None-Exist": "identifier=s|k"})
    answer = ways.write(op, lambda: ways.record_nodes("icu"), ask, patience_s=patience_s, **more)
    if answer is not None:
        op.ok(str(answer.status), op.via)
    return answer


# ------------------------------------------------------------ reading


def test_a_chart_is_read_at_the_first_node_that_answers(town: Town) -> None:
    """One attempt suffices while the record is well; the answer's patient is noted."""
    town.has("ehr-a", (200, {}, chart_of("M1")))
    town.has("ehr-b", (200, {}, chart_of("M1")))
    read(town)
    end = town.end()
    assert isinstance(end, ev.OpOk)
    assert (end.subject, end.attempts, end.strength) == ("M1", 1, "200")


@pytest.mark.parametrize("trouble", ["gone", "frozen", "closing", "refusing"])
def test_a_lost_node_costs_one_attempt(town: Town, trouble: str) -> None:
    """Whatever way one node fails, the other one is asked next, and first from then on."""
    if trouble == "frozen":
        town.frozen("ehr-a")
    elif trouble != "gone":
        town.has("ehr-a", None if trouble == "closing" else UNAVAILABLE)
    town.has("ehr-b", (200, {}, chart_of("M1")))
    ways = town.callers()
    ways.read_chart(town.op(), "icu", "M1", ())
    assert (town.end().via, town.end().attempts) == ("ehr-b", 2)
    assert ways.record_nodes("icu")[0] == "ehr-b"


def test_wards_are_shared_out_among_nodes(town: Town) -> None:
    """Not every ward begins with the same node."""
    ways = town.callers()
    assert {ways.record_nodes(ward)[0] for ward in ("icu", "surgery", "oncology")} == set(c.RECORD)


def test_the_copy_is_the_last_resort_for_reads(town: Town) -> None:
    """With both nodes lost the read-only copy serves, and its marks are sampled."""
    town.has("ro-copy", (200, MARKS, _marked("M1")))
    read(town)
    assert town.end().via == "ro-copy"
    (sample,) = town.pages.of(ev.Sample)
    assert (sample.what, sample.ok, sample.text) == ("copy.marker", True, MARKS["X-As-Of"])


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, lambda: _marked("M1")),
        ({**MARKS, "X-As-Of": "now"}, lambda: _marked("M1")),
        (MARKS, lambda: chart_of("M1")),
    ],
)
def test_a_missing_mark_is_noted(
    town: Town, headers: dict[str, str], body: Callable[[], Any]
) -> None:
    """No marker, no readable as-of time, or no tag in the chart: the sample is not ok."""
    town.has("ro-copy", (200, headers, body()))
    read(town)
    assert [s.ok for s in town.pages.of(ev.Sample)] == [False]


def test_another_patients_data_are_noted(town: Town) -> None:
    """One strange entry in a chart suffices: the ledger shows whose it is."""
    town.has("ehr-a", (200, {}, chart_of("M1", "M2")))
    town.has("ehr-b", (200, {}, chart_of("M1", "M2")))
    read(town)
    assert town.end().subject == "M2"


def test_a_merged_identity_is_no_stranger(town: Town) -> None:
    """Entries written under an identity that was merged into this patient are theirs."""
    town.has("ehr-a", (200, {}, chart_of("M1", "OLD")))
    town.has("ehr-b", (200, {}, chart_of("M1", "OLD")))
    town.callers().read_chart(town.op(), "icu", "M1", ("OLD",))
    assert town.end().subject == "M1"


@pytest.mark.parametrize(("served", "noted"), [("M1", "M1"), ("M3", "M3")])
def test_who_does_not_know_the_merges_looks_only_for_the_patient(
    town: Town, served: str, noted: str
) -> None:
    """A reader who admitted nobody accepts old identities, but never a whole other chart."""
    town.has("ehr-a", (200, {}, chart_of(served, "OLD")))
    town.has("ehr-b", (200, {}, chart_of(served, "OLD")))
    town.callers().read_chart(town.op(), "icu", "M1", None)
    assert town.end().subject == noted


def test_a_read_that_hangs_everywhere_is_unknown(town: Town) -> None:
    """A time-out as the worst word of a read is unknown; definite noes are refused."""
    town.frozen("ehr-a")
    town.has("ehr-b", UNAVAILABLE)
    read(town)
    assert isinstance(town.end(), ev.OpUnknown)


def test_a_read_that_everybody_refuses_is_refused(town: Town) -> None:
    """Nobody there, and the copy does not know the patient: a definite no."""
    town.has("ro-copy", (404, MARKS, outcome("not-found", "not in this copy")))
    read(town)
    end = town.end()
    assert isinstance(end, ev.OpRefused)
    assert "not in this copy" in end.reason


def test_shed_elective_reads_come_again_later(town: Town) -> None:
    """P3 honours Retry-After and is served in the end; each shedding is written."""
    for name in c.RECORD:
        town.has(name, THROTTLED, (200, {}, chart_of("M1")))
    town.has("ro-copy", (404, MARKS, {}))
    began = time.monotonic()
    read(town, "P3")
    assert isinstance(town.end(), ev.OpOk)
    assert time.monotonic() - began >= 1
    assert [(s.klass, s.retry_after_s) for s in town.pages.of(ev.Shed)] == [("P3", 1.0)] * 2


# ------------------------------------------------------------ writing


def test_a_write_is_repeated_until_acknowledged(town: Town) -> None:
    """503 twice, then 201: one acknowledgement, the same condition on every attempt."""
    a = town.has("ehr-a", UNAVAILABLE, UNAVAILABLE, CREATED)
    assert write(town) is not None
    end = town.end()
    assert isinstance(end, ev.OpOk)
    assert end.strength == "201"
    assert {headers["if-none-exist"] for *_, headers in a.asked} == {"identifier=s|k"}
    assert not town.pages.of(ev.Shed)  # unavailable is not overload


@pytest.mark.parametrize(
    ("replies", "wanted"),
    [
        ((UNAVAILABLE,), ev.OpRefused),  # definite noes to the end: did not happen
        ((None,), ev.OpUnknown),  # sent, then silence: may have happened
        ((None, UNAVAILABLE), ev.OpUnknown),  # one maybe is never taken back by later noes
        (((500, {"X-Outcome": "unknown"}, outcome("timeout", "unknown")),), ev.OpUnknown),
        (((503, {"X-Outcome": "unknown"}, outcome("timeout", "unknown")),), ev.OpUnknown),
        (((400, {}, outcome("invalid", "no")),), ev.OpRefused),
        ((None, (400, {}, outcome("invalid", "no"))), ev.OpUnknown),
    ],
)
def test_what_a_failed_write_is_worth(
    town: Town, replies: tuple[Reply | None, ...], wanted: type[ev.Event]
) -> None:
    """Refused only when no attempt can have happened; else unknown."""
    left = list(replies)

    def behave(*_: object) -> Reply | None:
        return left.pop(0) if len(left) > 1 else left[0]

    for name in c.RECORD:
        town.services[name] = FakeService(behave)
        town.addresses[name] = town.services[name].address
    assert write(town) is None
    assert isinstance(town.end(), wanted)


def test_nobody_there_is_refused(town: Town) -> None:
    """A refused connection carried nothing: the write did not happen."""
    write(town, patience_s=0.2)
    assert isinstance(town.end(), ev.OpRefused)


def test_a_definite_no_is_not_repeated(town: Town) -> None:
    """400 ends the operation at once."""
    services = [town.has(name, (400, {}, outcome("invalid", "no"))) for name in c.RECORD]
    write(town)
    assert sum(len(service.asked) for service in services) == 1


def test_a_stale_version_after_a_maybe_is_looked_up(town: Town) -> None:
    """412 after a lost answer: if the stored state shows our change, it is acknowledged."""
    for name in c.RECORD:
        town.has(name, None, (412, {}, outcome("conflict", "stale")))
    assert write(town, done_already=lambda: True) is not None
    assert isinstance(town.end(), ev.OpOk)


def test_closing_time_leaves_the_last_word_to_the_ledger(town: Town) -> None:
    """After closing nobody asks again: the operation stays open and is cut short, not refused."""
    closing = Event()
    closing.set()
    write(town, patience_s=30, closing=closing)
    town.ledger.cut_short()
    end = town.end()
    assert isinstance(end, ev.OpUnknown)
    assert end.reason.startswith("cut short")


def _marked(mrn: str) -> dict[str, Any]:
    meta = {"tag": [{"code": "READ-ONLY"}], "lastUpdated": MARKS["X-As-Of"]}
    return {**chart_of(mrn), "meta": meta}
