"""Examinations as scanners report them, each brought to its order, as steps in a transaction.

    scanned with the worklist ──▶ scheduled        in downtime ──▶ matched, or unmatched = a task

It refuses to drop a study that it cannot place: it waits for the missing message or for a person.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from stacks.hospital.bugs import planted
from stacks.hospital.heard import current
from stacks.hospital.imaging.ris_book import Conflict, take_order
from stacks.hospital.imaging.ris_search import Found, Sought, search, taken
from stacks.hospital.wire.hl7 import ImagingOrder

FINAL = ("completed", "discontinued")
IN_PROGRESS = "in progress"


class Repeated(Exception):
    """This step was reported before; nothing changed."""


class Unknown(Exception):
    """There is no such step, study or order; the text says which."""


class Ended(Exception):
    """The step has ended otherwise and can no longer be changed."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a scanner says when it begins (MPPS N-CREATE)."""

    uid: str
    study: str
    accession: str
    placer: str
    patient: str
    family: str
    modality: str
    station: str


def enter(
    connection: sqlite3.Connection, order: ImagingOrder, now: float, *, count: bool = True
) -> bool:
    """Enter an order, and try the studies that waited for it. Raises: Conflict."""
    fresh = take_order(connection, order, now, count=count)
    if fresh:
        patient = current(connection, order.mrn)
        reconcile_all(connection, now, patient, order.placer)
    return fresh


def begin(connection: sqlite3.Connection, step: Step, now: float, settle_s: float = 0.0) -> None:
    """An examination begins: keep it, look for its order. Raises: Repeated, Conflict.

    Whoever has only patient and modality waits `settle_s` real seconds: after an outage the order
    itself may still be on its way, and another order of the patient must not be taken for it.
    """
    row = connection.execute(
        "INSERT OR IGNORE INTO step VALUES (?, ?, ?, ?, ?, NULL)",
        (step.uid, step.study, IN_PROGRESS, step.station, now),
    )
    if row.rowcount == 0:
        raise Repeated(f"step {step.uid} is known")
    patient = current(connection, step.patient)
    known = connection.execute(
        "SELECT patient, accession FROM examination WHERE study = ?", (step.study,)
    ).fetchone()
    if known is not None and known != (patient, step.accession):
        raise Conflict(f"study {step.study} was begun for another patient or accession")
    scheduled = connection.execute(
        "SELECT 1 FROM imaging_order WHERE accession = ? OR study = ?", (step.accession, step.study)
    ).fetchone()
    if scheduled is None and planted("downtime-studies-forgotten"):
        return
    connection.execute(
        "INSERT INTO examination (study, accession, placer, patient, said_patient, family,"
        " modality, reported_at, settles_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (study) DO UPDATE SET state = 'in progress', version = version + 1",
        (step.study, step.accession, step.placer, patient, step.patient, step.family,
         step.modality, now, now + settle_s),
    )  # fmt: skip
    reconcile(connection, step.study, now)


def end(connection: sqlite3.Connection, step: str, state: str, now: float) -> None:
    """A step ends as `state`; its order is completed with it. Raises: Unknown, Ended."""
    row = connection.execute("SELECT study, state FROM step WHERE uid = ?", (step,)).fetchone()
    if row is None:
        raise Unknown(f"step {step} was never begun")
    study, before = row
    if before in FINAL:
        if before != state:
            raise Ended(f"step {step} is {before} and may no longer be updated")
        return
    if state == IN_PROGRESS:
        return
    connection.execute("UPDATE step SET state = ?, ended_at = ? WHERE uid = ?", (state, now, step))
    states = {
        one for (one,) in connection.execute("SELECT state FROM step WHERE study = ?", (study,))
    }
    whole = next(one for one in (IN_PROGRESS, "completed", "discontinued") if one in states)
    connection.execute(
        "UPDATE examination SET state = ?, version = version + 1 WHERE study = ?", (whole, study)
    )
    _complete(connection, study)


def reconcile(connection: sqlite3.Connection, study: str, now: float) -> None:
    """Look for the order of an examination that has none."""
    row = connection.execute(
        "SELECT study, accession, placer, patient, family, modality, settles_at FROM examination"
        " WHERE study = ? AND match = 'unmatched'",
        (study,),
    ).fetchone()
    if row is None:
        return
    settled = row[-1] is None or now >= row[-1]
    found = search(connection, Sought(*row[:-1]), settled=settled)
    if found.placer:
        _bind(connection, study, found, now)
    else:
        connection.execute(
            "UPDATE examination SET reason = ? WHERE study = ?", (found.reason, study)
        )


def reconcile_all(
    connection: sqlite3.Connection, now: float, patient: str, placer: str = ""
) -> None:
    """Something new is known of a patient or an order: try what waits for it, oldest first."""
    rows = connection.execute(
        "SELECT study FROM examination WHERE match = 'unmatched'"
        " AND (patient = ? OR (placer <> '' AND placer = ?)) ORDER BY id",
        (patient, placer),
    ).fetchall()
    for (study,) in rows:
        reconcile(connection, study, now)


def settle(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Try the studies whose moment of waiting is over; how many those were."""
    rows = connection.execute(
        "SELECT study FROM examination WHERE match = 'unmatched' AND settles_at <= ?"
        " ORDER BY id LIMIT ?",
        (now, limit),
    ).fetchall()
    for (study,) in rows:
        connection.execute("UPDATE examination SET settles_at = NULL WHERE study = ?", (study,))
        reconcile(connection, study, now)
    return len(rows)


def decide(connection: sqlite3.Connection, study: str, placer: str, now: float) -> None:
    """A person says which order a study belongs to. Raises: Unknown, Conflict."""
    row = connection.execute(
        "SELECT patient, order_placer FROM examination WHERE study = ?", (study,)
    ).fetchone()
    if row is None:
        raise Unknown(f"no study {study} was reported here; see GET /tasks")
    patient, known = row
    if known == placer:
        return
    if known is not None:
        raise Conflict(f"the study belongs to order {known} already")
    order = connection.execute(
        "SELECT patient FROM imaging_order WHERE placer = ?", (placer,)
    ).fetchone()
    if order is None:
        raise Unknown(f"there is no imaging order {placer}")
    if order[0] != patient:
        raise Conflict(
            f"order {placer} is of patient {order[0]}, the study of {patient}: if both are one"
            " person, merge them in patient administration first"
        )
    if taken(connection, placer, study):
        raise Conflict(f"order {placer} has its examination already")
    _bind(connection, study, Found(placer, "human"), now)


def _bind(connection: sqlite3.Connection, study: str, found: Found, now: float) -> None:
    match = "scheduled" if found.how == "scheduled" else "matched"
    connection.execute(
        "UPDATE examination SET match = ?, how = ?, reason = '', order_placer = ?,"
        " matched_at = ?, version = version + 1 WHERE study = ?",
        (match, found.how, found.placer, now, study),
    )
    _complete(connection, study)


def _complete(connection: sqlite3.Connection, study: str) -> None:
    connection.execute(
        "UPDATE imaging_order SET status = 'completed' WHERE placer ="
        " (SELECT order_placer FROM examination WHERE study = ? AND state = 'completed')",
        (study,),
    )
