"""The desks: results are seen where they are shown, and criticals find a named carer somewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chaos.journal import events as ev
from stacks.hospital.traffic import callers as c
from stacks.hospital.traffic import desks as d
from stacks.hospital.traffic.callers import Callers
from stacks.hospital.traffic.config import Config
from stacks.hospital.traffic.desks import Desks
from stacks.hospital.traffic.ledger import Ledger
from stacks.hospital.traffic.people import Dice, Order, person
from tests.hospital.traffic.fakes import FakeService, Pages, Reply, nobody, outcome

MINUTE_S = 0.5  # of the hospital, in real seconds


class Board:
    """One service's screens: results, criticals, and whether it works at all."""

    def __init__(self, list_name: str = "") -> None:
        self.rows: list[dict[str, Any]] = []
        self.criticals: list[str] = []
        self.acked: dict[str, str] = {}
        self.broken = self.read_only = self.mute = False
        self.checks: dict[str, Any] = {}
        self._list = list_name
        self.service = FakeService(self._behave)

    def show(self, **row: Any) -> None:
        self.rows.append({"seq": len(self.rows) + 1, "patient": "M1", **row})

    def _listed(self, rows: list[Any]) -> Any:
        return {self._list: rows} if self._list else rows

    def _behave(self, method: str, path: str, body: bytes, _: dict[str, str]) -> Reply | None:
        if self.broken:
            return 503, {"Retry-After": "1"}, outcome("transient", "down")
        if path == "/health":
            return 200, {}, {"status": "degraded", "checks": self.checks}
        if method == "POST":
            if self.read_only:
                return 503, {"Retry-After": "1"}, outcome("transient", "no primary")
            specimen = path.split("/")[2]
            self.acked.setdefault(specimen, json.loads(body)["carer"])
            if specimen in self.criticals:
                self.criticals.remove(specimen)
            if self.mute:  # done, and nobody learns of it
                return 500, {}, outcome("timeout", "unknown")
            return 200, {}, {"id": specimen, "patient": "M1"}
        if path.startswith("/criticals"):
            found = [{"id": each, "patient": "M1"} for each in self.criticals]
            return 200, {}, self._listed(found)
        after = int(path.split("after=")[1].split("&")[0])
        return 200, {}, self._listed([row for row in self.rows if row["seq"] > after])


class Floor:
    """The laboratory and the wards' screens, with the desks before them."""

    def __init__(self) -> None:
        self.record, self.lis, self.line = Board("reports"), Board(), Board("items")
        addresses = {
            "ehr-a": self.record.service.address, "lis": self.lis.service.address,
            "analysers": self.line.service.address,
        }  # fmt: skip
        links = {link: addresses.get(name) or nobody() for name, link in c.LINKS.items()}
        self.pages = Pages()
        self.ledger = Ledger(self.pages, "t")
        ways = Callers(Config("t", links=links), self.ledger, "seed")
        self.desks = Desks(ways, self.ledger, lambda s: s / 60 * MINUTE_S)
        one = person("M1", "P1", Dice(1))
        self.order = Order("O1", one, "M1", ("NA",), stat=True)

    def critical(self, age_min: float = 0.0) -> None:
        """A critical result finished so many hospital minutes ago."""
        self.desks.await_result(self.order, "S1", "P0", time.monotonic())
        self.line.show(specimen="S1", critical=True, finished_at=time.time() - age_min * MINUTE_S)
        self.desks.look_at_console()

    def acks(self) -> list[Any]:
        ops = {e.op for e in self.pages.of(ev.OpInvoked) if e.kind == "critical.ack"}
        return [e for e in self.pages.of(ev.OpOk) if e.op in ops]


@pytest.fixture
def floor() -> Iterator[Floor]:
    made = Floor()
    yield made
    for board in (made.record, made.lis, made.line):
        board.service.close()


def test_a_finished_tube_is_seen_on_the_console(floor: Floor) -> None:
    """The result counts from the loading; the answer's patient is noted."""
    loaded = time.monotonic() - 1
    floor.desks.await_result(floor.order, "S1", "P0", loaded)
    floor.desks.look_at_console()
    assert not floor.pages.of(ev.OpOk)
    floor.line.show(specimen="S1", finished_at=time.time())
    floor.desks.look_at_console()
    (invoked,), (ok,) = floor.pages.of(ev.OpInvoked), floor.pages.of(ev.OpOk)
    assert (invoked.kind, invoked.intended, invoked.value) == ("specimen.result", loaded, "O1")
    assert (ok.via, ok.subject, ok.strength) == ("analysers", "M1", "seen")


def test_a_result_shown_before_its_acknowledgement_is_not_lost(floor: Floor) -> None:
    """The console may be quicker than the answer to the loading."""
    floor.desks.await_result(floor.order, "S0", "P0", time.monotonic())
    floor.line.show(specimen="S1", finished_at=time.time())
    floor.desks.look_at_console()
    floor.desks.await_result(floor.order, "S1", "P0", time.monotonic())
    assert len(floor.pages.of(ev.OpOk)) == 1


def test_an_urgent_result_is_final_or_it_is_none(floor: Floor) -> None:
    """A preliminary result does not end the wait; the final one in the record does."""
    floor.desks.await_stat(floor.order, "P0", time.monotonic())
    floor.record.show(placer="O1", status="preliminary")
    floor.desks.look_at_results()
    assert not floor.pages.of(ev.OpOk)
    floor.record.show(placer="O1", status="final")
    floor.desks.look_at_results()
    assert [ok.via for ok in floor.pages.of(ev.OpOk)] == ["ehr-a"]


@pytest.mark.parametrize("silent", [True, False])
def test_the_laboratorys_page_serves_when_the_record_is_silent_or_late(
    floor: Floor, silent: bool
) -> None:
    """No answer from the record, or a result overdue there: the ward looks at the LIS."""
    age_s = 0 if silent else (d.OVERDUE_MIN + 1) * MINUTE_S
    floor.desks.await_stat(floor.order, "P0", time.monotonic() - age_s)
    floor.record.broken = silent
    floor.lis.show(placer="O1", status="final")
    floor.desks.look_at_results()
    assert [ok.via for ok in floor.pages.of(ev.OpOk)] == ["lis"]


def test_a_timely_record_is_not_second_guessed(floor: Floor) -> None:
    """While the record answers and nothing is overdue, nobody bothers the laboratory."""
    floor.desks.await_stat(floor.order, "P0", time.monotonic())
    floor.lis.show(placer="O1", status="final")
    floor.desks.look_at_results()
    assert not floor.pages.of(ev.OpOk)


def test_a_critical_is_acknowledged_in_the_record(floor: Floor) -> None:
    """The inbox comes first; the carer has a name; the clock starts when the line finished."""
    floor.critical(age_min=2)
    floor.record.criticals = ["S1"]
    floor.desks.look_at_criticals()
    (ack,) = floor.acks()
    assert (ack.via, ack.value, ack.subject) == ("ehr-a", floor.record.acked["S1"], "M1")
    assert ack.value.startswith("nurse ")
    invoked = next(e for e in floor.pages.of(ev.OpInvoked) if e.kind == "critical.ack")
    assert 1.5 * MINUTE_S < time.monotonic() - invoked.intended < 10 * MINUTE_S


@pytest.mark.parametrize("trouble", ["broken", "read-only", "late"])
def test_the_phone_list_is_the_second_way(floor: Floor, trouble: str) -> None:
    """Record down, on its standby only, or simply late: the laboratory phones."""
    floor.critical(age_min=d.PHONE_AFTER_MIN + 1 if trouble == "late" else 0.1)
    floor.record.broken = trouble == "broken"
    floor.record.read_only = trouble == "read-only"
    floor.record.criticals = ["S1"] if trouble == "read-only" else []
    floor.lis.criticals = ["S1"]
    floor.desks.look_at_criticals()
    assert [ack.via for ack in floor.acks()] == ["lis"]


def test_the_printer_is_the_last_way(floor: Floor) -> None:
    """Record and LIS down: the line's own printer."""
    floor.critical()
    floor.record.broken = floor.lis.broken = True
    floor.line.criticals = ["S1"]
    floor.desks.look_at_criticals()
    assert [ack.via for ack in floor.acks()] == ["analysers"]


def test_an_acknowledgement_whose_answer_was_lost_is_asked_for_again(floor: Floor) -> None:
    """It is off the list already, and still the desk learns that a carer has it."""
    floor.critical()
    floor.record.criticals, floor.record.mute = ["S1"], True
    floor.desks.look_at_criticals()
    assert floor.acks() == []
    floor.record.mute = False
    floor.desks.look_at_criticals()
    assert [ok.value for ok in floor.acks()] == [floor.record.acked["S1"]]


@pytest.mark.parametrize("alone", [True, False])
def test_a_working_lis_that_lists_nothing_hides_the_critical(floor: Floor, alone: bool) -> None:
    """Nobody runs to the printer while the LIS works, unless the line says that it is cut off."""
    floor.critical(age_min=d.PRINTER_AFTER_MIN + 1)
    floor.line.criticals = ["S1"]
    floor.line.checks = {"lis": {"ok": not alone}}
    floor.desks.look_at_criticals()
    assert [ack.via for ack in floor.acks()] == (["analysers"] if alone else [])


def test_what_nobody_shows_is_given_up_as_unknown(floor: Floor) -> None:
    """A result that never comes gets a last word that is no `cut short`."""
    long_ago = time.monotonic() - d.STAT_BOUND_MIN * d.GIVE_UP_FACTOR * MINUTE_S - 1
    floor.desks.await_stat(floor.order, "P0", long_ago)
    floor.desks.look_at_results()
    (end,) = floor.pages.of(ev.OpUnknown)
    assert end.reason.startswith("nothing within")


def test_open_operations_are_cut_short_only_within_their_bound(floor: Floor) -> None:
    """At the end of traffic: too young is no evidence, too old is evidence."""
    floor.desks.await_stat(floor.order, "P0", time.monotonic())
    old = Order("O2", floor.order.one, "M1", ("NA",), stat=True)
    floor.desks.await_stat(old, "P0", time.monotonic() - (d.STAT_BOUND_MIN + 1) * MINUTE_S)
    floor.ledger.cut_short()
    reasons = [e.reason.split()[0] for e in floor.pages.of(ev.OpUnknown)]
    assert reasons == ["cut", "nothing"]
