"""Base backups: taken on a schedule, kept with their manifest, let go only by the vault itself.

    bases = Bases(place, stream, marks, settings, log); Face(background=[bases.run])

It refuses to list a backup before every file and its own note are on disk, and to let go of the
newest one that the log still carries on.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from pathlib import Path

import msgspec

from stacks.hospital.bugs import planted
from stacks.hospital.log import Log, describe
from stacks.hospital.recovery import backup_manifest
from stacks.hospital.recovery.backup_places import (
    NodeState,
    Place,
    die_with_parent,
    keep_json,
    program_dsn,
    program_environment,
    sync_folder,
)
from stacks.hospital.recovery.backup_retention import retained
from stacks.hospital.recovery.backup_stream import LogStream
from stacks.hospital.settings import Settings

HOUR = 3_600.0
EVERY_S, EVERY_FLOOR_S = 4 * HOUR, 30.0
"""Hospital seconds between two base backups; at least so many real ones: a copy is machine work."""
AGE_MOST_S = 24 * HOUR
KEPT = 3
TAKE_S = 120.0
RETRY_S = 1.0
JOIN_S, JOIN_POLL_S = 15.0, 0.1
NOTE = "base.json"
WORDS_BYTES = 4_096


class Base(msgspec.Struct, frozen=True):
    """One base backup; Unix seconds, positions in bytes of log."""

    id: str
    chain: str
    node: str
    timeline: int
    start: int
    end: int
    began_at: float
    ended_at: float
    bytes: int
    files: int


class NotTaken(RuntimeError):
    """No base backup could be taken now; the text says why."""


class Bases:
    """The vault's base backups, newest last."""

    def __init__(self, place: Place, stream: LogStream, settings: Settings, log: Log) -> None:
        self._place, self._stream, self._log = place, stream, log
        self._every_s = max(EVERY_FLOOR_S, settings.real_s(EVERY_S))
        self.age_most_s = settings.real_s(AGE_MOST_S)
        self._turn = asyncio.Lock()
        self.trouble = "no base backup was taken yet"
        for path in place.bases.glob(".incoming-*"):
            shutil.rmtree(path, ignore_errors=True)
        self.all = self._found()
        stream.based = bool(self.all)

    def folder(self, base: Base) -> Path:
        """Where its files lie."""
        return self._place.bases / base.id / "data"

    @property
    def newest(self) -> Base | None:
        """The newest whole one."""
        return self.all[-1] if self.all else None

    async def run(self, stop: asyncio.Event) -> None:
        """Background work: a base at once, then on schedule, and after every gap in the log."""
        while not stop.is_set():
            if self._due():
                try:
                    await self.take()
                except NotTaken as error:
                    self.trouble = str(error)
                    self._log.warn_once_per(10.0, "base_not_taken", reason=self.trouble)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await stop.wait()

    def _due(self) -> bool:
        newest = self.newest
        if newest is None or newest.chain != self._stream.chain:
            return True
        if planted("backup-stops-silently"):
            return False
        return time.time() - newest.began_at >= self._every_s

    async def take(self) -> Base:
        """One base backup of the primary, now. Raises NotTaken."""
        async with self._turn:
            primary, stream = self._stream.primary, self._stream
            if primary is None or not stream.archived or stream.trouble:
                raise NotTaken(f"the log is not being received: {stream.trouble}")
            try:
                base = await self._take(primary)
            except (OSError, backup_manifest.Unreadable, TimeoutError) as error:
                raise NotTaken(describe(error)) from None
            self.all.append(base)
            stream.based = True
            self.trouble = ""
            self._log.info(
                "base_taken", base=base.id, node=base.node, bytes=base.bytes,
                seconds=round(base.ended_at - base.began_at, 2),
            )  # fmt: skip
            await asyncio.to_thread(self._let_go)
            return base

    async def _take(self, primary: NodeState) -> Base:
        began, chain = time.time(), self._stream.chain
        ident = f"base-{int(began * 1000)}"
        incoming = self._place.bases / f".incoming-{ident}"
        data = incoming / "data"
        incoming.mkdir(mode=0o700)
        try:
            await self._copy(primary, data)
            found = await asyncio.to_thread(backup_manifest.manifest, data)
            timeline, start, end = backup_manifest.span(found)
            size = sum(one["Size"] for one in found["Files"])
            base = Base(
                ident, chain, primary.name, timeline, start, end, began, time.time(), size,
                len(found["Files"]),
            )  # fmt: skip
            await self._joined(base)
            await asyncio.to_thread(_protect, data)
            await asyncio.to_thread(keep_json, incoming / NOTE, base)
            incoming.rename(self._place.bases / ident)
            await asyncio.to_thread(sync_folder, self._place.bases)
            return base
        finally:
            if incoming.exists():
                await asyncio.to_thread(shutil.rmtree, incoming, True)

    async def _joined(self, base: Base) -> None:
        """Without the log that was written while it was copied, a copy is none. TimeoutError."""
        stream = self._stream
        async with asyncio.timeout(JOIN_S):
            while stream.chain == base.chain and stream.archived < base.end:
                await asyncio.sleep(JOIN_POLL_S)
        if stream.chain != base.chain:
            raise OSError("the log broke off while the base was copied")

    async def _copy(self, primary: NodeState, data: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            str(self._place.binaries / "pg_basebackup"),
            "--pgdata", str(data), "--wal-method=none", "--checkpoint=fast", "--no-password",
            "--manifest-checksums=SHA256", "--dbname", program_dsn(primary.address, "backup-base"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, cwd=self._place.bases, env=program_environment(),
            preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            async with asyncio.timeout(TAKE_S):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            said = " ".join(out[-WORDS_BYTES:].decode("utf-8", "replace").split())
            raise OSError(f"pg_basebackup from {primary.name}: {said[-300:]}")

    def _found(self) -> list[Base]:
        found = []
        for path in self._place.bases.glob(f"*/{NOTE}"):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found.append(msgspec.json.decode(path.read_bytes(), type=Base))
        return sorted(found, key=lambda base: base.began_at)

    def _let_go(self) -> None:
        """Retention: the newest KEPT stay, and of every span between two scheduled ones of a day
        the first (anybody may ask for a base backup); then log that none of them needs goes."""
        kept = retained(
            self.all, lambda base: base.began_at, self._every_s, self.age_most_s, KEPT
        )  # fmt: skip
        for base in self.all:
            if base in kept:
                continue
            note = self._place.bases / base.id / NOTE
            note.unlink(missing_ok=True)  # from now on it is none
            shutil.rmtree(note.parent, ignore_errors=True)
            self._log.info("base_let_go", base=base.id)
        self.all[:] = kept
        for chain in self._place.log.iterdir():
            starts = [base.start for base in self.all if base.chain == chain.name]
            if chain.name == self._stream.chain:
                self._stream.needed_from = min(starts, default=0)
            elif chain.is_dir() and not starts:
                shutil.rmtree(chain, ignore_errors=True)


def _protect(data: Path) -> None:
    """Nobody writes these files again, the vault included."""
    for path in data.rglob("*"):
        if path.is_file():
            path.chmod(0o400)
