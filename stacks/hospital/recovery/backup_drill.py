"""The restore drill: a backup is verified, restored to a point in time, started, read and compared.

    drills = Drills(place, bases, log, markers); drills.begin(to=0.0)

A drill ends with a report in any case. It refuses to call a backup good that was not read, as the
application reads it, and held against what the live record held.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from stacks.hospital import fhir, postgres
from stacks.hospital.bugs import planted
from stacks.hospital.log import Log, describe
from stacks.hospital.records import export_sql, ndjson, of_row
from stacks.hospital.recovery import backup_log, backup_manifest, backup_marker
from stacks.hospital.recovery.backup_amcheck import Verified, verify
from stacks.hospital.recovery.backup_base import Base, Bases
from stacks.hospital.recovery.backup_places import Place, keep, keep_json
from stacks.hospital.recovery.backup_scratch import ENDED_EARLY, RestoreFailed, Scratch

PAGE = 1_000
TROUBLES_MAX = 20
KEPT = 20
LOST_S = 10.0
"""Markers younger than this may lie beyond what was received; machine time."""
_REACHED = """
SELECT extract(epoch FROM pg_last_xact_replay_timestamp())::float8,
  (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint
"""


class Report(msgspec.Struct):
    """One drill. Instants in Unix seconds, 0 = never; `seconds` by step, real ones."""

    drill: str
    asked_at: float
    to: float
    """The point in time that was asked for; 0 = everything that there is."""
    done: bool = False
    ok: bool = False
    ended_at: float = 0.0
    base: str = ""
    base_at: float = 0.0
    reached_at: float = 0.0
    """The last commit in what was restored."""
    marker_at: float = 0.0
    files: int = 0
    """Files whose hashes were compared, log included."""
    rows: int = 0
    """Rows compared with the marker, version and content."""
    read: int = 0
    """Resources that the application's own reading decoded."""
    indexes: int = 0
    tables: int = 0
    seconds: dict[str, float] = msgspec.field(default_factory=dict)
    troubles: list[str] = msgspec.field(default_factory=list)

    @property
    def rto_s(self) -> float:
        """From the asking until the restored record could be read."""
        return sum(self.seconds.values())


class Drills:
    """One drill at a time; reports and the last restored content are kept."""

    def __init__(
        self, place: Place, bases: Bases, log: Log, markers: backup_marker.Markers
    ) -> None:
        self._place, self._bases, self._markers, self._log = place, bases, markers, log
        self._task: asyncio.Task[None] | None = None
        self._scratch: Scratch | None = None
        self.reports = self._found()

    @property
    def running(self) -> bool:
        """Whether one is under way: from `begin` until its report says `done`."""
        return any(not one.done for one in self.reports[-1:])

    def begin(self, to: float = 0.0) -> Report:
        """Begin a drill; its report grows until it says `done`."""
        now = time.time()
        report = Report(f"drill-{int(now * 1000)}", now, to)
        self.reports.append(report)
        self._task = asyncio.create_task(asyncio.to_thread(self._run, report))
        return report

    async def stop(self) -> None:
        """End what runs; its report says so."""
        if self._scratch is not None:
            await asyncio.to_thread(self._scratch.end)
        if self._task is not None:
            await asyncio.wait([self._task])

    def content(self, drill: str) -> Path:
        """The restored record as NDJSON of records; absent when it was not read to its end."""
        return self._place.drills / f"{drill}.ndjson"

    # -- one drill, in a thread -------------------------------------------------------------------

    def _run(self, report: Report) -> None:
        try:
            self._restore(report)
        except (RestoreFailed, psycopg.Error, OSError, ValueError) as error:
            told = str(error) if isinstance(error, RestoreFailed) else describe(error)
            report.troubles.append(told)
        except Exception as error:
            self._log.defect("drill_failed", error, drill=report.drill)
            report.troubles.append("an unexpected error; see the log for the event drill_failed")
        report.troubles[TROUBLES_MAX:] = []
        report.ok, report.ended_at = not report.troubles, time.time()
        try:
            self._keep(report)
        except OSError as error:
            self._log.error("drill_not_kept", drill=report.drill, error=describe(error))
        self._log.info(
            "drill_ended", drill=report.drill, ok=report.ok, base=report.base, rows=report.rows,
            seconds=round(report.rto_s, 2), trouble=report.troubles[0] if report.troubles else "",
        )  # fmt: skip
        report.done = True  # nothing comes after: who sees it may ask for the next at once

    def _keep(self, report: Report) -> None:
        keep_json(self._place.drills / f"{report.drill}.json", report)
        for old in self.reports[:-KEPT]:
            self.content(old.drill).unlink(missing_ok=True)
            (self._place.drills / f"{old.drill}.json").unlink(missing_ok=True)
        self.reports[:-KEPT] = []

    def _restore(self, report: Report) -> None:
        if planted("drill-skips-check"):
            newest = self._bases.newest  # "The file is there, and it is large."
            report.base = newest.id if newest else ""
            return
        with _Step(report, "verify"):
            base = self._sound_base(report)
        report.base, report.base_at = base.id, base.ended_at
        with Scratch(self._place, self._place.scratch / report.drill) as scratch:
            self._scratch = scratch
            with _Step(report, "copy"):
                log = self._place.log / base.chain
                scratch.restore(self._bases.folder(base), log, report.to or None)
            with _Step(report, "recover"):
                self._recover(scratch)
            with _Step(report, "read"):
                found = self._read(scratch, report)
            self._compare(report, found)
            done = verify(lambda: scratch.connect(postgres.SUPERUSER), "restored record", True)
            _add(report, done)
        self._scratch = None

    def _sound_base(self, report: Report) -> Base:
        """The newest base that was whole by then and is as the database sent it, log included."""
        by = report.to or report.asked_at
        candidates = [base for base in reversed(self._bases.all) if base.ended_at <= by]
        for base in candidates:
            looked = backup_manifest.check(self._bases.folder(base))
            log = backup_log.check(self._place.log / base.chain, base.start, base.end)
            report.files += looked.files + log.files
            damages = looked.damages + log.damages
            if not damages:
                return base
            report.troubles += damages
        raise RestoreFailed(
            f"{len(candidates)} base backups from before that time, and none can be restored"
        )

    @staticmethod
    def _recover(scratch: Scratch) -> None:
        try:
            scratch.start()
        except RestoreFailed as error:
            if ENDED_EARLY not in str(error):
                raise
            # Nothing was committed after that instant: all that there is, is what was asked for.
            scratch.end()
            scratch.aim(None)
            scratch.start()

    def _read(self, scratch: Scratch, report: Report) -> backup_marker.Marker:
        """As the application does: every resource decoded; what it is goes to the content file."""
        parts = []
        with scratch.connect() as connection:
            reached = connection.execute(_REACHED.encode()).fetchone()
            after, sql = 0, export_sql().encode()
            while rows := connection.execute(sql, (after, PAGE)).fetchall():
                after = rows[-1][0]
                parts.append(ndjson(self._decoded(rows, report)))
            found = backup_marker.read(connection, "restored")
        assert reached is not None
        at, position = reached
        report.reached_at = at or report.base_at
        keep(self.content(report.drill), b"".join(parts))
        return msgspec.structs.replace(found, position=position or found.position)

    @staticmethod
    def _decoded(rows: list[tuple[Any, ...]], report: Report) -> list[Any]:
        records = []
        for row in rows:
            try:
                records.append(of_row(row))
                report.read += 1
            except (fhir.Invalid, ValueError) as error:
                report.troubles.append(f"row {row[0]} is not readable: {error}")
        return records

    def _compare(self, report: Report, found: backup_marker.Marker) -> None:
        by = report.to or report.asked_at
        marker = self._markers.newest(by, found.position)
        if marker is None:
            report.troubles.append("no marker of the live record to hold it against")
            return
        later = self._markers.newest(by - LOST_S)
        if later is not None and later.position > found.position:
            lost_s = later.at - report.reached_at
            report.troubles.append(f"the log ends {lost_s:.0f} s before the record's last marker")
        report.marker_at, report.rows = marker.at, len(marker.rows)
        report.troubles += backup_marker.differences(marker, found)

    def _found(self) -> list[Report]:
        found = []
        for path in sorted(self._place.drills.glob("*.json")):
            try:
                one = msgspec.json.decode(path.read_bytes(), type=Report)
            except (OSError, msgspec.DecodeError):
                continue
            one.done = True
            found.append(one)
        return found


class _Step:
    """How long a step of a drill took, whether it succeeded or not."""

    def __init__(self, report: Report, name: str) -> None:
        self._report, self._name, self._began = report, name, 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._report.seconds[self._name] = round(time.monotonic() - self._began, 3)


def _add(report: Report, done: Verified) -> None:
    report.indexes, report.tables = done.indexes, done.tables
    report.troubles += done.damages
    if done.skipped:  # what was not looked at is not sound
        report.troubles.append(f"not all tables and indexes were verified: {done.skipped}")
