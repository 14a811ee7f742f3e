"""What the clinics' desks and their patients do: book, move, cancel, ask.

It refuses to move or cancel a protected appointment (P0 to P2).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

import gevent
import msgspec

from stacks.hospital.appointments.slots import appointment_digest
from stacks.hospital.traffic import forms
from stacks.hospital.traffic.appointment_forms import SYSTEM, appointment_form, patient_of, slot_in
from stacks.hospital.traffic.callers import READ_S, WRITE_PATIENCE_S, Ask
from stacks.hospital.traffic.channels import ASK_BOUND_S, ASK_S, CHANNELS, ask_channel, lines_of
from stacks.hospital.traffic.department import Act, each
from stacks.hospital.traffic.diary import DAY_MIN, ELECTIVE, HOUR_MIN, SESSIONS, Booking, Diary
from stacks.hospital.traffic.http import NoAnswer
from stacks.hospital.traffic.ledger import Op
from stacks.hospital.traffic.people import Dice, Person, person, phone_of
from stacks.hospital.traffic.presets import Preset
from stacks.hospital.traffic.schedule import Arrival
from stacks.hospital.traffic.sessions import Units, service_of
from stacks.hospital.traffic.surroundings import Hospital, create_ask, marks
from stacks.hospital.traffic.wards import dice_of

SCHEDULING = ("scheduling",)
TODAY_SHARE = 0.2
FIRST_TODAY_MIN, FIRST_SESSION_MIN = 30, 8  # a booking is on the printed lists after five
TOMORROW_OPENS_MIN = DAY_MIN + 8 * HOUR_MIN
SESSIONS_TOMORROW = 12  # whatever a decision lets stand, however long the clinics took to open
WELL_AHEAD_MIN = 13 * HOUR_MIN  # SC-2 is about slots more than twelve hours ahead
FURTHER_DAYS = 5  # of bookings made during the traffic
SESSION_AHEAD_MIN = (12, 30)  # of a session booked during the traffic
CONTESTED_SHARE = 0.25  # of bookings: somebody asks for a slot that another was given lately
CHANGE_AHEAD_MIN = 120  # nobody moves an appointment at the last moment
KNOWN_EVERY_S = 0.4


class Appointments:
    """The clinics' desks and the patients; opens with a diary of today and tomorrow."""

    def __init__(self, hospital: Hospital, size: Preset, hour: float, suffix: str = "") -> None:
        self._h, self._size = hospital, size
        self.diary = Diary(time.time(), hour, hospital.real_s, suffix)
        self._patients: list[Person] = []
        self._sessions: list[Booking] = []
        self._units = Units(hospital)

    @property
    def acts(self) -> Mapping[str, Act]:
        """Book, move, cancel, ask; sessions are held at their own times."""
        return {
            "appointment.book": self.book,
            "appointment.move": self.move,
            "appointment.cancel": self.cancel,
            "appointment.ask": self.ask,
        }

    def sit_down(self) -> None:
        """The units: every protected session has its time."""
        for session in self._sessions:
            self._h.spawn(self._units.hold, session)

    # ------------------------------------------------------------ opening

    def open(self, end: float) -> None:
        """Register patients, book today and tomorrow, wait until channels know. CannotOpen."""
        trouble = "the clinics could not be opened"
        count = self._size.outpatients
        self._patients = [self._outpatient(number) for number in range(count)]
        each(self._patients, self._register, end, trouble, "gam")
        each(self._planned_elective(), self._seed, end, trouble, "scheduling")
        each(self._planned_tomorrow(), self._seed, end, trouble, "scheduling")
        self._sessions = self._planned_sessions()
        each(self._sessions, self._seed, end, trouble, "scheduling")
        known = [channel for channel in CHANNELS if self._h.callers.reaches(channel)]
        each(known, self._await_known, end, trouble, "engine and the channels")

    def _outpatient(self, number: int) -> Person:
        mrn = f"{self._h.prefix}AP-{number}"
        return person(mrn, "P3", dice_of(mrn))

    def _register(self, one: Person, _: float) -> str:
        body = forms.encode(forms.patient(one, phone_of(one.mrn)))
        op = self._h.ledger.invoke(
            "patient.create", one.klass, time.monotonic(), WRITE_PATIENCE_S, key=one.mrn,
            subject=one.mrn, ward=one.ward, target="gam", value=forms.digest(body, one.mrn),
        )  # fmt: skip
        ask = create_ask("Patient", one.mrn, body, one.klass, one.ward)
        answer = self._h.write(op, lambda: ("gam",), ask, one)
        return "" if answer else f"{one.mrn} was not registered by gam"

    def _planned_elective(self) -> list[Booking]:
        now = self.diary.minute_at(time.time())
        today = int(self._size.bookings * TODAY_SHARE)
        found = []
        for number in range(self._size.bookings):
            one = self._patients[number % len(self._patients)]
            tomorrow = max(TOMORROW_OPENS_MIN, now + WELL_AHEAD_MIN)
            earliest = now + FIRST_TODAY_MIN if number < today else tomorrow
            service = ELECTIVE[number % len(ELECTIVE)]
            name = f"{self._h.prefix}AE-{number}"
            found.append(self.diary.free(name, one, service, earliest))
        return found

    def _planned_tomorrow(self) -> list[Booking]:
        """Protected sessions of tomorrow: nobody holds them in this run, and nobody calls off."""
        tomorrow = max(TOMORROW_OPENS_MIN, self.diary.minute_at(time.time()) + WELL_AHEAD_MIN)
        return [
            self.diary.free(
                f"{self._h.prefix}AT-{number}", self._patients[number % len(self._patients)],
                SESSIONS[number % len(SESSIONS)], tomorrow,
            )
            for number in range(SESSIONS_TOMORROW)
        ]  # fmt: skip

    def _planned_sessions(self) -> list[Booking]:
        """One protected session after the other, for as long as the traffic is expected to last."""
        size, found = self._size, []
        first = time.time() + self._h.real_s(FIRST_SESSION_MIN * 60)
        for number in range(max(1, int(size.sessions_s * size.sessions_per_s))):
            one = self._patients[-1 - number % len(self._patients)]
            name = f"{self._h.prefix}AS-{number}"
            minute = self.diary.minute_at(first + number / size.sessions_per_s)
            found.append(self.diary.free(name, one, service_of(number), minute))
        return found

    def _seed(self, booking: Booking, _: float) -> str:
        if self._book(booking, time.monotonic()):
            return ""
        return f"the appointment {booking.id} was not booked"

    def _await_known(self, channel: str, end: float) -> str:
        """Wait until a channel has heard of every appointment, whoever it may reach with it."""
        missing: set[str] = set()
        while time.monotonic() < end:
            with contextlib.suppress(NoAnswer):
                answer = self._h.callers.attempt(channel, Ask("GET", "/says"), ASK_S)
                said = {line.appointment for line in lines_of(answer)}
                missing = {one.id for one in self.diary} - said
                if answer.good and not missing:
                    return ""
            gevent.sleep(KNOWN_EVERY_S)
        which = f"{len(missing)} appointments, {min(missing)} one of them" if missing else "any"
        return f"{channel} does not know {which}"

    # ------------------------------------------------------------ book, move, cancel

    def book(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """An appointment is made: elective for one of the next days, a session for soon."""
        one = self._patients[dice.below(len(self._patients))]
        name, now = self._h.key("A", arrival), self.diary.minute_at(time.time())
        wanted = None
        if arrival.klass != "P3":
            first, last = SESSION_AHEAD_MIN
            service = SESSIONS[dice.below(len(SESSIONS))]
            wanted = self.diary.free(name, one, service, now + first + dice.below(last - first))
        elif dice.chance(CONTESTED_SHARE):
            wanted = self._if_free(self.diary.contested(name, one, dice))
        if wanted is None:
            service = ELECTIVE[dice.below(len(ELECTIVE))]
            day = now // DAY_MIN + 1 + dice.below(FURTHER_DAYS)
            opens = day * DAY_MIN + TOMORROW_OPENS_MIN % DAY_MIN
            wanted = self.diary.free(name, one, service, opens + dice.below(480))
        if self._book(wanted, intended) and wanted.klass != "P3":
            self._h.spawn(self._units.hold, wanted)

    def _if_free(self, wanted: Booking | None) -> Booking | None:
        """Somebody wants a slot that another was given lately: only if scheduling has it free."""
        if wanted is None:
            return None
        ask = Ask("GET", f"/fhir/Slot/{wanted.slot}", headers=marks("P3", wanted.clinic))
        try:
            answer = self._h.callers.attempt("scheduling", ask, READ_S)
        except NoAnswer:
            return None
        return wanted if answer.good and b'"free"' in answer.body else None

    def _book(self, wanted: Booking, intended: float) -> bool:
        one = wanted.one
        digest = appointment_digest(wanted.id, one.mrn, wanted.service, wanted.slot)
        op = self._invoke("appointment.book", wanted, intended, value=digest)
        body = msgspec.json.encode(appointment_form(wanted))
        once = {"If-None-Exist": f"identifier={SYSTEM}|{wanted.id}"}
        headers = {**marks(wanted.klass, wanted.clinic), **once}
        ask = Ask("POST", "/fhir/Appointment", body, headers)
        answer = self._h.callers.write(op, lambda: SCHEDULING, ask)
        if answer is None:
            return False
        op.ok(str(answer.status), op.via, patient_of(answer.body), slot_in(answer.body))
        wanted.etag = answer.headers.get("etag", "")
        self.diary.keep(wanted)
        return True

    def move(self, _: Arrival, intended: float, dice: Dice) -> None:
        """A patient asks for another day."""
        chosen = self._changeable(dice)
        if chosen is None:
            return
        after = self.diary.free(chosen.id, chosen.one, chosen.service, chosen.minute + DAY_MIN)
        digest = appointment_digest(chosen.id, chosen.one.mrn, chosen.service, after.slot)
        op = self._invoke("appointment.move", chosen, intended, value=digest)
        if self._change(op, after, chosen.etag, "booked"):
            chosen.clinic, chosen.minute, chosen.at = after.clinic, after.minute, after.at
            chosen.etag = after.etag
        else:
            self.diary.strike(chosen)

    def cancel(self, _: Arrival, intended: float, dice: Dice) -> None:
        """A patient does not want to come."""
        chosen = self._changeable(dice)
        if chosen is not None:
            self.diary.strike(chosen)
            op = self._invoke("appointment.cancel", chosen, intended)
            self._change(op, chosen, chosen.etag, "cancelled")

    def _changeable(self, dice: Dice) -> Booking | None:
        soon = time.time() + self._h.real_s(CHANGE_AHEAD_MIN * 60)
        return self.diary.changeable(dice, soon)

    def _change(self, op: Op, wanted: Booking, etag: str, status: str) -> bool:
        """PUT with If-Match; a repetition is known to scheduling by its key."""
        path = f"/fhir/Appointment/{wanted.id}"
        body = msgspec.json.encode(appointment_form(wanted, status))
        headers = {**marks(op.klass, wanted.clinic), "If-Match": etag, "Idempotency-Key": op.id}

        def done_already() -> bool:
            try:
                seen = self._h.callers.attempt("scheduling", Ask("GET", path), READ_S)
            except NoAnswer:
                return False
            marked = (f'"{status}"', f'"Slot/{wanted.slot}"')
            return seen.good and all(mark.encode() in seen.body for mark in marked)

        ask = Ask("PUT", path, body, headers)
        answer = self._h.callers.write(op, lambda: SCHEDULING, ask, done_already)
        if answer is None:
            return False
        op.ok(str(answer.status), op.via, patient_of(answer.body) or wanted.one.mrn)
        wanted.etag = answer.headers.get("etag", "")
        return True

    # ------------------------------------------------------------ ask

    def ask(self, arrival: Arrival, intended: float, dice: Dice) -> None:
        """A patient asks one channel whether the appointment stands."""
        one = self.diary.any_of(arrival.klass, dice)
        channels = [name for name in CHANNELS if self._h.callers.reaches(name)]
        if one is None or not channels:
            return
        channel = channels[dice.below(len(channels))]
        op = self._invoke("appointment.ask", one, intended, target=channel, bound_s=ASK_BOUND_S)
        ask_channel(self._h.callers, op, channel, one.id, one.one.mrn, one.clinic)

    def _invoke(
        self, kind: str, one: Booking, intended: float, bound_s: float = WRITE_PATIENCE_S,
        target: str = "scheduling", value: str = "",
    ) -> Op:  # fmt: skip
        return self._h.ledger.invoke(
            kind, one.klass, intended, bound_s, key=one.id, subject=one.one.mrn,
            ward=one.clinic, target=target, value=value,
        )  # fmt: skip
