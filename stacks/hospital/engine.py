"""The interface engine: takes HL7 messages, stores them safely, carries them to who needs them.

    gam, ehr, lis, scheduling ──MLLP──▶ intake ──fsync──▶ queue per destination
        ──▶ courier ──MLLP──▶ ehr, lis, ris, scheduling, and who tells patients

It refuses to acknowledge before the fsync, to reorder, to deliver on doubt, and to understand the
clinical content.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stacks.hospital import engine_http
from stacks.hospital.bugs import planted
from stacks.hospital.courier import Courier
from stacks.hospital.gate import Holds
from stacks.hospital.health import Check, Degraded
from stacks.hospital.log import Log
from stacks.hospital.queue import QUEUE_SCHEMA, DurableQueue, Item, push
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError
from stacks.hospital.unstored import unstored
from stacks.hospital.web import Face, run
from stacks.hospital.wire.hl7 import Ack, Header, Hl7Error, new_control_id
from stacks.hospital.wire.intake import Intake, Refusal
from stacks.hospital.wire.mllp import MllpClient, MllpError, MllpServer
from stacks.hospital.wire.segments import body_of, patient_of, with_control_id

ROUTES = {
    "ADT": ("ehr", "lis", "ris", "scheduling"),
    "OML": ("lis",),
    "OMI": ("ris",),
    "ORU": ("ehr",),
    "SIU": ("website", "callcentre", "sms", "clinic-lists"),
    "DFT": ("billing",),
}
"""Kind of message -> destinations; one to which this topology has no link is not on the route."""
ENDPOINTS = {  # equivalent ways to one destination
    "ehr": ("ehr-a", "ehr-b"),
    **{name: (name,) for name in (
        "lis", "ris", "scheduling", "website", "callcentre", "sms", "clinic-lists",
        "billing",
    )},
}  # fmt: skip
MESSAGES_KEPT = 500_000  # so many MSH-10 are remembered
PRUNE_EVERY = 10_000
WRITE_LATER_S = 3.0  # planted defect only
ENGINE_SCHEMA = (
    QUEUE_SCHEMA
    + """
CREATE TABLE IF NOT EXISTS message (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sender TEXT NOT NULL,
  control_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  patient TEXT NOT NULL,
  digest TEXT NOT NULL,
  received_at REAL NOT NULL,
  UNIQUE (sender, control_id)
);
CREATE INDEX IF NOT EXISTS message_digest ON message (digest);
"""
)


class Engine:
    """The queues of one engine and the two ends of each."""

    def __init__(self, store: Store, log: Log, holds: Holds | None = None) -> None:
        self.store = store
        self.holds = holds
        self.log = log
        self.queue = DurableQueue(store)
        self.intake = Intake("ENGINE", self.receive, application=False, on_refusal=self._refused)
        self.couriers: dict[str, Courier] = {}

    # -- in ---------------------------------------------------------------------------------------

    async def receive(self, header: Header, payload: bytes) -> None:
        """Store one message for every destination on its route. Raises: Hl7Error.

        A kind whose destinations all do not stand here is taken and kept, like the others, in the
        engine's own record of messages: its sender is not to blame.
        """
        route = ROUTES.get(header.kind)
        if route is None:
            raise Hl7Error("200", f"no route for {header.kind}^{header.event}")
        destinations = tuple(name for name in route if name in self.couriers)
        patient = patient_of(payload)
        if planted("ack-before-fsync"):
            loop = asyncio.get_running_loop()
            later = self._keep(header, payload, patient, destinations)
            loop.call_later(WRITE_LATER_S, lambda: loop.create_task(later))
            return
        await self._keep(header, payload, patient, destinations)

    async def _keep(
        self, header: Header, payload: bytes, patient: str, destinations: tuple[str, ...]
    ) -> None:
        digest = hashlib.sha256(body_of(payload)).hexdigest()[:16]

        def work(connection: sqlite3.Connection) -> None:
            if _known(connection, header, digest):
                return
            row = connection.execute(
                "INSERT INTO message (sender, control_id, kind, patient, digest, received_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (header.sender, header.control_id, f"{header.kind}^{header.event}", patient,
                 digest, time.time()),
            )  # fmt: skip
            for destination in destinations:
                push(connection, destination, header.control_id, payload, kind=header.kind)
            if row.lastrowid and row.lastrowid % PRUNE_EVERY == 0:
                _prune(connection, row.lastrowid - MESSAGES_KEPT)

        try:
            await self.store.write(work)
        except StoreError as error:
            self.log.warn_once_per(10.0, "queue_not_writable", reason=str(error))
            if planted("acks-when-full"):
                return
            raise unstored(error, "the queue cannot store it now; send it again") from None
        for destination in destinations:
            self.queue.notify(destination)

    def _refused(self, refusal: Refusal) -> None:
        self.log.warn(
            "message_refused", message=refusal.control_id, sender=refusal.sender,
            kind=refusal.kind, code=refusal.code, reason=refusal.reason,
        )  # fmt: skip

    # -- out --------------------------------------------------------------------------------------

    def connect(self, settings: Settings) -> None:
        """One courier per destination that this topology links us to."""
        for destination, names in ENDPOINTS.items():
            links = [settings.optional_link(name, "mllp") for name in names]
            clients = [
                MllpClient(link, check_ack_id=not planted("late-ack-shift"))
                for link in links
                if link is not None
            ]
            if clients:
                self.couriers[destination] = self._courier(destination, clients)

    def _courier(self, destination: str, clients: list[MllpClient]) -> Courier:
        async def on_refused(item: Item, ack: Ack) -> bool:
            if planted("poison-blocks-channel"):
                return False
            return await courier.park(item, ack)

        async def on_timeout(item: Item, error: MllpError) -> bool:
            if planted("no-retry-after-timeout"):
                await self.queue.park(item.id, error.reason)
                return True
            if planted("retry-storm"):
                await self._copy(item)
            return False

        courier = Courier(
            self.queue, destination, clients, self.log,
            on_refused=on_refused, on_timeout=on_timeout,
            newest_first=planted("newest-first-replay"),
            stay_after_timeout=planted("late-ack-shift"),
            held=self.held,
        )  # fmt: skip
        return courier

    async def follow_holds(self, stop: asyncio.Event) -> None:
        """Background work: what the incident system lets go is sent at once."""
        assert self.holds is not None
        async for _ in self.holds.changes(stop):
            for destination in self.couriers:
                self.queue.notify(destination)

    async def _copy(self, item: Item) -> None:
        """Planted defect only: the same content again, as if it were another message."""
        header = Header(new_control_id(), sender="ENGINE", kind="COPY")
        payload = with_control_id(item.payload, header.control_id)
        await self._keep(header, payload, patient_of(payload), (item.destination,))

    def held(self) -> tuple[str, ...]:
        """Kinds of messages that the incident system has told to wait."""
        return self.holds.kinds if self.holds else ()

    def check(self, destination: str) -> Check:
        """Health of one destination: away is a declared degraded mode, messages wait."""

        async def look() -> None:
            trip = self.couriers[destination].trip
            if trip.trouble:
                waiting = self.queue.depth(destination).waiting
                raise Degraded(f"{destination}: {trip.trouble}; {waiting} messages wait")

        return look


def _known(connection: sqlite3.Connection, header: Header, digest: str) -> bool:
    """Whether this MSH-10 is a repetition. Raises: Hl7Error 205 when it carries other content."""
    found = connection.execute(
        "SELECT digest FROM message WHERE sender = ? AND control_id = ?",
        (header.sender, header.control_id),
    ).fetchone()
    if found is not None and found[0] != digest:
        raise Hl7Error("205", f"MSH-10 {header.control_id!r} was used for another message")
    return found is not None


def _prune(connection: sqlite3.Connection, before: int) -> None:
    connection.execute(
        "DELETE FROM message WHERE id < ? AND control_id NOT IN (SELECT control_id FROM queue)",
        (before,),
    )


@asynccontextmanager
async def engine(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: queue file in the data folder, MLLP in, couriers out, HTTP to look inside."""
    path = settings.data_dir / "engine.db"
    if planted("queue-in-memory"):
        path.unlink(missing_ok=True)  # nothing survives the process
        path.with_name("engine.db-wal").unlink(missing_ok=True)
    store = Store(path, ENGINE_SCHEMA, synced=not planted("ack-before-durable"))
    link = settings.optional_link("incident", "http")
    works = Engine(store, log, Holds(link, log) if link else None)
    if works.holds:
        await works.holds.ask()  # before the first message goes out
    works.connect(settings)
    server = MllpServer(
        works.intake.answer,
        on_error=lambda reason: log.warn_once_per(5.0, "connection_dropped", reason=reason),
    )
    await server.start(*settings.bind("mllp"))

    async def listen(stop: asyncio.Event) -> None:
        await stop.wait()
        await server.stop()

    checks: dict[str, Check] = {"queue": store.check}
    checks.update({name: works.check(name) for name in works.couriers})
    yield Face(
        routes=engine_http.routes(works),
        checks=checks,
        background=[
            listen,
            *(courier.run for courier in works.couriers.values()),
            *([works.follow_holds] if works.holds else []),
        ],
    )
    await server.stop()
    await store.close()


if __name__ == "__main__":
    run(engine)
