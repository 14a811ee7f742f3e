"""Radiology's book: patients, merges and imaging orders, as steps inside one transaction.

    order (OMI or desk) ──▶ accession + study UID ──▶ open on the worklist ──▶ completed

It refuses to give two orders the same accession, and to take another order under a known placer.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

import msgspec

from stacks.hospital.heard import SEEN_SCHEMA, current
from stacks.hospital.imaging.instances import uid
from stacks.hospital.wire.hl7 import Adt, Hl7Error, ImagingOrder

RIS_SCHEMA = (
    SEEN_SCHEMA
    + """
CREATE TABLE IF NOT EXISTS patient (
  mrn TEXT PRIMARY KEY, merged_into TEXT,
  family TEXT NOT NULL, given TEXT NOT NULL, birth TEXT NOT NULL, sex TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS imaging_order (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  placer TEXT NOT NULL UNIQUE, patient TEXT NOT NULL, modality TEXT NOT NULL,
  codes TEXT NOT NULL, priority TEXT NOT NULL, visit TEXT NOT NULL, ward TEXT NOT NULL,
  accession TEXT UNIQUE, study TEXT NOT NULL UNIQUE,
  status TEXT NOT NULL DEFAULT 'active',
  received_at REAL NOT NULL, copies INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS imaging_order_patient ON imaging_order (patient);
CREATE INDEX IF NOT EXISTS imaging_order_active ON imaging_order (id) WHERE status = 'active';
CREATE TABLE IF NOT EXISTS examination (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  study TEXT NOT NULL UNIQUE, accession TEXT NOT NULL, placer TEXT NOT NULL,
  patient TEXT NOT NULL, said_patient TEXT NOT NULL, family TEXT NOT NULL,
  modality TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'in progress',
  match TEXT NOT NULL DEFAULT 'unmatched', how TEXT NOT NULL DEFAULT '',
  reason TEXT NOT NULL DEFAULT '', order_placer TEXT, version INTEGER NOT NULL DEFAULT 1,
  reported_at REAL NOT NULL, matched_at REAL, settles_at REAL
);
CREATE INDEX IF NOT EXISTS examination_patient ON examination (patient);
CREATE INDEX IF NOT EXISTS examination_order ON examination (order_placer);
CREATE INDEX IF NOT EXISTS examination_open ON examination (id) WHERE match = 'unmatched';
CREATE TABLE IF NOT EXISTS step (
  uid TEXT PRIMARY KEY, study TEXT NOT NULL, state TEXT NOT NULL, station TEXT NOT NULL,
  began_at REAL NOT NULL, ended_at REAL
);
CREATE INDEX IF NOT EXISTS step_study ON step (study);
"""
)
OPEN = (
    "o.status = 'active' AND NOT EXISTS (SELECT 1 FROM examination AS e"
    " WHERE e.order_placer = o.placer AND e.state <> 'discontinued')"
)
"""An order that still waits for its examination; one that was broken off does not count."""


class Conflict(Exception):
    """The placer number belongs to another order already; the text says which."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One order of the book with its patient as known today."""

    placer: str
    patient: str
    modality: str
    codes: tuple[str, ...]
    priority: str
    visit: str
    accession: str
    study: str
    status: str
    received_at: float
    family: str
    given: str
    birth: str  # YYYYMMDD
    sex: str


_ENTRY = (
    "SELECT o.placer, o.patient, o.modality, o.codes, o.priority, o.visit, o.accession, o.study,"
    " o.status, o.received_at, coalesce(p.family, ''), coalesce(p.given, ''),"
    " coalesce(p.birth, ''), coalesce(p.sex, '')"
    " FROM imaging_order AS o LEFT JOIN patient AS p ON p.mrn = o.patient"
)


def take_adt(connection: sqlite3.Connection, adt: Adt) -> str:
    """Know the patient; on A40 move orders and examinations. Returns the patient concerned."""
    connection.execute(
        "INSERT INTO patient VALUES (?, NULL, ?, ?, ?, ?) ON CONFLICT (mrn) DO UPDATE SET"
        " family = excluded.family, given = excluded.given, birth = excluded.birth,"
        " sex = excluded.sex WHERE excluded.family <> ''",
        (adt.mrn, adt.family, adt.given, adt.birth, adt.sex),
    )
    survivor = current(connection, adt.mrn)
    if adt.event != "A40":
        return survivor
    if survivor == adt.prior_mrn:
        raise Hl7Error("204", "the surviving patient was merged into the other one before")
    connection.execute(
        "INSERT INTO patient VALUES (?, ?, '', '', '', '') ON CONFLICT (mrn) DO UPDATE SET"
        " merged_into = excluded.merged_into",
        (adt.prior_mrn, survivor),
    )
    connection.execute(
        "UPDATE patient SET merged_into = ? WHERE merged_into = ?", (survivor, adt.prior_mrn)
    )
    for table in ("imaging_order", "examination"):
        connection.execute(
            f"UPDATE {table} SET patient = ? WHERE patient = ?", (survivor, adt.prior_mrn)
        )
    return survivor


def take_order(
    connection: sqlite3.Connection, order: ImagingOrder, now: float, *, count: bool = True
) -> bool:
    """Enter an order with its accession and study; True when it is new. Raises: Conflict.

    The same order in another message is counted (`count`) and shown by the export; there is still
    one entry on the worklist.
    """
    patient = current(connection, order.mrn)
    codes = msgspec.json.encode(order.codes).decode()
    content = (patient, order.modality, codes, order.priority)
    known = connection.execute(
        "SELECT patient, modality, codes, priority FROM imaging_order WHERE placer = ?",
        (order.placer,),
    ).fetchone()
    if known is not None:
        if known != content:
            raise Conflict(f"placer {order.placer!r} is another order already")
        if count:
            connection.execute(
                "UPDATE imaging_order SET copies = copies + 1 WHERE placer = ?", (order.placer,)
            )
        return False
    row = connection.execute(
        "INSERT INTO imaging_order (patient, modality, codes, priority, placer, visit, ward, study,"
        " received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*content, order.placer, order.visit, order.ward, uid("ordered study", order.placer), now),
    )
    connection.execute(
        "UPDATE imaging_order SET accession = printf('A%07d', id) WHERE id = ?", (row.lastrowid,)
    )
    return True


def entry(connection: sqlite3.Connection, placer: str) -> Entry | None:
    """The order with this placer number."""
    row = connection.execute(f"{_ENTRY} WHERE o.placer = ?", (placer,)).fetchone()
    return _entry(row) if row else None


def open_entries(
    connection: sqlite3.Connection, limit: int, patient: str = "", modality: str = ""
) -> list[Entry]:
    """The worklist: open orders, oldest first; of one patient (merges followed) if given."""
    where, values = OPEN, []
    if patient:
        where, values = f"{where} AND o.patient = ?", [current(connection, patient)]
    if modality:
        where, values = f"{where} AND o.modality = ?", [*values, modality]
    rows = connection.execute(f"{_ENTRY} WHERE {where} ORDER BY o.id LIMIT ?", (*values, limit))
    return [_entry(row) for row in rows.fetchall()]


def _entry(row: tuple[Any, ...]) -> Entry:
    codes = tuple(msgspec.json.decode(row[3], type=list[str]))
    return Entry(row[0], row[1], row[2], codes, *row[4:])
