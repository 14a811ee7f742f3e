"""The radiology information system: orders in, the worklist out, every study brought to its order.

    engine ──OMI, ADT──▶ book ◀──HTTP── radiology desk
    scanners ──worklist, MPPS──▶ book: studies made in downtime are matched, or are a task

It refuses to acknowledge before its own commit, and to need engine, record or archive to work.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stacks.hospital import heard
from stacks.hospital.health import Check
from stacks.hospital.imaging import ris_book as book
from stacks.hospital.imaging import ris_desk
from stacks.hospital.imaging import ris_matching as matching
from stacks.hospital.imaging.ris_dicom import Answers, open_for_scanners
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError
from stacks.hospital.unstored import unstored
from stacks.hospital.web import Face, run
from stacks.hospital.wire.hl7 import Adt, Header, Hl7Error, ImagingOrder, parse
from stacks.hospital.wire.intake import Intake, Refusal
from stacks.hospital.wire.mllp import MllpServer

SETTLE_S = 5 * 60.0
"""Hospital seconds that a downtime study without an order number waits for orders on their way."""
LOOK_S = 0.5
_DUE = "SELECT 1 FROM examination WHERE match = 'unmatched' AND settles_at <= ? LIMIT 1"
BATCH = 100


class Ris:
    """The HL7 end of radiology's book."""

    def __init__(self, store: Store, log: Log) -> None:
        self.store = store
        self.log = log
        self.intake = Intake("RIS", self.receive, on_refusal=self._refused)

    async def receive(self, header: Header, payload: bytes) -> None:
        """Store one message, and what it makes possible to match. Raises: Hl7Error."""
        body = parse(payload).body
        now = time.time()

        def work(connection: sqlite3.Connection) -> None:
            if not heard.is_new(connection, header.sender, header.control_id, now):
                return
            if isinstance(body, Adt):
                matching.reconcile_all(connection, now, book.take_adt(connection, body))
            elif isinstance(body, ImagingOrder):
                matching.enter(connection, body, now)
            else:
                raise Hl7Error("200", f"radiology takes no {header.kind}^{header.event}")

        try:
            await self.store.write(work)
        except StoreError as error:
            self.log.warn_once_per(10.0, "store_not_writable", reason=str(error))
            raise unstored(error, "radiology cannot store it now; send it again") from None
        except book.Conflict as error:
            raise Hl7Error("205", str(error)) from None

    async def reconcile(self, stop: asyncio.Event) -> None:
        """Bring studies to their orders as their moment of waiting ends, until told to stop."""
        while not stop.is_set():
            try:
                while await self._settle() == BATCH:
                    pass
            except StoreError as error:
                self.log.warn_once_per(10.0, "study_not_reconciled", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()

    async def _settle(self) -> int:
        now = time.time()
        due = self.store.read(lambda c: c.execute(_DUE, (now,)).fetchone())
        if due is None:
            return 0
        return await self.store.write(lambda c: matching.settle(c, now, BATCH))

    def _refused(self, refusal: Refusal) -> None:
        self.log.warn(
            "message_refused", message=refusal.control_id, sender=refusal.sender,
            kind=refusal.kind, code=refusal.code, reason=refusal.reason,
        )  # fmt: skip


@asynccontextmanager
async def ris(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: own file, MLLP and HTTP in, a DICOM listener for the scanners."""
    store = Store(settings.data_dir / "ris.db", book.RIS_SCHEMA)
    await store.write(lambda connection: heard.tidy(connection, time.time()))
    radiology = Ris(store, log)
    server = MllpServer(
        radiology.intake.answer,
        on_error=lambda reason: log.warn_once_per(5.0, "connection_dropped", reason=reason),
    )
    await server.start(*settings.bind("mllp"))
    scanners = open_for_scanners(settings, Answers(store, settings.real_s(SETTLE_S), log), log)

    async def listen(stop: asyncio.Event) -> None:
        await stop.wait()
        await server.stop()
        await asyncio.to_thread(scanners.stop)

    checks: dict[str, Check] = {"store": store.check}
    yield Face(
        routes=ris_desk.routes(radiology), checks=checks, background=[listen, radiology.reconcile]
    )
    await server.stop()
    await store.close()


if __name__ == "__main__":
    run(ris)
