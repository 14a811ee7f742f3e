"""Puts the record's parts together: database pair, schema, messages in and out, HTTP face, health.

It refuses to be ready before a real write went through the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from stacks.hospital.admission import clinical_lanes
from stacks.hospital.bugs import planted
from stacks.hospital.ehr.inbound import Inbound
from stacks.hospital.ehr.integrity import IntegrityCheck
from stacks.hospital.ehr.outbox import Outbox
from stacks.hospital.ehr.pair import Pair, Unavailable, Unknown
from stacks.hospital.ehr.reading import Reading
from stacks.hospital.ehr.schema import Schema
from stacks.hospital.ehr.writing import Writing
from stacks.hospital.health import Degraded, Unready
from stacks.hospital.web import Admission, Face, Log, Settings
from stacks.hospital.wire.mllp import MllpClient, MllpServer

SLOTS = 16
READ_CHECK_S, WRITE_CHECK_S, BOTH_S = 1.4, 1.5, 1.8
"""Together shorter than the health check: who can read only is degraded, and not failed."""
QUESTIONS = 4
"""Health questions to the database at the same time."""


def admission() -> Admission:
    """Emergencies and inpatients first; two planted defects order it wrongly."""
    lane_of = (0, 1, 2, 3, 4)
    if planted("shed-fifo"):
        lane_of = (2, 2, 2, 2, 2)  # in lane 0 more may wait than a fast machine ever lets wait
    elif planted("shed-urgent-first"):
        lane_of = (4, 3, 2, 1, 0)
    return Admission(clinical_lanes(SLOTS), lane_of)


class DatabaseCheck:
    """Reads, then writes a heartbeat through the pair; without a primary the record is degraded.

    What takes too long is left to its own bounds and not cancelled: psycopg would wait for the
    hung server's consent to a cancellation.
    """

    def __init__(self, pair: Pair, schema: Schema, service: str) -> None:
        self._pair, self._schema, self._service = pair, schema, service
        self._asking: set[asyncio.Task[None]] = set()

    async def __call__(self) -> None:
        began = time.monotonic()
        try:
            await self._within(READ_CHECK_S, self._look())
        except Unavailable as error:
            raise Unready(str(error)) from None
        if not self._schema.ready:
            raise Unready("the tables are not there yet")
        try:
            left_s = BOTH_S - (time.monotonic() - began)
            await self._within(min(WRITE_CHECK_S, left_s), self._beat())
        except (Unavailable, Unknown) as error:
            raise Degraded(f"charts can be read, nothing can be written: {error}") from None

    async def _within(self, limit_s: float, question: Coroutine[Any, Any, None]) -> None:
        if len(self._asking) >= QUESTIONS:
            question.close()
            raise Unavailable("earlier questions to the database are still unanswered")
        task = asyncio.create_task(question)
        self._asking.add(task)
        task.add_done_callback(self._answered)
        done, _ = await asyncio.wait({task}, timeout=limit_s)
        if not done:
            raise Unavailable(f"the database did not answer within {limit_s:.1f} s")
        task.result()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # seen: an answer that came too late is no news

    async def _look(self) -> None:
        await self._pair.read(lambda c: c.execute("SELECT FROM resource LIMIT 1"))

    async def _beat(self) -> None:
        await self._pair.write(
            lambda c: c.execute(
                "INSERT INTO heartbeat (service, at) VALUES (%s, now()) "
                "ON CONFLICT (service) DO UPDATE SET at = excluded.at",
                (self._service,),
            )
        )


@asynccontextmanager
async def ehr(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """One node of the record: any number may run over the same database pair."""
    engine = settings.link("engine", "mllp")
    pair = Pair(settings, log)
    schema = Schema(pair, log)
    inbound = Inbound(pair, schema, log)
    outbox = Outbox(pair, schema, MllpClient(engine), log)
    reading = Reading(pair, outbox)
    writing = Writing(pair, schema, outbox, MllpClient(engine), log)
    server = MllpServer(
        inbound.answer, on_error=lambda why: log.warn_once_per(5.0, "mllp_dropped", reason=why)
    )
    await server.start(*settings.bind("mllp"))

    async def receive(stop: asyncio.Event) -> None:
        await stop.wait()
        await server.stop()

    yield Face(
        routes=[*writing.routes(), *reading.routes(), *IntegrityCheck(pair, log).routes()],
        checks={"database": DatabaseCheck(pair, schema, settings.name)},
        background=[pair.watch, schema.prepare, outbox.run, receive],
        admission=admission(),
    )
    await pair.close()
