"""Reports: which version replaces which, the feed of the ward screens, the critical inbox.

It refuses to let a preliminary result replace a final one, and an old correction a newer one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from stacks.hospital import fhir, records
from stacks.hospital.bugs import planted
from stacks.hospital.ehr import store
from stacks.hospital.ehr.node import Connection
from stacks.hospital.ehr.store import Draft, Stored

FEED_LOCK = 7_000_002
"""Held from the first statement to the commit of a report, so that feed numbers commit in order."""
FEED_LIMIT = 500
_RANKS = records.RANKS | {
    "registered": 0,
    "partial": 1,
    "amended": 3,
    "appended": 3,
    "cancelled": 4,
    "entered-in-error": 4,
}


class FeedEntry(msgspec.Struct, frozen=True):
    """One stored version of a report, as ward screens see it."""

    seq: int
    specimen: str
    placer: str
    patient: str
    status: str
    critical: bool
    stored_at: str


class Critical(msgspec.Struct, frozen=True):
    """A critical result that a carer must acknowledge; `id` is the specimen."""

    id: str
    placer: str
    patient: str
    status: str
    raised_at: str
    acknowledged_by: str | None
    acknowledged_at: str | None


def is_critical(report: fhir.DiagnosticReport) -> bool:
    """Whether any value is flagged HH or LL."""
    values = records.report_values(report)
    return any(value.flag in records.CRITICAL_FLAGS for value in values)


def supersedes(new: fhir.DiagnosticReport, old: fhir.DiagnosticReport) -> bool:
    """Whether `new` replaces `old`: higher rank, or the same rank issued no earlier."""
    if planted("prelim-overwrites-final"):
        return True
    rank, stored = _RANKS.get(new.status, 2), _RANKS.get(old.status, 2)
    if rank != stored:
        return rank > stored
    if records.report_values(new) == records.report_values(old):
        return False
    return _moment(new.issued) >= _moment(old.issued)


def _moment(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text or "").astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return 0.0


async def take(connection: Connection, new: Draft, report: fhir.DiagnosticReport) -> Stored | None:
    """Store a report inside the caller's transaction; None if what is stored outranks it."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (FEED_LOCK,))
    found = await store.find(connection, new.type, new.key, lock=True)
    stored: Stored | None
    if not found:
        stored = await store.create(connection, new)
    else:
        old = fhir.decode(found[-1].body.encode(), new.type)
        assert isinstance(old, fhir.DiagnosticReport)
        if not supersedes(report, old):
            return None
        stored = await store.update(connection, new, found[-1].version)
    assert stored is not None, "nobody else can have stored it: we hold the lock"
    await _announce(connection, stored, report)
    return stored


async def _announce(connection: Connection, stored: Stored, report: fhir.DiagnosticReport) -> None:
    critical, placer = is_critical(report), fhir.placer_of(report) or ""
    await connection.execute(
        "INSERT INTO report_feed (specimen, placer, patient, status, critical) "
        "VALUES (%s, %s, %s, %s, %s)",
        (stored.key, placer, stored.patient, report.status, critical),
    )
    if critical:
        await connection.execute(
            "INSERT INTO critical (id, placer, patient, status) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (id) DO UPDATE SET status = excluded.status, patient = excluded.patient",
            (stored.key, placer, stored.patient, report.status),
        )


async def feed(connection: Connection, after: int, limit: int) -> list[FeedEntry]:
    """The versions stored after feed number `after`, in order of their commit."""
    cursor = await connection.execute(
        "SELECT f.seq, f.specimen, f.placer, coalesce(m.survivor, f.patient), f.status, "
        "f.critical, f.stored_at FROM report_feed f LEFT JOIN merged m ON m.source = f.patient "
        "WHERE f.seq > %s ORDER BY f.seq LIMIT %s",
        (after, limit),
    )
    return [
        FeedEntry(row[0], row[1], row[2], row[3], row[4], row[5], row[6].isoformat())
        for row in await cursor.fetchall()
    ]


_CRITICAL = "id, placer, patient, status, raised_at, acknowledged_by, acknowledged_at"


def _critical(row: tuple[Any, ...]) -> Critical:
    at = row[6].isoformat() if row[6] is not None else None
    return Critical(row[0], row[1], row[2], row[3], row[4].isoformat(), row[5], at)


async def criticals(connection: Connection, only_open: bool, limit: int) -> list[Critical]:
    """The critical inbox, oldest first."""
    where = "WHERE acknowledged_at IS NULL " if only_open else ""
    cursor = await connection.execute(
        f"SELECT {_CRITICAL} FROM critical {where}ORDER BY raised_at LIMIT %s", (limit,)
    )
    return [_critical(row) for row in await cursor.fetchall()]


async def acknowledge(connection: Connection, id_: str, carer: str) -> Critical | None:
    """Note who took a critical result; the first carer stays. None if there is no such result."""
    cursor = await connection.execute(
        "UPDATE critical SET acknowledged_by = coalesce(acknowledged_by, %s), "
        f"acknowledged_at = coalesce(acknowledged_at, now()) WHERE id = %s RETURNING {_CRITICAL}",
        (carer, id_),
    )
    row = await cursor.fetchone()
    return _critical(row) if row is not None else None
