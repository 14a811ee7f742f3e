"""Scheduling: who comes when, and the notices that tell the channels to the patients.

    clinics ──HTTP──▶ agenda + outbox + log ──▶ courier ──SIU──▶ engine ──▶ channels
    engine ──ADT^A40──▶ agenda

It refuses to answer before the change is on disk twice (database and log), and to wait for anybody:
whether engine or channels are up never decides whether an appointment is made or cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from stacks.hospital.appointments import scheduling_recovery as recovery
from stacks.hospital.appointments.scheduling_agenda import Agenda
from stacks.hospital.appointments.scheduling_http import Desk
from stacks.hospital.appointments.scheduling_log import ChangeLog, LogError
from stacks.hospital.appointments.scheduling_rows import ENGINE
from stacks.hospital.courier import Courier
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings
from stacks.hospital.store import StoreError
from stacks.hospital.unstored import unstored
from stacks.hospital.web import Face, run
from stacks.hospital.wire.hl7 import Adt, Header, Hl7Error, parse
from stacks.hospital.wire.intake import Intake, Refusal
from stacks.hospital.wire.mllp import MllpClient, MllpServer


class Feed:
    """Patients' movements from the engine."""

    def __init__(self, agenda: Agenda, log: Log) -> None:
        self._agenda, self._log = agenda, log
        self.intake = Intake("SCHEDULING", self.receive, on_refusal=self._refused)

    async def receive(self, _: Header, payload: bytes) -> None:
        """Take one message. Raises: Hl7Error."""
        message = parse(payload).body
        if not isinstance(message, Adt):
            raise Hl7Error("200", "scheduling takes movements of patients (ADT) only")
        try:
            await self._agenda.take_adt(message)
        except (StoreError, LogError) as error:
            self._log.warn_once_per(10.0, "store_not_writable", reason=str(error))
            raise unstored(error, "scheduling cannot keep it now; send it again") from None

    def _refused(self, refusal: Refusal) -> None:
        self._log.warn(
            "message_refused", message=refusal.control_id, sender=refusal.sender,
            kind=refusal.kind, code=refusal.code, reason=refusal.reason,
        )  # fmt: skip


@asynccontextmanager
async def agenda_in(settings: Settings, log: Log) -> AsyncIterator[Agenda]:
    """The agenda of a data folder, whole: what a crash left apart is brought together first."""
    try:
        changes = ChangeLog(settings.data_dir / "log" / "changes.log")
        store = recovery.open_store(settings.data_dir / "scheduling.db", log)
        agenda = Agenda(store, changes)
        await recovery.recover(agenda, _backup_of(settings), log)
    except (LogError, StoreError) as error:
        raise OSError(str(error)) from None  # one clear line and status 1
    try:
        yield agenda
    finally:
        await agenda.close()


def _backup_of(settings: Settings) -> Path:
    return settings.data_dir / "backup" / "scheduling.db"


@asynccontextmanager
async def scheduling(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: database, log and backup in the data folder; HTTP and MLLP in, SIU out."""
    async with agenda_in(settings, log) as agenda:
        feed = Feed(agenda, log)
        server = MllpServer(
            feed.intake.answer,
            on_error=lambda reason: log.warn_once_per(5.0, "connection_dropped", reason=reason),
        )
        await server.start(*settings.bind("mllp"))

        async def listen(stop: asyncio.Event) -> None:
            await stop.wait()
            await server.stop()

        background: list[Callable[[asyncio.Event], Awaitable[None]]] = [listen]
        link = settings.optional_link(ENGINE, "mllp")
        courier = Courier(agenda.queue, ENGINE, [MllpClient(link)], log) if link else None
        if courier is not None:
            background.append(courier.run)
        desk = Desk(agenda, courier, _backup_of(settings))
        checks = {"store": agenda.check, ENGINE: desk.ready, "agenda": desk.bookable}
        yield Face(routes=desk.routes(), checks=checks, background=background)
        await server.stop()


if __name__ == "__main__":
    run(scheduling)
