"""A service's own SQLite file: many concurrent writers share one fsync (group commit).

    rows = await store.write(lambda connection: connection.execute(...).rowcount)   # durable now
    found = store.read(lambda connection: connection.execute("SELECT ...").fetchall())

It refuses to answer a write before the commit is on disk (WAL, synchronous=FULL).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

MAX_BATCH = 256  # writes that share one commit
MAX_WAITING = 20_000  # writes in hand; beyond this the store says that it is full
BUSY_MS = 5_000
CLOSE_S = 10.0
CHECK_S = 1.5


class StoreError(Exception):
    """Nothing of this write is stored."""


class Unwritable(StoreError):
    """The disk or the database file refused, and would refuse any other write as well."""


class _Job:
    __slots__ = ("future", "work")

    def __init__(self, work: Work[Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future


class Store:
    """One SQLite file, one writing thread, one reading connection for the event loop's thread.

    Create it inside a running event loop. `work` functions run in the writing thread: they use the
    connection they are given and nothing else of it; what they raise undoes only their own part.
    """

    def __init__(self, path: Path, schema: str, *, synced: bool = True) -> None:
        """Open or begin the file. `synced` is False for a planted defect only: then a commit is
        answered when the system has it, and not the disk. Raises: StoreError."""
        self.path = path
        self.commits = 0
        self._synced = synced
        self._schema = schema
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        try:
            self._writer = self._open()
            self._writer.executescript(schema)
            _sync_folder(path.parent)
            self._reader = self._open()
            self._reader.execute("PRAGMA query_only=1")
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be used: {error}; look at the disk") from None
        self._thread = threading.Thread(target=self._run, name=f"store-{path.stem}", daemon=True)
        self._thread.start()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1e3
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if self._synced else 'NORMAL'}")
        connection.execute("PRAGMA cache_size=-2000")
        return connection

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction; returns its value after the commit is on disk.

        Raises: Unwritable or another StoreError (nothing stored), and whatever `work` raises (its
        part undone).
        """
        if self._closed:
            raise Unwritable(f"{self.path.name} is closed")
        if self._jobs.qsize() >= MAX_WAITING:
            raise Unwritable(f"{MAX_WAITING} writes wait for {self.path.name}; the disk is slow")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, future))
        return await future

    def read(self, work: Work[T]) -> T:
        """Run a short query on the committed state, in the caller's thread. Raises: StoreError."""
        try:
            return work(self._reader)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path.name}: {error}") from None

    async def check(self) -> None:
        """For /health: a real write and commit. Raises: StoreError."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self.write(_touch)
        except TimeoutError:
            raise StoreError(f"{self.path.name}: no commit within {CHECK_S} s") from None

    async def close(self) -> None:
        """Commit what was asked, then close the file."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_S)
        self._reader.close()
        if not self._thread.is_alive():
            self._writer.close()

    # -- the writing thread ---------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            batch: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= MAX_BATCH or self._jobs.empty():
                    break
                job = self._jobs.get()
            last = job is None
            if batch:
                results = self._commit(batch)
                with contextlib.suppress(RuntimeError):  # the loop may be gone
                    self._loop.call_soon_threadsafe(_settle, batch, results)

    def _commit(self, batch: list[_Job]) -> list[tuple[Any, Exception | None]]:
        results: list[tuple[Any, Exception | None]] = []
        connection = self._writer
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                results.append(_one(connection, job))
            connection.execute("COMMIT")
            self.commits += 1
        except sqlite3.Error as error:
            self._reopen()
            failure = Unwritable(f"{self.path.name}: {error}; nothing was stored")
            return [(None, failure)] * len(batch)
        return results

    def _reopen(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._writer.close()
        with contextlib.suppress(sqlite3.Error):
            self._writer = self._open()


def _one(connection: sqlite3.Connection, job: _Job) -> tuple[Any, Exception | None]:
    connection.execute("SAVEPOINT part")
    try:
        result = job.work(connection)
    except sqlite3.OperationalError:
        raise  # the disk, not this work: the whole batch fails
    except Exception as error:
        connection.execute("ROLLBACK TO part")
        connection.execute("RELEASE part")
        wrapped = StoreError(str(error)) if isinstance(error, sqlite3.Error) else error
        return None, wrapped
    connection.execute("RELEASE part")
    return result, None


def _settle(batch: list[_Job], results: list[tuple[Any, Exception | None]]) -> None:
    for job, (result, error) in zip(batch, results, strict=True):
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS pulse (one INTEGER PRIMARY KEY, beats INTEGER)")
    connection.execute("INSERT INTO pulse VALUES (1, 1) ON CONFLICT DO UPDATE SET beats = beats+1")


def _sync_folder(folder: Path) -> None:
    """A new file survives a power cut only when its folder's entry is on disk, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
