"""Tables and indexes of a running PostgreSQL verified from inside: amcheck, page by page.

It refuses to stop at the first damage: everything is looked at, and every damage is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from stacks.hospital.log import describe

VERIFY_S = 60.0
STEP_S = 20
TOLD_OF_ONE = 3
_RELATIONS = """
SELECT c.oid, n.nspname || '.' || c.relname, c.relkind::text FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_am a ON a.oid = c.relam
 WHERE c.relpersistence = 'p'
   AND (c.relkind IN ('r', 't', 'm') OR (c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid))
 ORDER BY c.relkind DESC, c.oid
"""
_TABLE = "SELECT blkno, msg FROM verify_heapam(%s::oid, check_toast := true)"
_INDEX = "SELECT bt_index_check(%s::oid::regclass, %s)"

Connect = Callable[[], psycopg.Connection[Any]]


@dataclass(slots=True)
class Verified:
    """What was looked at, and what is wrong."""

    tables: int = 0
    indexes: int = 0
    damages: list[str] = field(default_factory=list)
    skipped: str = ""
    """Why not everything was looked at; empty when it was."""


def verify(connect: Connect, what: str, install: bool = False) -> Verified:
    """Every permanent table and B-tree of the database that `connect` (a superuser's) leads to.

    `install`: make the extension where it is not there, which a standby cannot. A damage that
    ends a session costs that session only.
    """
    found, end = Verified(), time.monotonic() + VERIFY_S
    try:
        with _session(connect) as session:
            if install:
                session.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
            names = session.execute("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'")
            if names.fetchone() is None:
                found.skipped = f"{what}: amcheck is not installed"
                return found
            relations = session.execute(_RELATIONS.encode()).fetchall()
    except psycopg.Error as error:
        found.skipped = f"{what}: {describe(error)}"
        return found
    left = list(relations)
    while left:
        try:
            with _session(connect) as session:
                while left:
                    if time.monotonic() > end:
                        found.skipped = f"{what}: {len(left)} relations not looked at in time"
                        return found
                    oid, name, kind = left.pop(0)
                    _one(session, oid, name, kind, what, found)
        except psycopg.OperationalError as error:
            found.skipped = f"{what}: {describe(error)}"
            return found
    return found


def _session(connect: Connect) -> psycopg.Connection[Any]:
    session = connect()
    session.execute(f"SET statement_timeout = '{STEP_S}s'")
    return session


def _one(
    session: psycopg.Connection[Any], oid: int, name: str, kind: str, what: str, found: Verified
) -> None:
    try:
        if kind == "i":
            found.indexes += 1
            session.execute(_INDEX, (oid, True))
            return
        found.tables += 1
        wrong = session.execute(_TABLE, (oid,)).fetchall()
        found.damages += [f"{what}: {name} page {page}: {why}" for page, why in wrong[:TOLD_OF_ONE]]
    except psycopg.errors.UndefinedTable:
        return  # dropped meanwhile
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        found.damages.append(f"{what}: {name}: {describe(error)}")
