"""Backup, restore, and what a start finds: the backup, then every change since from the log.

A restore is one transaction: killed at any moment, the agenda is the old one, whole. It refuses to
serve an agenda that lacks a change which the log has.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from stacks.hospital.appointments import scheduling_rows as rows
from stacks.hospital.appointments.scheduling_agenda import Agenda
from stacks.hospital.appointments.scheduling_log import ChangeLog, LogError
from stacks.hospital.bugs import planted
from stacks.hospital.log import Log
from stacks.hospital.store import Store, StoreError


class Backup(msgspec.Struct, frozen=True):
    """A copy of the database; `seq` is the last change that it has."""

    seq: int
    at: float
    """Unix seconds; 0 = there is none."""


class Restored(msgspec.Struct, frozen=True):
    """What a restore did."""

    backup_seq: int
    replayed: int
    """Changes from the log."""
    seconds: float


def backup(database: Path, target: Path) -> Backup:
    """Copy the database as it is now; on disk, whole, under its name when this returns.

    Blocking, in a thread of its own; nobody waits for it. Raises: StoreError.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(database, timeout=5.0)) as source:
            source.execute("VACUUM INTO ?", (str(part),))
        _sync(part)
        part.rename(target)
        _sync(target.parent)
        _sync(target.parent.parent)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"no backup was made: {error}; look at the disk") from None
    return last_backup(target)


def last_backup(target: Path) -> Backup:
    """The backup that lies there. Raises: StoreError when it cannot be read."""
    if not target.exists():
        return Backup(0, 0.0)
    with _reading(target) as copy:
        return Backup(rows.position(copy), target.stat().st_mtime)


async def restore(agenda: Agenda, target: Path) -> Restored:
    """Replace the agenda by its last backup and do every change since again.

    Bookings and moves are refused until it is done; reads see the old agenda until then. Without a
    backup everything comes from the log. Raises: StoreError, LogError (the agenda is the old one).
    """
    began = time.monotonic()
    agenda.restoring = True
    try:
        await agenda.settle()
        logged = agenda.log.last_seq
        made = await agenda.store.write(
            lambda connection: _restore(connection, agenda.log, target, logged)
        )
    finally:
        agenda.restoring = False
    await agenda.settle()
    agenda.queue.notify(rows.ENGINE)
    return msgspec.structs.replace(made, seconds=round(time.monotonic() - began, 3))


def _restore(connection: sqlite3.Connection, log: ChangeLog, target: Path, logged: int) -> Restored:
    goal = rows.position(connection)
    for table in rows.BUSINESS_TABLES:
        connection.execute(f"DELETE FROM {table}")
    start = _copy(connection, target)
    replayed = 0
    changes = () if planted("double-booked-after-restore") else _changes(connection, log, start)
    for change in changes:
        if change.seq != start + replayed + 1:
            raise LogError(f"{log.path}: change {start + replayed + 1} is missing")
        rows.apply(connection, change)
        replayed += 1
    reached = start + replayed
    if reached < max(goal, logged) and not planted("double-booked-after-restore"):
        raise LogError(f"{log.path} ends at change {reached}, the agenda was at {goal}")
    connection.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", (max(goal, reached),))
    return Restored(start, replayed, 0.0)


def _changes(connection: sqlite3.Connection, log: ChangeLog, start: int) -> Iterator[rows.Change]:
    """After `start`: what the log has, then what is committed and not in the log yet."""
    last = start
    for change in log.after(start):
        last = change.seq
        yield change
    for (line,) in connection.execute(
        "SELECT line FROM unlogged WHERE seq > ? ORDER BY seq", (last,)
    ).fetchall():
        yield msgspec.json.decode(line, type=rows.Change)


def _copy(connection: sqlite3.Connection, target: Path) -> int:
    """All rows of the backup; returns its last change. Row numbers of messages are new ones: what
    a courier has in hand must never be taken for another message.
    """
    if not target.exists():
        return 0
    with _reading(target) as copy:
        for table in rows.BUSINESS_TABLES:
            found = copy.execute(f"SELECT * FROM {table} ORDER BY 1")
            names = [column[0] for column in found.description]
            kept = [name for name in names if (table, name) != ("queue", "id")]
            skip = len(names) - len(kept)
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({', '.join('?' * len(kept))})",
                (row[skip:] for row in found),
            )
        return rows.position(copy)


async def recover(agenda: Agenda, target: Path, log: Log) -> None:
    """At every start: bring database and log together again. Raises: StoreError, LogError."""
    known, logged = agenda.store.read(rows.position), agenda.log.last_seq
    if known > logged:
        first = agenda.store.read(
            lambda connection: connection.execute(
                "SELECT min(seq) FROM unlogged WHERE seq > ?", (logged,)
            ).fetchone()[0]
        )
        if first != logged + 1:
            raise LogError(
                f"{agenda.log.path} ends at change {logged}, the database is at {known}:"
                " the log was lost or replaced; put it back"
            )
        await agenda.settle()
        log.warn("log_completed", changes=known - logged)
    elif known < logged:
        made = await restore(agenda, target)
        log.warn("agenda_restored", backup=made.backup_seq, replayed=made.replayed)


def open_store(path: Path, log: Log) -> Store:
    """The database; one that is damaged is put aside, and its content comes back by `recover`.

    Raises: StoreError.
    """
    if path.exists() and not _is_sound(path):
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.rename(aside)
        log.error("database_damaged", moved_to=aside.name)
    return Store(path, rows.SCHEDULING_SCHEMA)


def _is_sound(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path} cannot be read: {error}; look at the disk") from None
    except sqlite3.DatabaseError:
        return False


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as copy:
            yield copy
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: {error}; the backup is not readable") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
