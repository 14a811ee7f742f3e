"""The router's durable book: images, what is owed to whom, and who waits for a commitment.

An image's bytes stay until every archive has committed it and nobody else waits for it, those of
an urgent study for a while longer (router_recent.py). It refuses to take two different images under
one UID: Differs.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from stacks.hospital.imaging.buffer import Load
from stacks.hospital.imaging.buffer_threads import Desk
from stacks.hospital.imaging.commitment import Item, Report
from stacks.hospital.imaging.instances import Encoded

ROUTER_SCHEMA = """
CREATE TABLE IF NOT EXISTS instance (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sop_uid TEXT NOT NULL UNIQUE,
  sop_class TEXT NOT NULL,
  transfer_syntax TEXT NOT NULL,
  study TEXT NOT NULL,
  patient TEXT NOT NULL,
  urgent INTEGER NOT NULL,
  digest TEXT NOT NULL,
  received_at REAL NOT NULL,
  data BLOB
);
CREATE INDEX IF NOT EXISTS instance_study ON instance (study);
CREATE INDEX IF NOT EXISTS instance_urgent ON instance (study) WHERE urgent AND data IS NOT NULL;
CREATE INDEX IF NOT EXISTS instance_here ON instance (id) WHERE data IS NOT NULL;
CREATE TABLE IF NOT EXISTS delivery (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  instance INTEGER NOT NULL,
  destination TEXT NOT NULL,
  lane INTEGER NOT NULL,
  state TEXT NOT NULL,
  since REAL NOT NULL,
  ask_at REAL NOT NULL DEFAULT 0,
  misses INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  UNIQUE (instance, destination)
);
CREATE INDEX IF NOT EXISTS delivery_owed ON delivery (destination, lane, id) WHERE state = 'owed';
CREATE INDEX IF NOT EXISTS delivery_sent ON delivery (destination, ask_at) WHERE state = 'sent';
CREATE INDEX IF NOT EXISTS delivery_parked ON delivery (id) WHERE state = 'parked';
CREATE TABLE IF NOT EXISTS promise (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  uid TEXT NOT NULL,
  caller TEXT NOT NULL,
  vouched INTEGER NOT NULL,
  asked_at REAL NOT NULL,
  reported_at REAL,
  UNIQUE (uid, caller)
);
CREATE INDEX IF NOT EXISTS promise_open ON promise (id) WHERE reported_at IS NULL;
CREATE TABLE IF NOT EXISTS promised (
  promise INTEGER NOT NULL,
  sop_class TEXT NOT NULL,
  sop_uid TEXT NOT NULL,
  instance INTEGER,
  PRIMARY KEY (promise, sop_uid)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
URGENT, ROUTINE, DEFERRED = 0, 1, 2
"""Lanes: urgent studies first; an image that fails again and again last."""
SETTLE_S = 0.3  # an archive is asked for commitment so long after it took an image
ASK_AGAIN_S = 10.0  # without a report in so many seconds the archive is asked again
MISS_PAUSE_S, MISS_PAUSE_MAX_S = 2.0, 30.0
"""Pause before the next question about an image that an archive took and did not keep."""
_FORGET = """
UPDATE instance SET data = NULL WHERE id = ? AND data IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM delivery WHERE delivery.instance = instance.id
  AND state IN ('owed', 'sent', 'parked'))
AND NOT EXISTS (SELECT 1 FROM instance AS u WHERE u.study = instance.study AND u.urgent)
"""


class Differs(Exception):
    """Another image with this SOP instance UID is here already."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image with what the router reads of it."""

    encoded: Encoded
    study: str
    patient: str
    urgent: bool
    digest: str
    """SHA-256 of the data set's bytes."""


def take(connection: sqlite3.Connection, one: Arrival, destinations: Sequence[str]) -> bool:
    """Keep an image, owed to every destination; False when it is here already. Raises: Differs."""
    known = connection.execute(
        "SELECT digest FROM instance WHERE sop_uid = ?", (one.encoded.sop_uid,)
    ).fetchone()
    if known is not None:
        if known[0] != one.digest:
            raise Differs(f"another image with the UID {one.encoded.sop_uid} is here")
        return False
    now = time.time()
    sop_class, sop_uid, syntax, data = one.encoded
    row = connection.execute(
        "INSERT INTO instance (sop_uid, sop_class, transfer_syntax, study, patient, urgent, digest,"
        " received_at, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (sop_uid, sop_class, syntax, one.study, one.patient, one.urgent, one.digest, now, data),
    )
    lane = URGENT if one.urgent else ROUTINE
    owe(connection, [int(row.lastrowid or 0)], destinations, lane)
    return True


def owe(
    connection: sqlite3.Connection, ids: Sequence[int], destinations: Sequence[str], lane: int
) -> None:
    """Owe images to destinations; what is owed or was delivered already stays as it is."""
    now = time.time()
    connection.executemany(
        "INSERT OR IGNORE INTO delivery (instance, destination, lane, state, since)"
        " VALUES (?, ?, ?, 'owed', ?)",
        [(id_, destination, lane, now) for id_ in ids for destination in destinations],
    )


class Destination:
    """What the router owes one destination: the cargo of its carrier."""

    def __init__(self, name: str, desk: Desk, *, commits: bool) -> None:
        self.name = name
        self._desk = desk
        self._commits = commits

    def waiting(self, limit: int) -> list[Load]:
        """The next images in sending order. Raises: StoreError."""
        rows = self._desk.read(
            lambda connection: connection.execute(
                "SELECT d.id, i.sop_class, i.sop_uid, i.transfer_syntax, i.data"
                " FROM delivery AS d JOIN instance AS i ON i.id = d.instance"
                " WHERE d.destination = ? AND d.state = 'owed' ORDER BY d.lane, d.id LIMIT ?",
                (self.name, limit),
            ).fetchall()
        )
        return [Load(id_, Encoded(*rest)) for id_, *rest in rows]

    def sent(self, ids: Sequence[int]) -> None:
        """The destination took them. Raises: StoreError."""
        state, now = "sent" if self._commits else "committed", time.time()

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE delivery SET state = ?, since = ?,"
                " ask_at = ? + CASE misses WHEN 0 THEN ? ELSE min(?, ? * misses) END WHERE id = ?",
                [(state, now, now, SETTLE_S, MISS_PAUSE_MAX_S, MISS_PAUSE_S, id_) for id_ in ids],
            )
            if not self._commits:
                _forget(connection, ids)

        self._desk.write(work)

    def park(self, id_: int, reason: str) -> None:
        """Put one aside for a person. Raises: StoreError."""
        self._desk.write(
            lambda connection: (
                connection.execute(
                    "UPDATE delivery SET state = 'parked', since = ?, reason = ? WHERE id = ?",
                    (time.time(), reason, id_),
                ).rowcount
            )
        )

    def defer(self, id_: int) -> None:
        """Let others go first. Raises: StoreError."""
        self._desk.write(
            lambda connection: (
                connection.execute(
                    "UPDATE delivery SET lane = ? WHERE id = ?", (DEFERRED, id_)
                ).rowcount
            )
        )

    # -- commitment by this archive -------------------------------------------------------------

    def uncommitted(self, limit: int) -> tuple[list[int], list[Item]]:
        """Images that it took and is to be asked about now. Raises: StoreError."""
        rows = self._desk.read(
            lambda connection: connection.execute(
                "SELECT d.id, i.sop_class, i.sop_uid FROM delivery AS d"
                " JOIN instance AS i ON i.id = d.instance"
                " WHERE d.destination = ? AND d.state = 'sent' AND d.ask_at <= ?"
                " ORDER BY d.ask_at LIMIT ?",
                (self.name, time.time(), limit),
            ).fetchall()
        )
        return [row[0] for row in rows], [Item(row[1], row[2]) for row in rows]

    def asked(self, ids: Sequence[int]) -> None:
        """It was asked. Raises: StoreError."""
        again = time.time() + ASK_AGAIN_S
        self._desk.write(
            lambda connection: (
                connection.executemany(
                    "UPDATE delivery SET ask_at = ? WHERE id = ? AND state = 'sent'",
                    [(again, id_) for id_ in ids],
                ).rowcount
            )
        )

    def reported(self, report: Report) -> None:
        """Its answer: committed images may be forgotten, missing ones go again."""
        kept = [(self.name, one.sop_uid) for one in report.kept]
        missing = [(time.time(), self.name, one.sop_uid) for one in report.missing]
        which = "destination = ? AND instance = (SELECT id FROM instance WHERE sop_uid = ?)"

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE delivery SET state = 'committed'"
                f" WHERE {which} AND state IN ('sent', 'owed')", kept,
            )  # fmt: skip
            connection.executemany(
                "UPDATE delivery SET state = 'owed', since = ?, misses = misses + 1"
                f" WHERE {which} AND state = 'sent'", missing,
            )  # fmt: skip
            for _, sop_uid in kept:
                _forget_one(connection, sop_uid)

        self._desk.write(work)


def _forget(connection: sqlite3.Connection, deliveries: Sequence[int]) -> None:
    for id_ in deliveries:
        row = connection.execute("SELECT instance FROM delivery WHERE id = ?", (id_,)).fetchone()
        if row is not None:
            connection.execute(_FORGET, row)


def _forget_one(connection: sqlite3.Connection, sop_uid: str) -> None:
    row = connection.execute("SELECT id FROM instance WHERE sop_uid = ?", (sop_uid,)).fetchone()
    if row is not None:
        connection.execute(_FORGET, row)


# -- commitment promised to modalities ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """A report that can be given now."""

    id: int
    caller: str
    report: Report


def promise(
    connection: sqlite3.Connection, uid: str, caller: str, items: Sequence[Item], vouched: bool
) -> None:
    """Keep a request for commitment; the same one again is reported again."""
    connection.execute(
        "INSERT INTO promise (uid, caller, vouched, asked_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (uid, caller) DO UPDATE SET reported_at = NULL",
        (uid, caller, vouched, time.time()),
    )
    (id_,) = connection.execute(
        "SELECT id FROM promise WHERE uid = ? AND caller = ?", (uid, caller)
    ).fetchone()
    connection.executemany(
        "INSERT OR REPLACE INTO promised VALUES (?, ?, ?,"
        " (SELECT id FROM instance WHERE sop_uid = ? AND sop_class = ?))",
        [(id_, one.sop_class, one.sop_uid, one.sop_uid, one.sop_class) for one in items],
    )


_READY = """
SELECT p.id, p.uid, p.caller, p.vouched FROM promise AS p
WHERE p.reported_at IS NULL AND (p.vouched OR NOT EXISTS (
  SELECT 1 FROM promised AS d WHERE d.promise = p.id AND d.instance IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM delivery AS v WHERE v.instance = d.instance
    AND v.state = 'committed' AND v.destination != ?)))
ORDER BY p.id LIMIT ?
"""


def ready(connection: sqlite3.Connection, viewer: str, limit: int) -> list[Promise]:
    """Requests of which every image is committed by an archive (a viewer does not count).

    The other archive's copy is owed on disk since the image was taken. Images that never came
    are reported as missing.
    """
    found = []
    for id_, uid, caller, vouched in connection.execute(_READY, (viewer, limit)).fetchall():
        rows = connection.execute(
            "SELECT sop_class, sop_uid, instance FROM promised WHERE promise = ?", (id_,)
        ).fetchall()
        kept = tuple(Item(a, b) for a, b, here in rows if vouched or here is not None)
        missing = tuple(Item(a, b) for a, b, here in rows if not vouched and here is None)
        found.append(Promise(id_, caller, Report(uid, kept, missing)))
    return found


def reported(connection: sqlite3.Connection, promise_id: int) -> None:
    """The requester has its report."""
    connection.execute("UPDATE promise SET reported_at = ? WHERE id = ?", (time.time(), promise_id))
