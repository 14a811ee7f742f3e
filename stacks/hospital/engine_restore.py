"""Brings back the engine's queues from a copy of its file, beside what has come since it was lost.

    made = await restore(store, content)          # then notify every courier

What waited goes out before what came later (but for one that a courier has in hand), in its old
order; a message that is known already is left as it is, and receivers know what they have had. It
refuses a copy that is not sound, and to take half of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from stacks.hospital.log import describe
from stacks.hospital.store import Store

_MESSAGE = "sender, control_id, kind, patient, digest, received_at"
_ITEM = "destination, lane, control_id, payload, enqueued_at, parked_at, reason, kind"
Rows = list[tuple[Any, ...]]


class NoCopy(ValueError):
    """What was handed in is no sound copy of an engine's file; the text says why."""


class Restored(msgspec.Struct, frozen=True):
    """What a restore did. `newest_at`: Unix seconds; nothing that came later can be in it."""

    messages: int
    """That were not known here."""
    waiting: int
    """Of them, to so many receivers, still to be delivered."""
    parked: int
    known: int
    """Messages of the copy that had come again, and were left as they are."""
    newest_at: float


_LOST = """
SELECT count(*) FROM older.message AS had
WHERE had.id > (SELECT coalesce(max(id), 0) FROM newer.message) - ?
  AND NOT EXISTS (
    SELECT 1 FROM newer.message AS has
    WHERE has.sender = had.sender AND has.control_id = had.control_id
  )
"""


def lost(older: Path, newer: Path, kept: int) -> int:
    """Messages in an older copy that are missing from a newer one, though they are among the `kept`
    latest, which are never let go of. Fewer rows would not show it: as many may have come since.
    Raises sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(":memory:", uri=True)) as connection:
        for name, path in (("older", older), ("newer", newer)):
            connection.execute(f"ATTACH ? AS {name}", (_readonly(path),))
        (count,) = connection.execute(_LOST, (kept,)).fetchone()
        return int(count)


def _readonly(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


async def restore(store: Store, content: bytes) -> Restored:
    """All of it in one commit, or nothing. Raises NoCopy, StoreError, OSError."""
    messages, items, passed = await asyncio.to_thread(_read, content, store.path.parent)
    return await store.write(lambda connection: _merge(connection, messages, items, passed))


def _read(content: bytes, folder: Path) -> tuple[Rows, Rows, Rows]:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".restore-", suffix=".db") as file:
        file.write(content)
        file.flush()
        try:
            with contextlib.closing(sqlite3.connect(_readonly(Path(file.name)), uri=True)) as copy:
                (said,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
                if said != "ok":
                    raise NoCopy(said)
                return (
                    copy.execute(f"SELECT {_MESSAGE} FROM message ORDER BY id").fetchall(),
                    copy.execute(f"SELECT {_ITEM} FROM queue ORDER BY id").fetchall(),
                    copy.execute("SELECT destination, control_id, payload FROM passed").fetchall(),
                )
        except sqlite3.Error as error:
            raise NoCopy(describe(error)) from None


def _merge(connection: sqlite3.Connection, messages: Rows, items: Rows, passed: Rows) -> Restored:
    new = set[str]()
    for row in messages:
        done = connection.execute(
            f"INSERT OR IGNORE INTO message ({_MESSAGE}) VALUES (?, ?, ?, ?, ?, ?)", row
        )
        if done.rowcount == 1:
            new.add(row[1])
    owed = [row for row in items if row[2] in new]
    waiting = [row for row in owed if row[5] is None]
    # Before everything that is in the queue now, and under numbers that no courier has ever had in
    # hand: what it knows to be done must not be taken for what comes back.
    place = -time.time_ns()
    for number, row in enumerate(waiting):
        connection.execute(
            f"INSERT INTO queue (id, {_ITEM}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (place + number, *row),
        )
    for row in owed:
        if row[5] is not None:
            connection.execute(f"INSERT INTO queue ({_ITEM}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.executemany("INSERT OR IGNORE INTO passed VALUES (?, ?, ?)", passed)
    newest = max((row[5] for row in messages), default=0.0)
    return Restored(
        len(new), len(waiting), len(owed) - len(waiting), len(messages) - len(new), newest
    )
