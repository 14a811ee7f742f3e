"""The clinics' printed lists: who comes today, on paper, so that a clinic works with nothing up.

    engine ──SIU──▶ book ──(every 5 hospital minutes, and at once on a cancellation)──▶ lists/*.txt

It refuses to say more than the paper does: what is asked here is read from the printed file.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import msgspec
from starlette.routing import BaseRoute

from stacks.hospital.appointments.channel import Channel, channel, listening
from stacks.hospital.appointments.channel_paper import (
    Line,
    PaperError,
    Place,
    Sheet,
    Tray,
    line_of,
    place_of,
    written,
)
from stacks.hospital.bugs import planted
from stacks.hospital.health import Degraded
from stacks.hospital.log import Log
from stacks.hospital.pages import instant
from stacks.hospital.settings import Settings
from stacks.hospital.store import StoreError
from stacks.hospital.web import JSON, Face, Refusal, Request, Response, Route, answer, run
from stacks.hospital.wire.hl7 import Appointment

PRINT_S = 5 * 60.0  # hospital seconds between two scheduled prints
PRINT_MIN_S = 0.25  # real seconds: a printer is a machine, however fast the hospital's clock goes
KEPT_S = 24 * 3600.0  # hospital seconds after which a past appointment's list is printed no more
PAUSE_S = 0.5  # real seconds after a print that failed
_DAY = re.compile(r"-?\d{1,7}\Z", re.ASCII)
PLAIN = "text/plain; charset=utf-8"


class Printer:
    """Prints what the book says, on a schedule and when somebody must not come."""

    def __init__(self, made: Channel, tray: Tray) -> None:
        self.tray = tray
        self.trouble = ""
        self._channel = made
        self._every_s = max(PRINT_MIN_S, made.settings.real_s(PRINT_S))
        self._kept_s = made.settings.real_s(KEPT_S)
        self._urgent: set[str] = set()
        """Appointments of which the paper must change now; a restart prints all anyway."""
        self._bell = asyncio.Event()

    def notice(self, message: Appointment) -> None:
        """News came: a booking waits for the schedule, everything else is printed at once."""
        if message.event != "S12":
            self._urgent.add(message.appointment)
            self._bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Print until told to stop."""
        due = 0.0
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            self._bell.clear()
            urgent, self._urgent = self._urgent, set()
            scheduled = loop.time() >= due
            try:
                if scheduled:
                    await self._take_bookings_in_again()
                places = self._current() if scheduled else set()
                await self.print(places | self._places_of(urgent))
                self.trouble = ""
            except (PaperError, StoreError) as error:
                self.trouble = str(error)
                self._channel.log.warn_once_per(10.0, "list_not_printed", reason=str(error))
                self._urgent |= urgent
                await asyncio.sleep(PAUSE_S)
                continue
            if scheduled:
                due = loop.time() + self._every_s
            await _first(self._bell, stop, due - loop.time())

    async def print(self, places: Iterable[Place]) -> None:
        """Print these lists. Raises: PaperError, StoreError."""
        wanted: dict[Place, list[Line]] = {place: [] for place in places}
        if not wanted:
            return
        as_of = self._channel.as_of()
        for said in self._channel.book.every():
            lines = wanted.get(place_of(said.clinic, said.slot, said.at))
            if lines is not None:
                lines.append(line_of(said))
        printed_at = instant(time.time())
        sheets = [
            (place, written(place, lines, printed_at, as_of)) for place, lines in wanted.items()
        ]
        await asyncio.to_thread(self.tray.lay, sheets)

    def _current(self) -> set[Place]:
        """The lists of today and later, also those from which everybody was moved away."""
        return self._places("at >= ?", time.time() - self._kept_s)

    def _places_of(self, appointments: Iterable[str]) -> set[Place]:
        found: set[Place] = set()
        for appointment in appointments:
            found |= self._places("appointment = ?", appointment)
        return found

    def _places(self, where: str, value: object) -> set[Place]:
        rows = self._channel.book.store.read(
            lambda connection: connection.execute(
                f"SELECT DISTINCT clinic, slot, at FROM heard WHERE {where}", (value,)
            ).fetchall()
        )
        return {place_of(*row) for row in rows}

    async def _take_bookings_in_again(self) -> None:
        if planted("late-booking-wins"):
            await self._channel.book.store.write(_bookings_again)

    async def check(self) -> None:
        """Health: paper that cannot be printed any more still hangs on the wall."""
        if self.trouble:
            raise Degraded(f"{self.trouble}; the lists printed before can be read")


def _bookings_again(connection: sqlite3.Connection) -> None:
    """Planted defect only: every booking of the day gets a new place in the order of arrival."""
    columns = (
        "appointment, version, event, status, patient, service, clinic, slot, at, phone,"
        " decision, heard_at"
    )
    connection.execute(
        f"INSERT OR REPLACE INTO heard ({columns}) SELECT {columns} FROM heard WHERE event = 'S12'"
    )


class Wall:
    """What people read of the printed lists."""

    def __init__(self, tray: Tray) -> None:
        self._tray = tray
        self._said: dict[Place, tuple[Sheet, list[tuple[int, str, bytes]]]] = {}

    def says(self) -> list[bytes]:
        """GET /says: what the paper says, the newest of each appointment."""
        newest: dict[str, tuple[int, bytes]] = {}
        for sheet in self._tray.sheets():
            for version, appointment, text in self._lines(sheet):
                known = newest.get(appointment)
                if known is None or known[0] < version:
                    newest[appointment] = (version, text)
        return [text for _, text in newest.values()]

    def _lines(self, sheet: Sheet) -> list[tuple[int, str, bytes]]:
        known = self._said.get(sheet.place)
        if known is None or known[0] is not sheet:
            lines = [
                (line.version, line.appointment, msgspec.json.encode(_shown(sheet, line)))
                for line in sheet.lines
            ]
            known = self._said[sheet.place] = (sheet, lines)
        return known[1]

    async def lists(self, _: Request) -> Response:
        items = [_outline(sheet) for sheet in self._tray.sheets()]
        return answer({"lists": items}, media_type=JSON)

    async def clinic(self, request: Request) -> Response:
        name, day = request.path_params["clinic"], _asked_day(request)
        try:
            found = [
                self._tray.sheet(place)
                for place in self._tray.places()
                if place.clinic == name and day in (None, place.day)
            ]
        except PaperError as error:
            raise Refusal(503, "exception", f"{error}; the next print replaces it") from None
        sheets = [sheet for sheet in found if sheet is not None]
        if not sheets:
            raise Refusal(404, "not-found", f"no list of {name[:64]!r} is printed; see GET /lists")
        if "text/plain" in request.headers.get("accept", ""):
            return Response("\n".join(sheet.text for sheet in sheets), 200, None, PLAIN)
        content = {
            "clinic": name,
            "printed_at": min(sheet.printed_at for sheet in sheets),
            "lists": [_outline(sheet) for sheet in sheets],
            "appointments": [_shown(sheet, line) for sheet in sheets for line in sheet.lines],
        }
        return answer(content, media_type=JSON)

    def routes(self) -> list[BaseRoute]:
        """What only the clinic lists show."""
        return [Route("/lists", self.lists), Route("/lists/{clinic}", self.clinic)]


def _asked_day(request: Request) -> int | None:
    text = request.query_params.get("day")
    if text is None:
        return None
    if not _DAY.match(text):
        raise Refusal(400, "value", f"day={text[:20]!r} is not the number of a hospital day")
    return int(text)


def _outline(sheet: Sheet) -> dict[str, Any]:
    return {
        "clinic": sheet.place.clinic, "day": sheet.place.day, "printed_at": sheet.printed_at,
        "as_of": sheet.as_of, "appointments": len(sheet.lines),
    }  # fmt: skip


def _shown(sheet: Sheet, line: Line) -> dict[str, Any]:
    return asdict(line) | {
        "clinic": sheet.place.clinic, "day": sheet.place.day, "printed_at": sheet.printed_at,
    }  # fmt: skip


async def _first(bell: asyncio.Event, stop: asyncio.Event, wait_s: float) -> None:
    """Return when one of two events is set, or after `wait_s`."""
    waits = [asyncio.ensure_future(event.wait()) for event in (bell, stop)]
    try:
        await asyncio.wait(waits, timeout=max(0.0, wait_s), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


@asynccontextmanager
async def clinic_lists(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, MLLP in, printed sheets in the folder `lists`."""
    rank = "seq" if planted("late-booking-wins") else "version"
    async with channel(settings, log, rank=rank) as made:
        tray = Tray(settings.data_dir / "lists")
        printer, wall = Printer(made, tray), Wall(tray)
        made.on_news, made.says = printer.notice, wall.says
        checks = {"printer": printer.check}
        async with listening(made, wall.routes(), [printer.run], checks) as face:
            yield face


if __name__ == "__main__":
    run(clinic_lists)
