"""The scanners' console: examinations in, finished ones out, the buffer, tasks, export.

It refuses an examination without patient, of an unknown modality, or without a number of images.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

import msgspec

from stacks.hospital.imaging.instances import STORAGE, Examination
from stacks.hospital.pages import LIMIT_MAX, export, instant, number
from stacks.hospital.records import Record
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from stacks.hospital.imaging.modalities import Scanners

TEXT_CHARS_MAX = 64
INSTANCES_MAX = 5_000
PRIORITIES = ("STAT", "HIGH", "ROUTINE")
_CONSOLE = """
SELECT f.seq, e.exam, e.study, e.accession, e.patient, e.placer, e.modality, e.instances,
  e.downtime, e.finished_at
FROM finished AS f JOIN examination AS e ON e.exam = f.exam WHERE f.seq > ? ORDER BY f.seq LIMIT ?
"""
_BUFFER = """
SELECT coalesce(sum(state = 'held'), 0), coalesce(sum(state = 'sent'), 0),
  coalesce(sum(committed_at IS NOT NULL), 0), coalesce(sum(deleted_at IS NOT NULL), 0),
  coalesce(sum(CASE WHEN data IS NULL THEN 0 ELSE size END), 0), coalesce(sum(state = 'parked'), 0)
FROM image
"""
_IMAGES = """
SELECT id, sop_uid, patient, state, digest, acquired_at, deleted_at FROM image
WHERE id > ? ORDER BY id LIMIT ?
"""
_STUDIES = """
SELECT f.seq, e.study, e.patient, e.downtime, e.placer, e.finished_at
FROM finished AS f JOIN examination AS e ON e.exam = f.exam WHERE f.seq > ? ORDER BY f.seq LIMIT ?
"""
_TASKS = """
SELECT 'image', id, sop_uid, patient, reason FROM image WHERE state = 'parked'
UNION ALL
SELECT 'report', s.id, s.exam, e.patient, s.reason FROM step AS s
JOIN examination AS e ON e.exam = s.exam WHERE s.reason IS NOT NULL LIMIT 1000
"""
_RETRY = {
    "image": "UPDATE image SET state = 'held', reason = NULL WHERE id = ? AND state = 'parked'",
    "report": "UPDATE step SET reason = NULL WHERE id = ? AND reason IS NOT NULL",
}


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A patient on the table, as the radiographer enters it."""

    exam: str
    modality: str
    patient: str
    instances: int
    family: str = ""
    given: str = ""
    birth: str = ""
    placer: str = ""
    priority: str = "ROUTINE"


def routes(scanners: Scanners) -> list[BaseRoute]:
    """The HTTP routes over the scanners."""

    async def examine(request: Request) -> Response:
        try:
            table = msgspec.json.decode(await body(request), type=Table)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, "invalid", f"not an examination: {error}") from None
        _check(table)
        one = Examination(
            table.exam, table.modality, table.patient, table.family, table.given, table.birth,
            placer=table.placer, priority=table.priority,
        )  # fmt: skip
        new = await scanners.examine(msgspec.json.encode(table), one, table.instances)
        return answer({"exam": table.exam, "new": new}, 201 if new else 200, media_type=JSON)

    async def console(request: Request) -> Response:
        after, limit = number(request, "after", 0), number(request, "limit", 200, LIMIT_MAX)
        rows = scanners.store.read(
            lambda connection: connection.execute(_CONSOLE, (after, limit)).fetchall()
        )
        names = ("seq", "exam", "study", "accession", "patient", "placer", "modality", "instances")
        items = [
            {**dict(zip(names, row[:8], strict=True)), "downtime": bool(row[8]),
             "finished_at": instant(row[9])}
            for row in rows
        ]  # fmt: skip
        return answer(items, media_type=JSON)

    async def buffer(_: Request) -> Response:
        row = scanners.store.read(lambda connection: connection.execute(_BUFFER).fetchone())
        names = ("held", "sent", "committed", "deleted", "bytes", "parked")
        found: dict[str, Any] = dict(zip(names, row, strict=True))
        found["capacity_instances"] = sum(scanners.capacities.values())
        found["capacities"] = scanners.capacities
        return answer(found, media_type=JSON)

    async def queues(_: Request) -> Response:
        return answer({"destinations": _queues(scanners)}, media_type=JSON)

    async def tasks(_: Request) -> Response:
        rows = scanners.store.read(lambda connection: connection.execute(_TASKS).fetchall())
        names = ("kind", "id", "key", "patient", "reason")
        return answer([dict(zip(names, row, strict=True)) for row in rows], media_type=JSON)

    async def retry(request: Request) -> Response:
        kind, text = request.path_params["kind"], request.path_params["id"]
        known = kind in _RETRY and text.isascii() and text.isdecimal() and len(text) <= 16
        if not known or not await scanners.store.write(
            lambda c: c.execute(_RETRY[kind], (int(text),)).rowcount
        ):
            raise Refusal(404, "not-found", f"no task {kind[:20]!r} {text[:20]!r}; see GET /tasks")
        return answer({"kind": kind, "id": int(text), "decision": "retry"}, media_type=JSON)

    async def everything(_: Request) -> Response:
        return export(
            lambda after, limit: _images(scanners, after, limit),
            lambda after, limit: _studies(scanners, after, limit),
        )

    return [
        Route("/examinations", examine, methods=["POST"]),
        Route("/console", console),
        Route("/buffer", buffer),
        Route("/queues", queues),
        Route("/tasks", tasks),
        Route("/tasks/{kind}/{id}/retry", retry, methods=["POST"]),
        Route("/export", everything),
    ]


def _check(table: Table) -> None:
    wanted = f"1 to {TEXT_CHARS_MAX} printable characters"
    for name in ("exam", "patient"):
        if not getattr(table, name).strip():
            raise Refusal(400, "value", f"{name} must be {wanted}")
    for name in ("exam", "patient", "family", "given", "birth", "placer"):
        text = getattr(table, name)
        if len(text) > TEXT_CHARS_MAX or not text.isprintable() or set(text) & set("^\\="):
            raise Refusal(400, "value", f"{name} must be {wanted}, without ^ \\ and =")
    if table.modality not in STORAGE:
        raise Refusal(400, "value", f"modality is one of {', '.join(STORAGE)}")
    if table.priority not in PRIORITIES:
        raise Refusal(400, "value", f"priority is one of {', '.join(PRIORITIES)}")
    if not 1 <= table.instances <= INSTANCES_MAX:
        raise Refusal(400, "value", f"an examination has 1 to {INSTANCES_MAX} images")


def _queues(scanners: Scanners) -> dict[str, Any]:
    def depths(connection: sqlite3.Connection) -> tuple[Any, ...]:
        held = connection.execute(
            "SELECT count(*), min(acquired_at) FROM image WHERE state = 'held'"
        ).fetchone()
        steps = connection.execute(
            "SELECT count(*), min(at) FROM step WHERE told_at IS NULL AND reason IS NULL"
        ).fetchone()
        return *held, *steps

    held, held_at, steps, steps_at = scanners.store.read(depths)
    now = time.time()
    trips = [one.trip for one in scanners.carriers.values()]
    teller = scanners.teller.trip if scanners.teller is not None else None
    return {
        "dicom-router": {
            "depth": held,
            "oldest_s": round(now - held_at, 3) if held else 0.0,
            "delivered": sum(trip.delivered for trip in trips),
            "failures": sum(trip.failures for trip in trips),
            "associations": sum(trip.associations for trip in trips),
            "trouble": next((trip.trouble for trip in trips if trip.trouble), None),
        },
        "ris": {
            "depth": steps,
            "oldest_s": round(now - steps_at, 3) if steps else 0.0,
            "delivered": teller.delivered if teller else 0,
            "failures": teller.failures if teller else 0,
            "trouble": (teller.trouble or None) if teller else None,
        },
    }


def _images(scanners: Scanners, after: int, limit: int) -> tuple[list[Record], int]:
    rows = scanners.store.read(lambda c: c.execute(_IMAGES, (after, limit)).fetchall())
    records = [
        Record("instance", sop_uid, patient, "held" if state == "parked" else state, 0, digest,
               stored_at=deleted_at or acquired_at)
        for _, sop_uid, patient, state, digest, acquired_at, deleted_at in rows
    ]  # fmt: skip
    return records, rows[-1][0] if rows else after


def _studies(scanners: Scanners, after: int, limit: int) -> tuple[list[Record], int]:
    rows = scanners.store.read(lambda c: c.execute(_STUDIES, (after, limit)).fetchall())
    records = [
        Record("study", study, patient, "downtime" if downtime else "scheduled", 0, placer,
               stored_at=finished_at)
        for _, study, patient, downtime, placer, finished_at in rows
    ]  # fmt: skip
    return records, rows[-1][0] if rows else after
