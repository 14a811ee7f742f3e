"""Lock files that a killed PostgreSQL left behind, freed of its process id before the next start.

PostgreSQL believes in its lock file as long as the process id in it belongs to anybody. In a
container, whose ids begin anew at each start, that is sooner or later one of etcd's threads, and a
database node that crashed would never come back. So the lock gets an id that nobody can ever have;
everything else stays, for by it PostgreSQL sees whether the dead server's shared memory is in use.

It refuses to touch a lock while a server runs on this data directory, or a process of it may.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SERVER = "postgres"
NOBODY = 2**31 - 1
"""Linux gives no id above 2**22, and PostgreSQL and Patroni read this one as a number."""


def free_stale_locks(pgdata: Path, sockets: Path | None) -> list[Path]:
    """Write NOBODY into `postmaster.pid` and the sockets' lock files where no server runs on this
    data directory; gives what was changed. OSError when one cannot be written."""
    stale = [lock for lock in _locks(pgdata, sockets) if _names_somebody(lock)]
    if not stale or _served(pgdata):
        return []
    for lock in stale:
        _, _, rest = lock.read_text(errors="surrogateescape").partition("\n")
        freed = lock.with_suffix(".freed")
        freed.write_text(f"{NOBODY}\n{rest}", errors="surrogateescape")
        freed.chmod(0o600)
        freed.replace(lock)
    return stale


def _locks(pgdata: Path, sockets: Path | None) -> Iterator[Path]:
    yield pgdata / "postmaster.pid"
    if sockets is not None:
        yield from sorted(sockets.glob(".s.PGSQL.*.lock"))


def _names_somebody(lock: Path) -> bool:
    """Whether its first line is an id that somebody has or may get."""
    try:
        pid = lock.read_text(errors="replace").partition("\n")[0].strip().lstrip("-")
    except FileNotFoundError:
        return False
    return pid.isascii() and pid.isdigit() and int(pid) != NOBODY


def _served(pgdata: Path) -> bool:
    """Whether any PostgreSQL process works in that folder, or may: one cannot look."""
    return any(_may_work_in(pgdata, process) for process in Path("/proc").glob("[0-9]*"))


def _may_work_in(pgdata: Path, process: Path) -> bool:
    try:
        if (process / "comm").read_text().strip() != SERVER:
            return False
        return (process / "cwd").samefile(pgdata)
    except (FileNotFoundError, ProcessLookupError):
        return False  # it ended just now
    except PermissionError:
        return True  # another namespace's
