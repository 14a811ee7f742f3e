"""Creates and migrates the record's tables, by whichever ehr node first reaches the primary.

It refuses to run twice: one node at a time (advisory lock), each step once (table `migration`).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg

from stacks.hospital.bugs import planted
from stacks.hospital.ehr.node import Connection
from stacks.hospital.ehr.pair import Pair, Unavailable, Unknown
from stacks.hospital.log import Log, describe

LOCK = 7_000_001
RETRY_S = 0.3
_TABLES = Path(__file__).with_name("schema.sql")


def steps() -> tuple[str, ...]:
    """The migrations in order; the first makes all tables."""
    unique = "" if planted("duplicate-on-retry") else "UNIQUE"
    return (
        _TABLES.read_text(encoding="utf-8"),
        f"CREATE {unique} INDEX resource_key ON resource (type, key)",
    )


async def migrate(connection: Connection) -> int:
    """Apply the missing steps in one transaction; returns how many there were."""
    wanted = steps()
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration "
            "(number integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await connection.execute("SELECT count(*) FROM migration")
        row = await cursor.fetchone()
        done = int(row[0]) if row is not None else 0
        for number, step in enumerate(wanted[done:], start=done + 1):
            await connection.execute(step.encode())
            await connection.execute("INSERT INTO migration (number) VALUES (%s)", (number,))
    return len(wanted) - done


class Schema:
    """Knows whether the tables are there: nothing is written before."""

    def __init__(self, pair: Pair, log: Log) -> None:
        self._pair, self._log = pair, log
        self.ready = False

    async def prepare(self, stop: asyncio.Event) -> None:
        """Background work: until a primary is found and has all tables."""
        while not stop.is_set() and not self.ready:
            try:
                applied = await self._pair.write(migrate)
                self.ready = True
                self._log.info("schema_ready", applied=applied)
            except (Unavailable, Unknown, psycopg.Error) as error:
                self._log.warn_once_per(5.0, "schema_waits", error=describe(error))
                await asyncio.sleep(RETRY_S)
