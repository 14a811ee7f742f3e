"""The analysers' console: tubes in, finished specimens, local printer of criticals, export.

It refuses a tube without barcode, order, patient or tests.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec

from stacks.hospital import criticals
from stacks.hospital.pages import LIMIT_MAX, export, instant, number
from stacks.hospital.records import Record, ReportValue, report_digest
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from stacks.hospital.analysers import Line

TEXT_CHARS_MAX = 64
TESTS_MAX = 50
_CONSOLE = """
SELECT f.seq, f.specimen, s.placer, s.patient, f.finished_at, s.critical,
  EXISTS (SELECT 1 FROM queue WHERE queue.control_id = f.control_id)
FROM finished AS f JOIN specimen AS s ON s.specimen = f.specimen
WHERE f.seq > ? ORDER BY f.seq LIMIT ?
"""
_EXPORT = """
SELECT s.rowid, s.specimen, s.placer, s.patient, f.vals, coalesce(f.finished_at, s.loaded_at),
  EXISTS (SELECT 1 FROM queue WHERE queue.control_id = f.control_id)
FROM specimen AS s LEFT JOIN finished AS f ON f.specimen = s.specimen
WHERE s.rowid > ? ORDER BY s.rowid LIMIT ?
"""


class Tube(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A barcoded tube as the technician puts it on the line."""

    specimen: str
    placer: str
    patient: str
    tests: list[str]
    stat: bool = False
    critical: bool = False


def routes(line: Line) -> list[BaseRoute]:
    """The HTTP routes over one line."""

    async def load(request: Request) -> Response:
        try:
            tube = msgspec.json.decode(await body(request), type=Tube)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, "invalid", f"not a tube: {error}") from None
        _check(tube)
        new = await line.load(tube)
        return answer({"specimen": tube.specimen, "new": new}, 201 if new else 200, media_type=JSON)

    async def console(request: Request) -> Response:
        after, limit = number(request, "after", 0), number(request, "limit", 200, LIMIT_MAX)
        rows = line.store.read(
            lambda connection: connection.execute(_CONSOLE, (after, limit)).fetchall()
        )
        items = [
            {"seq": seq, "specimen": specimen, "placer": placer, "patient": patient,
             "finished_at": instant(finished_at), "critical": bool(critical), "held": bool(held)}
            for seq, specimen, placer, patient, finished_at, critical, held in rows
        ]  # fmt: skip
        return answer(items, media_type=JSON)

    async def everything(_: Request) -> Response:
        return export(lambda after, limit: _records(line, after, limit))

    return [
        Route("/specimens", load, methods=["POST"]),
        Route("/console", console),
        Route("/export", everything),
        *criticals.routes(line.store),
    ]


def _check(tube: Tube) -> None:
    named = (("specimen", tube.specimen), ("placer", tube.placer), ("patient", tube.patient))
    for name, text in (*named, *(("tests", test) for test in tube.tests)):
        if not text.strip() or len(text) > TEXT_CHARS_MAX or not text.isprintable():
            wanted = f"1 to {TEXT_CHARS_MAX} printable characters"
            raise Refusal(400, "value", f"{name} must be {wanted}")
    if not 1 <= len(tube.tests) <= TESTS_MAX:
        raise Refusal(400, "value", f"a tube has 1 to {TESTS_MAX} tests")


def _records(line: Line, after: int, limit: int) -> tuple[list[Record], int]:
    def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return connection.execute(_EXPORT, (after, limit)).fetchall()

    rows = line.store.read(work)
    records = []
    for _, specimen, placer, patient, values, at, held in rows:
        status = "running" if values is None else "held" if held else "delivered"
        found = msgspec.json.decode(values, type=list[ReportValue]) if values else []
        digest = report_digest(specimen, placer, "final", found)
        records.append(Record("specimen", specimen, patient, status, 1, digest, stored_at=at))
    return records, rows[-1][0] if rows else after
