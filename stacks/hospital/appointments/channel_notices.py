"""The notices that go to patients' phones: made with the news, tried, repeated, given to a person.

    news ──▶ pending ──▶ delivered            pending ──(tries used up, landline)──▶ unreachable
                └──▶ superseded by newer news                  unreachable ──(a person called)──▶ ✓

It refuses to send again without saying so (a try is on disk before it goes out: after a kill its
outcome is unknown and the next try is marked as a repeat), and to give up in silence.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from stacks.hospital.appointments.channel_book import CANCELLED, MOVED, UNKNOWN, Said
from stacks.hospital.appointments.channel_phones import Network, Text, out_of_reach
from stacks.hospital.bugs import planted
from stacks.hospital.log import Log
from stacks.hospital.pages import instant
from stacks.hospital.records import Record
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError

RETRY_S = (60.0, 120.0, 240.0, 480.0, 900.0)
"""Hospital seconds after the first, second, ... try without success; then no more."""
TRIES_MAX = len(RETRY_S) + 1
BATCH = 100
LOOK_S = 0.1  # real seconds between two looks for what is due
CARRY_S = 5.0  # real seconds after which the network has not answered
LISTED_MAX = 5_000
NOTICES_SCHEMA = """
CREATE TABLE IF NOT EXISTS notice (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  notice TEXT NOT NULL UNIQUE, appointment TEXT NOT NULL, version INTEGER NOT NULL,
  patient TEXT NOT NULL, phone TEXT NOT NULL, word TEXT NOT NULL, text TEXT NOT NULL,
  at REAL NOT NULL, made_at REAL NOT NULL, next_at REAL NOT NULL,
  status TEXT NOT NULL DEFAULT 'pending',
  tries INTEGER NOT NULL DEFAULT 0,
  in_doubt INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '', settled_at REAL NOT NULL DEFAULT 0,
  reached_by TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS notice_due ON notice (next_at, seq) WHERE status = 'pending';
CREATE INDEX IF NOT EXISTS notice_appointment ON notice (appointment, version);
"""
_COLUMNS = (
    "seq, notice, appointment, version, patient, phone, word, at, made_at, status, tries,"
    " in_doubt, reason, settled_at, reached_by"
)
_LAST = """
SELECT seq, appointment, patient, status, version, word, settled_at FROM notice AS n
WHERE seq > ? AND version = (SELECT max(version) FROM notice AS m
  WHERE m.appointment = n.appointment AND m.status <> 'superseded')
ORDER BY seq LIMIT ?
"""


def announce(connection: sqlite3.Connection, said: Said) -> None:
    """Make the notice of a change, in the transaction that keeps the news.

    News that change nothing for the patient (a merge of records) keep the notice that there is.
    """
    text = _text(said)
    same = connection.execute(
        "UPDATE notice SET patient = ?, version = ? WHERE (word, at, phone, text) = (?, ?, ?, ?)"
        " AND seq = (SELECT max(seq) FROM notice WHERE appointment = ?)"
        " AND status <> 'superseded'",
        (said.patient, said.version, said.word, said.at, said.phone, text, said.appointment),
    )
    if same.rowcount:
        return
    connection.execute(
        "UPDATE notice SET status = 'superseded', settled_at = ? WHERE appointment = ?"
        " AND status IN ('pending', 'unreachable')",
        (said.known_at, said.appointment),
    )
    if said.word == UNKNOWN:
        return  # missed or over: nothing to tell
    connection.execute(
        "INSERT OR IGNORE INTO notice (notice, appointment, version, patient, phone, word, text,"
        " at, made_at, next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            f"{said.appointment}.{said.version}", said.appointment, said.version, said.patient,
            said.phone, said.word, text, said.at, said.known_at, said.known_at,
        ),
    )  # fmt: skip


def _text(said: Said) -> str:
    what = f"Hospital: your appointment {said.appointment} ({said.service}, {said.clinic})"
    if said.word == CANCELLED:
        return f"{what} is cancelled. Do not travel: we call you with a new date."
    verb = "is moved to" if said.word == MOVED else "is confirmed for"
    return f"{what} {verb} {instant(said.at)[:19].replace('T', ' ')} UTC."


class Notices:
    """Sends what is due and keeps account of it."""

    def __init__(self, store: Store, network: Network, settings: Settings, log: Log) -> None:
        self._store, self._network, self._log = store, network, log
        self._settings = settings
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """Something new may be due."""
        self._bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop; what is not sent stays pending on disk."""
        while not stop.is_set():
            self._bell.clear()
            try:
                while not stop.is_set() and await self.send_due() == BATCH:
                    pass
            except (StoreError, TimeoutError) as error:
                reason = str(error) or f"the network did not answer within {CARRY_S} s"
                self._log.warn_once_per(10.0, "notices_not_sent", reason=reason)
                await asyncio.sleep(LOOK_S)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._bell.wait()
            except TimeoutError:
                pass

    async def send_due(self) -> int:
        """One try for each of the next due notices; how many. Raises: StoreError, TimeoutError."""
        now = time.time()
        if not self._store.read(lambda connection: _due(connection, now, 1)):
            return 0
        count, texts = await self._store.write(lambda connection: self._begin(connection, now))
        if texts:
            async with asyncio.timeout(CARRY_S):
                reasons = await self._network.carry(texts)
            results = list(zip(texts, reasons, strict=True))
            await self._store.write(lambda connection: self._end(connection, results))
        return count

    def _begin(self, connection: sqlite3.Connection, now: float) -> tuple[int, list[Text]]:
        """Note the tries before they go out: from here on their outcome is in doubt."""
        texts: list[Text] = []
        due = _due(connection, now, BATCH)
        for notice, phone, appointment, word, text, tries, in_doubt in due:
            never = out_of_reach(phone)
            if never:
                self._give_up(connection, notice, never, tries + 1)
                continue
            if tries >= TRIES_MAX:  # every try was cut off by a kill of this program
                self._give_up(connection, notice, "not known whether it arrived", tries)
                continue
            pause = self._settings.real_s(RETRY_S[min(tries, len(RETRY_S) - 1)])
            connection.execute(
                "UPDATE notice SET tries = tries + 1, in_doubt = in_doubt + 1, next_at = ?"
                " WHERE notice = ?",
                (now + pause, notice),
            )
            texts.append(Text(notice, phone, appointment, word, text, repeat=in_doubt > 0))
        return len(due), texts

    def _end(self, connection: sqlite3.Connection, results: Sequence[tuple[Text, str]]) -> None:
        now = time.time()
        for text, reason in results:
            if not reason:
                connection.execute(
                    "UPDATE notice SET status = 'delivered', settled_at = ?, reason = '',"
                    " in_doubt = in_doubt - 1, reached_by = 'text message' WHERE notice = ?",
                    (now, text.notice),
                )
                continue
            row = connection.execute(
                "UPDATE notice SET in_doubt = in_doubt - 1, reason = ? WHERE notice = ?"
                " RETURNING tries, status",
                (reason, text.notice),
            ).fetchone()
            tries, status = row
            if status == "pending" and (tries >= TRIES_MAX or planted("sms-once")):
                self._give_up(connection, text.notice, reason, tries)

    def _give_up(
        self, connection: sqlite3.Connection, notice: str, reason: str, tries: int
    ) -> None:
        """The patient cannot be reached by text: a person must."""
        status = "given-up" if planted("sms-once") else "unreachable"
        connection.execute(
            "UPDATE notice SET status = ?, reason = ?, tries = ?, settled_at = ? WHERE notice = ?",
            (status, reason, tries, time.time(), notice),
        )

    async def reached(self, notice: str, carer: str) -> bool:
        """A person told the patient; False when the notice is not listed. Raises: StoreError."""
        return await self._store.write(
            lambda connection: (
                connection.execute(
                    "UPDATE notice SET status = 'delivered', settled_at = ?, reached_by = ?"
                    " WHERE notice = ? AND status = 'unreachable'",
                    (time.time(), carer, notice),
                ).rowcount
                == 1
            )
        )

    def listed(self, status: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        """Notices of one status (None = all), oldest first."""
        where = "seq > ?" if status is None else "seq > ? AND status = ?"
        values = (after,) if status is None else (after, status)
        rows = self._store.read(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} FROM notice WHERE {where} ORDER BY seq LIMIT ?",
                (*values, limit),
            ).fetchall()
        )
        return [_shown(row) for row in rows]

    def records(self, after: int, limit: int) -> tuple[list[Record], int]:
        """One page of the export: the newest notice of each appointment; its word is the digest.

        stored_at: when the patient was reached or listed for a person; 0 while it is still tried.
        """
        rows = self._store.read(
            lambda connection: connection.execute(_LAST, (after, limit)).fetchall()
        )
        records = [
            Record("notice", appointment, patient, status, version, word, stored_at=settled_at)
            for _, appointment, patient, status, version, word, settled_at in rows
        ]
        return records, rows[-1][0] if rows else after


def _due(connection: sqlite3.Connection, now: float, limit: int) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT notice, phone, appointment, word, text, tries, in_doubt FROM notice"
        " WHERE status = 'pending' AND next_at <= ? ORDER BY next_at, seq LIMIT ?",
        (now, limit),
    ).fetchall()


def _shown(row: tuple[Any, ...]) -> dict[str, Any]:
    (seq, notice, appointment, version, patient, phone, word, at, made_at, status, tries,
     in_doubt, reason, settled_at, reached_by) = row  # fmt: skip
    return {
        "seq": seq, "notice": notice, "appointment": appointment, "version": version,
        "patient": patient, "phone": phone, "word": word, "at": instant(at),
        "made_at": instant(made_at), "status": status, "tries": tries,
        "in_doubt": bool(in_doubt), "reason": reason,
        "settled_at": instant(settled_at) if settled_at else None, "reached_by": reached_by,
    }  # fmt: skip
