"""The read-only copy of the inpatients' charts, on other storage and in another room.

    ehr-db (standby first) ──every 5 hospital minutes──▶ snapshot file ──HTTP──▶ wards

It refuses every write, with the reason and where to go, and to look younger than it is: each
answer says READ-ONLY and as of when. It goes on answering when everything else is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from starlette.routing import Mount

from stacks.hospital import copy_snapshot
from stacks.hospital.bugs import planted
from stacks.hospital.copy_desk import Desk
from stacks.hospital.copy_snapshot import Damaged, Snapshot
from stacks.hospital.copy_source import RECENT_HOSPITAL_S, Reading, Source, SourceAway
from stacks.hospital.ehr.pair import Pair
from stacks.hospital.health import Degraded, Unready
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Settings
from stacks.hospital.web import Face, Refusal, run

REFRESH_HOSPITAL_S = 300.0
REFRESH_LEAST_S = 0.5
RETRY_S = 1.0
LATE_ROUNDS = 3
"""So many refreshes may be missed before health calls the copy degraded."""


class Copy:
    """The snapshot that is served now, and the work of replacing it by a younger one."""

    def __init__(self, settings: Settings, source: Source, log: Log) -> None:
        self.every_s = max(REFRESH_LEAST_S, settings.real_s(REFRESH_HOSPITAL_S))
        self._folder, self._source, self._log = settings.data_dir, source, log
        self._first_patients: set[str] | None = None
        self.trouble = ""
        self.snapshot: Snapshot | None = None
        try:
            self.snapshot = Snapshot(settings.data_dir)
        except Damaged as error:
            log.info("no_snapshot_yet", reason=str(error))

    def held(self) -> Snapshot:
        """The snapshot to answer from; Refusal 503 before the first one."""
        if self.snapshot is None:
            raise Refusal(
                503,
                "transient",
                f"the copy is not filled yet: {self.trouble}",
                {"Retry-After": "1"},
            )
        return self.snapshot

    @property
    def as_of(self) -> float | None:
        """Unix seconds up to which the copy is complete; None before the first snapshot."""
        if self.snapshot is not None and planted("copy-stale-marked-now"):
            return time.time()
        return self.snapshot.as_of if self.snapshot else None

    async def keep_fresh(self, stop: asyncio.Event) -> None:
        """Background work: refresh on schedule; after a failure try again every RETRY_S."""
        while not stop.is_set():
            began = time.monotonic()
            if not (self.snapshot is not None and planted("copy-stale-marked-now")):
                await self._refresh()
            pause = min(self.every_s, RETRY_S) if self.trouble else self.every_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, began + pause - time.monotonic())):
                    await stop.wait()

    async def _refresh(self) -> None:
        try:
            reading = await self._source.read()
            if self.snapshot is not None and reading.as_of <= self.snapshot.as_of:
                raise SourceAway(f"{reading.source} has nothing newer than the copy")
            reading = self._without_new_patients(reading)
            await asyncio.to_thread(copy_snapshot.write, self._folder, reading, time.time())
            self.snapshot = Snapshot(self._folder)
            if self.trouble:
                self._log.info("refresh_resumed", source=reading.source)
            self.trouble = ""
        except (SourceAway, OSError, sqlite3.Error, Damaged) as error:
            self.trouble = str(error) if isinstance(error, SourceAway) else describe(error)
            self._log.warn_once_per(10.0, "refresh_failed", reason=self.trouble)

    def _without_new_patients(self, reading: Reading) -> Reading:
        if not planted("copy-misses-new-patients"):
            return reading
        if self._first_patients is None:
            self._first_patients = {row[2] for row in reading.rows}
        known = [row for row in reading.rows if row[2] in self._first_patients]
        return replace(reading, rows=known)

    async def check(self) -> None:
        """Health: no copy is unready, and one that the disk does not give; a late one is degraded
        and goes on being served."""
        as_of = self.as_of
        if as_of is None:
            raise Unready(f"no snapshot yet: {self.trouble}")
        try:
            await asyncio.to_thread(copy_snapshot.touch, self._folder)
        except OSError as error:
            raise Unready(f"the copy's own disk cannot be read: {error.strerror}") from None
        age_s = time.time() - as_of
        if age_s > LATE_ROUNDS * self.every_s + RETRY_S:
            raise Degraded(f"the copy is {age_s:.0f} s old: {self.trouble or 'refresh is late'}")


@asynccontextmanager
async def ro_copy(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: a watched pair to read from, one snapshot file, one schedule."""
    pair = Pair(settings, log)
    copy = Copy(settings, Source(pair, settings.real_s(RECENT_HOSPITAL_S)), log)
    yield Face(
        routes=[Mount("/", app=Desk(copy))],
        checks={"copy": copy.check},
        background=[pair.watch, copy.keep_fresh],
    )
    await pair.close()


if __name__ == "__main__":
    run(ro_copy)
