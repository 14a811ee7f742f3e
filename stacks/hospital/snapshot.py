"""Hands out a consistent copy of a service's own SQLite file: what the backup vault comes for.

    routes=[..., snapshot_route(store)]     # GET /snapshot.db, hash in X-SHA256, rows in X-Rows

SQLite's online backup copies page by page while the service goes on writing. It refuses to hand
out what is not a database of one instant.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path

from stacks.hospital.bugs import planted
from stacks.hospital.log import describe
from stacks.hospital.store import Store
from stacks.hospital.web import Refusal, Request, Response, Route

SQLITE = "application/vnd.sqlite3"
PAGES = 512
BUSY_S = 5.0


def snapshot_route(store: Store) -> Route:
    """GET /snapshot.db: the store as it was committed at one instant."""

    async def snapshot(_: Request) -> Response:
        try:
            content, rows = await asyncio.to_thread(copy, store.path)
        except sqlite3.Error as error:
            raise Refusal(503, "transient", f"{store.path.name}: {describe(error)}") from None
        sha256 = hashlib.sha256(content).hexdigest()
        counted = json.dumps(rows, separators=(",", ":"))
        return Response(content, 200, {"X-SHA256": sha256, "X-Rows": counted}, SQLITE)

    return Route("/snapshot.db", snapshot)


def copy(path: Path) -> tuple[bytes, dict[str, int]]:
    """The bytes of a database file that holds what was committed, and how many rows each of its
    tables had at that instant, counted in the original. Raises sqlite3.Error."""
    with (
        contextlib.closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as source,
        contextlib.closing(sqlite3.connect(":memory:")) as target,
    ):
        source.execute("BEGIN")  # counts and pages of one instant
        rows = counted(source)
        if planted("snapshot-torn"):
            return path.read_bytes(), rows  # what was written last lies in the file beside it
        source.backup(target, pages=PAGES)
        return target.serialize(), rows


def counted(connection: sqlite3.Connection) -> dict[str, int]:
    """Table → rows, of the service's own tables. Raises sqlite3.Error."""
    return {
        table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
        for table in sorted(tables(connection))
    }


def tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables, without SQLite's own. Raises sqlite3.Error."""
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name for (name,) in found if not name.startswith("sqlite_")}
