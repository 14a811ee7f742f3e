"""The clinics' desks, their patients, the units and the crisis cell, around fake services."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.journal import events as ev
from stacks.hospital.appointments.scheduling_fhir import asked_of
from stacks.hospital.appointments.slots import SERVICES, slot_of
from stacks.hospital.day import at, crisis_cell
from stacks.hospital.traffic.appointment_forms import appointment_form
from stacks.hospital.traffic.appointments import SESSIONS_TOMORROW, Appointments
from stacks.hospital.traffic.callers import Callers
from stacks.hospital.traffic.config import Config, ConfigError
from stacks.hospital.traffic.crisis import CellAct, CrisisCell, arrivals_of
from stacks.hospital.traffic.department import CannotOpen
from stacks.hospital.traffic.diary import SESSIONS, Booking, Diary
from stacks.hospital.traffic.people import Dice, phone_of
from stacks.hospital.traffic.presets import PRESETS
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.sessions import service_of
from stacks.hospital.traffic.telephone import Telephone
from stacks.hospital.traffic.wards import dice_of
from tests.hospital.traffic.departments import Town, somebody
from tests.hospital.traffic.fakes import FakeService, Reply, outcome

SMALL = replace(PRESETS["smoke"], bookings=12, outpatients=4, warmup_s=1, window_s=2, after_s=0)


class Agenda:
    """Scheduling: every slot once; cancels what a decision names."""

    def __init__(self) -> None:
        self.book: dict[str, dict[str, Any]] = {}
        self.decisions: list[dict[str, Any]] = []
        self.consoles: list[str] = []
        self.broken = self.amnesia = False  # amnesia: no slot is known to be taken
        self.service = FakeService(self._behave)

    def _behave(self, method: str, path: str, body: bytes, _: dict[str, str]) -> Reply | None:
        if self.broken:
            return None
        if path in ("/mode", "/backup", "/restore"):
            self.consoles.append(path)
            return 200, {}, {}
        if path == "/decisions":
            decision = json.loads(body)
            self.decisions.append(decision)
            off = [one for one in self.book.values() if one["service"] in decision["services"]]
            for one in off:
                one["status"] = "cancelled"
            told = [{"appointment": one["id"], "patient": one["patient"], "slot": one["slot"],
                     "at": one["at"]} for one in off]  # fmt: skip
            return 201, {}, {"decision": decision["decision"], "cancelled": told}
        if path.startswith("/fhir/Slot/"):
            name = path.rsplit("/", 1)[1]
            busy = any(one["slot"] == name for one in self.book.values()) and not self.amnesia
            return 200, {}, {"resourceType": "Slot", "status": "busy" if busy else "free"}
        if method == "GET":
            one = self.book.get(path.rsplit("/", 1)[1])
            return (200, {}, {"status": one["status"]}) if one else (404, {}, {})
        asked = asked_of(body)
        taken = {one["slot"] for one in self.book.values() if one["id"] != asked.id}
        if asked.slot.name in taken and not self.amnesia and asked.status == "booked":
            return 409, {}, outcome("conflict", "the slot is gone")
        self.book[asked.id] = {
            "id": asked.id, "patient": asked.patient, "service": asked.slot.service,
            "slot": asked.slot.name, "at": asked.at, "status": asked.status,
            "phone": asked.phone, "clinic": asked.slot.clinic,
        }  # fmt: skip
        return (201 if method == "POST" else 200), {"ETag": 'W/"1"'}, body


class Says:
    """A channel (or the printed list) that knows what the agenda has, or a word of its own."""

    def __init__(self, agenda: Agenda, name: str) -> None:
        self.agenda, self.name, self.word, self.forgets = agenda, name, "", ""
        self.service = FakeService(self._behave)

    def _word(self, one: dict[str, Any]) -> str:
        return self.word or {"booked": "confirmed"}.get(one["status"], one["status"])

    def _behave(self, _: str, path: str, body: bytes, __: dict[str, str]) -> Reply:
        book = self.agenda.book
        if path == "/says":
            lines = [{"appointment": one["id"], "patient": one["patient"], "word": self._word(one),
                      "version": 1, "service": one["service"], "clinic": one["clinic"]}
                     for one in book.values() if one["id"] != self.forgets]  # fmt: skip
            return 200, {}, b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        if path == "/calls" or path.startswith("/appointments/"):
            key = json.loads(body)["appointment"] if body else path.rsplit("/", 1)[1]
            return 200, {}, {"word": self._word(book[key]) if key in book else "unknown"}
        rows = [{"appointment": one["id"], "word": self._word(one), "version": 1}
                for one in book.values() if path in (f"/lists/{one['clinic']}",
                                                     f"/phones/{one['phone']}")]  # fmt: skip
        return 200, {}, {"messages" if self.name == "sms" else "appointments": rows}


@pytest.fixture
def clinic() -> Iterator[Any]:
    class Clinic:
        agenda = Agenda()
        gam = FakeService(lambda _, __, body, ___: (201, {"ETag": 'W/"1"'}, body))

    made = Clinic()
    made.channels = {name: Says(made.agenda, name)
                     for name in ("website", "callcentre", "sms", "clinic-lists")}  # fmt: skip
    made.town = Town({"gam": made.gam, "scheduling": made.agenda.service}
                     | {name: each.service for name, each in made.channels.items()})  # fmt: skip
    made.hospital = made.town.hospital()
    made.desks = Appointments(made.hospital, SMALL, hour=16.0)
    yield made
    made.town.close()


def arrival(kind: str, klass: str = "P3", number: int = 0) -> Arrival:
    return Arrival(0.0, 5, number, f"appointment.{kind}", klass, 1)


def test_it_opens_with_a_diary_of_today_and_tomorrow(clinic: Any) -> None:
    """Four in five elective appointments lie more than twelve hours ahead, sessions in the run."""
    clinic.desks.open(time.monotonic() + 20)
    book = clinic.agenda.book
    elective = [one for one in book.values() if SERVICES[one["service"]] == "P3"]
    assert len(elective) == SMALL.bookings
    minute = clinic.desks.diary.minute_at(time.time())
    minutes = [slot_of(one["slot"]).minute - minute for one in elective]
    assert sum(ahead > 12 * 60 for ahead in minutes) >= 0.75 * len(minutes)
    protected = [one for one in book.values() if one not in elective]
    far = [one for one in protected if ".AT-" in one["id"]]
    assert len(far) == SESSIONS_TOMORROW
    assert all(slot_of(one["slot"]).minute - minute > 12 * 60 for one in far)
    assert {one["service"] for one in far} == set(SESSIONS)
    assert len(protected) - len(far) == int(SMALL.sessions_s * SMALL.sessions_per_s)
    assert len({one["slot"] for one in book.values()}) == len(book)
    for invoked, end in clinic.town.ops("appointment.book"):
        assert end.via == "scheduling"
        assert end.subject == invoked.subject == book[invoked.key]["patient"]
        assert book[invoked.key]["phone"] == phone_of(invoked.subject)


def test_the_ledger_has_the_slot_that_scheduling_promised(clinic: Any) -> None:
    """What the answer names and not what was asked for: SC-3 looks for slots promised twice."""
    one = clinic.desks.diary.free("A1", somebody(), "consultation", 0)
    other = clinic.desks.diary.free("A2", somebody(), "consultation", one.minute)
    answers = [appointment_form(one), appointment_form(one), {"slot": []}, {"resourceType": "?"}]
    clinic.agenda.service.behave = lambda *_: (201, {}, answers.pop(0))
    for wanted in (one, other, other, other):
        assert clinic.desks._book(wanted, time.monotonic())
    promised = [end.value for end in clinic.town.ended("appointment.book")]
    assert promised == [one.slot, one.slot, "", ""]


def test_it_does_not_open_before_the_channels_know(clinic: Any) -> None:
    """Who begins before would take a feed that is still on its way for a channel that is wrong."""
    clinic.channels["sms"].forgets = "t.AS-0"
    with pytest.raises(CannotOpen, match=r"clinics could not be opened.*sms .*t\.AS-0"):
        clinic.desks.open(time.monotonic() + 2)


def test_a_slot_that_is_gone_is_a_definite_no(clinic: Any) -> None:
    """Two people want the same slot: the second is refused, and stands in no diary."""
    clinic.desks.open(time.monotonic() + 20)
    rival = clinic.desks.diary.contested("rival", somebody(), Dice(3))
    before = len(clinic.desks.diary)
    assert not clinic.desks._book(rival, time.monotonic())
    *_, (invoked, end) = clinic.town.ops("appointment.book")
    assert invoked.key == "rival"
    assert isinstance(end, ev.OpRefused)
    assert "409" in end.reason
    assert len(clinic.desks.diary) == before


@pytest.mark.parametrize("amnesia", [False, True])
def test_a_slot_is_booked_twice_only_if_scheduling_offers_it_twice(
    clinic: Any, amnesia: bool
) -> None:
    """Some want a slot that another has: busy, they take the next; free again, they take it."""
    clinic.desks.open(time.monotonic() + 20)
    clinic.agenda.amnesia = amnesia
    for number in range(40):
        dice = dice_of(f"{number}")
        clinic.desks.book(arrival("book", number=number), time.monotonic(), dice)
    slots = [one["slot"] for one in clinic.agenda.book.values()]
    assert (len(slots) > len(set(slots))) == amnesia
    assert all(isinstance(end, ev.OpOk) for end in clinic.town.ended("appointment.book"))


def test_moves_and_cancellations_are_of_elective_appointments_only(clinic: Any) -> None:
    """Patients change what is far ahead; nobody changes a protected session."""
    clinic.desks.open(time.monotonic() + 20)
    for number in range(30):
        dice = dice_of(f"{number}")
        clinic.desks.move(arrival("move"), time.monotonic(), dice)
        clinic.desks.cancel(arrival("cancel"), time.monotonic(), dice)
    changed = clinic.town.ops("appointment.move") + clinic.town.ops("appointment.cancel")
    assert changed
    assert {invoked.klass for invoked, _ in changed} == {"P3"}
    assert all(isinstance(end, ev.OpOk) for _, end in changed)
    for service in SESSIONS:
        rows = [one for one in clinic.agenda.book.values() if one["service"] == service]
        assert all(one["status"] == "booked" for one in rows)


@pytest.mark.parametrize("channel", ["website", "callcentre", "sms", "clinic-lists"])
def test_every_channel_is_asked_in_its_own_way(clinic: Any, channel: str) -> None:
    """The word of the answer is the operation's value, also when it is wrong."""
    clinic.desks.open(time.monotonic() + 20)
    clinic.channels[channel].word = "moved"
    for number in range(40):
        clinic.desks.ask(arrival("ask"), time.monotonic(), dice_of(f"{number}"))
    words = {(end.via, end.value) for end in clinic.town.ended("appointment.ask")}
    assert (channel, "moved") in words
    assert len({via for via, _ in words}) == 4
    assert {word for via, word in words if via != channel} == {"confirmed"}


def session(clinic: Any) -> Booking:
    """A dialysis that is due now and stands in the agenda."""
    one = clinic.desks.diary.free("S1", somebody(), "dialysis", 0)
    one.at = time.time()
    assert clinic.desks._book(one, time.monotonic())
    return one


def test_a_session_is_held_by_the_book(clinic: Any) -> None:
    """Scheduling answers: nobody looks at the list."""
    clinic.desks._units.hold(session(clinic))
    ((invoked, end),) = clinic.town.ops("session.held")
    assert (invoked.klass, invoked.value, end.via) == ("P2", "dialysis", "scheduling")


def test_a_session_is_held_by_the_list_when_scheduling_is_away(clinic: Any) -> None:
    """Paper is enough."""
    one = session(clinic)
    clinic.agenda.broken = True
    clinic.desks._units.hold(one)
    assert clinic.town.ended("session.held")[0].via == "clinic-lists"


def test_a_cancelled_session_is_not_held(clinic: Any) -> None:
    """Whoever cancelled it: the unit is told no."""
    one = session(clinic)
    clinic.agenda.book["S1"]["status"] = "cancelled"
    clinic.desks._units.hold(one)
    (end,) = clinic.town.ended("session.held")
    assert isinstance(end, ev.OpRefused)
    assert "cancelled" in end.reason


def test_most_sessions_are_p2_and_some_are_vital() -> None:
    """The mix that PR-2 speaks of: chemo, dialysis, radiotherapy, vital surgery, exams."""
    klasses = [SERVICES[service_of(number)] for number in range(100)]
    assert klasses.count("P2") > 70
    assert klasses.count("P0") >= 5
    assert klasses.count("P1") >= 5


@given(st.integers(0, 10**6))
def test_a_form_is_what_scheduling_understands(seed: int) -> None:
    """Whatever slot the diary finds, scheduling reads the same appointment back."""
    dice = Dice(seed)
    diary = Diary(1_763_800_000.0, 7.5, lambda s: s / 60, "u1")
    service = list(SERVICES)[dice.below(len(SERVICES))]
    one = diary.free("A1", somebody(), service, dice.below(5_000))
    asked = asked_of(json.dumps(appointment_form(one)).encode())
    assert (asked.id, asked.patient, asked.slot.name) == ("A1", "M1", one.slot)
    assert asked.at == pytest.approx(one.at, abs=0.001)


@given(st.integers(0, 4_000), st.integers(1, 80))
def test_a_diary_gives_every_slot_once(earliest: int, count: int) -> None:
    """Never before it is wanted, never twice, elective ones within opening hours."""
    diary = Diary(0.0, 16.0, lambda s: s / 60)
    made = [diary.free(f"A{n}", somebody(), "consultation", earliest) for n in range(count)]
    assert len({one.slot for one in made}) == count
    assert all(one.minute >= earliest and 480 <= one.minute % 1_440 < 1_080 for one in made)


# ---------------------------------------------------------------- the crisis cell, the telephone


def cell_of(clinic: Any, *acts: Any) -> CrisisCell:
    direct = {"scheduling.http": clinic.agenda.service.address}
    consoles = Callers(Config("t", direct=direct), clinic.hospital.ledger, "s", direct=True)
    given_ = crisis_cell(*acts).params["cell"]
    acts_ = tuple(CellAct(**{**act, "services": tuple(act.get("services", ()))}) for act in given_)
    cell = CrisisCell(clinic.hospital, consoles, acts_)
    for each in arrivals_of(acts_):
        cell.acts[each.kind](each, time.monotonic(), Dice(1))
    return cell


def test_a_decision_calls_off_every_appointment_at_that_instant(clinic: Any) -> None:
    """One operation per cancelled appointment, of its class, acknowledged with the decision."""
    clinic.desks.open(time.monotonic() + 20)
    cell = cell_of(clinic, at(3, "restore"), at(1, "decide"), at(0, "backup"))
    assert cell.troubles == []
    assert clinic.agenda.consoles == ["/backup", "/restore"]
    ((decided, end),) = clinic.town.ops("decision.cancel")
    off = clinic.town.ops("appointment.calledoff")
    assert len(off) == SMALL.bookings == int(end.value)
    assert {invoked.value for invoked, _ in off} == {decided.key}
    assert {invoked.klass for invoked, _ in off} == {"P3"}
    assert all(ok.via == "scheduling" and ok.t >= end.t for _, ok in off)
    (decision,) = clinic.agenda.decisions
    assert decision["from"] < decision["to"]


def test_an_act_that_fails_is_trouble(clinic: Any) -> None:
    """An experiment whose operator could not act must not pass for one in which they did."""
    clinic.agenda.service.behave = lambda *_: (422, {}, outcome("business-rule", "protected"))
    cell = cell_of(clinic, at(0, "decide", services=("dialysis",)), at(1, "backup"))
    assert len(cell.troubles) == 2
    assert isinstance(clinic.town.ended("decision.cancel")[0], ev.OpRefused)


def test_acts_that_nobody_knows_are_refused() -> None:
    """Misspelt, or none: before anything is started."""
    with pytest.raises(ValueError, match="reboot"):
        at(1, "reboot")
    with pytest.raises(ValueError, match="without acts"):
        crisis_cell()
    with pytest.raises(ConfigError, match="read-only"):
        CrisisCell(None, None, (CellAct(0.0, "reboot"),))  # type: ignore[arg-type]


def test_patients_ring_about_what_channels_know(clinic: Any) -> None:
    """They learn of appointments from a channel, and ask all of them; scheduling is not asked."""
    clinic.desks.open(time.monotonic() + 20)
    clinic.agenda.service.asked.clear()
    telephone = Telephone(clinic.hospital)
    telephone.open(time.monotonic() + 5)
    for number in range(40):
        telephone.ask(
            arrival("ask", "P3" if number % 4 else "P2"), time.monotonic(), dice_of(f"{number}")
        )
    asked = clinic.town.ops("appointment.ask")
    assert {invoked.klass for invoked, _ in asked} >= {"P2", "P3"}
    assert {end.via for _, end in asked} == set(clinic.channels)
    assert {end.value for _, end in asked} == {"confirmed"}
    assert clinic.agenda.service.asked == []


def test_nobody_to_ask_about_is_one_clear_line(clinic: Any) -> None:
    """Channels that know nothing: the telephone does not pretend to have begun."""
    with pytest.raises(CannotOpen, match="no channel tells of any appointment"):
        Telephone(clinic.hospital).open(time.monotonic() + 0.3)
