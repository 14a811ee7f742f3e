"""The rules by which a study finds its order: accession, placer, patient and modality.

They refuse to choose between two orders, to go by a name, and to take an order whose patient or
modality is not the study's: then they say why, for a person.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from stacks.hospital.bugs import planted
from stacks.hospital.imaging.ris_book import OPEN


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search: an order and how it was found, or the reason for none."""

    placer: str = ""
    how: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sought:
    """A study that has no order yet, as far as the scanner described it."""

    study: str
    accession: str
    placer: str
    patient: str
    """Today's mrn, merges followed; empty when the scanner did not say."""
    family: str
    modality: str


def search(connection: sqlite3.Connection, one: Sought, *, settled: bool) -> Found:
    """Its order, or the reason for none. Not `settled`: orders may still be on their way."""
    found = _scheduled(connection, one)
    if found is None and planted("matched-by-name"):
        found = _by_name(connection, one)
    if found is None and one.placer:
        found = _checked(connection, one, one.placer, "placer")
    if found is None and not settled:
        found = Found(reason="waits a moment: the order may still be on its way")
    return found or _only_one(connection, one)


def _scheduled(connection: sqlite3.Connection, one: Sought) -> Found | None:
    """The order that gave the scanner its accession or study; None: made in downtime."""
    row = connection.execute(
        "SELECT placer FROM imaging_order WHERE study = ?"
        " UNION ALL SELECT placer FROM imaging_order WHERE accession = ? LIMIT 1",
        (one.study, one.accession),
    ).fetchone()
    if row is None:
        return None
    if one.placer and one.placer != row[0]:
        return Found(reason=f"accession is of order {row[0]}, the scanner says {one.placer}")
    return _checked(connection, one, row[0], "scheduled")


def _only_one(connection: sqlite3.Connection, one: Sought) -> Found:
    """The one open order of the patient for this modality."""
    if not one.patient:
        return Found(reason="the scanner did not say which patient")
    rows = connection.execute(
        f"SELECT o.placer FROM imaging_order AS o WHERE {OPEN}"
        " AND o.patient = ? AND o.modality = ? ORDER BY o.id LIMIT 2",
        (one.patient, one.modality),
    ).fetchall()
    if len(rows) == 1:
        return Found(rows[0][0], "patient and modality")
    if rows:
        return Found(reason=f"several open {one.modality} orders of the patient: a person must say")
    return Found(reason=f"no open {one.modality} order of the patient yet")


def _checked(connection: sqlite3.Connection, one: Sought, placer: str, how: str) -> Found:
    """An order that was named: only if it is of this patient and kind, and not taken."""
    row = connection.execute(
        "SELECT patient, modality FROM imaging_order WHERE placer = ?", (placer,)
    ).fetchone()
    if row is None:
        return Found(reason=f"order {placer} is not here yet")
    patient, modality = row
    if patient != one.patient:
        return Found(reason=f"order {placer} is of patient {patient}, not {one.patient or 'said'}")
    if modality != one.modality:
        return Found(reason=f"order {placer} asks for {modality}, not {one.modality}")
    if taken(connection, placer, one.study):
        return Found(reason=f"order {placer} has its examination already")
    return Found(placer, how)


def taken(connection: sqlite3.Connection, placer: str, study: str) -> bool:
    """Whether the order has another examination that was not broken off."""
    row = connection.execute(
        "SELECT 1 FROM examination WHERE order_placer = ? AND study <> ?"
        " AND state <> 'discontinued'",
        (placer, study),
    ).fetchone()
    return row is not None


def _by_name(connection: sqlite3.Connection, one: Sought) -> Found:
    """Planted defect only: the oldest open order of anybody who has that name."""
    row = connection.execute(
        "SELECT o.placer FROM imaging_order AS o JOIN patient AS p ON p.mrn = o.patient"
        f" WHERE {OPEN} AND p.family = ? AND o.modality = ? ORDER BY o.id LIMIT 1",
        (one.family, one.modality),
    ).fetchone()
    return Found(row[0], "name") if row else Found(reason="nobody of that name has an order")
