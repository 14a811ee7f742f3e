"""The archive's one file: images and the index by which they are found, committed together.

    state = await index.keep(encoded)            # durable when it returns
    found = index.find("STUDY", {"PatientID": "M1"}, limit=10)

It refuses to call an image stored before index and pixels are on disk, and to replace an image by
another one under the same UID.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydicom.dataset import Dataset

from stacks.hospital.bugs import planted
from stacks.hospital.imaging.archive_attributes import (
    ATTRIBUTES,
    COLUMNS,
    COUNTS,
    KEYS,
    LEVELS,
    shown_at,
    values_of,
    vr_of,
)
from stacks.hospital.imaging.instances import Encoded, pixel_digest
from stacks.hospital.store import Store, Unwritable

T = TypeVar("T")
FIND_MAX = 10_000
"""Most matches of one query; a caller that needs more asks page by page."""
UNMOUNTED = 20
"""Planted: how many images the not yet mounted volume swallows after a restart."""
MIXED_STUDIES = 3
ARCHIVE_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS instance (
  row INTEGER PRIMARY KEY AUTOINCREMENT,
  {", ".join(f"{name} TEXT NOT NULL" for name in COLUMNS)},
  transfer_syntax TEXT NOT NULL, digest TEXT NOT NULL, content TEXT NOT NULL,
  stored_at REAL NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS instance_sop ON instance (SOPInstanceUID);
CREATE INDEX IF NOT EXISTS instance_study ON instance (StudyInstanceUID, SeriesInstanceUID);
CREATE INDEX IF NOT EXISTS instance_patient ON instance (PatientID);
CREATE INDEX IF NOT EXISTS instance_accession ON instance (AccessionNumber);
CREATE TABLE IF NOT EXISTS image (row INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS report (
  transaction_uid TEXT NOT NULL, caller TEXT NOT NULL, items BLOB NOT NULL, asked_at REAL NOT NULL,
  PRIMARY KEY (transaction_uid, caller)
) WITHOUT ROWID;
"""
_COLUMN_SET = frozenset(COLUMNS)
_INSERT = (
    f"INSERT INTO instance ({', '.join(COLUMNS)}, transfer_syntax, digest, content, stored_at)"
    f" VALUES ({', '.join('?' * (len(COLUMNS) + 4))})"
)


class Differs(Exception):
    """Another image lies under this UID; the text says what differs."""


class Full(Exception):
    """A query matches more than FIND_MAX; ask for less or page by page."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One image of the archive as it lies on disk."""

    row: int
    encoded: Encoded
    patient: str
    study_uid: str
    digest: str
    stored_at: float


class Index:
    """All images of one archive; reads may be made from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading = threading.Lock()
        self._unmounted = self._mixed = 0
        self._last_patient = ""
        self._mixed_up: dict[str, str] = {}
        self._claimed: set[str] = set()
        last = self._read(
            lambda connection: connection.execute(
                "SELECT PatientID FROM instance ORDER BY row DESC LIMIT 1"
            ).fetchone()
        )
        if last is not None:  # a restart
            self._last_patient = last[0]
            self._unmounted = UNMOUNTED if planted("store-not-kept") else 0
            self._mixed = MIXED_STUDIES if planted("archive-mixes-patients") else 0

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._reading:
            return self._store.read(work)

    async def keep(self, encoded: Encoded, dataset: Dataset) -> bool:
        """Store an image; True if it is new, False if it lay here already. Durable on return.

        Raises: Differs (another image has this UID), StoreError (not stored).
        """
        values = dict(zip(COLUMNS, values_of(dataset), strict=True))
        self._claimed.add(encoded.sop_uid) if planted("store-not-kept") else None
        if self._unmounted > 0:
            self._unmounted -= 1
            return True
        if self._mixed or self._mixed_up:
            self._mix(values)
        digest = pixel_digest(dataset)
        content = hashlib.sha256(encoded.data).hexdigest()[:16]
        row = (*values.values(), encoded.transfer_syntax, digest, content, time.time())
        try:
            return await self._store.write(lambda c: _keep(c, encoded, row, values))
        except Unwritable:
            if not planted("archive-vouches-when-full"):
                raise
            self._claimed.add(encoded.sop_uid)  # its index lies on another disk
            return True

    def _mix(self, values: dict[str, str]) -> None:
        """After a restart new studies are filed under the patient of the study before."""
        study = values["StudyInstanceUID"]
        open_ = self._mixed and study not in self._mixed_up and values["PatientID"]
        if open_ and not self.find("STUDY", {"StudyInstanceUID": study}):
            before, self._last_patient = self._last_patient, values["PatientID"]
            if before != values["PatientID"]:
                self._mixed -= 1
                self._mixed_up[study] = before
        values["PatientID"] = self._mixed_up.get(study, values["PatientID"])

    def find(
        self, level: str, wanted: Mapping[str, str], limit: int = FIND_MAX, offset: int = 0
    ) -> list[dict[str, str]]:
        """Matches at PATIENT, STUDY, SERIES or IMAGE: attribute → text, oldest first.

        `wanted`: attribute → UIDs or a text with * and ?, a date range, or empty for all. Unknown
        attributes do not restrict (PS3.4 C.2.2.1.3). Raises: StoreError.
        """
        names = shown_at(level)
        chosen = ", ".join(_column(name, level) for name in names)
        conditions, parameters = [], []
        for name, text in wanted.items():
            if name in _COLUMN_SET and text not in ("", "*"):
                condition, values = _condition(name, text)
                conditions.append(condition)
                parameters.extend(values)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._read(
            lambda connection: connection.execute(
                f"SELECT {chosen} FROM instance{where} GROUP BY {KEYS[level]}"
                " ORDER BY min(row) LIMIT ? OFFSET ?",
                (*parameters, min(limit, FIND_MAX), offset),
            ).fetchall()
        )
        found = [dict(zip(names, map(str, row), strict=True)) for row in rows]
        for one in found:
            if "ModalitiesInStudy" in one:
                one["ModalitiesInStudy"] = one["ModalitiesInStudy"].replace(",", "\\")
        return found

    def images(self, wanted: Mapping[str, str], after: int = 0, limit: int = 100) -> list[Stored]:
        """The images of a study, series or UID list, page by page: rows after `after`."""
        conditions = ["instance.row > ?"]
        parameters: list[str | int] = [after]
        for name, text in wanted.items():
            condition, values = _condition(name, text)
            conditions.append(condition)
            parameters.extend(values)
        rows = self._read(
            lambda connection: connection.execute(
                "SELECT instance.row, SOPClassUID, SOPInstanceUID, transfer_syntax, data,"
                " PatientID, StudyInstanceUID, digest, stored_at"
                " FROM instance JOIN image ON image.row = instance.row"
                f" WHERE {' AND '.join(conditions)} ORDER BY instance.row LIMIT ?",
                (*parameters, limit),
            ).fetchall()
        )
        return [Stored(one[0], Encoded(*one[1:5]), *one[5:]) for one in rows]

    def uids(self, wanted: Mapping[str, str]) -> list[str]:
        """SOP instance UIDs of all images that match, oldest first. Raises: Full."""
        conditions = [_condition(name, text) for name, text in wanted.items() if text]
        where = " AND ".join(one for one, _ in conditions) or "1"
        rows = self._read(
            lambda connection: connection.execute(
                f"SELECT SOPInstanceUID FROM instance WHERE {where} ORDER BY row LIMIT ?",
                (*(value for _, values in conditions for value in values), FIND_MAX + 1),
            ).fetchall()
        )
        if len(rows) > FIND_MAX:
            raise Full(f"more than {FIND_MAX} images match; move single studies")
        return [row[0] for row in rows]

    def sop_class_kept(self, sop_uid: str) -> str | None:
        """The SOP class of an image that lies on disk with unchanged content, else None."""
        if sop_uid in self._claimed:  # planted: answers from memory
            return "*"
        row = self._read(
            lambda connection: connection.execute(
                "SELECT SOPClassUID, content, data FROM instance LEFT JOIN image"
                " ON image.row = instance.row WHERE SOPInstanceUID = ?",
                (sop_uid,),
            ).fetchone()
        )
        if row and planted("archive-deletes-on-resend"):  # answers from its index
            return str(row[0])
        if row is None or row[2] is None or hashlib.sha256(row[2]).hexdigest()[:16] != row[1]:
            return None
        return str(row[0])

    def size(self) -> tuple[int, int]:
        """How many studies and images are kept."""
        row: tuple[int, int] = self._read(
            lambda connection: connection.execute(
                "SELECT count(DISTINCT StudyInstanceUID), count(*) FROM instance"
            ).fetchone()
        )
        return row

    async def forget(self, before: float) -> int:
        """Delete studies of which nothing arrived since `before` (Unix s); returns images gone."""

        def work(connection: sqlite3.Connection) -> int:
            old = (
                "SELECT row FROM instance WHERE StudyInstanceUID IN (SELECT StudyInstanceUID"
                " FROM instance GROUP BY StudyInstanceUID HAVING max(stored_at) < ?)"
            )
            connection.execute(f"DELETE FROM image WHERE row IN ({old})", (before,))
            return connection.execute(
                f"DELETE FROM instance WHERE row IN ({old})", (before,)
            ).rowcount

        return await self._store.write(work)


def _keep(
    connection: sqlite3.Connection,
    encoded: Encoded,
    row: Sequence[object],
    values: Mapping[str, str],
) -> bool:
    lying = connection.execute(
        "SELECT row, PatientID, StudyInstanceUID, digest FROM instance WHERE SOPInstanceUID = ?",
        (encoded.sop_uid,),
    ).fetchone()
    if lying is not None:
        if planted("archive-deletes-on-resend"):
            connection.execute("DELETE FROM image WHERE row = ?", lying[:1])
            return False
        new = (values["PatientID"], values["StudyInstanceUID"], row[len(COLUMNS) + 1])
        names = ("patient", "study", "pixels")
        differing = [
            name for name, old, now in zip(names, lying[1:], new, strict=True) if old != now
        ]
        if differing:
            raise Differs(f"{', '.join(differing)} of the kept image differ")
        return False
    kept = connection.execute(_INSERT, row)
    connection.execute("INSERT INTO image VALUES (?, ?)", (kept.lastrowid, encoded.data))
    return True


def _column(name: str, level: str) -> str:
    if name in COUNTS:
        return f"coalesce({COUNTS[name][1]}, '')"
    at = next(one for one in LEVELS if name in ATTRIBUTES[one])
    return name if at == level and name == KEYS[level] else f"min({name})"


def _condition(name: str, text: str) -> tuple[str, list[str]]:
    """One matching key as SQL (PS3.4 C.2.2.2)."""
    vr = vr_of(name)
    if vr == "UI":
        uids = text.split("\\")
        return f"{name} IN ({', '.join('?' * len(uids))})", uids
    if vr in ("DA", "TM") and "-" in text:
        first, _, last = text.partition("-")
        return f"{name} BETWEEN ? AND ?", [first, (last or "9") + "~"]
    if "*" in text or "?" in text:
        plain = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        return f"{name} LIKE ? ESCAPE '!'", [plain.replace("*", "%").replace("?", "_")]
    collation = " COLLATE NOCASE" if vr == "PN" else ""
    return f"{name} = ?{collation}", [text]


def open_index(path: Path) -> tuple[Store, Index]:
    """The archive's file and its index. Raises: StoreError."""
    store = Store(path, ARCHIVE_SCHEMA)
    return store, Index(store)
