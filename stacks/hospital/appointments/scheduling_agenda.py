"""The agenda: appointments are booked, moved, cancelled; each change, its notices and its log line.

    change ──one transaction──▶ rows + outbox ──fsync──▶ log ──fsync──▶ the caller is answered

It refuses a slot that is taken, a change of what is not booked any more or has another version, and
to answer before database and log are on disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from stacks.hospital.appointments import scheduling_rows as rows
from stacks.hospital.appointments import scheduling_rules as rules
from stacks.hospital.appointments.scheduling_log import ChangeLog, LogError
from stacks.hospital.appointments.scheduling_rows import Booked, Rebooking
from stacks.hospital.appointments.scheduling_rules import (
    Asked,
    Closed,
    Conflict,
    Stale,
    Unknown,
)
from stacks.hospital.bugs import planted
from stacks.hospital.queue import DurableQueue
from stacks.hospital.store import Store, StoreError
from stacks.hospital.wire.hl7 import Adt, Hl7Error

T = TypeVar("T")
EVENTS = {"cancelled": "S15", "noshow": "S26", "fulfilled": "S14"}
DRAINS_MAX = 100


class Agenda:
    """Everything that scheduling knows, in one Store and one log; writing methods are durable."""

    def __init__(self, store: Store, log: ChangeLog) -> None:
        self.store, self.log = store, log
        self.queue = DurableQueue(store)
        self.restoring = False
        self._draining: asyncio.Task[None] | None = None

    # -- appointments -----------------------------------------------------------------------------

    async def book(self, asked: Asked) -> tuple[Booked, bool]:
        """A new appointment (S12), or the known one of that identifier; True = new.

        Raises Conflict, Closed, StoreError, LogError.
        """

        def work(connection: sqlite3.Connection) -> tuple[Booked, bool]:
            known, patient = (
                rows.find(connection, asked.id),
                rows.current(connection, asked.patient),
            )
            if known is not None:
                if (known.patient, known.service) != (patient, asked.slot.service):
                    raise Conflict(f"{asked.id} is {known.patient}'s {known.service} already")
                return known, False
            self._require_open(connection)
            rules.require_free(connection, asked)
            change = rows.next_change(connection)
            one = Booked(
                asked.id, patient, asked.slot.service, asked.slot.clinic, asked.slot.name,
                asked.at, "booked", 1, asked.phone, "", "", change.at,
            )  # fmt: skip
            _keep(connection, change, "S12", one)
            return one, True

        return await self.write(work)

    async def change(self, asked: Asked, version: int, request: str) -> Booked:
        """Move (S13), change (S14), cancel (S15) or note the absence (S26) of an appointment.

        `request` names the request: repeated, it finds its own work done. Raises Unknown, Conflict,
        Stale, Closed, StoreError, LogError.
        """

        def work(connection: sqlite3.Connection) -> Booked:
            known = rows.find(connection, asked.id)
            if known is None:
                raise Unknown(f"no appointment {asked.id}")
            if rules.is_repetition(known, asked, request):
                return known
            rules.require_same(connection, known, asked)
            again = planted("cancels-twice") and known.status == asked.status == "cancelled"
            if known.status != "booked" and not again:
                by = f" by decision {known.decision}" if known.decision else ""
                raise Conflict(f"{known.id} is {known.status} already{by}; book a new one")
            if known.version != version:
                raise Stale(f"{known.id} is at version {known.version}, not {version}; read it")
            event = EVENTS.get(asked.status) or ("S14" if known.slot == asked.slot.name else "S13")
            if asked.status == "booked":
                self._require_open(connection)
            if event == "S13":
                rules.require_free(connection, asked)
            change = rows.next_change(connection)
            one = rules.changed(known, asked, request, change.at)
            _keep(connection, change, event, one)
            return one

        return await self.write(work)

    def appointment(self, name: str) -> Booked:
        """One appointment as stored. Raises Unknown, StoreError."""
        found = self.store.read(lambda connection: rows.find(connection, name))
        if found is None:
            raise Unknown(f"no appointment {name}")
        return found

    # -- rebooking, patients, mode ----------------------------------------------------------------

    async def rebooked(self, cancelled: str, new: str) -> Rebooking:
        """A task is done: the patient has another date. Raises Unknown, Conflict, StoreError."""

        def work(connection: sqlite3.Connection) -> Rebooking:
            task = rows.find_task(connection, cancelled)
            if task is None:
                raise Unknown(f"no rebooking task for {cancelled}")
            if task.status == "completed":
                if task.rebooked != new:
                    raise Conflict(f"{cancelled} was rebooked as {task.rebooked} already")
                return task
            rules.require_rebooked(connection, task, new)
            change = rows.next_change(connection)
            done = replace(task, status="completed", rebooked=new, changed_at=change.at)
            rows.record(connection, replace(change, tasks=[done]))
            return done

        return await self.write(work)

    async def take_adt(self, adt: Adt) -> None:
        """A merge moves the appointments to the surviving patient (S14); other movements do not
        concern us. Raises Hl7Error, StoreError, LogError.
        """
        if adt.event != "A40":
            return

        def work(connection: sqlite3.Connection) -> None:
            survivor = rows.current(connection, adt.mrn)
            if survivor == adt.prior_mrn:
                raise Hl7Error("204", "the surviving patient was merged into the other one before")
            if rows.current(connection, adt.prior_mrn) == survivor:
                return  # known
            gone = rows.current(connection, adt.prior_mrn)
            change = rows.next_change(connection, merge=(gone, survivor))
            moved = [
                replace(one, patient=survivor, version=one.version + 1, stored_at=change.at)
                for one in rows.select(connection, "patient = ?", (gone,))
            ]
            found = (rows.find_task(connection, one.id) for one in moved)
            tasks = [replace(one, patient=survivor, changed_at=change.at) for one in found if one]
            notices = [rows.notice("S14", one) for one in moved]
            rows.record(
                connection, replace(change, appointments=moved, tasks=tasks, notices=notices)
            )

        await self.write(work)

    def mode(self) -> str:
        """open, read-only, or restoring (read-only until done). Raises: StoreError."""
        return "restoring" if self.restoring else self.store.read(rows.mode_of)

    async def set_mode(self, name: str) -> None:
        """open or read-only. Raises: StoreError, LogError."""

        def work(connection: sqlite3.Connection) -> None:
            if rows.mode_of(connection) != name:
                rows.record(connection, rows.next_change(connection, mode=name))

        await self.write(work)

    def _require_open(self, connection: sqlite3.Connection) -> None:
        if self.restoring:
            raise Closed("the agenda is being restored from its backup and its log")
        if rows.mode_of(connection) != "open":
            raise Closed("the crisis cell has set the agenda to read-only; cancellations are taken")

    # -- on disk ----------------------------------------------------------------------------------

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; returns when database and log are on disk.

        Raises: StoreError (nothing stored), LogError (stored, not in the log yet), and what `work`
        raises (nothing stored).
        """
        logged = self.log.last_seq

        def tidied(connection: sqlite3.Connection) -> T:
            connection.execute("DELETE FROM unlogged WHERE seq <= ?", (logged,))
            return work(connection)

        result = await self.store.write(tidied)
        await self.settle()
        self.queue.notify(rows.ENGINE)
        return result

    async def settle(self) -> None:
        """Until every committed change is in the log. Raises: LogError, StoreError."""
        goal = self.store.read(rows.position)
        for _ in range(DRAINS_MAX):
            if self.log.last_seq >= goal:
                return
            if self._draining is None or self._draining.done():
                self._draining = asyncio.create_task(self._drain())
            await asyncio.shield(self._draining)  # a caller that goes away must not interrupt it
        raise LogError(f"{self.log.path}: {goal - self.log.last_seq} changes are not in the log")

    async def _drain(self) -> None:
        last = self.log.last_seq
        lines = self.store.read(
            lambda connection: connection.execute(
                "SELECT seq, line FROM unlogged WHERE seq > ? ORDER BY seq", (last,)
            ).fetchall()
        )
        if lines:
            await asyncio.to_thread(self.log.append, lines)

    async def check(self) -> None:
        """For /health: a real commit, and a log that has all. Raises: StoreError, LogError."""
        await self.store.check()
        await self.settle()

    async def close(self) -> None:
        try:
            await self.settle()
        except (LogError, StoreError):
            pass  # what the log lacks lies in the database and is added at the next start
        await self.store.close()
        self.log.close()


def _keep(connection: sqlite3.Connection, change: rows.Change, event: str, one: Booked) -> None:
    noted = [rows.notice(event, one)]
    rows.record(connection, replace(change, appointments=[one], notices=noted))
