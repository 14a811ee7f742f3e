"""The record's resources in PostgreSQL: create once, update with a version, read, search, chart.

It refuses to know HTTP or HL7; what it returns are the stored JSON texts and their versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from stacks.hospital import fhir
from stacks.hospital.ehr.node import Connection

CHART_ROWS = 2_000
"""No chart is longer; the newest are kept and the answer says so."""

MOST_DIGITS = 400
"""Of a number, before or after the point: PostgreSQL would write out 1e100000."""


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if number and (abs(number.adjusted()) > MOST_DIGITS or len(text) > MOST_DIGITS):
        raise fhir.Invalid(f"$: the number {text[:20]} has too many digits")
    return number


_decode = msgspec.json.Decoder(dict[str, Any], float_hook=_decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Stored(msgspec.Struct, frozen=True):
    """One resource as it lies in the store; `body` is its JSON text."""

    type: str
    key: str
    patient: str
    version: int
    body: str
    pending: bool = False


class Draft(msgspec.Struct, frozen=True):
    """A resource that is to be stored, and the message that goes out with it, if any."""

    type: str
    key: str
    patient: str
    body: dict[str, Any]
    control_id: str | None = None
    payload: bytes | None = None


def draft(data: bytes, resource: fhir.Resource) -> Draft:
    """A Draft that keeps every element of the JSON it came as, known to us or not.

    Raises fhir.Invalid for numbers that nobody can have meant.
    """
    try:
        body = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise fhir.Invalid(f"$: {error}") from None
    return Draft(fhir.name_of(resource), fhir.key_of(resource), fhir.mrn_of(resource), body)


def stamped(body: dict[str, Any], key: str, version: int) -> str:
    """The JSON text of `body` with its id, version and time of storage."""
    meta = body.get("meta")
    meta = dict(meta) if isinstance(meta, dict) else {}
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    meta |= {"versionId": str(version), "lastUpdated": now}
    return _encode(body | {"id": key, "meta": meta}).decode()


def encoded(body: dict[str, Any]) -> bytes:
    """A resource as JSON, decimals as numbers."""
    return _encode(body)


def decoded(text: str) -> dict[str, Any]:
    """A stored JSON text as a dict, decimals kept exactly."""
    return _decode(text)


_WHO = """
WITH who AS (
  SELECT coalesce((SELECT survivor FROM merged WHERE source = %(patient)s), %(patient)s) AS mrn
)"""
_BODY = """CASE WHEN mrn = %(patient)s OR %(type)s = 'Patient' THEN %(body)s::jsonb
    ELSE %(body)s::jsonb || jsonb_build_object(%(subject)s::text, jsonb_build_object(
      'reference', 'Patient/' || mrn,
      'identifier', jsonb_build_object('system', 'urn:hospital:mrn', 'value', mrn))) END"""

# The patient is the one who lives on after merges; an unknown one is pending. One statement, so
# one transaction and one round trip: the resource and its outgoing message stand or fall together.
_CREATE = f"""{_WHO}, stored AS (
  INSERT INTO resource (type, key, patient, pending, body)
  SELECT %(type)s, %(key)s, mrn,
    %(type)s <> 'Patient' AND NOT EXISTS (
      SELECT FROM resource WHERE type = 'Patient' AND key = mrn),
    {_BODY}
  FROM who ON CONFLICT DO NOTHING RETURNING patient, pending, body::text
), queued AS (
  INSERT INTO outbox (control_id, placer, payload)
  SELECT %(control_id)s::text, %(key)s, %(payload)s::bytea FROM stored
  WHERE %(control_id)s::text IS NOT NULL
)
SELECT patient, pending, body FROM stored
"""
_UPDATE = f"""{_WHO}
UPDATE resource SET version = version + 1, stored_at = now(), patient = mrn, body = {_BODY}
FROM who WHERE type = %(type)s AND key = %(key)s AND version = %(version)s
RETURNING type, key, patient, version, body::text, pending
"""


def subject_field(type_: str) -> str:
    """The element that refers to the patient."""
    return "patient" if type_ == "AllergyIntolerance" else "subject"


def _values(new: Draft, version: int) -> dict[str, object]:
    return {
        "type": new.type,
        "key": new.key,
        "patient": new.patient,
        "subject": subject_field(new.type),
        "body": stamped(new.body, new.key, version),
    }


async def create(connection: Connection, new: Draft) -> Stored | None:
    """Store a new resource and queue its message; None if its key is there already."""
    values = _values(new, 1) | {"control_id": new.control_id, "payload": new.payload}
    cursor = await connection.execute(_CREATE, values)
    row = await cursor.fetchone()
    if row is None:
        return None
    return Stored(new.type, new.key, row[0], 1, row[2], row[1])


_COLUMNS = "type, key, patient, version, body::text, pending"


async def find(connection: Connection, type_: str, key: str, lock: bool = False) -> list[Stored]:
    """Every row with this key (never more than one in a sound store), oldest first."""
    query = f"SELECT {_COLUMNS} FROM resource WHERE type = %s AND key = %s ORDER BY row LIMIT 5"
    cursor = await connection.execute(query + " FOR UPDATE" if lock else query, (type_, key))
    return [Stored(*row) for row in await cursor.fetchall()]


async def update(connection: Connection, new: Draft, version: int) -> Stored | None:
    """Replace version `version` by the next; None if that is not the stored version (or absent)."""
    values = _values(new, version + 1) | {"version": version}
    cursor = await connection.execute(_UPDATE, values)
    row = await cursor.fetchone()
    return Stored(*row) if row is not None else None


async def chart(connection: Connection, mrn: str) -> list[Stored]:
    """Everything of one patient, newest CHART_ROWS at most; a merged mrn gives its survivor's."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM resource WHERE patient = coalesce("
        "(SELECT survivor FROM merged WHERE source = %s), %s) ORDER BY row DESC LIMIT %s",
        (mrn, mrn, CHART_ROWS),
    )
    rows = [Stored(*row) for row in await cursor.fetchall()]
    rows.reverse()
    return [row for row in rows if row.type != "Patient" or row.key == row.patient]


async def search(
    connection: Connection,
    type_: str,
    patient: str | None,
    key: str | None,
    status: str | None,
    limit: int,
) -> list[Stored]:
    """Resources of one type by patient, key and status (each optional), newest first."""
    conditions, values = ["type = %s"], [type_]
    if patient is not None:
        conditions.append("patient = coalesce((SELECT survivor FROM merged WHERE source = %s), %s)")
        values += [patient, patient]
    if key is not None:
        conditions.append("key = %s")
        values.append(key)
    if status is not None:
        conditions.append("body->>'status' = %s")
        values.append(status)
    query = f"SELECT {_COLUMNS} FROM resource WHERE {' AND '.join(conditions)} "
    cursor = await connection.execute(query + "ORDER BY row DESC LIMIT %s", (*values, limit))
    return [Stored(*row) for row in await cursor.fetchall()]


def bundle(kind: str, rows: Sequence[Stored], tags: Sequence[str] = ()) -> bytes:
    """A Bundle of stored texts, joined without decoding them; `tags` are codes for meta.tag."""
    meta = {
        "lastUpdated": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "tag": [{"system": "urn:hospital:tag", "code": code} for code in tags],
    }
    head = {"resourceType": "Bundle", "type": kind, "total": len(rows), "meta": meta}
    entries = ",".join(
        f'{{"fullUrl":"{row.type}/{row.key}","resource":{row.body}}}' for row in rows
    )
    return _encode(head)[:-1] + b',"entry":[' + entries.encode() + b"]}"


# Also puts right what was being stored at the moment of a merge or an admission: a statement that
# ran at the same time could not see the new state.
_REBIND = """
UPDATE resource r SET patient = m.survivor, version = version + 1, body = r.body
  || jsonb_build_object('meta', coalesce(r.body->'meta', '{}'::jsonb)
     || jsonb_build_object('versionId', (r.version + 1)::text))
  || jsonb_build_object(
     CASE WHEN r.type = 'AllergyIntolerance' THEN 'patient' ELSE 'subject' END,
     jsonb_build_object('reference', 'Patient/' || m.survivor, 'identifier',
       jsonb_build_object('system', 'urn:hospital:mrn', 'value', m.survivor)))
FROM merged m WHERE r.patient = m.source AND r.type <> 'Patient'
"""
_UNPEND = """
UPDATE resource r SET pending = false WHERE r.pending AND EXISTS (
  SELECT FROM resource p WHERE p.type = 'Patient' AND p.key = r.patient)
"""


async def rebind(connection: Connection) -> int:
    """Move what still lies under a merged mrn; bind what waited for its patient. Rows moved."""
    moved = await connection.execute(_REBIND)
    await connection.execute(
        "UPDATE critical c SET patient = m.survivor FROM merged m WHERE c.patient = m.source"
    )
    bound = await connection.execute(_UNPEND)
    return moved.rowcount + bound.rowcount
