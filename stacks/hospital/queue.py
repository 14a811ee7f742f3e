"""Durable first-in-first-out queues of messages, one per destination, inside a service's Store.

    await queue.enqueue(["ehr", "lis"], control_id, payload)      # returns after fsync
    def admit(connection): ...; push(connection, "engine", control_id, payload)   # with own rows
    await store.write(admit); queue.notify("engine")

It refuses to forget: a message leaves by `remove` (delivered), or by a person (`discard`) after it
was parked with a reason.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from stacks.hospital.store import Store

QUEUE_SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  destination TEXT NOT NULL,
  lane INTEGER NOT NULL,
  control_id TEXT NOT NULL,
  payload BLOB NOT NULL,
  enqueued_at REAL NOT NULL,
  parked_at REAL,
  reason TEXT,
  kind TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS queue_waiting ON queue (destination, lane, id) WHERE parked_at IS NULL;
CREATE INDEX IF NOT EXISTS queue_parked ON queue (parked_at) WHERE parked_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS queue_control ON queue (control_id);
CREATE TABLE IF NOT EXISTS passed (
  destination TEXT PRIMARY KEY, control_id TEXT NOT NULL, payload BLOB NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Item:
    """One message for one destination; `enqueued_at` in Unix seconds."""

    id: int
    destination: str
    control_id: str
    payload: bytes
    enqueued_at: float
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A parked message: somebody must look."""

    id: int
    destination: str
    control_id: str
    reason: str
    parked_at: float
    enqueued_at: float


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits for a destination, and since how many seconds the oldest."""

    waiting: int
    oldest_s: float


def push(
    connection: sqlite3.Connection,
    destination: str,
    control_id: str,
    payload: bytes,
    lane: int = 0,
    kind: str = "",
) -> int:
    """Append inside the caller's own Store.write; returns the item's id. Lane 0 goes first."""
    row = connection.execute(
        "INSERT INTO queue (destination, lane, control_id, payload, enqueued_at, kind)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (destination, lane, control_id, payload, time.time(), kind),
    )
    return int(row.lastrowid or 0)


class DurableQueue:
    """The queues of one Store (its schema must contain QUEUE_SCHEMA)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bells: dict[str, asyncio.Event] = {}

    def bell(self, destination: str) -> asyncio.Event:
        """Set whenever something new waits for `destination`; the courier clears it."""
        return self._bells.setdefault(destination, asyncio.Event())

    def notify(self, destination: str) -> None:
        """Say that `push` put something there (after the commit)."""
        self.bell(destination).set()

    async def enqueue(
        self, destinations: Sequence[str], control_id: str, payload: bytes, lane: int = 0
    ) -> None:
        """Append for every destination in one commit; returns after fsync. Raises: StoreError."""

        def work(connection: sqlite3.Connection) -> None:
            for destination in destinations:
                push(connection, destination, control_id, payload, lane)

        await self._store.write(work)
        for destination in destinations:
            self.notify(destination)

    def waiting(
        self, destination: str, limit: int, *, newest_first: bool = False,
        held: Sequence[str] = (),
    ) -> list[Item]:  # fmt: skip
        """The next messages for a destination, in sending order, without those of held kinds.

        Raises: StoreError.
        """
        direction = "DESC" if newest_first else "ASC"
        passes = f" AND kind NOT IN ({', '.join('?' * len(held))})" if held else ""
        rows = self._store.read(
            lambda connection: connection.execute(
                "SELECT id, destination, control_id, payload, enqueued_at, lane FROM queue"
                f" WHERE destination = ? AND parked_at IS NULL{passes}"
                f" ORDER BY lane, id {direction} LIMIT ?",
                (destination, *held, limit),
            ).fetchall()
        )
        return [Item(*row) for row in rows]

    async def remove(self, ids: Sequence[int], last: Item | None = None) -> None:
        """Delivered: forget them, but for the last. Raises: StoreError (they are still there)."""
        rows = [(one,) for one in ids]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM queue WHERE id = ?", rows)
            if last is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO passed VALUES (?, ?, ?)",
                    (last.destination, last.control_id, last.payload),
                )

        await self._store.write(work)

    def passed(self, destination: str) -> Item | None:
        """The last message that a destination took (its id is 0: it is not in the queue)."""
        row = self._store.read(
            lambda connection: connection.execute(
                "SELECT control_id, payload FROM passed WHERE destination = ?", (destination,)
            ).fetchone()
        )
        return Item(0, destination, row[0], row[1], 0.0) if row else None

    async def park(self, item_id: int, reason: str) -> None:
        """Take a message out of the way, visibly. Raises: StoreError."""
        await self._store.write(
            lambda connection: (
                connection.execute(
                    "UPDATE queue SET parked_at = ?, reason = ? WHERE id = ?",
                    (time.time(), reason, item_id),
                )
                and None
            )
        )

    async def retry(self, item_id: int) -> bool:
        """Let a parked message wait again, at its old place; False when there is none."""
        found = await self._store.write(
            lambda connection: connection.execute(
                "UPDATE queue SET parked_at = NULL, reason = NULL"
                " WHERE id = ? AND parked_at IS NOT NULL RETURNING destination",
                (item_id,),
            ).fetchall()
        )
        for (destination,) in found:
            self.notify(destination)
        return bool(found)

    async def discard(self, item_id: int) -> bool:
        """A person decides that a parked message is not sent; False when there is none."""
        return await self._store.write(
            lambda connection: (
                connection.execute(
                    "DELETE FROM queue WHERE id = ? AND parked_at IS NOT NULL", (item_id,)
                ).rowcount
                > 0
            )
        )

    def tasks(self, limit: int = 1000) -> list[Task]:
        """Parked messages, oldest first."""
        rows = self._store.read(
            lambda connection: connection.execute(
                "SELECT id, destination, control_id, reason, parked_at, enqueued_at FROM queue"
                " WHERE parked_at IS NOT NULL ORDER BY parked_at LIMIT ?",
                (limit,),
            ).fetchall()
        )
        return [Task(*row) for row in rows]

    def depth(self, destination: str) -> Depth:
        """What waits for a destination (parked messages do not wait)."""
        count, oldest = self._store.read(
            lambda connection: connection.execute(
                "SELECT count(*), min(enqueued_at) FROM queue"
                " WHERE destination = ? AND parked_at IS NULL",
                (destination,),
            ).fetchone()
        )
        return Depth(count, max(0.0, time.time() - oldest) if count else 0.0)

    def kinds(self, destination: str) -> dict[str, int]:
        """How many messages of each kind wait for a destination. Raises: StoreError."""
        rows = self._store.read(
            lambda connection: connection.execute(
                "SELECT kind, count(*) FROM queue"
                " WHERE destination = ? AND parked_at IS NULL GROUP BY kind",
                (destination,),
            ).fetchall()
        )
        return dict(rows)
