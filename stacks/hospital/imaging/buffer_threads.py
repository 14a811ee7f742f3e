"""Threads beside the service's loop: their way to its Store, their steps, their end.

DICOM work is blocking and has threads of its own; the chassis is asyncio. It refuses to let a
thread die silently, or to let one that waits for a peer hold up the end of the process.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from stacks.hospital.log import Log
from stacks.hospital.store import Store, StoreError
from stacks.hospital.web import Service, run

T = TypeVar("T")
FAILED_PAUSE_S = 2.0  # after a step that failed
WRITE_S = 10.0  # a disk that takes longer hangs
JOIN_S = 3.0  # a stopping service waits so long for its threads
QUIET_S = 10.0  # at most one log line per event and so many seconds


class Desk:
    """The service's Store, for threads: writes wait for their commit, reads are each thread's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._own = threading.local()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; returns after the fsync. Raises: StoreError."""
        return self.wait(self._store.write(work))

    async def write_soon(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same from the service's loop. Raises: StoreError."""
        return await self._store.write(work)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the service's loop. Raises: StoreError when it takes too long."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(WRITE_S)
        except TimeoutError:
            raise StoreError(f"no commit within {WRITE_S} s; the disk is slow") from None

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a short query on the committed state. Raises: StoreError."""
        try:
            return work(self._connection(self._store.path))
        except sqlite3.Error as error:
            raise StoreError(f"{self._store.path.name}: {error}") from None

    def _connection(self, path: Path) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if found is None:
            found = sqlite3.connect(path, isolation_level=None, timeout=WRITE_S)
            found.execute("PRAGMA query_only=1")
            self._own.connection = found
        return found


class Duty:
    """A thread that does one step again and again until the service stops."""

    def __init__(
        self, name: str, step: Callable[[], float], log: Log, end: Callable[[], None] | None = None
    ) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._bell = threading.Event()
        self._step, self._end, self._log = step, end, log

    def ring(self) -> None:
        """There is work: do not wait for the next look."""
        self._bell.set()

    def pause(self, wait_s: float) -> None:
        """Wait, unless the service stops."""
        self.stopping.wait(wait_s)

    async def run(self, stop: asyncio.Event) -> None:
        """The service's background work."""
        self.stopping.clear()
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        thread.start()
        await stop.wait()
        self.stopping.set()
        self._bell.set()
        await asyncio.to_thread(thread.join, JOIN_S)

    def _run(self) -> None:
        while not self.stopping.is_set():
            self._bell.clear()
            try:
                wait_s = self._step()
            except StoreError as error:
                self._log.warn_once_per(QUIET_S, "buffer_not_usable", reason=str(error))
                wait_s = FAILED_PAUSE_S
            except Exception as error:
                self._log.defect("duty_failed", error, duty=self.name)
                wait_s = FAILED_PAUSE_S
            if wait_s > 0:
                self._bell.wait(wait_s)
        if self._end is not None:
            self._end()


def run_with_threads(service: Service) -> NoReturn:
    """Like `run`: but threads that still wait for a peer do not hold up the end of the process."""
    try:
        run(service)
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
