"""What one channel heard from scheduling, and the word that it therefore says of an appointment.

    SIU ──▶ heard (every version, as it came) ──▶ the newest version ──▶ one word

It refuses to let an older version overwrite a newer one, in whatever order they arrive, and to say
`confirmed` of anything that scheduling has not told it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

import msgspec

from stacks.hospital.store import Store
from stacks.hospital.wire.hl7 import Appointment, Hl7Error

CONFIRMED, CANCELLED, MOVED, UNKNOWN = "confirmed", "cancelled", "moved", "unknown"
TEXT_CHARS_MAX = 128  # identifiers and phone numbers
CLINIC_CHARS_MAX = 64  # a clinic's name becomes a file's name
BOOK_SCHEMA = """
CREATE TABLE IF NOT EXISTS heard (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  appointment TEXT NOT NULL, version INTEGER NOT NULL,
  event TEXT NOT NULL, status TEXT NOT NULL, patient TEXT NOT NULL, service TEXT NOT NULL,
  clinic TEXT NOT NULL, slot TEXT NOT NULL, at REAL NOT NULL, phone TEXT NOT NULL,
  decision TEXT NOT NULL, heard_at REAL NOT NULL,
  UNIQUE (appointment, version)
);
CREATE INDEX IF NOT EXISTS heard_order ON heard (appointment, seq);
CREATE TABLE IF NOT EXISTS feed (
  one INTEGER PRIMARY KEY CHECK (one = 1), last_at REAL NOT NULL, messages INTEGER NOT NULL,
  repeats INTEGER NOT NULL, late INTEGER NOT NULL, contradictions INTEGER NOT NULL
);
"""
_COLUMNS = (
    "appointment, version, event, status, patient, service, clinic, slot, at, phone, decision,"
    " heard_at"
)
_NEWEST = """
SELECT h.seq, h.appointment, h.version, h.event, h.status, h.patient, h.service, h.clinic, h.slot,
  h.at, h.phone, h.decision, h.heard_at,
  EXISTS (SELECT 1 FROM heard AS m WHERE m.appointment = h.appointment AND m.event = 'S13'
          AND m.version < h.version AND m.heard_at <= :until)
FROM heard AS h
WHERE {chosen} AND h.heard_at <= :until AND NOT EXISTS (
  SELECT 1 FROM heard AS n
  WHERE n.appointment = h.appointment AND n.{rank} > h.{rank} AND n.heard_at <= :until)
ORDER BY h.seq LIMIT :limit
"""


class Said(msgspec.Struct, frozen=True):
    """What the channel says of one appointment; `at` and `known_at` in Unix seconds."""

    seq: int
    appointment: str
    version: int
    event: str
    status: str
    patient: str
    service: str
    clinic: str
    slot: str
    at: float
    phone: str
    decision: str
    known_at: float
    moved_before: bool

    @property
    def word(self) -> str:
        """confirmed, cancelled, moved or unknown."""
        return word_of(self.event, self.status, self.moved_before)


class Feed(msgspec.Struct, frozen=True):
    """How the feed from scheduling does; `last_at` in Unix seconds, 0 = nothing heard yet."""

    last_at: float = 0.0
    messages: int = 0
    repeats: int = 0
    """Messages whose version was known already, and said the same."""
    late: int = 0
    """Messages that came after a newer version: kept, not said."""
    contradictions: int = 0
    """Messages that say something else under a version that was known: refused."""


Changed = Callable[[sqlite3.Connection, Said], None]
"""Called in the same transaction when what the channel says of an appointment has changed."""


def word_of(event: str, status: str, moved_before: bool) -> str:
    """The word for the newest message on an appointment."""
    if event == "S15" or status == "cancelled":
        return CANCELLED
    if status != "booked":
        return UNKNOWN  # missed or over: there is nothing to travel for
    if event == "S13" or (event == "S14" and moved_before):
        return MOVED
    return CONFIRMED


class Book:
    """One channel's knowledge, in its own Store.

    `lag_s`: real seconds that news waits before it is said (0 in a sound channel). `rank`: what
    makes a message newer, `version` in a sound channel.
    """

    def __init__(
        self, store: Store, *, lag_s: float = 0.0, rank: str = "version",
        changed: Changed | None = None,
    ) -> None:  # fmt: skip
        self.store = store
        self.lag_s = lag_s
        self._rank = rank
        self._changed = changed
        self._known: dict[str, Said] = {}  # what `every` read up to `_upto`
        self._upto = 0
        self._came_late = False

    async def hear(self, message: Appointment) -> bool:
        """Keep one message, on disk when this returns; whether it is the newest known now.

        Raises: Hl7Error when it cannot be understood, StoreError when it cannot be kept.
        """
        check(message)
        is_news, late = await self.store.write(lambda connection: self._take(connection, message))
        self._came_late |= late
        return is_news

    def _take(self, connection: sqlite3.Connection, message: Appointment) -> tuple[bool, bool]:
        now = time.time()
        row = (
            message.appointment, message.version, message.event, message.status, message.mrn,
            message.service, message.clinic, message.slot, message.at, message.phone,
            message.decision, now,
        )  # fmt: skip
        known = connection.execute(
            f"SELECT {_COLUMNS} FROM heard WHERE appointment = ? AND version = ?", row[:2]
        ).fetchone()
        if known is not None and known[2:-1] != row[2:-1]:
            raise Hl7Error(
                "205", f"version {message.version} of {message.appointment} said something else"
            )
        repeat = known is not None and self._rank == "version"
        if not repeat:
            connection.execute(
                f"INSERT OR REPLACE INTO heard ({_COLUMNS}) VALUES ({', '.join('?' * 12)})", row
            )
        said = newest(connection, message.appointment, now, self._rank)
        is_news = not repeat and said is not None and said.version == message.version
        late = not repeat and not is_news
        _count(connection, now, repeat=repeat, late=late)
        if is_news and said is not None and self._changed is not None:
            self._changed(connection, said)
        return is_news, late

    def of(self, appointment: str) -> Said | None:
        """What is said of one appointment now; None when nothing is known."""
        return self.store.read(lambda connection: self.within(connection, appointment))

    def within(self, connection: sqlite3.Connection, appointment: str) -> Said | None:
        """The same inside a caller's own transaction."""
        return newest(connection, appointment, time.time() - self.lag_s, self._rank)

    def page(self, after: int, limit: int) -> list[Said]:
        """What is said of all appointments now, by `seq`, page by page."""
        query = _NEWEST.format(chosen="h.seq > :after", rank=self._rank)
        values = {"after": after, "limit": limit, "until": time.time() - self.lag_s}
        rows = self.store.read(lambda connection: connection.execute(query, values).fetchall())
        return [_said(row) for row in rows]

    def every(self, page: int = 500) -> list[Said]:
        """All that is said now. In the event loop's thread only; reads what is new since before."""
        if self._came_late:  # an older message may change what a newer one means
            self._came_late, self._known, self._upto = False, {}, 0
        while more := self.page(self._upto, page):
            self._upto = more[-1].seq
            self._known.update((one.appointment, one) for one in more)
        return list(self._known.values())

    def feed(self) -> Feed:
        """How the feed does."""
        row = self.store.read(
            lambda connection: connection.execute(
                "SELECT last_at, messages, repeats, late, contradictions FROM feed"
            ).fetchone()
        )
        return Feed(*row) if row else Feed()

    async def contradicted(self) -> None:
        """Count a message that was refused because it contradicts what was heard."""
        await self.store.write(
            lambda connection: _count(connection, time.time(), contradiction=True)
        )


def check(message: Appointment) -> None:
    """Refuse what no channel could say to a patient. Raises: Hl7Error."""
    texts = (message.appointment, message.mrn, message.service, message.slot, message.phone,
             message.decision)  # fmt: skip
    if any(len(text) > TEXT_CHARS_MAX or not text.isprintable() for text in texts):
        raise Hl7Error("102", f"an identifier is not of 1 to {TEXT_CHARS_MAX} printable characters")
    if not 0 < len(message.clinic) <= CLINIC_CHARS_MAX or not message.clinic.isprintable():
        raise Hl7Error("102", f"the clinic is not of 1 to {CLINIC_CHARS_MAX} printable characters")
    if not message.appointment or not message.mrn:
        raise Hl7Error("101", "the message names no appointment, or no patient")
    if not 0 <= message.version <= 2**53:
        raise Hl7Error("102", f"version {message.version} is not a version of an appointment")
    if not 0 < message.at < 1e11:
        raise Hl7Error("102", "the appointment's time is missing or not a time")


def newest(
    connection: sqlite3.Connection, appointment: str, until: float, rank: str = "version"
) -> Said | None:
    """The newest message on one appointment of those heard `until` (Unix seconds)."""
    query = _NEWEST.format(chosen="h.appointment = :appointment", rank=rank)
    values = {"appointment": appointment, "until": until, "limit": 1}
    row = connection.execute(query, values).fetchone()
    return _said(row) if row else None


def _said(row: tuple[Any, ...]) -> Said:
    values = (*row[:-1], bool(row[-1]))
    return Said(*values)


def _count(
    connection: sqlite3.Connection, now: float, *, repeat: bool = False, late: bool = False,
    contradiction: bool = False,
) -> None:  # fmt: skip
    connection.execute(
        "INSERT INTO feed VALUES (1, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " last_at = max(last_at, excluded.last_at), messages = messages + 1,"
        " repeats = repeats + excluded.repeats, late = late + excluded.late,"
        " contradictions = contradictions + excluded.contradictions",
        (now, int(repeat), int(late), int(contradiction)),
    )
