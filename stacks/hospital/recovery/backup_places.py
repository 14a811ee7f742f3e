"""Where the vault keeps what, and the programs and nodes that it works with.

    log/<chain>/…           write-ahead log, as received; a gap begins a new chain
    bases/<id>/data, base.json    one base backup and what the vault knows of it
    files/<service>/…       copies of other systems' queues and indexes
    markers/, drills/       what the record held when it was asked; reports of restore drills
    scratch/                where a drill restores to

It refuses to be reached from a database host: nothing there has a way in but HTTP, and that has no
word for deleting.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg

from stacks.hospital import postgres
from stacks.hospital.settings import Address, Settings

NODES = ("ehr-db-a", "ehr-db-b")
ASK_S = 2
"""One question to a node, connecting included, in whole seconds (libpq takes no others)."""
APPLICATION = "backup"
_STATE = """
SELECT pg_is_in_recovery(), extract(epoch FROM clock_timestamp())::float8,
  CASE WHEN pg_is_in_recovery() THEN ''
    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
  CASE WHEN pg_is_in_recovery() THEN 0
    ELSE (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint END,
  coalesce((SELECT max(write_lsn - '0/0'::pg_lsn)::bigint FROM pg_stat_replication
    WHERE application_name = 'backup'), 0)
"""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class NodeState:
    """What one database node says of itself; positions in bytes of log."""

    name: str
    address: Address
    standby: bool
    at: float
    timeline: int
    flushed: int
    """Up to where its own log is on its disk; 0 on a standby."""
    received: int
    """Up to where the vault has its log, as the node was told."""


@dataclass(frozen=True, slots=True)
class Place:
    """The vault's own folders and the nodes that its links lead to."""

    folder: Path
    binaries: Path
    nodes: tuple[tuple[str, Address], ...]

    def __getattr__(self, name: str) -> Path:
        if name in ("log", "bases", "files", "markers", "drills", "scratch"):
            return self.folder / name
        raise AttributeError(name)


def place(settings: Settings) -> Place:
    """The vault of these Settings, its folders made. Raises PostgresMissing, OSError."""
    nodes = []
    for name in NODES:
        link = settings.optional_link(name, "postgres")
        if link is not None:
            nodes.append((name, link))
    found = Place(settings.data_dir, postgres.binaries(), tuple(nodes))
    for name in ("log", "bases", "files", "markers", "drills", "scratch"):
        (found.folder / name).mkdir(mode=0o700, exist_ok=True)
    return found


def state(name: str, address: Address) -> NodeState:
    """Ask one node. Raises psycopg.Error."""
    text = postgres.dsn(
        address, account=postgres.REPLICATION, database="postgres", connect_timeout_s=ASK_S,
        application_name="backup-look",
    )  # fmt: skip
    options = f"-c statement_timeout={ASK_S * 1000}"
    with psycopg.connect(text, autocommit=True, options=options) as connection:
        row = connection.execute(_STATE.encode()).fetchone()
    assert row is not None
    standby, at, timeline, flushed, received = row
    return NodeState(
        name, address, standby, at, int(timeline, 16) if timeline else 0, flushed, received
    )  # fmt: skip


def program_dsn(address: Address, application: str = APPLICATION) -> str:
    """For PostgreSQL's own programs; the password goes by `program_environment`."""
    return (
        f"host={address.host} port={address.port} user={postgres.REPLICATION.name}"
        f" application_name={application} connect_timeout={ASK_S} keepalives_idle=5"
        " keepalives_interval=2 keepalives_count=3 tcp_user_timeout=10000"
    )


def program_environment() -> dict[str, str]:
    """So that the password is in no list of processes, and messages are in English."""
    return {**os.environ, "PGPASSWORD": postgres.REPLICATION.password, "LC_ALL": "C"}


_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """In a child before its program begins: a vault that is killed leaves nobody behind."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def position(text: str) -> int:
    """A position in the log, such as `0/1400050`, as a number of bytes."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def keep(path: Path, content: bytes, mode: int = 0o400) -> None:
    """Write a whole file, on disk before it has its name; nobody writes it again.

    Raises OSError: then nothing of it stays, least of all on a disk that is full.
    """
    aside = path.with_name(f".{path.name}.{time.monotonic_ns()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            with open(handle, "wb", closefd=False) as out:
                out.write(content)
            os.fsync(handle)
        finally:
            os.close(handle)
        aside.rename(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append(path: Path, lines: bytes) -> None:
    """Add whole lines, on disk when this returns. Raises OSError: then none of them stays."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        end = os.fstat(handle).st_size
        try:
            with open(handle, "wb", closefd=False) as out:
                out.write(lines)
            os.fsync(handle)
        except OSError:  # half a line must not stand before the next one
            os.ftruncate(handle, end)
            raise
    finally:
        os.close(handle)


def keep_json(path: Path, value: object) -> None:
    """`keep` of anything that msgspec can encode."""
    keep(path, msgspec.json.format(msgspec.json.encode(value), indent=1))


def sync_folder(folder: Path) -> None:
    """A new name survives a power cut only when its folder is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
