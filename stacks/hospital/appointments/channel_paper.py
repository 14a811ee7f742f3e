"""The printed clinic lists: one plain text file per clinic and day, written whole or not at all.

It refuses to change a sheet in place, and to read a sheet that does not end as it should.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from stacks.hospital.appointments.channel_book import Said
from stacks.hospital.pages import instant

DAY_MIN = 24 * 60
_SLOT_MINUTE = re.compile(r"-(\d{1,7})\Z", re.ASCII)
_NAME = re.compile(r"(.+)\.day-(-?\d{1,7})\.txt\Z", re.ASCII)
_HEAD = ("Time", "Word", "Appointment", "Patient", "Service", "At", "Version", "Known")


class PaperError(Exception):
    """A sheet cannot be read or printed; the text says which, and what to do."""


class Place(NamedTuple):
    """Which list: a clinic and a hospital day (of the slot; day 0 is the first)."""

    clinic: str
    day: int


@dataclass(frozen=True, slots=True)
class Line:
    """One appointment as it is printed; `time` is the hospital's clock, `at` the real instant."""

    time: str
    word: str
    appointment: str
    patient: str
    service: str
    at: str
    version: int
    known_at: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """One printed list; instants in RFC 3339, `as_of` None = no news had come."""

    place: Place
    printed_at: str
    as_of: str | None
    lines: tuple[Line, ...]
    text: str


def minute_of(slot: str, at: float) -> int:
    """The hospital minute of a slot since midnight of day 0; of an unusual id, by UTC."""
    found = _SLOT_MINUTE.search(slot)
    return int(found[1]) if found else int(at // 60)


def place_of(clinic: str, slot: str, at: float) -> Place:
    """On which list an appointment stands."""
    return Place(clinic, minute_of(slot, at) // DAY_MIN)


def line_of(said: Said) -> Line:
    """An appointment as the list shows it."""
    minute = minute_of(said.slot, said.at) % DAY_MIN
    return Line(
        f"{minute // 60:02d}:{minute % 60:02d}", said.word, said.appointment, said.patient,
        said.service, instant(said.at), said.version, instant(said.known_at),
    )  # fmt: skip


def written(place: Place, lines: Iterable[Line], printed_at: str, as_of: str | None) -> str:
    """The sheet's text: for people first, and read back exactly by `read_text`."""
    rows = [_HEAD, *(_cells(line) for line in sorted(lines, key=lambda one: one.time))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    table = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    head = [
        f"CLINIC LIST | {_plain(place.clinic)} | day {place.day}",
        f"Printed | {printed_at}",
        f"News as of | {as_of or 'none yet'}",
        "",
    ]
    return "\n".join([*head, *table, "", f"END OF LIST | {len(rows) - 1} appointments", ""])


def read_text(text: str) -> Sheet:
    """The sheet behind a printed text. Raises: PaperError."""
    try:
        title, printed, news, empty, head, *body = text.split("\n")
        rows, (gap, end, last) = body[:-3], body[-3:]
        name, clinic, day = _split(title, 3)
        count = int(end.removeprefix("END OF LIST | ").removesuffix(" appointments"))
        if (name, gap, last, empty) != ("CLINIC LIST", "", "", "") or count != len(rows):
            raise ValueError("it is not complete")
        if tuple(cell.strip() for cell in head.split("|")) != _HEAD:
            raise ValueError("its columns are not known")
        as_of = _split(news, 2)[1]
        return Sheet(
            Place(clinic, int(day.removeprefix("day "))), _split(printed, 2)[1],
            None if as_of == "none yet" else as_of, tuple(_line(row) for row in rows), text,
        )  # fmt: skip
    except ValueError as error:
        raise PaperError(f"a printed list cannot be read: {error}") from None


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.time, line.word, _plain(line.appointment), _plain(line.patient),
        _plain(line.service), line.at, str(line.version), line.known_at,
    )  # fmt: skip


def _plain(text: str) -> str:
    """A text without the table's separator; `unquote` gives it back."""
    text = text.replace("%", "%25").replace("|", "%7C")
    return text if text == text.strip() else text.replace(" ", "%20")


def _split(row: str, number: int) -> list[str]:
    cells = [unquote(cell.strip()) for cell in row.split("|")]
    if len(cells) != number:
        raise ValueError(f"a line has {len(cells)} columns instead of {number}")
    return cells


def _line(row: str) -> Line:
    time, word, appointment, patient, service, at, version, known_at = _split(row, len(_HEAD))
    return Line(time, word, appointment, patient, service, at, int(version), known_at)


class Tray:
    """The folder in which the printed sheets lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, tuple[tuple[int, int, int], Sheet]] = {}
        folder.mkdir(exist_ok=True)

    def lay(self, sheets: Sequence[tuple[Place, str]]) -> None:
        """Put sheets in the place of their older ones; on disk when this returns.

        Raises: PaperError (some may have been laid).
        """
        try:
            for place, text in sheets:
                target = self.folder / _file_name(place)
                wet = target.with_suffix(".wet")
                with wet.open("w", encoding="utf-8", newline="\n") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                wet.rename(target)
            handle = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise PaperError(
                f"{self.folder.name}: cannot be printed: {error.strerror}; look at the disk"
            ) from None

    def places(self) -> list[Place]:
        """Which lists lie there."""
        found = (_NAME.fullmatch(path.name) for path in self.folder.glob("*.txt"))
        return sorted(Place(unquote(name[1]), int(name[2])) for name in found if name)

    def sheet(self, place: Place) -> Sheet | None:
        """The printed list as it lies there; None when none does. Raises: PaperError."""
        name = _file_name(place)
        path = self.folder / name
        try:
            stat = path.stat()
            mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            known = self._read.get(name)
            if known is not None and known[0] == mark:
                return known[1]
            sheet = read_text(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise PaperError(f"{name} cannot be read: {error}") from None
        self._read[name] = (mark, sheet)
        return sheet

    def sheets(self) -> list[Sheet]:
        """All lists that can be read."""
        found: list[Sheet] = []
        for place in self.places():
            with suppress(PaperError):  # said by whoever asks for this list
                sheet = self.sheet(place)
                if sheet is not None:
                    found.append(sheet)
        return found


def _file_name(place: Place) -> str:
    return f"{quote(place.clinic, safe='')}.day-{place.day}.txt"
