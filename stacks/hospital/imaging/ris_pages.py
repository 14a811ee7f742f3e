"""How radiology's book is shown: orders as FHIR, examinations as lines, everything as export.

It refuses to hide: what has no order is shown like what has one.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any

import msgspec
from starlette.responses import StreamingResponse

from stacks.hospital import fhir
from stacks.hospital.imaging import ris_book as book
from stacks.hospital.pages import export, instant
from stacks.hospital.records import Record, order_digest
from stacks.hospital.store import Store

ACCESSION = "urn:hospital:accession"
STUDY = "urn:dicom:uid"
_FHIR_PRIORITY = {"STAT": "stat", "HIGH": "urgent", "ROUTINE": "routine"}
_EXAMINATION = (
    "SELECT e.id, e.study, e.accession, e.said_patient, coalesce(o.patient, e.patient), e.modality,"
    " e.placer, e.order_placer, e.match, e.how, e.state, e.reason, e.version, e.reported_at,"
    " e.matched_at FROM examination AS e LEFT JOIN imaging_order AS o ON o.placer = e.order_placer"
)


def examinations(store: Store, where: str, value: object, limit: int) -> list[tuple[Any, ...]]:
    """Rows for `line_of`; `where` is a condition on `e` with one placeholder."""
    query = f"{_EXAMINATION} WHERE {where} ORDER BY e.id LIMIT ?"
    return store.read(lambda connection: connection.execute(query, (value, limit)).fetchall())


def resource_of(one: book.Entry) -> dict[str, Any]:
    """An order as a FHIR ServiceRequest, with its accession and study."""
    found: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "id": one.placer,
        "meta": {"versionId": "1"},
        "identifier": [
            {"system": fhir.PLACER, "value": one.placer},
            {"system": ACCESSION, "value": one.accession},
            {"system": STUDY, "value": f"urn:oid:{one.study}"},
        ],
        "status": one.status,
        "intent": "order",
        "priority": _FHIR_PRIORITY[one.priority],
        "category": [{"coding": [{"system": "http://snomed.info/sct", "code": fhir.IMAGING}]}],
        "code": {"coding": [{"code": code} for code in one.codes]},
        "subject": fhir.patient_reference(one.patient),
        "authoredOn": instant(one.received_at),
    }
    if one.visit:
        found["encounter"] = {"reference": f"Encounter/{one.visit}"}
    return found


def line_of(row: tuple[Any, ...]) -> dict[str, Any]:
    """An examination with its order, or without and the reason."""
    names = (
        "seq", "study", "accession", "said_patient", "patient", "modality", "said_placer", "placer",
        "status", "how", "state", "reason", "version",
    )  # fmt: skip
    found = dict(zip(names, row, strict=False))
    found["reported_at"] = instant(row[-2])
    found["matched_at"] = instant(row[-1]) if row[-1] else None
    return found


def exported(store: Store) -> StreamingResponse:
    """GET /export: orders and matches."""
    return export(partial(_order_page, store), partial(_match_page, store))


def _order_page(store: Store, after: int, limit: int) -> tuple[list[Record], int]:
    def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return connection.execute(
            "SELECT id, placer, patient, codes, priority, status, copies, received_at"
            " FROM imaging_order WHERE id > ? ORDER BY id LIMIT ?",
            (after, limit),
        ).fetchall()

    rows = store.read(work)
    records = []
    for _, placer, patient, text, priority, status, copies, at in rows:
        codes = msgspec.json.decode(text, type=list[str])
        digest = order_digest(placer, patient, codes, priority == "STAT")
        records.append(Record("order", placer, patient, status, 1, digest, copies, at))
    return records, rows[-1][0] if rows else after


def _match_page(store: Store, after: int, limit: int) -> tuple[list[Record], int]:
    rows = examinations(store, "e.id > ?", after, limit)
    records = []
    for row in rows:
        one = line_of(row)
        at = row[-1] or row[-2]
        records.append(
            Record("match", one["study"], one["patient"], one["status"], one["version"],
                   one["placer"] or "", stored_at=at)
        )  # fmt: skip
    return records, rows[-1][0] if rows else after
