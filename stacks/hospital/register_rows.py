"""What the register stores and says: tables, rows, and the movement messages about them.

It refuses to open a transaction: every function works inside its caller's.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from stacks.hospital import fhir
from stacks.hospital.queue import QUEUE_SCHEMA, push
from stacks.hospital.records import ward_of
from stacks.hospital.wire import hl7

ENGINE = "engine"
ENCOUNTER_EVENTS = {"IMP": "A01", "EMER": "A04", "AMB": "A04"}
SEX = {"male": "M", "female": "F", "other": "O", "unknown": "U"}
REGISTRY_SCHEMA = (
    QUEUE_SCHEMA
    + """
CREATE TABLE IF NOT EXISTS person (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  mrn TEXT NOT NULL UNIQUE,
  survivor TEXT NOT NULL,
  version INTEGER NOT NULL,
  stored_at REAL NOT NULL,
  body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS visit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  visit TEXT NOT NULL UNIQUE,
  mrn TEXT NOT NULL,
  version INTEGER NOT NULL,
  class TEXT NOT NULL,
  ward TEXT NOT NULL,
  status TEXT NOT NULL,
  admitted_at REAL NOT NULL,
  stored_at REAL NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS visit_present ON visit (status) WHERE status <> 'finished';
CREATE INDEX IF NOT EXISTS visit_mrn ON visit (mrn);
CREATE INDEX IF NOT EXISTS person_survivor ON person (survivor);
"""
)


class Unknown(Exception):
    """No such patient or visit."""


class Conflict(Exception):
    """The request contradicts what is stored."""


class Stale(Exception):
    """Based on a version that is no longer the stored one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored resource as JSON text; `patient` is the mrn that lives on after merges."""

    key: str
    patient: str
    version: int
    body: str
    new: bool = False
    announced: bool = False
    """Whether this change put a movement message into the outbox."""


@dataclass(frozen=True, slots=True)
class Present:
    """One line of the census: somebody who is in the hospital now."""

    mrn: str
    visit: str
    ward: str
    class_: str
    admitted_at: float


def dump(body: dict[str, Any], key: str, version: int) -> str:
    """The JSON text that is stored: the resource as given, with its id and version."""
    meta = body.get("meta")
    meta = {**(meta if isinstance(meta, dict) else {}), "versionId": str(version)}
    return msgspec.json.encode({**body, "id": key, "meta": meta}).decode()


def required(entry: Entry | None, key: str) -> Entry:
    if entry is None:
        raise Unknown(f"{key} is not registered")
    return entry


def require_version(known: Entry, version: int) -> None:
    if known.version != version:
        raise Stale(f"{known.key} is at version {known.version}, not {version}; read it again")


def require_same_person(visit: Entry, person: Entry) -> None:
    if visit.patient != person.key:
        raise Conflict(f"visit {visit.key} is {visit.patient}'s, not {person.key}'s")


def find_person(connection: sqlite3.Connection, mrn: str) -> Entry | None:
    row = connection.execute(
        "SELECT mrn, survivor, version, body FROM person WHERE mrn = ?", (mrn,)
    ).fetchone()
    return Entry(*row) if row else None


def find_living(connection: sqlite3.Connection, mrn: str) -> Entry:
    """The person whom `mrn` names now: merges are followed (they are never chains)."""
    person = required(find_person(connection, mrn), mrn)
    if person.patient == mrn:
        return person
    return required(find_person(connection, person.patient), person.patient)


def find_visit(connection: sqlite3.Connection, visit: str) -> Entry | None:
    row = connection.execute(
        "SELECT visit, mrn, version, body FROM visit WHERE visit = ?", (visit,)
    ).fetchone()
    return Entry(*row) if row else None


def retire(connection: sqlite3.Connection, gone: Entry, survivor: str) -> None:
    """Everything of a merged patient moves to the survivor; the old number stays known."""
    body = msgspec.json.decode(gone.body)
    link = {"other": fhir.patient_reference(survivor), "type": "replaced-by"}
    body |= {"active": False, "link": [link]}
    connection.execute(
        "UPDATE person SET version = version + 1, stored_at = ?, body = ? WHERE mrn = ?",
        (time.time(), dump(body, gone.key, gone.version + 1), gone.key),
    )
    connection.execute("UPDATE person SET survivor = ? WHERE survivor = ?", (survivor, gone.key))
    for visit, version, text in connection.execute(
        "SELECT visit, version, body FROM visit WHERE mrn = ?", (gone.key,)
    ).fetchall():
        moved = dump(about(msgspec.json.decode(text), survivor), visit, version + 1)
        connection.execute(
            "UPDATE visit SET mrn = ?, version = version + 1, stored_at = ?, body = ?"
            " WHERE visit = ?",
            (survivor, time.time(), moved, visit),
        )


WAITING_MIN = 3  # planted defect only: fewer messages are no backlog


def somebody_else(connection: sqlite3.Connection, known: set[str]) -> str | None:
    """Planted defect only: a patient whom the merge does not concern, while messages wait."""
    (waiting,) = connection.execute(
        "SELECT count(*) FROM queue WHERE destination = ? AND parked_at IS NULL", (ENGINE,)
    ).fetchone()
    if waiting < WAITING_MIN:
        return None
    rows = connection.execute(
        "SELECT mrn FROM person WHERE mrn = survivor ORDER BY id DESC LIMIT 3"
    ).fetchall()
    return next((mrn for (mrn,) in rows if mrn not in known), None)


def about(body: dict[str, Any], mrn: str) -> dict[str, Any]:
    return {**body, "subject": fhir.patient_reference(mrn)}


def movement(event: str, person: str, encounter: str | None = None, prior_mrn: str = "") -> hl7.Adt:
    """The movement message of a stored patient and, where one is concerned, a stored visit."""
    patient = fhir.decode(person.encode(), "Patient")
    assert isinstance(patient, fhir.Patient)
    name = patient.name[0] if patient.name else fhir.HumanName()
    visit = ward = class_ = ""
    if encounter is not None:
        stay = fhir.decode(encounter.encode(), "Encounter")
        assert isinstance(stay, fhir.Encounter)
        visit, ward, class_ = fhir.key_of(stay), ward_of(stay) or "", stay.class_.code or ""
    return hl7.Adt(
        event, fhir.key_of(patient), family=name.family or "",
        given=name.given[0] if name.given else "", birth=(patient.birthDate or "").replace("-", ""),
        sex=SEX.get(patient.gender or "", ""), visit=visit, ward=ward, encounter_class=class_,
        prior_mrn=prior_mrn,
    )  # fmt: skip


def announce(connection: sqlite3.Connection, adt: hl7.Adt | hl7.Charge) -> None:
    """Put the message into the outbox, inside the caller's transaction."""
    header = hl7.Header(hl7.new_control_id(), sender="GAM", receiver="ENGINE", at=time.time())
    push(connection, ENGINE, header.control_id, hl7.build(header, adt))


def charged(connection: sqlite3.Connection, code: str, mrn: str, visit: str) -> None:
    """Charge ADMISSION or STAY of a visit, inside the caller's transaction."""
    announce(connection, hl7.Charge(f"{visit}-{code}", mrn, visit, code, time.time()))
