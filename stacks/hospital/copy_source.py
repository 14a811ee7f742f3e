"""Reads what the read-only copy holds from the record's database, and says as of when it is true.

It refuses to write, to claim a younger state than it has read, and to load the primary when a
standby can give the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from stacks.hospital.ehr.node import Away, Connection, Node
from stacks.hospital.ehr.pair import Pair
from stacks.hospital.log import describe

READ_S = 8.0
"""The whole reading of one node."""
TAKE_S = 1.0
CATCH_UP_S = 1.5
"""How long a standby may take to replay what the primary had at the moment we asked."""
CATCH_UP_POLL_S = 0.05
RECENT_HOSPITAL_S = 72 * 3600.0
HERE = "('arrived', 'triaged', 'in-progress', 'onleave')"
ACTIVE = "('active', 'on-hold', 'draft')"
_ROWS = f"""
WITH here AS (
  SELECT DISTINCT patient FROM resource WHERE type = 'Encounter'
  AND body->>'status' IN {HERE} AND body->'class'->>'code' IN ('IMP', 'EMER')
)
SELECT type, key, patient, version, extract(epoch FROM stored_at)::float8, body::text
FROM resource JOIN here USING (patient)
WHERE type IN ('Patient', 'AllergyIntolerance')
  OR type = 'Encounter' AND body->>'status' IN {HERE}
  OR type IN ('MedicationRequest', 'ServiceRequest') AND body->>'status' IN {ACTIVE}
  OR type IN ('DiagnosticReport', 'Observation', 'MedicationAdministration')
     AND stored_at > now() - make_interval(secs => %s)
ORDER BY row
"""
_MERGED = "SELECT source, survivor FROM merged"


class SourceAway(Exception):
    """No database node gives a newer state than the copy has; the text says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One consistent state of the record, complete up to `as_of` (Unix seconds)."""

    as_of: float
    source: str
    rows: list[tuple[str, str, str, int, float, str]]
    """(type, key, patient, version, when the record took it, body as JSON text)."""
    merged: list[tuple[str, str]]


class Source:
    """The database pair as the copy sees it: the standby first, the primary if need be."""

    def __init__(self, pair: Pair, recent_s: float) -> None:
        self._pair, self._recent_s = pair, recent_s

    async def read(self) -> Reading:
        """The youngest state that can be had. Raises SourceAway."""
        standby, primary = self._pair.standby(), self._pair.primary()
        troubles = []
        for node in (standby, primary):
            if node is None:
                continue
            try:
                return await self._read(node, primary if node is standby else None)
            except (Away, SourceAway, psycopg.Error, TimeoutError) as error:
                troubles.append(f"{node.name}: {describe(error)}")
                node.suspect()
        raise SourceAway("; ".join(troubles) or self._pair.roles())

    async def _read(self, node: Node, primary: Node | None) -> Reading:
        """Read `node`; with a `primary`, `node` is its standby and must have caught up with it."""
        mark = await _mark(primary) if primary is not None else None
        session = await node.take(TAKE_S)
        sound = False
        try:
            with session.bounded(READ_S):
                if mark is not None:
                    await _catch_up(session.connection, mark[1])
                found = await self._snapshot(session.connection, node.name, mark and mark[0])
            sound = True
            return found
        finally:
            await node.give_back(session, sound)

    async def _snapshot(self, connection: Connection, name: str, as_of: datetime | None) -> Reading:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute(f"SET LOCAL statement_timeout = {READ_S * 1e3:.0f}".encode())
            # A standby without a primary knows the time of the last commit it replayed, no more;
            # commits that crossed in the log may carry times a little out of order.
            cursor = await connection.execute(
                "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp()"
                " - interval '100 ms' ELSE now() END"
            )
            row = await cursor.fetchone()
            moment = as_of or (row[0] if row is not None else None)
            if moment is None:
                raise SourceAway("the standby has replayed nothing yet")
            rows: list[Any] = await (
                await connection.execute(_ROWS.encode(), (self._recent_s,))
            ).fetchall()
            merged: list[Any] = await (await connection.execute(_MERGED)).fetchall()
        return Reading(moment.timestamp(), name, rows, merged)


async def _mark(primary: Node) -> tuple[datetime, str] | None:
    """(now, end of the log) on the primary; None when it does not answer, which is no obstacle."""
    try:
        session = await primary.take(TAKE_S)
    except Away:
        return None
    sound = False
    try:
        with session.bounded(TAKE_S):
            # The clock first: what is committed before that moment lies before that end of the log.
            cursor = await session.connection.execute(
                "SELECT clock_timestamp(), pg_current_wal_insert_lsn()::text"
            )
            row = await cursor.fetchone()
        sound = True
        return (row[0], row[1]) if row is not None else None
    except psycopg.Error:
        return None
    finally:
        await primary.give_back(session, sound)


async def _catch_up(connection: Connection, lsn: str) -> None:
    """Wait until the standby has replayed up to `lsn`. Raises SourceAway after CATCH_UP_S."""
    deadline = asyncio.get_running_loop().time() + CATCH_UP_S
    while True:
        cursor = await connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,))
        row = await cursor.fetchone()
        if row is not None and row[0]:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise SourceAway(f"the standby has not replayed the log up to {lsn}")
        await asyncio.sleep(CATCH_UP_POLL_S)
