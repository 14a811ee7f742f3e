"""Copies of other systems' own files (SQLite): pulled, kept with their hashes, let go by age only.

    copies = FileCopies(place, settings, log); Face(background=[copies.run])

A service hands out a consistent snapshot and how many rows its tables had then. It refuses to list
a copy that is not on disk with its hash, and a database that does not pass its own integrity check.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
import time
from pathlib import Path

import httpx
import msgspec

from stacks.hospital.log import Log, describe
from stacks.hospital.recovery.backup_log import sha256_of
from stacks.hospital.recovery.backup_places import Place, keep
from stacks.hospital.recovery.backup_retention import retained
from stacks.hospital.recovery.backup_systems import NAMES
from stacks.hospital.settings import Address, Settings

HOUR = 3_600.0
EVERY_S, EVERY_FLOOR_S = HOUR / 4, 10.0
"""Hospital seconds between two copies of a system; at least so many real ones."""
NEWEST, HOURS = 3, 24
"""Kept: so many of the newest copies, and the first of each of so many (hospital) hours. Whoever
spoils a service must wait a day until no copy is older than that."""
LATE = 4.0
"""A copy so many times older than the schedule allows is told by health."""
ASK_S = 20.0
BYTES_MAX = 1 << 30
NOTE = "copies.jsonl"


class Copied(msgspec.Struct, frozen=True):
    """One copy; `at` in Unix seconds, before it was asked for; `rows` as the original had them."""

    service: str
    name: str
    at: float
    bytes: int
    sha256: str
    rows: dict[str, int] = {}


class FileCopies:
    """What was copied of each service, oldest first."""

    def __init__(self, place: Place, settings: Settings, log: Log) -> None:
        self._place, self._log = place, log
        self._every_s = max(EVERY_FLOOR_S, settings.real_s(EVERY_S))
        self._hour_s = settings.real_s(HOUR)
        self._links: dict[str, Address] = {}
        for name in NAMES:
            link = settings.optional_link(name, "http")
            if link is not None:
                self._links[name] = link
        self.all = self._found()
        self.trouble: dict[str, str] = {}
        self._began = time.time()

    @property
    def services(self) -> tuple[str, ...]:
        """Whose files are to be kept in this hospital."""
        return tuple(self._links)

    def address(self, service: str) -> Address:
        """Where that service listens; KeyError."""
        return self._links[service]

    def of(self, service: str) -> list[Copied]:
        """What is kept of a service, oldest first."""
        return list(self.all.get(service, ()))

    def path(self, copy: Copied) -> Path:
        """Where that copy lies."""
        return self._place.files / copy.service / copy.name

    def late(self, now: float) -> dict[str, str]:
        """Service → why its newest copy is old; one that was never copied counts from the start."""
        found = {}
        for service in self._links:
            some = self.of(service)
            age = now - (some[-1].at if some else self._began)
            if age > LATE * self._every_s:
                why = self.trouble.get(service, "nobody knows why")
                found[service] = f"no copy for {age:.0f} s: {why}"
        return found

    async def run(self, stop: asyncio.Event) -> None:
        """Background work: until told to stop. A service that does not answer makes no other's
        copy late."""
        async with asyncio.TaskGroup() as group:
            for name in self._links:
                group.create_task(self._follow(name, stop))

    async def _follow(self, name: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await asyncio.to_thread(self.take, name)
                self.trouble.pop(name, None)
            except (httpx.HTTPError, OSError, sqlite3.Error, ValueError) as error:
                self.trouble[name] = describe(error)
                told = f"{name}: {self.trouble[name]}"
                self._log.warn_once_per(10.0, "file_not_copied", reason=told)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await stop.wait()

    def retained(self, some: list[Copied]) -> list[Copied]:
        """Those that are kept of a service's copies."""
        return retained(some, lambda one: one.at, self._hour_s, HOURS * self._hour_s, NEWEST)

    def take(self, service: str) -> Copied:
        """One copy, now. Raises httpx.HTTPError, OSError, sqlite3.Error, ValueError."""
        at = time.time()
        answer = httpx.get(
            f"http://{self._links[service]}/snapshot.db", timeout=ASK_S,
            headers={"X-Priority": "P1"},
        )  # fmt: skip
        answer.raise_for_status()
        content = answer.content
        if len(content) > BYTES_MAX:
            raise ValueError(f"{len(content)} bytes are more than {BYTES_MAX}")
        said = answer.headers.get("x-sha256", "")
        found = hashlib.sha256(content).hexdigest()
        if said != found:
            raise ValueError("what came is not what was sent")
        rows = msgspec.json.decode(answer.headers.get("x-rows", "{}"), type=dict[str, int])
        folder = self._place.files / service
        folder.mkdir(exist_ok=True)
        path = folder / f"{int(at * 1000)}.db"
        keep(path, content)
        try:
            sound(path)
        except sqlite3.Error:
            path.unlink()
            raise
        one = Copied(service, path.name, at, len(content), found, rows)
        some = [*self.of(service), one]
        kept = self.retained(some)
        self.all[service] = kept
        self._write_note(service)
        for old in some:
            if old not in kept:
                self.path(old).unlink(missing_ok=True)
        return one

    def check(self) -> tuple[int, list[str]]:
        """(files read, damages): every kept copy against its hash, and SQLite's own check."""
        files, damages = 0, []
        for service in list(self.all):
            for one in self.of(service):
                files += 1
                try:
                    if sha256_of(self.path(one)) != one.sha256:
                        damages.append(f"{service}/{one.name}: is not as it was received")
                        continue
                    sound(self.path(one))
                except (OSError, sqlite3.Error) as error:
                    if one in self.all[service]:  # not let go meanwhile
                        damages.append(f"{service}/{one.name}: {describe(error)}")
        return files, damages

    def _write_note(self, service: str) -> None:
        note = self._place.files / service / NOTE
        keep(note, msgspec.json.Encoder().encode_lines(self.all[service]), 0o600)

    def _found(self) -> dict[str, list[Copied]]:
        found: dict[str, list[Copied]] = {}
        for note in self._place.files.glob(f"*/{NOTE}"):
            lines = note.read_bytes().splitlines()
            found[note.parent.name] = [msgspec.json.decode(line, type=Copied) for line in lines]
        return found


def sound(path: Path) -> None:
    """Raises sqlite3.Error when it is no sound SQLite database."""
    with contextlib.closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    ) as connection:
        (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(said)
