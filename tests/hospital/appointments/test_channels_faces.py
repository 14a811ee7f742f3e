"""What a patient meets: the status page, the call centre, a phone, a sheet of paper."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.hospital.appointments.callcentre import callcentre
from stacks.hospital.appointments.channel_notices import TRIES_MAX
from stacks.hospital.appointments.channel_paper import (
    Line,
    PaperError,
    Place,
    Tray,
    read_text,
    written,
)
from stacks.hospital.appointments.channel_phones import out_of_reach
from stacks.hospital.appointments.clinic_lists import clinic_lists
from stacks.hospital.appointments.sms import sms
from stacks.hospital.appointments.website import website

from ..messages.stand import asynchronous
from .channel_stand import AT, BOOKED, CANCELLED, MOVED, Stand, standing


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.sources.append(value)

    def handle_data(self, data: str) -> None:
        if "style" not in self.tags[-1:]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


# -- website -----------------------------------------------------------------------------------


@asynchronous
async def test_the_status_page_says_what_is_cancelled_and_what_goes_on(tmp_path: Path) -> None:
    """A browser gets one self-contained page with viewport: called-off services, protected ones,
    numbers to call, as-of; no patient, nothing loaded from elsewhere. A program gets JSON."""
    async with standing(website, tmp_path) as stand:
        empty = await stand.get("/status", accept="application/json")
        assert (empty["activity"], empty["as_of"]) == ("unknown", None)
        await stand.tell(BOOKED, replace(BOOKED, appointment="A2", service="dialysis"))
        assert (await stand.get("/status"))["activity"] == "normal"
        await stand.tell(CANCELLED)
        answer = await stand.http.get("/status", headers={"accept": "text/html,*/*"})
        assert answer.headers["content-type"].startswith("text/html")
        page = _Page(answer.text)
        assert 'name="viewport"' in answer.text
        assert all(source.startswith("tel:") for source in page.sources)
        cancelled, goes_on = page.text.split("Goes on")
        assert "consultation : 1 appointments" in cancelled
        for service in ("emergencies", "chemotherapy", "dialysis"):
            assert service in goes_on
        assert "112" in goes_on
        assert "News from scheduling as of 20" in page.text
        assert "M1" not in answer.text
        status = await stand.get("/status")
        assert status["activity"] == "reduced"
        assert status["cancelled"][0]["service"] == "consultation"
        assert status["words"] == {"cancelled": 1, "confirmed": 1}


@asynchronous
async def test_the_page_does_not_say_that_a_cancelled_service_goes_on(tmp_path: Path) -> None:
    """When dialysis was called off, however wrongly, the page does not tell patients to come."""
    async with standing(website, tmp_path) as stand:
        await stand.tell(replace(CANCELLED, service="dialysis"))
        status = await stand.get("/status")
        assert "dialysis" not in status["goes_on"]
        assert "chemotherapy" in status["goes_on"]


@asynchronous
async def test_markup_in_a_name_is_text_on_the_page(tmp_path: Path) -> None:
    """A service called <script> is shown, not run."""
    async with standing(website, tmp_path) as stand:
        await stand.tell(replace(CANCELLED, service="<script>x</script>"))
        answer = await stand.http.get("/")
        assert "<script>" not in answer.text
        assert "&lt;script&gt;" in answer.text


@asynchronous
async def test_one_appointment_and_the_cancellations(tmp_path: Path) -> None:
    """Known ids give their word, an id that no news named gives unknown; never the patient."""
    async with standing(website, tmp_path) as stand:
        assert (await stand.get("/appointments/A1"))["word"] == "unknown"
        await stand.tell(BOOKED)
        found = await stand.get("/appointments/A1")
        assert (found["word"], found["version"]) == ("confirmed", 1)
        assert "patient" not in found
        await stand.tell(CANCELLED)
        assert (await stand.get("/appointments/A1"))["word"] == "cancelled"
        [one] = (await stand.get("/cancellations"))["cancellations"]
        assert (one["appointment"], one["decision"]) == ("A1", "D1")
        await stand.get("/appointments/" + "x" * 200, status=400)


# -- call centre -------------------------------------------------------------------------------


@asynchronous
async def test_every_call_is_kept_with_what_was_said(tmp_path: Path) -> None:
    """Before any news the word is unknown, then what the feed told; all calls outlive a restart."""
    async with standing(callcentre, tmp_path) as stand:
        words = []
        for message in (None, BOOKED, MOVED, CANCELLED):
            if message is not None:
                await stand.tell(message)
            answer = await stand.http.post("/calls", json={"appointment": "A1"})
            assert answer.status_code == 201
            assert answer.json()["said_at"]
            words.append(answer.json()["word"])
        assert words == ["unknown", "confirmed", "moved", "cancelled"]
    async with standing(callcentre, tmp_path) as stand:
        assert [call["word"] for call in await stand.get("/calls")] == words
        for bad in (b"", b"{}", b'{"appointment": 3}', b'{"appointment": ""}', b"\xff"):
            answer = await stand.http.post("/calls", content=bad)
            assert answer.status_code == 400
            assert answer.json()["resourceType"] == "OperationOutcome"
        assert len(await stand.get("/calls?after=2")) == 2


@asynchronous
async def test_the_call_list_names_whom_no_message_reaches(tmp_path: Path) -> None:
    """Cancelled or moved with a landline or no number: on the list, soonest first, until a named
    person has called; newer news put the patient there again."""
    async with standing(callcentre, tmp_path) as stand:
        landline = replace(CANCELLED, phone="025551200")
        await stand.tell(
            landline,
            replace(MOVED, appointment="A2", phone="", at=AT - 60),
            replace(CANCELLED, appointment="A3"),
            replace(BOOKED, appointment="A4", phone="025551200"),
        )
        listed = await stand.get("/call-list")
        assert [(one["appointment"], one["word"]) for one in listed] == [
            ("A2", "moved"), ("A1", "cancelled"),
        ]  # fmt: skip
        assert "landline" in listed[1]["reason"]
        assert (await stand.http.post("/call-list/A1", json={"carer": " "})).status_code == 400
        assert (await stand.http.post("/call-list/A3", json={"carer": "Ann"})).status_code == 404
        assert (await stand.http.post("/call-list/A1", json={"carer": "Ann"})).status_code == 200
        assert [one["appointment"] for one in await stand.get("/call-list")] == ["A2"]
        await stand.tell(replace(landline, version=9))
        assert len(await stand.get("/call-list")) == 2


# -- text messages -----------------------------------------------------------------------------


async def _inbox(stand: Stand, phone: str, number: int) -> list[dict[str, object]]:
    """The phone's messages once there are `number`."""
    async with asyncio.timeout(5):
        while True:
            messages: list[dict[str, object]] = (await stand.get(f"/phones/{phone}"))["messages"]
            if len(messages) >= number:
                return messages
            await asyncio.sleep(0.01)


async def _notices(stand: Stand, status: str) -> dict[str, dict[str, object]]:
    """All notices by appointment, once none is pending and one has `status`."""
    async with asyncio.timeout(10):
        while True:
            found = [row for row in await stand.lines("/export") if row["kind"] == "notice"]
            states = {str(row["status"]) for row in found}
            if "pending" not in states and status in states:
                return {str(row["key"]): row for row in found}
            await asyncio.sleep(0.02)


@asynchronous
async def test_every_change_reaches_the_phone_in_order(tmp_path: Path) -> None:
    """Booking, move, cancellation: three messages, the last says cancelled; a phone that was out
    of coverage (…7) gets them, too, by another try."""
    for phone in ("0470123456", "0470123457"):
        async with standing(sms, tmp_path / phone, speed=36_000) as stand:
            for number, message in enumerate((BOOKED, MOVED, CANCELLED), 1):
                await stand.tell(replace(message, phone=phone))
                await _inbox(stand, phone, number)
            messages = await _inbox(stand, phone, 3)
            assert [one["word"] for one in messages] == ["confirmed", "moved", "cancelled"]
            assert all(one["copies"] == 1 for one in messages)
            notices = await stand.get("/notices")
            assert {one["tries"] for one in notices} == {2 if phone.endswith("7") else 1}


@asynchronous
async def test_news_that_change_nothing_for_the_patient_are_not_sent(tmp_path: Path) -> None:
    """A cancelled appointment changes hands by a merge of records: no second message, and the
    notice is the surviving patient's; the cancellation's own word was sent once."""
    async with standing(sms, tmp_path) as stand:
        await stand.tell(BOOKED, CANCELLED)
        await _inbox(stand, BOOKED.phone, 1)
        await _notices(stand, "delivered")
        sent = len(await _inbox(stand, BOOKED.phone, 1))
        await stand.tell(replace(CANCELLED, event="S14", mrn="M9", version=4))
        await stand.tell(replace(BOOKED, appointment="A2"))
        assert (await _inbox(stand, BOOKED.phone, sent + 1))[-1]["appointment"] == "A2"
        assert len(await _inbox(stand, BOOKED.phone, sent + 1)) == sent + 1
        [row] = [row for row in (await _notices(stand, "delivered")).values() if row["key"] == "A1"]
        assert (row["patient"], row["version"], row["digest"]) == ("M9", 4, "cancelled")
        assert (await stand.says())["A1"] == "cancelled"


@asynchronous
async def test_an_old_notice_that_waits_is_never_sent_after_newer_news(tmp_path: Path) -> None:
    """The phone is off, the appointment is confirmed and then cancelled, the phone comes back: it
    gets the cancellation only."""
    async with standing(sms, tmp_path, speed=3600) as stand:
        await stand.http.put("/phones/0470123456", json={"on": False})
        await stand.tell(BOOKED)
        async with asyncio.timeout(5):
            while not (await stand.get("/notices"))[0]["tries"]:
                await asyncio.sleep(0.005)
        await stand.tell(CANCELLED)
        await stand.http.put("/phones/0470123456", json={"on": True})
        messages = await _inbox(stand, "0470123456", 1)
        assert [one["word"] for one in messages] == ["cancelled"]
        assert (await stand.get("/notices"))[0]["status"] == "superseded"


@asynchronous
async def test_whom_no_message_reaches_is_listed_for_a_person(tmp_path: Path) -> None:
    """Landline, no number, a phone that stays off: tried (at most TRIES_MAX times), listed with
    the reason, and settled only by a named person."""
    async with standing(sms, tmp_path, speed=360_000) as stand:
        await stand.http.put("/phones/0470999999", json={"on": False})
        await stand.tell(
            replace(CANCELLED, phone="025551200"),
            replace(CANCELLED, appointment="A2", phone=""),
            replace(CANCELLED, appointment="A3", phone="0470999999"),
            replace(CANCELLED, appointment="A4"),
        )
        notices = await _notices(stand, "unreachable")
        states = {key: row["status"] for key, row in notices.items()}
        assert states == {
            "A1": "unreachable", "A2": "unreachable", "A3": "unreachable", "A4": "delivered",
        }  # fmt: skip
        listed = {one["appointment"]: one for one in await stand.get("/unreachable")}
        assert set(listed) == {"A1", "A2", "A3"}
        assert all(one["tries"] >= 1 and one["reason"] for one in listed.values())
        assert listed["A3"]["tries"] == TRIES_MAX
        assert listed["A3"]["reason"] == "switched off"
        called = await stand.http.post("/unreachable/A3.3", json={"carer": "Ann"})
        assert called.status_code == 200
        assert (await stand.http.post("/unreachable/A4.3", json={"carer": "A"})).status_code == 404
        assert {one["appointment"] for one in await stand.get("/unreachable")} == {"A1", "A2"}


@pytest.mark.parametrize(
    ("phone", "reached"),
    [("0470 12 34 56", True), ("+32470123456", True), ("02 555 12 00", False), ("", False),
     ("   ", False), ("none", False), ("100", False)],
)  # fmt: skip
def test_numbers(phone: str, reached: bool) -> None:
    """A landline, nothing and nonsense are out of reach; a mobile number is not."""
    assert (out_of_reach(phone) == "") is reached


# -- clinic lists ------------------------------------------------------------------------------


async def _sheet(stand: Stand, clinic: str, word: str) -> dict[str, object]:
    """The clinic's list once it is printed with this word."""
    async with asyncio.timeout(5):
        while True:
            answer = await stand.http.get(f"/lists/{clinic}")
            if answer.status_code == 200:
                content: dict[str, object] = answer.json()
                rows = content["appointments"]
                assert isinstance(rows, list)
                if any(row["word"] == word for row in rows):
                    return content
            await asyncio.sleep(0.01)


@asynchronous
async def test_a_list_is_printed_on_schedule_and_at_once_on_a_cancellation(
    tmp_path: Path,
) -> None:
    """At a slow clock the schedule is an hour away: a booking waits for it, a cancellation is on
    paper at once, and what GET answers is what the file says."""
    async with standing(clinic_lists, tmp_path, speed=0.1) as stand:
        await asyncio.sleep(0)  # the first scheduled print finds nothing
        await stand.get("/lists/dermatology", status=404)
        await stand.tell(replace(BOOKED, appointment="A2"), BOOKED)
        assert await stand.says() == {}
        await stand.tell(CANCELLED)
        content = await _sheet(stand, "dermatology", "cancelled")
        assert content["printed_at"]
        files = list((tmp_path / "lists").glob("*.txt"))
        assert [file.name for file in files] == ["dermatology.day-0.txt"]
        text = files[0].read_text()
        assert "08:30 | cancelled | A1" in text
        assert await stand.says() == {"A1": "cancelled", "A2": "confirmed"}
        files[0].write_text(text.replace("cancelled", "confirmed"))
        assert await stand.says() == {"A1": "confirmed", "A2": "confirmed"}, "read from the paper"
        files[0].write_text(text[:-9])
        await stand.get("/lists/dermatology", status=503)
        plain = await stand.http.get("/lists/dermatology?day=0", headers={"accept": "text/plain"})
        assert plain.status_code == 503
        await stand.get("/lists/dermatology?day=x", status=400)


@asynchronous
async def test_a_moved_appointment_leaves_its_old_list(tmp_path: Path) -> None:
    """Moved to another day: the new day's list has it as moved, and soon the old day's list has it
    no more (one sheet leaves the printer before the other)."""
    async with standing(clinic_lists, tmp_path) as stand:
        await stand.tell(BOOKED)
        await _sheet(stand, "dermatology", "confirmed")
        await stand.tell(MOVED)
        await _sheet(stand, "dermatology", "moved")
        async with asyncio.timeout(5):
            while True:
                lists = (await stand.get("/lists"))["lists"]
                if {one["day"]: one["appointments"] for one in lists} == {0: 0, 1: 1}:
                    break
                await asyncio.sleep(0.01)
        assert await stand.says() == {"A1": "moved"}


TEXTS = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp", "Zs"), include_characters=" |%\\^/."),
    min_size=1, max_size=30,
)  # fmt: skip
LINES = st.builds(
    Line, st.just("08:30"), st.sampled_from(["confirmed", "cancelled"]), TEXTS, TEXTS, TEXTS,
    st.just("2026-01-01T08:30:00.000+00:00"), st.integers(0, 2**53), st.just("2026-01-01"),
)  # fmt: skip


@given(TEXTS, st.integers(-9, 9999), st.lists(LINES, max_size=5), st.none() | st.just("2026-01-01"))
def test_paper_says_exactly_what_was_printed(
    clinic: str, day: int, lines: Sequence[Line], as_of: str | None
) -> None:
    """Any printable names, separators and percent signs included, are read back as printed."""
    text = written(Place(clinic, day), lines, "2026-01-01", as_of)
    sheet = read_text(text)
    assert (sheet.place, sheet.lines, sheet.as_of) == (Place(clinic, day), tuple(lines), as_of)
    for torn in (text[: len(text) // 2], text[:-1], ""):
        with pytest.raises(PaperError):
            read_text(torn)


def test_a_clinic_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    """A clinic called ../../x is printed inside the tray and found again under its name."""
    tray = Tray(tmp_path / "lists")
    for clinic in ("../../x", "..", "/etc/passwd", "a b", "é"):
        place = Place(clinic, 0)
        tray.lay([(place, written(place, [], "2026-01-01", None))])
        sheet = tray.sheet(place)
        assert sheet is not None
        assert sheet.place == place
    assert {path.parent for path in tmp_path.rglob("*.txt")} == {tmp_path / "lists"}
    assert len(tray.places()) == 5
