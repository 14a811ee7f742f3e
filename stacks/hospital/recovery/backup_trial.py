"""The restore drill of every system but the record: its copy is restored, opened, read, compared.

    trials = Trials(place, copies, images, log); trials.begin(names, to=0.0)

A trial ends with a report in any case. It restores to a folder of its own in the vault, and
refuses to call a copy good that the system's own code did not read to its end.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from stacks.hospital.bugs import planted
from stacks.hospital.log import Log, describe
from stacks.hospital.records import Record, ndjson
from stacks.hospital.recovery import backup_systems
from stacks.hospital.recovery.backup_files import Copied, FileCopies, sound
from stacks.hospital.recovery.backup_images import IMAGES, ImageCopies, Restored
from stacks.hospital.recovery.backup_log import sha256_of
from stacks.hospital.recovery.backup_places import Place, keep, keep_json
from stacks.hospital.snapshot import counted
from stacks.hospital.store import StoreError

TROUBLES_MAX = 20
KEPT = 5
"""So many reports of each system, each with what was restored."""
PREFIX = "trial-"


class Trial(msgspec.Struct):
    """One system restored for trial. Instants in Unix seconds, 0 = never; `seconds` real ones."""

    trial: str
    system: str
    asked_at: float
    to: float
    done: bool = False
    ok: bool = False
    ended_at: float = 0.0
    source: str = ""
    """Which copy; of images, from which archive."""
    copy_at: float = 0.0
    """What the system had acknowledged by then is in the copy."""
    newest_at: float = 0.0
    """When the system took the newest record that was restored, if it says so."""
    files: int = 0
    """Files whose hashes were compared."""
    rows: int = 0
    """Rows compared with the system's own count at the instant of the copy; of images, those that
    the catalogue has."""
    read: int = 0
    """Records that the system's own reading decoded; images whose pixels were."""
    seconds: dict[str, float] = msgspec.field(default_factory=dict)
    troubles: list[str] = msgspec.field(default_factory=list)

    @property
    def rto_s(self) -> float:
        """From the asking until the restored system could be read."""
        return sum(self.seconds.values())


class Trials:
    """One round of trials at a time; the last reports of each system are kept."""

    def __init__(self, place: Place, copies: FileCopies, images: ImageCopies, log: Log) -> None:
        self._place, self._copies, self._images, self._log = place, copies, images, log
        self._task: asyncio.Task[None] | None = None
        self._stop = False
        self.reports = self._found()

    @property
    def running(self) -> bool:
        """Whether a round is under way: until every report of it says `done`."""
        return any(not one.done for one in self.reports)

    @property
    def systems(self) -> tuple[str, ...]:
        """Whatever the vault is to keep a copy of in this hospital."""
        return (*self._copies.services, *((IMAGES,) if self._images.archives else ()))

    def begin(self, systems: Iterable[str], to: float = 0.0) -> list[Trial]:
        """Begin a round; reports grow until each says `done`. `to`: from the newest copy that was
        whole by that instant (Unix seconds; 0: the newest)."""
        now = time.time()
        begun = [Trial(f"{PREFIX}{int(now * 1000)}-{one}", one, now, to) for one in systems]
        self.reports += begun
        if begun:
            self._task = asyncio.create_task(asyncio.to_thread(self._round, begun))
        return begun

    async def stop(self) -> None:
        """No further trial begins; the one that runs is short."""
        self._stop = True
        if self._task is not None:
            await asyncio.wait([self._task])

    def content(self, trial: str) -> Path:
        """What was restored, as NDJSON of records; absent when it was not read to its end."""
        return self._place.drills / f"{trial}.ndjson"

    # -- one round, in a thread -------------------------------------------------------------------

    def _round(self, trials: list[Trial]) -> None:
        for trial in trials:
            if not self._stop:
                self._run(trial)

    def _run(self, trial: Trial) -> None:
        began = time.monotonic()
        try:
            self._restore(trial)
        except (OSError, sqlite3.Error, StoreError, ValueError, LookupError) as error:
            trial.troubles.append(describe(error))
        except Exception as error:
            self._log.defect("trial_failed", error, trial=trial.trial)
            trial.troubles.append("an unexpected error; see the log for the event trial_failed")
        if not trial.seconds:
            trial.seconds["failed"] = round(time.monotonic() - began, 3)
        more = len(trial.troubles) - TROUBLES_MAX
        trial.troubles[TROUBLES_MAX:] = [f"and {more} more"] if more > 0 else []
        trial.ok, trial.ended_at = not trial.troubles, time.time()
        try:
            keep_json(self._place.drills / f"{trial.trial}.json", trial)
            self._let_go(trial.system)
        except OSError as error:
            self._log.error("trial_not_kept", trial=trial.trial, error=describe(error))
        self._log.info(
            "trial_ended", trial=trial.trial, ok=trial.ok, source=trial.source, rows=trial.rows,
            seconds=round(trial.rto_s, 3), trouble=trial.troubles[0] if trial.troubles else "",
        )  # fmt: skip
        trial.done = True  # nothing comes after: who sees it may ask for the next at once

    def _restore(self, trial: Trial) -> None:
        scratch = self._place.scratch / trial.trial
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700, parents=True)
        try:
            if planted("drill-skips-check"):
                return
            read = self._read_images if trial.system == IMAGES else self._read_file
            records = read(trial, scratch)
            trial.read = len(records)
            trial.newest_at = max((one.stored_at for one in records), default=0.0)
            keep(self.content(trial.trial), ndjson(records))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _read_file(self, trial: Trial, scratch: Path) -> list[Record]:
        began = time.monotonic()
        copy = self._sound_copy(trial)
        trial.source, trial.copy_at = copy.name, copy.at
        began = _step(trial, "verify", began)
        restored = scratch / f"{trial.system}.db"
        shutil.copyfile(self._copies.path(copy), restored)
        began = _step(trial, "copy", began)
        own = backup_systems.system(trial.system)
        missing = backup_systems.lacking(restored, own)
        if missing:
            trial.troubles.append(f"{copy.name} has no {', '.join(sorted(missing))}")
        trial.troubles += _uncounted(restored, copy)
        trial.rows = sum(copy.rows.values())
        records, wrong = backup_systems.read(restored, own)
        trial.troubles += wrong
        _step(trial, "read", began)
        return records

    def _sound_copy(self, trial: Trial) -> Copied:
        """The newest copy from before that is as it was received and sound in itself."""
        by = trial.to or trial.asked_at
        candidates = [one for one in reversed(self._copies.of(trial.system)) if one.at <= by]
        for copy in candidates:
            path = self._copies.path(copy)
            trial.files += 1
            try:
                if sha256_of(path) == copy.sha256:
                    sound(path)
                    return copy
                trial.troubles.append(f"{copy.name}: is not as it was received")
            except (OSError, sqlite3.Error) as error:
                trial.troubles.append(f"{copy.name}: {describe(error)}")
        trouble = self._copies.trouble.get(trial.system, "")
        raise LookupError(
            f"{len(candidates)} copies from before that time, and none can be restored"
            f"{'; ' if trouble else ''}{trouble}"
        )

    def _read_images(self, trial: Trial, scratch: Path) -> list[Record]:
        began = time.monotonic()
        found: Restored = self._images.restore(scratch, trial.to or trial.asked_at)
        trial.source, trial.copy_at = found.archive, found.at
        trial.files, trial.rows = found.files, found.images
        trial.troubles += found.troubles
        _step(trial, "read", began)
        return found.records

    # -- reports ----------------------------------------------------------------------------------

    def _let_go(self, system: str) -> None:
        own = [one for one in self.reports if one.system == system]
        for old in own[:-KEPT]:
            self.content(old.trial).unlink(missing_ok=True)
            (self._place.drills / f"{old.trial}.json").unlink(missing_ok=True)
            self.reports.remove(old)

    def _found(self) -> list[Trial]:
        found = []
        for path in sorted(self._place.drills.glob(f"{PREFIX}*.json")):
            try:
                one = msgspec.json.decode(path.read_bytes(), type=Trial)
            except (OSError, msgspec.DecodeError):
                continue
            one.done = True
            found.append(one)
        return found


def _step(trial: Trial, name: str, began: float) -> float:
    now = time.monotonic()
    trial.seconds[name] = round(now - began, 3)
    return now


def _uncounted(path: Path, copy: Copied) -> list[str]:
    """Tables that have not the rows that the original had at that instant."""
    connection = sqlite3.connect(path)
    try:
        found = counted(connection)
    finally:
        connection.close()
    return [
        f"{copy.name}: {table} has {found.get(table, 0)} of {rows} rows"
        for table, rows in copy.rows.items() if found.get(table, 0) != rows
    ]  # fmt: skip
