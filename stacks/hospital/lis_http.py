"""What people see of the laboratory: result feed, phone list of criticals, held results, export.

It refuses to change a result: people acknowledge criticals and retry parked messages, no more.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from stacks.hospital import criticals
from stacks.hospital.pages import LIMIT_MAX, Page, export, instant, number
from stacks.hospital.records import Record, ReportValue, order_digest, report_digest
from stacks.hospital.snapshot import snapshot_route
from stacks.hospital.store import Store
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from stacks.hospital.lis import Lis

_FEED = """
SELECT feed.seq, feed.specimen, r.placer, r.patient, feed.status, feed.version, r.critical, r.stat,
  feed.at, r.vals
FROM feed JOIN result AS r ON r.specimen = feed.specimen
WHERE feed.seq > ? ORDER BY feed.seq LIMIT ?
"""
_REPORTS = """
SELECT id, specimen, placer, patient, vals, status, version,
  coalesce((SELECT max(at) FROM feed WHERE feed.specimen = result.specimen), received_at)
FROM result WHERE id > ? ORDER BY id LIMIT ?
"""
_HELD = """
SELECT specimen, placer, patient, critical, received_at, held FROM result
WHERE held IS NOT NULL ORDER BY id LIMIT ?
"""


def routes(laboratory: Lis) -> list[BaseRoute]:
    """The HTTP routes over one laboratory."""
    store = laboratory.store

    async def feed(request: Request) -> Response:
        after, limit = number(request, "after", 0), number(request, "limit", 200, LIMIT_MAX)
        rows = store.read(lambda connection: connection.execute(_FEED, (after, limit)).fetchall())
        items = [
            {"seq": seq, "specimen": specimen, "placer": placer, "patient": patient,
             "status": status, "version": version, "critical": bool(critical),
             "stat": bool(stat), "issued_at": instant(at), "values": msgspec.Raw(values.encode())}
            for seq, specimen, placer, patient, status, version, critical, stat, at, values in rows
        ]  # fmt: skip
        return answer(items, media_type=JSON)

    async def held(_: Request) -> Response:
        rows = store.read(lambda connection: connection.execute(_HELD, (LIMIT_MAX,)).fetchall())
        items = [
            {"specimen": specimen, "placer": placer, "patient": patient,
             "critical": bool(critical), "received_at": instant(received_at), "reason": reason}
            for specimen, placer, patient, critical, received_at, reason in rows
        ]  # fmt: skip
        return answer(items, media_type=JSON)

    async def tasks(_: Request) -> Response:
        return answer([asdict(task) for task in laboratory.queue.tasks()], media_type=JSON)

    async def retry(request: Request) -> Response:
        text = request.path_params["id"]
        if not (text.isdecimal() and len(text) <= 16 and await laboratory.queue.retry(int(text))):
            raise Refusal(404, "not-found", f"no task {text[:20]!r}; see GET /tasks")
        return answer({"id": int(text), "decision": "retry"}, media_type=JSON)

    async def everything(_: Request) -> Response:
        return export(*pages(store))

    return [
        Route("/feed/results", feed),
        Route("/held", held),
        Route("/tasks", tasks),
        Route("/tasks/{id}/retry", retry, methods=["POST"]),
        Route("/export", everything),
        snapshot_route(laboratory.store),
        *criticals.routes(store, hidden=laboratory.hides),
    ]


def pages(store: Store) -> tuple[Page, ...]:
    """The export of a laboratory's store: orders, reports, patients. Raises StoreError."""
    return (
        lambda after, limit: _orders(store, after, limit),
        lambda after, limit: _reports(store, after, limit),
        lambda after, limit: _patients(store, after, limit),
    )


def _orders(store: Store, after: int, limit: int) -> tuple[list[Record], int]:
    def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return connection.execute(
            "SELECT id, placer, patient, tests, stat, received_at, copies FROM lab_order"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (after, limit),
        ).fetchall()

    rows = store.read(work)
    records = []
    for _, placer, patient, tests, stat, at, copies in rows:
        codes = msgspec.json.decode(tests, type=list[str])
        digest = order_digest(placer, patient, codes, bool(stat))
        records.append(Record("order", placer, patient, "active", 1, digest, copies, at))
    return records, rows[-1][0] if rows else after


def _reports(store: Store, after: int, limit: int) -> tuple[list[Record], int]:
    def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return connection.execute(_REPORTS, (after, limit)).fetchall()

    rows = store.read(work)
    records = []
    for _, specimen, placer, patient, text, status, version, at in rows:
        values = msgspec.json.decode(text, type=list[ReportValue])
        digest = report_digest(specimen, placer, status, values)
        record = Record("report", specimen, patient, status, version, digest, stored_at=at)
        records.append(record)
    return records, rows[-1][0] if rows else after


def _patients(store: Store, after: int, limit: int) -> tuple[list[Record], int]:
    """Whom the laboratory knows, from ADT; one who was merged carries the survivor."""

    def work(connection: sqlite3.Connection) -> list[tuple[int, str, str | None]]:
        return connection.execute(
            "SELECT rowid, mrn, merged_into FROM patient WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (after, limit),
        ).fetchall()

    rows = store.read(work)
    records = [
        Record("patient", mrn, survivor or mrn, "merged" if survivor else "active", 1, "")
        for _, mrn, survivor in rows
    ]
    return records, rows[-1][0] if rows else after
