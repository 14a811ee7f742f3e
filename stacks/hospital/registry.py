"""The register behind administration: the master patient index, visits, and who became whom.

    registry = Registry(store)            # the Store's schema must contain REGISTRY_SCHEMA
    admitted = await registry.admit(resource, data)

Every change and the movement message that announces it are one transaction. It refuses a second
patient under a known number, and a change based on a version that is no longer the stored one.
"""

from __future__ import annotations

import sqlite3
import time

import msgspec

from stacks.hospital import fhir
from stacks.hospital.bugs import planted
from stacks.hospital.records import ward_of
from stacks.hospital.register_rows import (
    ENCOUNTER_EVENTS,
    Conflict,
    Entry,
    Present,
    about,
    announce,
    charged,
    dump,
    find_living,
    find_person,
    find_visit,
    movement,
    require_same_person,
    require_version,
    required,
    retire,
    somebody_else,
)
from stacks.hospital.store import Store


class Registry:
    """Patients and visits in one Store; every writing method returns after fsync."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- patients -----------------------------------------------------------------------------

    async def register(self, patient: fhir.Patient, data: bytes) -> Entry:
        """A new patient, or the known one with the same number, unchanged. Raises StoreError."""
        mrn = fhir.key_of(patient)

        def work(connection: sqlite3.Connection) -> Entry:
            known = find_person(connection, mrn)
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
        return required(self._store.read(lambda connection: find_person(connection, mrn)), mrn)

    async def amend(self, mrn: str, data: bytes, version: int) -> Entry:
        """Replace a patient's data (A08). Raises Unknown, Stale, Conflict, StoreError."""
        body = msgspec.json.decode(data)

        def work(connection: sqlite3.Connection) -> Entry:
            known = required(find_person(connection, mrn), mrn)
            if known.patient != mrn:
                raise Conflict(f"{mrn} was merged into {known.patient}; change that one")
            require_version(known, version)
            text = dump(body, mrn, version + 1)
            connection.execute(
                "UPDATE person SET version = ?, stored_at = ?, body = ? WHERE mrn = ?",
                (version + 1, time.time(), text, mrn),
            )
            announce(connection, movement("A08", text))
            return Entry(mrn, mrn, version + 1, text, announced=True)

        return await self._store.write(work)

    async def merge(self, survivor: str, source: str) -> Entry:
        """Two numbers are one person: `source` lives on as `survivor` (A40); idempotent.

        Raises Unknown, Conflict, StoreError.
        """

        def work(connection: sqlite3.Connection) -> Entry:
            kept = required(find_person(connection, survivor), survivor)
            gone = required(find_person(connection, source), source)
            if kept.patient != survivor:
                raise Conflict(f"{survivor} itself was merged into {kept.patient}")
            if source == survivor:
                raise Conflict(f"{source} cannot be merged into itself")
            if gone.patient == survivor:
                return kept
            if gone.patient != source:
                raise Conflict(f"{source} was merged into {gone.patient} already")
            retire(connection, gone, survivor)
            prior = source
            if planted("merge-wrong-patient"):
                prior = somebody_else(connection, {source, survivor}) or source
            announce(connection, movement("A40", kept.body, prior_mrn=prior))
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
            known, person = find_visit(connection, visit), find_living(connection, mrn)
            if known is not None:
                require_same_person(known, person)
                return known
            text = dump(about(msgspec.json.decode(data), person.key), visit, 1)
            now = time.time()
            connection.execute(
                "INSERT INTO visit (visit, mrn, version, class, ward, status, admitted_at,"
                " stored_at, body) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?)",
                (visit, person.key, encounter.class_.code, ward_of(encounter) or "",
                 encounter.status, now, now, text),
            )  # fmt: skip
            announce(connection, movement(event, person.body, text))
            charged(connection, "ADMISSION", person.key, visit)
            return Entry(visit, person.key, 1, text, new=True, announced=True)

        return await self._store.write(work)

    def visit(self, visit: str) -> Entry:
        """One visit as stored. Raises Unknown, StoreError."""
        return required(self._store.read(lambda connection: find_visit(connection, visit)), visit)

    async def change_visit(self, encounter: fhir.Encounter, data: bytes, version: int) -> Entry:
        """Replace a visit: a finished one is a discharge (A03), any other change an A08.

        Raises Unknown, Stale, Conflict, StoreError.
        """
        visit = fhir.key_of(encounter)
        event = "A03" if encounter.status == "finished" else "A08"

        def work(connection: sqlite3.Connection) -> Entry:
            known = required(find_visit(connection, visit), visit)
            require_version(known, version)
            person = find_living(connection, fhir.mrn_of(encounter))
            require_same_person(known, person)
            text = dump(about(msgspec.json.decode(data), person.key), visit, version + 1)
            connection.execute(
                "UPDATE visit SET version = ?, class = ?, ward = ?, status = ?, stored_at = ?,"
                " body = ? WHERE visit = ?",
                (version + 1, encounter.class_.code, ward_of(encounter) or "", encounter.status,
                 time.time(), text, visit),
            )  # fmt: skip
            announce(connection, movement(event, person.body, text))
            if event == "A03":
                charged(connection, "STAY", person.key, visit)
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
