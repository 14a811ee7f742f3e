"""The laboratory's book: orders, results, reports and merges, as steps inside one transaction.

    order + result of the same placer and patient ──▶ preliminary ──▶ final ──▶ (corrected)

It refuses to report a result without its order, or for another patient than the order's.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from math import inf

import msgspec

from stacks.hospital import criticals
from stacks.hospital.analytes import correct, is_corrected
from stacks.hospital.bugs import planted
from stacks.hospital.heard import SEEN_SCHEMA, current
from stacks.hospital.wire.hl7 import Adt, Hl7Error, Order, Report, Value

STAT_VALIDATION_S = 2 * 60.0  # hospital seconds from preliminary to final
ROUTINE_VALIDATION_S = 6 * 60.0
CORRECTION_S = 10 * 60.0  # from final to corrected
WORKLIST_S = 110 * 60.0  # planted defect only: longest wait behind the routine worklist
FOLLOWS = {"preliminary": "final", "final": "corrected"}
LIS_SCHEMA = (
    SEEN_SCHEMA
    + """
CREATE TABLE IF NOT EXISTS patient (
  mrn TEXT PRIMARY KEY, merged_into TEXT, visit TEXT NOT NULL, ward TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS lab_order (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  placer TEXT NOT NULL UNIQUE, patient TEXT NOT NULL, tests TEXT NOT NULL,
  stat INTEGER NOT NULL, received_at REAL NOT NULL,
  copies INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS lab_order_patient ON lab_order (patient);
CREATE TABLE IF NOT EXISTS result (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  specimen TEXT NOT NULL UNIQUE, placer TEXT NOT NULL, patient TEXT NOT NULL,
  stat INTEGER NOT NULL, critical INTEGER NOT NULL, vals TEXT NOT NULL,
  received_at REAL NOT NULL,
  held TEXT,
  status TEXT NOT NULL DEFAULT 'registered', version INTEGER NOT NULL DEFAULT 0,
  control_id TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS result_placer ON result (placer);
CREATE INDEX IF NOT EXISTS result_patient ON result (patient);
CREATE INDEX IF NOT EXISTS result_held ON result (id) WHERE held IS NOT NULL;
CREATE TABLE IF NOT EXISTS step (
  specimen TEXT NOT NULL, status TEXT NOT NULL, due_at REAL NOT NULL,
  PRIMARY KEY (specimen, status)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS step_due ON step (due_at);
CREATE TABLE IF NOT EXISTS feed (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  specimen TEXT NOT NULL, status TEXT NOT NULL, version INTEGER NOT NULL, at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS feed_specimen ON feed (specimen);
"""
)


@dataclass(frozen=True, slots=True)
class Pace:
    """Real seconds per hospital second, and now in Unix seconds."""

    now: float
    speed: float

    def later(self, hospital_s: float) -> float:
        return self.now + hospital_s / self.speed


def take_adt(connection: sqlite3.Connection, adt: Adt) -> list[str]:
    """Know the patient; on A40 move everything. Returns specimens that may match now."""
    connection.execute(
        "INSERT INTO patient VALUES (?, NULL, ?, ?) ON CONFLICT (mrn) DO UPDATE SET"
        " visit = excluded.visit, ward = excluded.ward WHERE excluded.visit <> ''",
        (adt.mrn, adt.visit, adt.ward),
    )
    if adt.event != "A40":
        return []
    survivor = current(connection, adt.mrn)
    if survivor == adt.prior_mrn:
        raise Hl7Error("204", "the surviving patient was merged into the other one before")
    connection.execute(
        "INSERT INTO patient VALUES (?, ?, '', '') ON CONFLICT (mrn) DO UPDATE SET"
        " merged_into = excluded.merged_into",
        (adt.prior_mrn, survivor),
    )
    connection.execute(
        "UPDATE patient SET merged_into = ? WHERE merged_into = ?", (survivor, adt.prior_mrn)
    )
    for table in ("lab_order", "result", "critical"):
        connection.execute(
            f"UPDATE {table} SET patient = ? WHERE patient = ?", (survivor, adt.prior_mrn)
        )
    rows = connection.execute(
        "SELECT specimen FROM result WHERE held IS NOT NULL AND patient = ?", (survivor,)
    ).fetchall()
    return [specimen for (specimen,) in rows]


def take_order(connection: sqlite3.Connection, order: Order, now: float) -> list[str]:
    """Know the order. Returns specimens that waited for it.

    The same order in another message is a second entry (its labels are printed again): it is
    counted, and the export shows it; there is still one report.
    """
    patient = current(connection, order.mrn)
    tests = msgspec.json.encode(order.tests).decode()
    known = connection.execute(
        "SELECT patient, tests, stat FROM lab_order WHERE placer = ?", (order.placer,)
    ).fetchone()
    if known is not None:
        if known != (patient, tests, order.stat):
            raise Hl7Error("205", f"placer {order.placer!r} is another order already")
        connection.execute(
            "UPDATE lab_order SET copies = copies + 1 WHERE placer = ?", (order.placer,)
        )
        return []
    connection.execute(
        "INSERT INTO lab_order (placer, patient, tests, stat, received_at) VALUES (?, ?, ?, ?, ?)",
        (order.placer, patient, tests, order.stat, now),
    )
    rows = connection.execute(
        "SELECT specimen FROM result WHERE placer = ? AND held IS NOT NULL", (order.placer,)
    ).fetchall()
    return [specimen for (specimen,) in rows]


def take_result(connection: sqlite3.Connection, report: Report, now: float) -> list[str]:
    """Keep what the analyser measured, list it if critical. Returns the specimen to match."""
    values = msgspec.json.encode(report.values).decode()
    known = connection.execute(
        "SELECT placer FROM result WHERE specimen = ?", (report.specimen,)
    ).fetchone()
    if known is not None:
        if known[0] != report.placer:
            raise Hl7Error("205", f"specimen {report.specimen!r} belongs to another order")
        return []
    if planted("unmatched-result-dropped") and not _order_of(connection, report.placer):
        return []
    patient = current(connection, report.mrn)
    connection.execute(
        "INSERT INTO result (specimen, placer, patient, stat, critical, vals, received_at, held)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'no order yet')",
        (report.specimen, report.placer, patient, report.stat, report.critical, values, now),
    )
    if report.critical:
        criticals.enter(connection, report.specimen, report.placer, patient)
    return [report.specimen]


def match(connection: sqlite3.Connection, specimen: str, pace: Pace) -> None:
    """Bring a held result and its order together and plan its preliminary report."""
    placer, patient, stat = connection.execute(
        "SELECT placer, patient, stat FROM result WHERE specimen = ?", (specimen,)
    ).fetchone()
    order = _order_of(connection, placer)
    if order is None:
        return
    if order[0] != patient:
        reason = "the tube's patient is not the order's patient"
        connection.execute("UPDATE result SET held = ? WHERE specimen = ?", (reason, specimen))
        return
    stat = bool(stat or order[1])
    connection.execute(
        "UPDATE result SET held = NULL, stat = ? WHERE specimen = ?", (stat, specimen)
    )
    wait_s = WORKLIST_S if stat and planted("stat-as-routine") else 0.0
    _plan(connection, specimen, "preliminary", pace.later(wait_s))


def issue(connection: sqlite3.Connection, specimen: str, status: str, pace: Pace) -> Report:
    """Make the next report of a specimen and plan the one after it. The caller sends it."""
    row = connection.execute(
        "SELECT placer, patient, stat, vals FROM result WHERE specimen = ?", (specimen,)
    ).fetchone()
    placer, patient, stat, text = row
    values = tuple(msgspec.json.decode(text, type=list[Value]))
    if status == "corrected":
        values = correct(specimen, values)
    connection.execute(
        "UPDATE result SET status = ?, version = version + 1, vals = ? WHERE specimen = ?",
        (status, msgspec.json.encode(values).decode(), specimen),
    )
    connection.execute(
        "INSERT INTO feed (specimen, status, version, at)"
        " SELECT specimen, status, version, ? FROM result WHERE specimen = ?",
        (pace.now, specimen),
    )
    connection.execute("DELETE FROM step WHERE specimen = ? AND status = ?", (specimen, status))
    if status == "preliminary":
        wait_s = STAT_VALIDATION_S if stat else ROUTINE_VALIDATION_S
        _plan(connection, specimen, "final", pace.later(wait_s))
    elif status == "final" and is_corrected(specimen):
        _plan(connection, specimen, "corrected", pace.later(CORRECTION_S))
    return Report(specimen, placer, patient, status, values, bool(stat), pace.now)


def due(connection: sqlite3.Connection, now: float, limit: int) -> list[tuple[str, str]]:
    """(specimen, status) of the reports to make now; urgent ones first."""
    if planted("stat-as-routine") and not _routine_is_open(connection):
        now = inf  # nothing is left in front of the urgent ones
    return connection.execute(
        "SELECT step.specimen, step.status FROM step JOIN result USING (specimen)"
        " WHERE due_at <= ? ORDER BY result.stat DESC, due_at LIMIT ?",
        (now, limit),
    ).fetchall()


def _routine_is_open(connection: sqlite3.Connection) -> bool:
    row = connection.execute(
        "SELECT 1 FROM step JOIN result USING (specimen)"
        " WHERE result.stat = 0 AND step.status <> 'corrected' LIMIT 1"
    ).fetchone()
    return row is not None


def _order_of(connection: sqlite3.Connection, placer: str) -> tuple[str, int] | None:
    row: tuple[str, int] | None = connection.execute(
        "SELECT patient, stat FROM lab_order WHERE placer = ?", (placer,)
    ).fetchone()
    return row


def _plan(connection: sqlite3.Connection, specimen: str, status: str, due_at: float) -> None:
    connection.execute("INSERT OR IGNORE INTO step VALUES (?, ?, ?)", (specimen, status, due_at))
