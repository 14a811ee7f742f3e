"""What only shows when two things happen in the same commit: played out without chance."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stacks.hospital.appointments import scheduling_recovery as recovery
from stacks.hospital.appointments.decisions import Decision, decide
from stacks.hospital.appointments.scheduling_agenda import Agenda
from stacks.hospital.appointments.scheduling_log import ChangeLog
from stacks.hospital.appointments.scheduling_rows import ENGINE, SCHEDULING_SCHEMA
from stacks.hospital.appointments.scheduling_rules import Asked, Closed, Conflict
from stacks.hospital.appointments.slots import slot_of
from stacks.hospital.store import Store
from stacks.hospital.wire.hl7 import Adt

from ..messages.stand import asynchronous

NOON = 1795348800.0
BATCH_S = 5.0


@asynccontextmanager
async def agenda_in(folder: Path) -> AsyncIterator[Agenda]:
    log = ChangeLog(folder / "log" / "changes.log")
    agenda = Agenda(Store(folder / "scheduling.db", SCHEDULING_SCHEMA), log)
    yield agenda
    await agenda.close()


def asked(name: str, minute: int, mrn: str = "M1", status: str = "booked") -> Asked:
    slot = slot_of(f"consultation-heart-{minute}")
    assert slot is not None
    return Asked(name, mrn, slot, NOON, status)


@asynccontextmanager
async def one_commit(agenda: Agenda) -> AsyncIterator[None]:
    """Whatever is asked inside waits for the disk, and is then done in one transaction."""
    busy = threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        busy.wait(BATCH_S)

    waiting = asyncio.create_task(agenda.store.write(wait))
    await asyncio.sleep(0)  # the writer has it
    try:
        yield
        await asyncio.sleep(0.05)  # what was asked reaches the writer
    finally:
        busy.set()
        await waiting


@asynchronous
async def test_one_slot_asked_for_by_two_in_one_commit(tmp_path: Path) -> None:
    """One has it, the other is told that it is gone."""
    async with agenda_in(tmp_path) as agenda:
        async with one_commit(agenda):
            asks = [asyncio.create_task(agenda.book(asked(f"A{n}", 1, f"M{n}"))) for n in range(5)]
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert sum(isinstance(one, tuple) for one in results) == 1
        assert sum(isinstance(one, Conflict) for one in results) == 4


@asynchronous
async def test_a_cancellation_in_the_commit_of_a_restore_is_kept(tmp_path: Path) -> None:
    """It is committed before the log has it: the restore does it again from the database. A booking
    meanwhile is refused, a decision is kept."""
    async with agenda_in(tmp_path) as agenda:
        for number in range(3):
            await agenda.book(asked(f"A{number}", number))
        target = tmp_path / "backup" / "scheduling.db"
        recovery.backup(agenda.store.path, target)
        async with one_commit(agenda):
            gone = asyncio.create_task(agenda.change(asked("A1", 1, status="cancelled"), 1, "k"))
            await asyncio.sleep(0)
            restored = asyncio.create_task(recovery.restore(agenda, target))
            await asyncio.sleep(0)
            booking = asyncio.create_task(agenda.book(asked("A9", 9)))
            await asyncio.sleep(0)
            span = Decision("D1", ("consultation",), NOON - 1, NOON + 1)
            decided = asyncio.create_task(decide(agenda, span))
        assert (await gone).status == "cancelled"
        assert (await restored).replayed == 1
        (refused,) = await asyncio.gather(booking, return_exceptions=True)
        assert isinstance(refused, Closed)
        assert (await decided)[1] is True
        assert agenda.appointment("A1").version == 2
        assert agenda.appointment("A2").decision == "D1"
        assert [change.seq for change in agenda.log.after(0)] == [1, 2, 3, 4, 5]


@asynchronous
async def test_a_restored_notice_is_not_mistaken_for_a_delivered_one(tmp_path: Path) -> None:
    """A courier that delivered before the restore and forgets after it must forget nothing else:
    no message has the number of an older one."""
    async with agenda_in(tmp_path) as agenda:
        target = tmp_path / "backup" / "scheduling.db"
        await agenda.book(asked("A0", 0))
        recovery.backup(agenda.store.path, target)
        await agenda.book(asked("A1", 1))
        before = agenda.queue.waiting(ENGINE, 10)
        await recovery.restore(agenda, target)
        await agenda.queue.remove([one.id for one in before])
        after = agenda.queue.waiting(ENGINE, 10)
        assert [(one.control_id, one.payload) for one in after] == [
            (one.control_id, one.payload) for one in before
        ]


@asynchronous
async def test_merges_are_followed_however_long(tmp_path: Path) -> None:
    """A into B, B into C: what is booked under any of them is C's, after a restore, too."""
    async with agenda_in(tmp_path) as agenda:
        await agenda.book(asked("A1", 1, "MA"))
        await agenda.take_adt(Adt("A40", "MB", prior_mrn="MA"))
        await agenda.take_adt(Adt("A40", "MC", prior_mrn="MB"))
        await recovery.restore(agenda, tmp_path / "none")
        for number, mrn in enumerate(("MA", "MB", "MC"), 2):
            await agenda.book(asked(f"A{number}", number, mrn))
        assert {agenda.appointment(f"A{n}").patient for n in range(1, 5)} == {"MC"}
