"""What scheduling stores: appointments, rebooking tasks, decisions, merges; and every change to it.

A `Change` says how the rows look afterwards and which notices go out. The same `apply` serves the
desk and the replay of the log, so that a replay cannot do anything else than the desk did. It
refuses to open a transaction: every function works inside its caller's.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from stacks.hospital.queue import QUEUE_SCHEMA, push
from stacks.hospital.wire import hl7

ENGINE = "engine"
TAKING = ("booked", "fulfilled")  # statuses that hold a slot
SCHEDULING_SCHEMA = (
    QUEUE_SCHEMA
    + """
CREATE TABLE IF NOT EXISTS appointment (
  row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
  patient TEXT NOT NULL, service TEXT NOT NULL, clinic TEXT NOT NULL, slot TEXT NOT NULL,
  at REAL NOT NULL, status TEXT NOT NULL, version INTEGER NOT NULL, phone TEXT NOT NULL,
  decision TEXT NOT NULL, request TEXT NOT NULL, stored_at REAL NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS appointment_slot ON appointment (slot)
  WHERE status IN ('booked', 'fulfilled');
CREATE INDEX IF NOT EXISTS appointment_patient ON appointment (patient);
CREATE INDEX IF NOT EXISTS appointment_at ON appointment (at);
CREATE TABLE IF NOT EXISTS slot (
  row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
  service TEXT NOT NULL, clinic TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS slot_schedule ON slot (service, clinic);
CREATE TABLE IF NOT EXISTS task (
  row INTEGER PRIMARY KEY AUTOINCREMENT, appointment TEXT NOT NULL UNIQUE,
  patient TEXT NOT NULL, decision TEXT NOT NULL, status TEXT NOT NULL, rebooked TEXT NOT NULL,
  authored_at REAL NOT NULL, changed_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS decision (
  id TEXT PRIMARY KEY, asked TEXT NOT NULL, decided_at REAL NOT NULL, cancelled TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS merge (prior TEXT PRIMARY KEY, survivor TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mode (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS unlogged (seq INTEGER PRIMARY KEY, line BLOB NOT NULL);
"""
)
BUSINESS_TABLES = ("appointment", "slot", "task", "decision", "merge", "mode", "queue")
"""What a restore replaces. `unlogged` and `position` belong to the log, not to the business."""


class Booked(msgspec.Struct, frozen=True, array_like=True):
    """One appointment as stored; times in Unix seconds."""

    id: str
    patient: str
    service: str
    clinic: str
    slot: str
    at: float
    status: str
    version: int
    phone: str
    decision: str
    request: str
    """The key of the request that made this version, so that its repetition is recognised."""
    stored_at: float


class Rebooking(msgspec.Struct, frozen=True, array_like=True):
    """The task to find another date for one cancelled appointment."""

    appointment: str
    patient: str
    decision: str
    status: str
    """requested or completed."""
    rebooked: str
    """The new appointment; empty until there is one."""
    authored_at: float
    changed_at: float


class Decided(msgspec.Struct, frozen=True, array_like=True):
    """One decision of the crisis cell: what was asked and what it cancelled, both JSON text."""

    id: str
    asked: str
    decided_at: float
    cancelled: str


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """One SIU to send: its MSH-10, its event, and the appointment of the same change."""

    control_id: str
    event: str
    appointment: str


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that one transaction did: rows as they are afterwards, and notices, in order."""

    seq: int
    at: float
    appointments: list[Booked] = []
    tasks: list[Rebooking] = []
    decision: Decided | None = None
    merge: tuple[str, str] | None = None
    """(prior mrn, surviving mrn)"""
    mode: str | None = None
    notices: list[Notice] = []


def notice(event: str, one: Booked) -> Notice:
    return Notice(hl7.new_control_id(), event, one.id)


def record(connection: sqlite3.Connection, change: Change) -> None:
    """Do a new change, and leave its line for the log, in the caller's transaction."""
    apply(connection, change)
    connection.execute(
        "INSERT INTO unlogged VALUES (?, ?)", (change.seq, msgspec.json.encode(change))
    )


def apply(connection: sqlite3.Connection, change: Change) -> None:
    """Put a change's rows and notices in place; a slot taken twice is sqlite3.IntegrityError."""
    connection.executemany(_UPSERT_APPOINTMENT, map(msgspec.structs.astuple, change.appointments))
    connection.executemany(
        "INSERT OR IGNORE INTO slot (id, service, clinic) VALUES (?, ?, ?)",
        [(one.slot, one.service, one.clinic) for one in change.appointments],
    )
    connection.executemany(_UPSERT_TASK, map(msgspec.structs.astuple, change.tasks))
    if change.decision is not None:
        connection.execute(
            "INSERT OR REPLACE INTO decision VALUES (?, ?, ?, ?)",
            msgspec.structs.astuple(change.decision),
        )
    if change.merge is not None:
        prior, survivor = change.merge
        connection.execute("UPDATE merge SET survivor = ? WHERE survivor = ?", (survivor, prior))
        connection.execute("INSERT OR REPLACE INTO merge VALUES (?, ?)", (prior, survivor))
    if change.mode is not None:
        connection.execute("INSERT OR REPLACE INTO mode VALUES (1, ?)", (change.mode,))
    about = {one.id: one for one in change.appointments}
    for one in change.notices:
        push(connection, ENGINE, one.control_id, payload(one, about[one.appointment], change.at))
    connection.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (change.seq,))


def payload(note: Notice, one: Booked, at: float) -> bytes:
    """The SIU; the same notice always gives the same bytes, so that a repetition is known."""
    header = hl7.Header(note.control_id, sender="SCHEDULING", receiver="ENGINE", at=at)
    return hl7.build(
        header,
        hl7.Appointment(
            note.event, one.id, one.patient, one.service, one.clinic, one.slot, one.at,
            one.status, one.version, one.phone, one.decision,
        ),
    )  # fmt: skip


def next_change(connection: sqlite3.Connection, **parts: Any) -> Change:
    """A change under the next number, now."""
    return Change(seq=position(connection) + 1, at=time.time(), **parts)


def position(connection: sqlite3.Connection) -> int:
    """The number of the last change in this database; 0 = none."""
    row = connection.execute("SELECT seq FROM position").fetchone()
    return int(row[0]) if row else 0


def find(connection: sqlite3.Connection, appointment: str) -> Booked | None:
    return next(select(connection, "id = ?", (appointment,)), None)


def holder(connection: sqlite3.Connection, slot: str) -> Booked | None:
    """The appointment that holds a slot."""
    where = "slot = ? AND status IN ('booked', 'fulfilled')"
    return next(select(connection, where, (slot,)), None)


def select(
    connection: sqlite3.Connection, where: str, values: Iterable[object]
) -> Iterator[Booked]:
    """Appointments by a condition of this module's callers (never of a request)."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM appointment WHERE {where}", tuple(values)
    )  # fmt: skip
    return (Booked(*row) for row in rows)


def find_task(connection: sqlite3.Connection, appointment: str) -> Rebooking | None:
    row = connection.execute(
        "SELECT appointment, patient, decision, status, rebooked, authored_at, changed_at"
        " FROM task WHERE appointment = ?",
        (appointment,),
    ).fetchone()
    return Rebooking(*row) if row else None


def current(connection: sqlite3.Connection, mrn: str) -> str:
    """The mrn that a patient has today: merges are followed (they are never chains)."""
    row = connection.execute("SELECT survivor FROM merge WHERE prior = ?", (mrn,)).fetchone()
    return str(row[0]) if row else mrn


def mode_of(connection: sqlite3.Connection) -> str:
    """open or read-only."""
    row = connection.execute("SELECT name FROM mode").fetchone()
    return str(row[0]) if row else "open"


_COLUMNS = ", ".join(Booked.__struct_fields__)
_TASK_COLUMNS = ", ".join(Rebooking.__struct_fields__)


def _upsert(table: str, key: str, columns: str) -> str:
    names = columns.split(", ")
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name != key)
    marks = ", ".join("?" * len(names))
    return (
        f"INSERT INTO {table} ({columns}) VALUES ({marks})"
        f" ON CONFLICT ({key}) DO UPDATE SET {changes}"
    )


_UPSERT_APPOINTMENT = _upsert("appointment", "id", _COLUMNS)
_UPSERT_TASK = _upsert("task", "appointment", _TASK_COLUMNS)
