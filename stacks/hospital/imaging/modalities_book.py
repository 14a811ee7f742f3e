"""The scanners' durable book: examinations, images, what was committed, what radiology is told.

An image's bytes stay until an archive has committed it; its row stays for ever. It refuses an
examination that does not fit into the buffer: Full.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stacks.hospital.bugs import planted
from stacks.hospital.imaging.buffer import Load
from stacks.hospital.imaging.buffer_threads import Desk
from stacks.hospital.imaging.commitment import Item, Report, new_transaction
from stacks.hospital.imaging.instances import Encoded, Examination

MODALITIES_SCHEMA = """
CREATE TABLE IF NOT EXISTS examination (
  exam TEXT PRIMARY KEY,
  asked TEXT NOT NULL,
  modality TEXT NOT NULL,
  patient TEXT NOT NULL,
  family TEXT NOT NULL,
  given TEXT NOT NULL,
  birth TEXT NOT NULL,
  placer TEXT NOT NULL,
  priority TEXT NOT NULL,
  study TEXT NOT NULL,
  accession TEXT NOT NULL,
  downtime INTEGER NOT NULL,
  instances INTEGER NOT NULL,
  acquired INTEGER NOT NULL DEFAULT 0,
  started_at REAL NOT NULL,
  finished_at REAL
);
CREATE INDEX IF NOT EXISTS examination_running ON examination (started_at)
  WHERE finished_at IS NULL;
CREATE TABLE IF NOT EXISTS finished (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, exam TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS image (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sop_uid TEXT NOT NULL UNIQUE,
  exam TEXT NOT NULL,
  scanner TEXT NOT NULL,
  patient TEXT NOT NULL,
  lane INTEGER NOT NULL,
  sop_class TEXT NOT NULL,
  transfer_syntax TEXT NOT NULL,
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  state TEXT NOT NULL,
  acquired_at REAL NOT NULL,
  sent_at REAL,
  ask INTEGER,
  committed_at REAL,
  deleted_at REAL,
  reason TEXT,
  data BLOB
);
CREATE INDEX IF NOT EXISTS image_held ON image (scanner, lane, id) WHERE state = 'held';
CREATE INDEX IF NOT EXISTS image_sent ON image (id) WHERE state = 'sent' AND ask IS NULL;
CREATE INDEX IF NOT EXISTS image_asked ON image (ask) WHERE ask IS NOT NULL;
CREATE INDEX IF NOT EXISTS image_kept ON image (scanner) WHERE data IS NOT NULL;
CREATE TABLE IF NOT EXISTS ask (
  id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, again_at REAL NOT NULL,
  reported_at REAL
);
CREATE INDEX IF NOT EXISTS ask_open ON ask (again_at) WHERE reported_at IS NULL;
CREATE TABLE IF NOT EXISTS step (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  exam TEXT NOT NULL,
  kind TEXT NOT NULL,
  at REAL NOT NULL,
  told_at REAL,
  reason TEXT
);
CREATE INDEX IF NOT EXISTS step_waiting ON step (id) WHERE told_at IS NULL AND reason IS NULL;
CREATE TABLE IF NOT EXISTS block (modality TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
"""
ASK_AFTER_S = 0.5
"""Images are asked about in groups: so long after the first was sent, or when ASK_ITEMS wait."""
ASK_ITEMS = 200
ASK_AGAIN_S = 8.0
DEFERRED = 2
CREATE, SET = "create", "set"


class Full(Exception):
    """The scanner's disk has no room for this examination; the text says how much is held."""


class Conflict(Exception):
    """The examination is known with other content."""


@dataclass(frozen=True, slots=True)
class Running:
    """An examination in progress."""

    examination: Examination
    instances: int
    acquired: int


def scanner_of(modality: str) -> str:
    """The AE title of the scanner: CT1 for CT."""
    return f"{modality}1"


def begin(
    connection: sqlite3.Connection,
    asked: bytes,
    one: Examination,
    instances: int,
    capacities: Mapping[str, int],
) -> bool:
    """Enter an examination; without accession it gets the next of the downtime block.

    False when it is known already. Raises: Conflict, Full.
    """  # fmt: skip
    if known(connection, one.exam, asked):
        return False
    _room(connection, one.modality, instances, capacities[one.modality])
    accession = one.accession or _downtime_number(connection, one.modality)
    connection.execute(
        "INSERT INTO examination (exam, asked, modality, patient, family, given, birth, placer,"
        " priority, study, accession, downtime, instances, started_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            one.exam, asked.decode(), one.modality, one.patient, one.family, one.given, one.birth,
            one.placer, one.priority, one.study_uid, accession, not one.accession, instances,
            one.started_at,
        ),
    )  # fmt: skip
    _tell(connection, one.exam, CREATE)
    return True


def known(connection: sqlite3.Connection, exam: str, asked: bytes) -> bool:
    """Whether this very examination is entered already. Raises: Conflict."""
    row = connection.execute("SELECT asked FROM examination WHERE exam = ?", (exam,)).fetchone()
    if row is not None and row[0] != asked.decode():
        raise Conflict(f"examination {exam} is known with other content")
    return row is not None


def _room(connection: sqlite3.Connection, modality: str, instances: int, capacity: int) -> None:
    (held,) = connection.execute(
        "SELECT count(*) FROM image WHERE scanner = ? AND data IS NOT NULL",
        (scanner_of(modality),),
    ).fetchone()
    (coming,) = connection.execute(
        "SELECT coalesce(sum(instances - acquired), 0) FROM examination"
        " WHERE finished_at IS NULL AND modality = ?", (modality,),
    ).fetchone()  # fmt: skip
    if held + coming + instances > capacity:
        raise Full(
            f"{scanner_of(modality)} holds {held + coming} of {capacity} images;"
            f" {instances} more do not fit until the archives have committed some"
        )


def _downtime_number(connection: sqlite3.Connection, modality: str) -> str:
    (number,) = connection.execute(
        "INSERT INTO block VALUES (?, 1) ON CONFLICT (modality) DO UPDATE SET number = number + 1"
        " RETURNING number", (modality,),
    ).fetchone()  # fmt: skip
    return f"DT{modality}-{number:06d}"


def _tell(connection: sqlite3.Connection, exam: str, kind: str) -> None:
    connection.execute(
        "INSERT INTO step (exam, kind, at) VALUES (?, ?, ?)", (exam, kind, time.time())
    )


_EXAMINATION = """
SELECT exam, modality, patient, family, given, birth, accession, placer, priority, study,
  started_at, instances, acquired FROM examination
"""


def running(connection: sqlite3.Connection) -> list[Running]:
    """The examinations in progress, oldest first."""
    rows = connection.execute(
        f"{_EXAMINATION} WHERE finished_at IS NULL ORDER BY started_at LIMIT 1000"
    ).fetchall()
    return [Running(Examination(*row[:11]), row[11], row[12]) for row in rows]


def examination(connection: sqlite3.Connection, exam: str) -> Running:
    """One examination that is in the book."""
    row = connection.execute(f"{_EXAMINATION} WHERE exam = ?", (exam,)).fetchone()
    return Running(Examination(*row[:11]), row[11], row[12])


def acquire(
    connection: sqlite3.Connection, one: Running, images: Sequence[tuple[Encoded, str]]
) -> None:
    """Keep the next images of an examination; the last one finishes it."""
    done, now = one.examination, time.time()
    lane = 1 if done.priority == "ROUTINE" else 0
    connection.executemany(
        "INSERT INTO image (sop_uid, exam, scanner, patient, lane, sop_class, transfer_syntax,"
        " digest, size, data, state, acquired_at) VALUES (?,?,?,?,?,?,?,?,?,?,'held',?)",
        [
            (
                image.sop_uid, done.exam, scanner_of(done.modality), done.patient, lane,
                image.sop_class, image.transfer_syntax, digest, len(image.data), image.data, now,
            )
            for image, digest in images
        ],
    )  # fmt: skip
    acquired = one.acquired + len(images)
    connection.execute("UPDATE examination SET acquired = ? WHERE exam = ?", (acquired, done.exam))
    if acquired >= one.instances:
        connection.execute(
            "UPDATE examination SET finished_at = ? WHERE exam = ?", (now, done.exam)
        )
        connection.execute("INSERT INTO finished (exam) VALUES (?)", (done.exam,))
        _tell(connection, done.exam, SET)


class Scanner:
    """What one scanner still has to send: the cargo of its carrier."""

    def __init__(self, title: str, desk: Desk) -> None:
        self.title = title
        self._desk = desk

    def waiting(self, limit: int) -> list[Load]:
        """The next images in sending order. Raises: StoreError."""
        rows = self._desk.read(
            lambda connection: connection.execute(
                "SELECT id, sop_class, sop_uid, transfer_syntax, data FROM image"
                " WHERE scanner = ? AND state = 'held' ORDER BY lane, id LIMIT ?",
                (self.title, limit),
            ).fetchall()
        )
        return [Load(id_, Encoded(*rest)) for id_, *rest in rows]

    def sent(self, ids: Sequence[int]) -> None:
        """The router took them. Raises: StoreError."""
        now = time.time()
        rows = [(now, id_) for id_ in ids]
        careless = planted("modality-deletes-on-store")

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE image SET state = 'sent', sent_at = ? WHERE id = ?", rows
            )
            if careless:
                connection.executemany(
                    "UPDATE image SET state = 'deleted-uncommitted', deleted_at = ?, data = NULL"
                    " WHERE id = ?", rows,
                )  # fmt: skip

        self._desk.write(work)

    def park(self, id_: int, reason: str) -> None:
        """Put one aside for a person; its bytes stay. Raises: StoreError."""
        self._desk.write(
            lambda connection: (
                connection.execute(
                    "UPDATE image SET state = 'parked', reason = ? WHERE id = ?", (reason, id_)
                ).rowcount
            )
        )

    def defer(self, id_: int) -> None:
        """Let others go first. Raises: StoreError."""
        self._desk.write(
            lambda connection: (
                connection.execute(
                    "UPDATE image SET lane = ? WHERE id = ?", (DEFERRED, id_)
                ).rowcount
            )
        )


# -- commitment -----------------------------------------------------------------------------------


def to_ask(connection: sqlite3.Connection) -> tuple[str, list[Item]] | None:
    """The next request for commitment: one without a report, else a new group."""
    now = time.time()
    row = connection.execute(
        "SELECT id, uid FROM ask WHERE reported_at IS NULL AND again_at <= ? ORDER BY again_at",
        (now,),
    ).fetchone()
    if row is None:
        row = _group(connection, now)
    if row is None:
        return None
    items = connection.execute(
        "SELECT sop_class, sop_uid FROM image WHERE ask = ?", (row[0],)
    ).fetchall()
    return row[1], [Item(*one) for one in items]


def _group(connection: sqlite3.Connection, now: float) -> tuple[int, str] | None:
    rows = connection.execute(
        "SELECT id, sent_at FROM image WHERE state = 'sent' AND ask IS NULL ORDER BY id LIMIT ?",
        (ASK_ITEMS,),
    ).fetchall()
    if not rows or (len(rows) < ASK_ITEMS and now - min(at for _, at in rows) < ASK_AFTER_S):
        return None
    uid = new_transaction()
    row = connection.execute("INSERT INTO ask (uid, again_at) VALUES (?, ?)", (uid, now))
    ask = int(row.lastrowid or 0)
    connection.executemany("UPDATE image SET ask = ? WHERE id = ?", [(ask, id_) for id_, _ in rows])
    return ask, uid


def anything_to_ask(connection: sqlite3.Connection) -> bool:
    """Whether `to_ask` may find something."""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM image WHERE state = 'sent' AND ask IS NULL)"
        " OR EXISTS (SELECT 1 FROM ask WHERE reported_at IS NULL AND again_at <= ?)",
        (time.time(),),
    ).fetchone()
    return bool(found)


def asked(connection: sqlite3.Connection, uid: str) -> None:
    """The router took the request."""
    connection.execute(
        "UPDATE ask SET again_at = ? WHERE uid = ?", (time.time() + ASK_AGAIN_S, uid)
    )


def reported(connection: sqlite3.Connection, report: Report) -> tuple[int, int]:
    """Committed images lose their bytes; missing ones go again. Returns how many of each.

    An image that the report does not name is asked about again. Raises: KeyError for a
    transaction that was never asked.
    """
    row = connection.execute("SELECT id FROM ask WHERE uid = ?", (report.transaction,)).fetchone()
    if row is None:
        raise KeyError(report.transaction)
    (ask,), now = row, time.time()
    kept = connection.executemany(
        "UPDATE image SET state = 'deleted', committed_at = ?, deleted_at = ?, data = NULL,"
        " ask = NULL WHERE sop_uid = ? AND ask = ? AND state = 'sent'",
        [(now, now, one.sop_uid, ask) for one in report.kept],
    ).rowcount
    missing = connection.executemany(
        "UPDATE image SET state = 'held', sent_at = NULL, ask = NULL"
        " WHERE sop_uid = ? AND ask = ? AND state = 'sent'",
        [(one.sop_uid, ask) for one in report.missing],
    ).rowcount
    connection.execute("UPDATE image SET ask = NULL WHERE ask = ?", (ask,))
    connection.execute("UPDATE ask SET reported_at = ? WHERE id = ?", (now, ask))
    return max(kept, 0), max(missing, 0)


# -- what radiology is to be told -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One report of an examination to radiology; `kind` is create or set."""

    id: int
    kind: str
    at: float
    of: Running


def next_step(connection: sqlite3.Connection) -> Step | None:
    """The next report in order."""
    row = connection.execute(
        "SELECT id, kind, at, exam FROM step WHERE told_at IS NULL AND reason IS NULL"
        " ORDER BY id LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    id_, kind, at, exam = row
    return Step(id_, kind, at, examination(connection, exam))


def told(connection: sqlite3.Connection, step: int, reason: str | None = None) -> None:
    """Radiology has it, or refuses it for good with a reason."""
    connection.execute(
        "UPDATE step SET told_at = ?, reason = ? WHERE id = ?",
        (None if reason else time.time(), reason, step),
    )
