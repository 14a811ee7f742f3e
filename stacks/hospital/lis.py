"""The laboratory information system: orders in, the analysers' results in, reports out.

    engine ──OML, ADT──▶ book ◀──ORU── analysers        book ──ORU P/F/C──▶ engine ──▶ ehr

It refuses to acknowledge before its own commit, and to need the engine or the EHR to work: reports
wait in its outbox, and its phone list and web page show them meanwhile.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec

from stacks.hospital import heard, lis_http
from stacks.hospital import lis_book as book
from stacks.hospital.bugs import planted
from stacks.hospital.courier import Courier
from stacks.hospital.criticals import CRITICALS_SCHEMA
from stacks.hospital.health import Check, Degraded
from stacks.hospital.log import Log
from stacks.hospital.queue import QUEUE_SCHEMA, DurableQueue, push
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError
from stacks.hospital.unstored import unstored
from stacks.hospital.web import Face, run
from stacks.hospital.wire.hl7 import (
    Adt,
    Header,
    Hl7Error,
    Order,
    Report,
    Value,
    build,
    new_control_id,
    parse,
)
from stacks.hospital.wire.intake import Intake, Refusal
from stacks.hospital.wire.mllp import MllpClient, MllpServer

ENGINE = "engine"
SCHEMA = QUEUE_SCHEMA + CRITICALS_SCHEMA + book.LIS_SCHEMA
LOOK_S = 0.1  # real seconds between two looks for reports to make
BATCH = 100  # reports made in one transaction
REPLAYED = 20  # planted defect only
MIXED = 2  # planted defect only


class Lis:
    """The laboratory's store with its two ends."""

    def __init__(self, store: Store, speed: float, log: Log) -> None:
        self.store = store
        self.log = log
        self.queue = DurableQueue(store)
        self.intake = Intake("LIS", self.receive, on_refusal=self._refused)
        self.courier: Courier | None = None
        self._speed = speed
        self._work = asyncio.Event()  # something may be due
        self._to_mix = 0
        self._patient_before = ""

    # -- in ---------------------------------------------------------------------------------------

    async def receive(self, header: Header, payload: bytes) -> None:
        """Store one message. Raises: Hl7Error."""
        body = parse(payload).body
        pace = book.Pace(time.time(), self._speed)

        def work(connection: sqlite3.Connection) -> None:
            if not heard.is_new(connection, header.sender, header.control_id, pace.now):
                return
            if isinstance(body, Adt):
                specimens = book.take_adt(connection, body)
            elif isinstance(body, Order):
                specimens = book.take_order(connection, body, pace.now)
            elif isinstance(body, Report):
                specimens = book.take_result(connection, body, pace.now)
            else:
                raise Hl7Error("200", "an acknowledgement is not a message for the laboratory")
            for specimen in specimens:
                book.match(connection, specimen, pace)

        try:
            await self.store.write(work)
        except StoreError as error:
            self.log.warn_once_per(10.0, "store_not_writable", reason=str(error))
            if planted("laboratory-acks-when-full"):
                return
            raise unstored(error, "the laboratory cannot store it now; send it again") from None
        self._work.set()

    def _refused(self, refusal: Refusal) -> None:
        self.log.warn(
            "message_refused", message=refusal.control_id, sender=refusal.sender,
            kind=refusal.kind, code=refusal.code, reason=refusal.reason,
        )  # fmt: skip

    # -- reports ----------------------------------------------------------------------------------

    async def report(self, stop: asyncio.Event) -> None:
        """Make the reports that are due, until told to stop."""
        while not stop.is_set():
            self._work.clear()
            try:
                while await self._make_due() == BATCH:
                    pass
            except StoreError as error:
                self.log.warn_once_per(10.0, "report_not_stored", reason=str(error))
                await asyncio.sleep(LOOK_S)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._work.wait()
            except TimeoutError:
                pass

    async def _make_due(self) -> int:
        pace = book.Pace(time.time(), self._speed)
        steps = self.store.read(lambda connection: book.due(connection, pace.now, BATCH))
        if not steps:
            return 0

        def work(connection: sqlite3.Connection) -> None:
            for specimen, status in steps:
                self._send(connection, book.issue(connection, specimen, status, pace))

        await self.store.write(work)
        self.queue.notify(ENGINE)
        return len(steps)

    def _send(self, connection: sqlite3.Connection, report: Report) -> None:
        """Into the outbox, in the transaction that makes the report."""
        control_id = new_control_id()
        connection.execute(
            "UPDATE result SET control_id = ? WHERE specimen = ?", (control_id, report.specimen)
        )
        if planted("results-mixed"):
            report = self._mixed(report)
        header = Header(control_id, sender="LIS", receiver="EHR", at=report.issued_at)
        urgent = report.stat or report.critical
        if planted("stat-as-routine"):
            urgent = False
        push(connection, ENGINE, control_id, build(header, report), 0 if urgent else 1)

    def hides(self, specimen: str) -> bool:
        """Whether the phone list leaves a critical result out: never, unless planted."""
        if planted("critical-not-listed"):
            return self.store.read(lambda connection: _is_pending(connection, specimen))
        return False

    # -- planted defects --------------------------------------------------------------------------

    def _mixed(self, report: Report) -> Report:
        """After a reconnection a report goes out under the patient of the one before."""
        before, self._patient_before = self._patient_before, report.mrn
        if self._to_mix and before and before != report.mrn:
            self._to_mix -= 1
            return replace(report, mrn=before)
        return report

    async def recovered(self) -> None:
        """The engine is back after a failure or a new connection."""
        if planted("results-mixed"):
            self._to_mix = MIXED
        if planted("prelim-overwrites-final"):
            await self.store.write(self._replay)
            self.queue.notify(ENGINE)

    def _replay(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute(
            "SELECT specimen, placer, patient, stat, vals FROM result"
            " WHERE status IN ('final', 'corrected') ORDER BY id DESC LIMIT ?",
            (REPLAYED,),
        ).fetchall()
        for specimen, placer, patient, stat, text in rows:
            values = tuple(msgspec.json.decode(text, type=list[Value]))
            now = time.time()
            late = Report(specimen, placer, patient, "preliminary", values, bool(stat), now)
            header = Header(new_control_id(), sender="LIS", receiver="EHR", at=now)
            push(connection, ENGINE, header.control_id, build(header, late), 1)

    async def check(self) -> None:
        """Health: the engine away is a declared degraded mode, reports wait here."""
        if self.courier is not None and self.courier.trip.trouble:
            waiting = self.queue.depth(ENGINE).waiting
            raise Degraded(f"engine: {self.courier.trip.trouble}; {waiting} reports wait")


def _is_pending(connection: sqlite3.Connection, specimen: str) -> bool:
    row = connection.execute(
        "SELECT version, EXISTS (SELECT 1 FROM queue WHERE queue.control_id = result.control_id)"
        " FROM result WHERE specimen = ?",
        (specimen,),
    ).fetchone()
    return row is not None and (row[0] == 0 or bool(row[1]))


@asynccontextmanager
async def lis(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, MLLP in, reports out by courier, phone list and web page on HTTP."""
    store = Store(settings.data_dir / "lis.db", SCHEMA)
    await store.write(lambda connection: heard.tidy(connection, time.time()))
    laboratory = Lis(store, settings.speed, log)
    server = MllpServer(
        laboratory.intake.answer,
        on_error=lambda reason: log.warn_once_per(5.0, "connection_dropped", reason=reason),
    )
    await server.start(*settings.bind("mllp"))

    async def listen(stop: asyncio.Event) -> None:
        await stop.wait()
        await server.stop()

    background: list[Callable[[asyncio.Event], Awaitable[None]]] = [listen, laboratory.report]
    link = settings.optional_link(ENGINE, "mllp")
    if link is not None:
        laboratory.courier = Courier(
            laboratory.queue, ENGINE, [MllpClient(link)], log, on_recovered=laboratory.recovered
        )
        background.append(laboratory.courier.run)
    checks: dict[str, Check] = {"store": store.check, ENGINE: laboratory.check}
    yield Face(routes=lis_http.routes(laboratory), checks=checks, background=background)
    await server.stop()
    await store.close()


if __name__ == "__main__":
    run(lis)
