"""The mobile network behind the text messages, with its phones: a store apart, as an operator's.

It refuses to show one notice twice on a phone: a copy is counted, not shown.

Which phones fail is written in their numbers, so that a run is the same again:
`…00` landline: never reached; `…7` out of coverage when a notice first comes; all others reached.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from stacks.hospital.pages import instant
from stacks.hospital.store import Store

PHONES_SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  notice TEXT NOT NULL UNIQUE, phone TEXT NOT NULL, appointment TEXT NOT NULL,
  word TEXT NOT NULL, text TEXT NOT NULL, received_at REAL NOT NULL,
  copies INTEGER NOT NULL DEFAULT 1, unmarked INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS inbox_phone ON inbox (phone, seq);
CREATE TABLE IF NOT EXISTS missed (notice TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS switched_off (phone TEXT PRIMARY KEY) WITHOUT ROWID;
"""
DIGITS_MIN = 4


class Text(msgspec.Struct, frozen=True):
    """One text message on its way; `repeat`: it may have arrived before."""

    notice: str
    phone: str
    appointment: str
    word: str
    text: str
    repeat: bool = False


class Network(Protocol):
    """What carries text messages; answers for each why it did not arrive, or "" when it did."""

    async def carry(self, texts: Sequence[Text]) -> list[str]: ...


def out_of_reach(phone: str) -> str:
    """Why no text message can ever reach this number; empty when one may."""
    digits = [character for character in phone if character.isdigit()]
    if not phone.strip():
        return "no phone number is known"
    if len(digits) < DIGITS_MIN:
        return "the phone number is not a number"
    return "a landline takes no text messages" if digits[-2:] == ["0", "0"] else ""


class Phones:
    """The network and the phones, in a Store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def carry(self, texts: Sequence[Text]) -> list[str]:
        """Deliver what can be delivered now. Raises: StoreError (nothing delivered)."""
        now = time.time()
        return await self.store.write(lambda c: [_arrive(c, text, now) for text in texts])

    async def switch(self, phone: str, *, on: bool) -> None:
        """Its owner switches a phone on or off. Raises: StoreError."""
        change = "DELETE FROM switched_off WHERE phone = ?"
        if not on:
            change = "INSERT OR IGNORE INTO switched_off VALUES (?)"
        await self.store.write(lambda connection: connection.execute(change, (phone,)) and None)

    def inbox(self, phone: str) -> list[dict[str, object]]:
        """What one phone shows, oldest first."""
        rows = self.store.read(
            lambda connection: connection.execute(
                "SELECT notice, appointment, word, text, received_at, copies, unmarked"
                " FROM inbox WHERE phone = ? ORDER BY seq",
                (phone,),
            ).fetchall()
        )
        return [
            {"notice": notice, "appointment": appointment, "word": word, "text": text,
             "received_at": instant(received_at), "copies": copies, "unmarked_copies": unmarked}
            for notice, appointment, word, text, received_at, copies, unmarked in rows
        ]  # fmt: skip


def _arrive(connection: sqlite3.Connection, text: Text, now: float) -> str:
    off = "SELECT 1 FROM switched_off WHERE phone = ?"
    if connection.execute(off, (text.phone,)).fetchone():
        return "switched off"
    if text.phone.endswith("7"):
        missed = connection.execute("INSERT OR IGNORE INTO missed VALUES (?)", (text.notice,))
        if missed.rowcount:
            return "out of coverage"
    connection.execute(
        "INSERT INTO inbox (notice, phone, appointment, word, text, received_at, unmarked)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (notice) DO UPDATE SET"
        " copies = copies + 1, unmarked = unmarked + excluded.unmarked",
        (text.notice, text.phone, text.appointment, text.word, text.text, now,
         0 if text.repeat else 1),
    )  # fmt: skip
    return ""
