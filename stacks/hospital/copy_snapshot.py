"""One state of the read-only copy as a file: written whole, renamed into place, then only read.

It refuses to be changed: a newer state is another file under the same name.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from stacks.hospital import fhir
from stacks.hospital.copy_source import Reading
from stacks.hospital.records import Record, of_row, ward_of

NAME, NEXT = "snapshot.db", "snapshot.next"
FORMAT = 2
_SCHEMA = """
CREATE TABLE about (format INTEGER, as_of REAL, refreshed_at REAL, source TEXT, patients INTEGER);
CREATE TABLE resource (id INTEGER PRIMARY KEY, type TEXT, key TEXT, patient TEXT, version INTEGER,
  stored_at REAL, body TEXT);
CREATE INDEX resource_patient ON resource (patient);
CREATE INDEX resource_key ON resource (type, key);
CREATE TABLE merged (source TEXT PRIMARY KEY, survivor TEXT);
"""


class Damaged(Exception):
    """There is no usable snapshot file."""


@dataclass(frozen=True, slots=True)
class Line:
    """One resource of the copy; `body` is its JSON text."""

    type: str
    key: str
    patient: str
    version: int
    body: str


def write(folder: Path, reading: Reading, now: float) -> None:
    """Replace the snapshot in `folder` by this reading: durable and whole, or not at all.

    Raises OSError, sqlite3.Error; the previous snapshot is then untouched.
    """
    following = folder / NEXT
    following.unlink(missing_ok=True)
    try:
        _fill(following, reading, now)
        _sync(following)
        following.rename(folder / NAME)
    except (OSError, sqlite3.Error):
        following.unlink(missing_ok=True)  # half a file helps nobody, least of all on a full disk
        raise
    _sync(folder)


def _fill(path: Path, reading: Reading, now: float) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # No journal: nobody reads this file before it is complete, synced and renamed.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO resource (type, key, patient, version, stored_at, body)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            reading.rows,
        )
        connection.executemany("INSERT OR REPLACE INTO merged VALUES (?, ?)", reading.merged)
        patients = len({row[2] for row in reading.rows})
        connection.execute(
            "INSERT INTO about VALUES (?, ?, ?, ?, ?)",
            (FORMAT, reading.as_of, now, reading.source, patients),
        )
        connection.execute("COMMIT")
    finally:
        connection.close()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def touch(folder: Path) -> None:
    """Read the snapshot's first bytes from the disk, not from memory. Raises OSError."""
    with open(folder / NAME, "rb") as file:
        file.read(16)


class Snapshot:
    """An open snapshot; stays readable when a newer one has taken its name."""

    def __init__(self, folder: Path) -> None:
        """Open the snapshot in `folder`. Raises Damaged."""
        path = folder / NAME
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
            row = self._connection.execute(
                "SELECT as_of, refreshed_at, source, patients, format FROM about"
            ).fetchone()
        except sqlite3.Error as error:
            raise Damaged(f"{path}: {error}") from None
        if row is None or row[4] != FORMAT:
            raise Damaged(f"{path}: not a snapshot of format {FORMAT}")
        self.as_of: float = row[0]
        """Unix seconds: everything that the record had acknowledged by then is in here."""
        self.refreshed_at: float = row[1]
        self.source: str = row[2]
        self.patients: int = row[3]

    def _lines(self, where: str, values: tuple[Any, ...]) -> list[Line]:
        rows = self._connection.execute(
            f"SELECT type, key, patient, version, body FROM resource WHERE {where} ORDER BY id",
            values,
        ).fetchall()
        return [Line(*row) for row in rows]

    def find(self, type_: str, key: str) -> Line | None:
        """One resource, or None."""
        found = self._lines("type = ? AND key = ?", (type_, key))
        return found[0] if found else None

    def chart(self, mrn: str) -> list[Line]:
        """Everything held of one patient; a merged number gives its survivor's.

        The identity that was merged away is not shown: it would name another than the patient.
        """
        row = self._connection.execute(
            "SELECT survivor FROM merged WHERE source = ?", (mrn,)
        ).fetchone()
        lines = self._lines("patient = ?", (row[0] if row else mrn,))
        return [line for line in lines if line.type != "Patient" or line.key == line.patient]

    def census(self) -> list[dict[str, str]]:
        """Who is here, by ward."""
        found = []
        for line in self._lines("type = 'Encounter'", ()):
            stay = fhir.decode(line.body.encode(), "Encounter")
            assert isinstance(stay, fhir.Encounter)
            found.append({
                "mrn": line.patient, "visit": line.key, "ward": ward_of(stay) or "",
                "class": stay.class_.code or "",
            })  # fmt: skip
        return sorted(found, key=lambda one: (one["ward"], one["visit"]))

    def page(self, after: int, limit: int) -> tuple[list[Record], int]:
        """One page of the export; `stored_at` is when the record itself took the version."""
        rows = self._connection.execute(
            "SELECT id, type, patient, version, stored_at, body FROM resource WHERE id > ?"
            " ORDER BY id LIMIT ?",
            (after, limit),
        ).fetchall()
        return [of_row(row) for row in rows], rows[-1][0] if rows else after


_decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def tagged(body: str, tag: str, as_of: str) -> bytes:
    """A stored resource with `tag` and its as-of time in `meta`."""
    resource = _decode(body)  # decimals stay as they were written: 1.10 is not 1.1
    meta = resource.get("meta")
    meta = dict(meta) if isinstance(meta, dict) else {}
    meta["tag"] = [*meta.get("tag", []), {"system": "urn:hospital:tag", "code": tag}]
    return _encode(resource | {"meta": meta | {"lastUpdated": as_of}})
