"""What the record held at an instant: every row's version and hash, read as the application reads.

A marker is taken from the live primary and kept in the vault; a restored record is held against
it. It refuses to be content with counts: a row that is there with another content is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from stacks.hospital import postgres
from stacks.hospital.bugs import planted
from stacks.hospital.log import Log, describe
from stacks.hospital.recovery.backup_places import Place, keep
from stacks.hospital.recovery.backup_stream import LogStream
from stacks.hospital.settings import Address, Settings

EVERY_S, EVERY_FLOOR_S = 300.0, 5.0
"""Hospital seconds between two markers; at least so many real ones."""
EASY = 20.0
"""A marker must not take more than one part in so many of the database's time."""
KEPT = 60
READ_S = 20
_ROWS = """
SELECT type || '/' || key, version, substr(encode(sha256(convert_to(body::text, 'UTF8')), 'hex'),
  1, 16) FROM resource ORDER BY row
"""
_WHERE = """
SELECT extract(epoch FROM clock_timestamp())::float8,
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END
   - '0/0'::pg_lsn)::bigint
"""

Row = tuple[int, str]
"""Version and hash of one resource."""


class Marker(msgspec.Struct, frozen=True):
    """`at`: Unix seconds by which all of it was committed; `position`: where the log was then."""

    at: float
    position: int
    node: str
    rows: dict[str, Row]


def read(connection: psycopg.Connection[Any], node: str) -> Marker:
    """All resources in one snapshot. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows = connection.execute(_ROWS.encode()).fetchall()
        where = connection.execute(_WHERE.encode()).fetchone()
    assert where is not None
    return Marker(where[0], where[1], node, {key: (version, hash_) for key, version, hash_ in rows})


def connect(address: Address, name: str) -> psycopg.Connection[Any]:
    """As the application, read only. Raises psycopg.Error."""
    return psycopg.connect(
        postgres.dsn(address, application_name=name),
        autocommit=True,
        options=f"-c statement_timeout={READ_S}s -c default_transaction_read_only=on",
    )


def differences(marker: Marker, found: Marker) -> list[str]:
    """What a restored record (`found`) lacks of the marker, or has otherwise."""
    wrong = []
    for key, (version, hash_) in marker.rows.items():
        there = found.rows.get(key)
        if there is None:
            wrong.append(f"{key} is missing")
        elif there[0] < version:
            wrong.append(f"{key} is version {there[0]} instead of {version}")
        elif there[0] == version and there[1] != hash_:
            wrong.append(f"{key} has another content in version {version}")
    return wrong


class Markers:
    """Takes them on a schedule, keeps the last ones."""

    def __init__(self, place: Place, stream: LogStream, settings: Settings, log: Log) -> None:
        self._place, self._stream, self._log = place, stream, log
        self._every_s = max(EVERY_FLOOR_S, settings.real_s(EVERY_S))

    async def run(self, stop: asyncio.Event) -> None:
        """Background work: until told to stop."""
        while not stop.is_set():
            began = time.monotonic()
            if self._stream.primary is not None and not planted("drill-skips-check"):
                try:
                    await asyncio.to_thread(self.take)
                except (psycopg.Error, OSError) as error:
                    self._log.warn_once_per(10.0, "marker_not_taken", reason=describe(error))
            took = time.monotonic() - began
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self._every_s - took, took * EASY)):
                    await stop.wait()

    def take(self) -> Marker | None:
        """One marker of the live record, kept; None before the record has its tables."""
        primary = self._stream.primary
        if primary is None:
            return None
        try:
            with connect(primary.address, "backup-marker") as connection:
                found = read(connection, primary.name)
        except psycopg.errors.UndefinedTable:
            return None
        keep(self._path(found.at), msgspec.json.encode(found))
        for path in self._all()[:-KEPT]:
            path.unlink(missing_ok=True)
        return found

    def newest(self, by: float, position: int | None = None) -> Marker | None:
        """The newest taken by the instant `by` (Unix seconds) and, if given, the log position."""
        for path in reversed(self._all()):
            if float(path.stem) > by:
                continue
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found = msgspec.json.decode(path.read_bytes(), type=Marker)
                if position is None or found.position <= position:
                    return found
        return None

    def _path(self, at: float) -> Path:
        return self._place.markers / f"{at:.3f}.json"

    def _all(self) -> list[Path]:
        return sorted(self._place.markers.glob("*.json"), key=lambda path: float(path.stem))
