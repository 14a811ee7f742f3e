"""The integrity check: everything that holds the record read to its end, verified and compared.

    each database node   its files as they lie on its disk, page checksums verified (a base backup
                         that nobody keeps: shared buffers would hide the disk), then amcheck from
                         inside, then its contents against the other node's
    image archives       every image's pixels against the copy that the vault took
    read-only copy       its records against the primary's
    the vault            every base backup against its manifest, every log segment, every copy of
                         another system's files against its hash

It refuses to say `ok` of what it could not read to its end: that is `unknown`. It repairs nothing.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg

from stacks.hospital import postgres
from stacks.hospital.bugs import planted
from stacks.hospital.log import Log, describe
from stacks.hospital.records import Record, export_sql, of_row
from stacks.hospital.recovery import backup_log, backup_manifest, backup_marker
from stacks.hospital.recovery.backup_amcheck import verify
from stacks.hospital.recovery.backup_base import Bases
from stacks.hospital.recovery.backup_files import FileCopies
from stacks.hospital.recovery.backup_images import ImageCopies
from stacks.hospital.recovery.backup_places import (
    ASK_S,
    Place,
    program_dsn,
    program_environment,
)
from stacks.hospital.settings import Address, Settings

FILES_S, COPY_S = 60.0, 20.0
DAMAGES_MAX = 100
_DAMAGE = re.compile(
    r'checksum verification failed in file "([^"]+)", block (\d+)|'
    r'file "([^"]+)" has a total of (\d+) checksum'
)
PAGE = 1_000


class Finding(msgspec.Struct):
    """How a check ended. `checked_at`: Unix seconds at which it began; 0 when there was none."""

    status: str = "unknown"
    """`ok`, `damaged`, or `unknown`: not, or not everything, was read."""
    checked_at: float = 0.0
    ended_at: float = 0.0
    running: bool = False
    damages: list[str] = msgspec.field(default_factory=list)
    unread: list[str] = msgspec.field(default_factory=list)
    """What could not be read to its end, and why."""
    looked: dict[str, int] = msgspec.field(default_factory=dict)


class Integrity:
    """One check at a time; the last finding is shown until the next has ended."""

    def __init__(
        self, place: Place, bases: Bases, copies: FileCopies, images: ImageCopies,
        settings: Settings, log: Log,
    ) -> None:  # fmt: skip
        self._place, self._bases, self._log = place, bases, log
        self._copies, self._images = copies, images
        self._copy = settings.optional_link("ro-copy", "http")
        self._task: asyncio.Task[None] | None = None
        self._last = Finding()

    def begin(self) -> None:
        """Begin a check, unless one is running."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def found(self) -> Finding:
        """The last finding, and whether a check is running."""
        running = self._task is not None and not self._task.done()
        return msgspec.structs.replace(self._last, running=running)

    async def stop(self) -> None:
        """Each step has a bound of its own; wait no longer for them than until they notice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        found = Finding(checked_at=time.time())
        steps = [self._vault, self._contents, self._archives]
        steps += [] if planted("integrity-trusts-memory") else [self._disks]
        for step in (*steps, self._insides):
            try:
                await asyncio.to_thread(step, found)
            except Exception as error:
                self._log.defect("integrity_step_failed", error, step=step.__name__)
                found.unread.append(f"{step.__name__}: {describe(error)}")
        found.ended_at = time.time()
        found.status = "damaged" if found.damages else "unknown" if found.unread else "ok"
        self._log.info(
            "integrity_checked", status=found.status, damages=len(found.damages),
            first=(found.damages or found.unread or [""])[0],
            seconds=round(found.ended_at - found.checked_at, 2),
        )  # fmt: skip
        more = len(found.damages) - DAMAGES_MAX
        found.damages[DAMAGES_MAX:] = [f"and {more} more"] if more > 0 else []
        self._last = found

    # -- what is looked at ------------------------------------------------------------------------

    def _vault(self, found: Finding) -> None:
        for base in list(self._bases.all):
            for looked in (
                backup_manifest.check(self._bases.folder(base)),
                backup_log.check(self._place.log / base.chain, base.start, base.end),
            ):
                found.looked["vault files"] = found.looked.get("vault files", 0) + looked.files
                found.damages += [f"backup: {one}" for one in looked.damages]
        files, damages = self._copies.check()
        found.looked["copied files"] = files
        images, broken = self._images.check()
        found.looked["copied images"] = images
        found.damages += [f"backup: {one}" for one in (*damages, *broken)]
        found.damages[:] = dict.fromkeys(found.damages)  # bases share their log

    def _archives(self, found: Finding) -> None:
        """Every image of archive and mirror against what the archive gave when it was copied."""
        looked, damages, unread = self._images.compare()
        found.looked |= looked
        found.damages += damages
        found.unread += unread

    def _disks(self, found: Finding) -> None:
        """Every relation file as it lies on each node's disk."""
        for name, address in self._place.nodes:
            damages, trouble = on_disk(self._place, name, address)
            found.looked[f"{name} disk"] = int(not trouble)
            found.damages += damages
            if trouble:
                found.unread.append(trouble)

    def _insides(self, found: Finding) -> None:
        for name, address in self._place.nodes:

            def connect(address: Address = address) -> psycopg.Connection[Any]:
                text = postgres.dsn(
                    address, account=postgres.SUPERUSER, connect_timeout_s=ASK_S,
                    application_name="backup-integrity",
                )  # fmt: skip
                return psycopg.connect(text, autocommit=True)

            done = verify(connect, name)
            found.looked[f"{name} tables"] = done.tables
            found.looked[f"{name} indexes"] = done.indexes
            found.damages += done.damages
            if done.skipped:
                found.unread.append(done.skipped)

    def _contents(self, found: Finding) -> None:
        """The nodes against each other, and the read-only copy against one of them."""
        held: dict[str, backup_marker.Marker] = {}
        records: dict[tuple[str, str, int], str] = {}
        for name, address in self._place.nodes:
            try:
                with backup_marker.connect(address, "backup-integrity") as connection:
                    held[name] = backup_marker.read(connection, name)
                    if not records:
                        records = _records(connection)
            except (psycopg.Error, ValueError) as error:
                found.unread.append(f"{name}: its contents: {describe(error)}")
        found.looked["rows"] = max((len(one.rows) for one in held.values()), default=0)
        if len(held) > 1:
            (one, first), (other, second) = held.items()
            found.damages += [
                f"{one} and {other} differ in {key}, version {row[0]}"
                for key, row in first.rows.items()
                if key in second.rows and second.rows[key][0] == row[0] and second.rows[key] != row
            ]
        if self._copy is not None and records:
            self._compare_copy(self._copy, records, found)

    def _compare_copy(
        self, address: Address, records: dict[tuple[str, str, int], str], found: Finding
    ) -> None:
        decode, seen = msgspec.json.Decoder(Record).decode, 0
        try:
            answer = httpx.get(
                f"http://{address}/export", timeout=COPY_S, headers={"X-Priority": "P1"}
            )
            answer.raise_for_status()
            for line in answer.content.splitlines():
                one = decode(line)
                seen += 1
                digest = records.get((one.kind, one.key, one.version))
                if digest is not None and digest != one.digest:
                    found.damages.append(
                        f"ro-copy: {one.kind} {one.key} differs in version {one.version}"
                    )
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            found.unread.append(f"ro-copy: {describe(error)}")
        found.looked["ro-copy rows"] = seen


def _records(connection: psycopg.Connection[Any]) -> dict[tuple[str, str, int], str]:
    found: dict[tuple[str, str, int], str] = {}
    after, sql = 0, export_sql().encode()
    while rows := connection.execute(sql, (after, PAGE)).fetchall():
        after = rows[-1][0]
        for one in map(of_row, rows):
            found[one.kind, one.key, one.version] = one.digest
    return found


def on_disk(place: Place, name: str, address: Address) -> tuple[list[str], str]:
    """(damages, why it was not read to its end): a base backup that goes nowhere.

    The server reads its files from its disk, not from its memory, and verifies every page.
    """
    command: list[str | Path] = [
        place.binaries / "pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=none",
        "--checkpoint=fast", "--no-manifest", "--no-password", "--no-sync",
        "--dbname", program_dsn(address, "backup-integrity"),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=FILES_S, env=program_environment(), cwd=place.scratch, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return [], f"{name}: its files: {describe(error)}"
    said = done.stderr.decode("utf-8", "replace")
    damages = []
    for file, block, all_of, total in _DAMAGE.findall(said):
        where = f"{file} page {block}" if file else f"{all_of}, {total} pages"
        damages.append(f"{name}: {where} on its disk has a wrong checksum")
    trouble = ""
    if done.returncode != 0 and not damages:
        trouble = f"{name}: its files: {' '.join(said.split())[-200:]}"
    return damages, trouble
