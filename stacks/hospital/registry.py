"""The register behind administration: the master patient index, visits, and who became whom.

    registry = Registry(store)            # the Store's schema must contain REGISTRY_SCHEMA
    admitted = await registry.admit(resource, data)

Every change and the movement message that announces it are one transaction. It refuses a second
patient under a known number, and a change based on a version that is no longer the stored one.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from stacks.hospital import fhir
from stacks.hospital.bugs import planted
from stacks.hospital.queue import QUEUE_SCHEMA, push
from stacks.hospital.records import ward_of
from stacks.hospital.store import Store
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


class Registry:
    """Patients and visits in one Store; every writing method returns after fsync."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- patients -----------------------------------------------------------------------------

    async def register(self, patient: fhir.Patient, data: bytes) -> Entry:
        """A new patient, or the known one with the same number, unchanged. Raises StoreError."""
        mrn = fhir.key_of(patient)

        def work(connection: sqlite3.Connection) -> Entry:
            known = _person(connection, mrn)
            if known is not None:
                return known
            text = dump(msgspec.json.decode(data), mrn, 1)
            connection.execute(
                "INSERT INTO person (mrn, survivor, version, stored_at, body)"
                " VALUES (?, ?, 1, ?, ?)",
                (mrn, mrn, time.time(), text),
            )
            return Entry(mrn, mrn, 1, text, new=True)

        return await self._store.write(work)

    def patient(self, mrn: str) -> Entry:
        """One patient as stored. Raises Unknown, StoreError."""
        return _required(self._store.read(lambda connection: _person(connection, mrn)), mrn)

    async def amend(self, mrn: str, data: bytes, version: int) -> Entry:
        """Replace a patient's data (A08). Raises Unknown, Stale, Conflict, StoreError."""
        body = msgspec.json.decode(data)

        def work(connection: sqlite3.Connection) -> Entry:
            known = _required(_person(connection, mrn), mrn)
            if known.patient != mrn:
                raise Conflict(f"{mrn} was merged into {known.patient}; change that one")
            _fresh(known, version)
            text = dump(body, mrn, version + 1)
            connection.execute(
                "UPDATE person SET version = ?, stored_at = ?, body = ? WHERE mrn = ?",
                (version + 1, time.time(), text, mrn),
            )
            _announce(connection, _adt("A08", text))
            return Entry(mrn, mrn, version + 1, text, announced=True)

        return await self._store.write(work)

    async def merge(self, survivor: str, source: str) -> Entry:
        """Two numbers are one person: `source` lives on as `survivor` (A40); idempotent.

        Raises Unknown, Conflict, StoreError.
        """

        def work(connection: sqlite3.Connection) -> Entry:
            kept = _required(_person(connection, survivor), survivor)
            gone = _required(_person(connection, source), source)
            if kept.patient != survivor:
                raise Conflict(f"{survivor} itself was merged into {kept.patient}")
            if source == survivor:
                raise Conflict(f"{source} cannot be merged into itself")
            if gone.patient == survivor:
                return kept
            if gone.patient != source:
                raise Conflict(f"{source} was merged into {gone.patient} already")
            _retire(connection, gone, survivor)
            prior = source
            if planted("merge-wrong-patient"):
                prior = _somebody_else(connection, {source, survivor}) or source
            _announce(connection, _adt("A40", kept.body, prior_mrn=prior))
            return Entry(survivor, survivor, kept.version, kept.body, announced=True)

        return await self._store.write(work)

    # -- visits -------------------------------------------------------------------------------

    async def admit(self, encounter: fhir.Encounter, data: bytes) -> Entry:
        """A new visit (A01 or A04), or the known one, unchanged.

        Raises Unknown (the patient), Conflict (another patient's visit), StoreError.
        """
        visit, mrn = fhir.key_of(encounter), fhir.mrn_of(encounter)
        event = ENCOUNTER_EVENTS[encounter.class_.code or ""]

        def work(connection: sqlite3.Connection) -> Entry:
            known, person = _visit(connection, visit), _living(connection, mrn)
            if known is not None:
                _same_person(known, person)
                return known
            text = dump(_about(msgspec.json.decode(data), person.key), visit, 1)
            now = time.time()
            connection.execute(
                "INSERT INTO visit (visit, mrn, version, class, ward, status, admitted_at,"
                " stored_at, body) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?)",
                (visit, person.key, encounter.class_.code, ward_of(encounter) or "",
                 encounter.status, now, now, text),
            )  # fmt: skip
            _announce(connection, _adt(event, person.body, text))
            return Entry(visit, person.key, 1, text, new=True, announced=True)

        return await self._store.write(work)

    def visit(self, visit: str) -> Entry:
        """One visit as stored. Raises Unknown, StoreError."""
        return _required(self._store.read(lambda connection: _visit(connection, visit)), visit)

    async def change_visit(self, encounter: fhir.Encounter, data: bytes, version: int) -> Entry:
        """Replace a visit: a finished one is a discharge (A03), any other change an A08.

        Raises Unknown, Stale, Conflict, StoreError.
        """
        visit = fhir.key_of(encounter)
        event = "A03" if encounter.status == "finished" else "A08"

        def work(connection: sqlite3.Connection) -> Entry:
            known = _required(_visit(connection, visit), visit)
            _fresh(known, version)
            person = _living(connection, fhir.mrn_of(encounter))
            _same_person(known, person)
            text = dump(_about(msgspec.json.decode(data), person.key), visit, version + 1)
            connection.execute(
                "UPDATE visit SET version = ?, class = ?, ward = ?, status = ?, stored_at = ?,"
                " body = ? WHERE visit = ?",
                (version + 1, encounter.class_.code, ward_of(encounter) or "", encounter.status,
                 time.time(), text, visit),
            )  # fmt: skip
            _announce(connection, _adt(event, person.body, text))
            return Entry(visit, person.key, version + 1, text, announced=True)

        return await self._store.write(work)

    def census(self) -> list[Present]:
        """Inpatients and emergencies who are here now, by ward. Raises StoreError."""
        rows = self._store.read(
            lambda connection: connection.execute(
                "SELECT mrn, visit, ward, class, admitted_at FROM visit WHERE status <> 'finished'"
                " AND class IN ('IMP', 'EMER') ORDER BY ward, visit"
            ).fetchall()
        )
        return [Present(*row) for row in rows]

    def page(self, table: str, after: int, limit: int) -> list[tuple[int, float, Entry]]:
        """(row, stored at, entry) of `person` or `visit` after a row, for the export.

        Raises StoreError.
        """
        key, patient = ("mrn", "survivor") if table == "person" else ("visit", "mrn")
        rows = self._store.read(
            lambda connection: connection.execute(
                f"SELECT id, stored_at, {key}, {patient}, version, body FROM {table}"
                " WHERE id > ? ORDER BY id LIMIT ?",
                (after, limit),
            ).fetchall()
        )
        return [(row[0], row[1], Entry(*row[2:])) for row in rows]


def _required(entry: Entry | None, key: str) -> Entry:
    if entry is None:
        raise Unknown(f"{key} is not registered")
    return entry


def _fresh(known: Entry, version: int) -> None:
    if known.version != version:
        raise Stale(f"{known.key} is at version {known.version}, not {version}; read it again")


def _same_person(visit: Entry, person: Entry) -> None:
    if visit.patient != person.key:
        raise Conflict(f"visit {visit.key} is {visit.patient}'s, not {person.key}'s")


def _person(connection: sqlite3.Connection, mrn: str) -> Entry | None:
    row = connection.execute(
        "SELECT mrn, survivor, version, body FROM person WHERE mrn = ?", (mrn,)
    ).fetchone()
    return Entry(*row) if row else None


def _living(connection: sqlite3.Connection, mrn: str) -> Entry:
    """The person whom `mrn` names now: merges are followed (they are never chains)."""
    person = _required(_person(connection, mrn), mrn)
    return person if person.patient == mrn else _required(_person(connection, person.patient), mrn)


def _visit(connection: sqlite3.Connection, visit: str) -> Entry | None:
    row = connection.execute(
        "SELECT visit, mrn, version, body FROM visit WHERE visit = ?", (visit,)
    ).fetchone()
    return Entry(*row) if row else None


def _retire(connection: sqlite3.Connection, gone: Entry, survivor: str) -> None:
    """Everything of a merged patient moves to the survivor; the old number stays known."""
    body = msgspec.json.decode(gone.body)
    link = {"other": fhir.patient_reference(survivor), "type": "replaced-by"}
    body |= {"active": False, "link": [link]}
    connection.execute(
        "UPDATE person SET version = version + 1, stored_at = ?, body = ? WHERE mrn = ?",
        (time.time(), dump(body, gone.key, gone.version + 1), gone.key),
    )
    connection.execute(
        "UPDATE person SET survivor = ? WHERE survivor = ?", (survivor, gone.key)
    )
    for visit, version, text in connection.execute(
        "SELECT visit, version, body FROM visit WHERE mrn = ?", (gone.key,)
    ).fetchall():
        moved = dump(_about(msgspec.json.decode(text), survivor), visit, version + 1)
        connection.execute(
            "UPDATE visit SET mrn = ?, version = version + 1, stored_at = ?, body = ?"
            " WHERE visit = ?",
            (survivor, time.time(), moved, visit),
        )


def _somebody_else(connection: sqlite3.Connection, known: set[str]) -> str | None:
    """Planted defect only: a patient whom the merge does not concern."""
    rows = connection.execute(
        "SELECT mrn FROM person WHERE mrn = survivor ORDER BY id DESC LIMIT 3"
    ).fetchall()
    return next((mrn for (mrn,) in rows if mrn not in known), None)


def _about(body: dict[str, Any], mrn: str) -> dict[str, Any]:
    return {**body, "subject": fhir.patient_reference(mrn)}


def _adt(event: str, person: str, encounter: str | None = None, prior_mrn: str = "") -> hl7.Adt:
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


def _announce(connection: sqlite3.Connection, adt: hl7.Adt) -> None:
    """Put the message into the outbox, inside the caller's transaction."""
    header = hl7.Header(hl7.new_control_id(), sender="GAM", receiver="ENGINE", at=time.time())
    push(connection, ENGINE, header.control_id, hl7.build(header, adt))
