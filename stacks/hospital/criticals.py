"""The list of critical results that a carer must acknowledge, kept in a service's own Store.

It refuses to forget an entry or to change who acknowledged it first. Critical id = specimen.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

import msgspec
from starlette.routing import BaseRoute

from stacks.hospital.pages import instant, number
from stacks.hospital.store import Store
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body

CRITICALS_SCHEMA = """
CREATE TABLE IF NOT EXISTS critical (
  specimen TEXT PRIMARY KEY,
  placer TEXT NOT NULL,
  patient TEXT NOT NULL,
  found_at REAL NOT NULL,
  carer TEXT,
  acked_at REAL
);
CREATE INDEX IF NOT EXISTS critical_open ON critical (found_at) WHERE carer IS NULL;
"""
LISTED_MAX = 1_000
CARER_CHARS_MAX = 200


class Critical(msgspec.Struct, frozen=True):
    """One entry; times in RFC 3339; `acknowledged_by` null = nobody did yet."""

    id: str
    placer: str
    patient: str
    raised_at: str
    acknowledged_by: str | None
    acknowledged_at: str | None


_COLUMNS = "specimen, placer, patient, found_at, carer, acked_at"
_Row = tuple[str, str, str, float, str | None, float | None]


def _critical(row: _Row) -> Critical:
    specimen, placer, patient, found_at, carer, acked_at = row
    at = instant(acked_at) if acked_at is not None else None
    return Critical(specimen, placer, patient, instant(found_at), carer, at)


class _Carer(msgspec.Struct):
    carer: str


def enter(connection: sqlite3.Connection, specimen: str, placer: str, patient: str) -> None:
    """List a critical result, inside the caller's own Store.write; once per specimen."""
    connection.execute(
        "INSERT OR IGNORE INTO critical (specimen, placer, patient, found_at) VALUES (?, ?, ?, ?)",
        (specimen, placer, patient, time.time()),
    )


def routes(store: Store, hidden: Callable[[str], bool] | None = None) -> list[BaseRoute]:
    """GET /criticals?open=1 and POST /criticals/{id}/ack {"carer": name}."""

    async def listed(request: Request) -> Response:
        only_open = number(request, "open", 0, 1)
        where = "WHERE carer IS NULL" if only_open else ""
        rows = store.read(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} FROM critical {where} ORDER BY found_at LIMIT ?",
                (LISTED_MAX,),
            ).fetchall()
        )
        items = [_critical(row) for row in rows if not (hidden and hidden(row[0]))]
        return answer(items, media_type=JSON)

    async def acknowledge(request: Request) -> Response:
        try:
            carer = msgspec.json.decode(await body(request), type=_Carer).carer.strip()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, "invalid", f'the body must be {{"carer": name}}: {error}') from None
        if not carer or len(carer) > CARER_CHARS_MAX:
            raise Refusal(400, "required", "a critical result is acknowledged by a named carer")
        specimen = request.path_params["id"]

        def work(connection: sqlite3.Connection) -> _Row | None:
            connection.execute(
                "UPDATE critical SET carer = ?, acked_at = ? WHERE specimen = ? AND carer IS NULL",
                (carer, time.time(), specimen),
            )
            found: _Row | None = connection.execute(
                f"SELECT {_COLUMNS} FROM critical WHERE specimen = ?", (specimen,)
            ).fetchone()
            return found

        row = await store.write(work)
        if row is None:
            raise Refusal(404, "not-found", f"no critical result {specimen[:64]!r} is listed here")
        return answer(_critical(row), media_type=JSON)

    return [
        Route("/criticals", listed),
        Route("/criticals/{id}/ack", acknowledge, methods=["POST"]),
    ]
