"""What billing keeps: every charge once, as it came, and what a visit amounts to.

    DFT^P03 ──▶ charge (own SQLite) ──▶ statement of a visit

It refuses to keep a charge twice under its number, or another one under a known number.
"""

from __future__ import annotations

import sqlite3
import time

import msgspec

from stacks.hospital.heard import SEEN_SCHEMA, is_new, tidy
from stacks.hospital.records import Record, digest
from stacks.hospital.store import Store
from stacks.hospital.wire.hl7 import Charge, Header, Hl7Error

BILLING_SCHEMA = (
    SEEN_SCHEMA
    + """
CREATE TABLE IF NOT EXISTS charge (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  charge TEXT NOT NULL UNIQUE,
  mrn TEXT NOT NULL, visit TEXT NOT NULL, code TEXT NOT NULL, quantity INTEGER NOT NULL,
  at REAL NOT NULL, stored_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS charge_visit ON charge (visit);
CREATE INDEX IF NOT EXISTS charge_mrn ON charge (mrn);
"""
)
PRICES = {"ADMISSION": 2_500, "STAY": 41_000}
"""Cents, fictitious, as everything here; an unknown code is kept and costs nothing yet."""
KINDS = {"ADMISSION": "charge", "STAY": "stay"}
"""Code → kind of record in the export; its key is the visit (other codes: its number)."""
TIDY_EVERY = 5_000
_COLUMNS = "id, charge, mrn, visit, code, quantity, at, stored_at"


class Kept(msgspec.Struct, frozen=True):
    """One charge as stored; `at` and `stored_at` in Unix seconds."""

    id: int
    charge: str
    mrn: str
    visit: str
    code: str
    quantity: int
    at: float
    stored_at: float

    @property
    def cents(self) -> int:
        """What it costs."""
        return self.quantity * PRICES.get(self.code, 0)


class BillingBook:
    """The charges of one Store (its schema must contain BILLING_SCHEMA)."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def keep(self, messages: list[tuple[Header, Charge]]) -> None:
        """Store messages in one commit; repetitions change nothing. Raises Hl7Error, StoreError."""

        def work(connection: sqlite3.Connection) -> None:
            for header, one in messages:
                _keep(connection, header, one)

        await self.store.write(work)

    def charges(self, column: str, value: str, limit: int = 1_000) -> list[Kept]:
        """Charges of a `visit` or of a patient (`mrn`), oldest first. Raises StoreError."""
        assert column in ("visit", "mrn")
        rows = self.store.read(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} FROM charge WHERE {column} = ? ORDER BY id LIMIT ?",
                (value, limit),
            ).fetchall()
        )
        return [Kept(*row) for row in rows]

    def totals(self) -> dict[str, int]:
        """Number of charges by code. Raises StoreError."""
        return dict(
            self.store.read(
                lambda connection: connection.execute(
                    "SELECT code, count(*) FROM charge GROUP BY code ORDER BY code"
                ).fetchall()
            )
        )

    def page(self, after: int, limit: int) -> tuple[list[Record], int]:
        """One page of the export. Raises StoreError."""
        rows = self.store.read(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} FROM charge WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()
        )
        found = [_record(Kept(*row)) for row in rows]
        return found, rows[-1][0] if rows else after


def _keep(connection: sqlite3.Connection, header: Header, one: Charge) -> None:
    now = time.time()
    if not is_new(connection, header.sender, header.control_id, now):
        return
    row = connection.execute(
        "INSERT OR IGNORE INTO charge (charge, mrn, visit, code, quantity, at, stored_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (one.charge, one.mrn, one.visit, one.code, one.quantity, one.at, now),
    )
    if row.rowcount != 1:
        known = connection.execute(
            "SELECT visit, code, quantity FROM charge WHERE charge = ?", (one.charge,)
        ).fetchone()
        if known != (one.visit, one.code, one.quantity):
            raise Hl7Error("205", f"FT1-2 {one.charge[:40]!r} is another charge already")
    elif row.lastrowid and row.lastrowid % TIDY_EVERY == 0:
        tidy(connection, now)


def _record(one: Kept) -> Record:
    kind = KINDS.get(one.code)
    content = digest({"visit": one.visit, "code": one.code, "quantity": one.quantity})
    return Record(
        kind or "charge", one.visit if kind else one.charge, one.mrn, "kept", 1, content,
        stored_at=one.stored_at,
    )  # fmt: skip
