"""Patient administration (GAM) with the master patient index: admissions, discharges, merges.

    admissions ──HTTP──▶ register + outbox (one commit) ──▶ courier ──MLLP──▶ engine

It refuses to answer before the change and its movement message are on disk, and to wait for
anybody: whether engine or record are up never decides whether a patient is admitted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stacks.hospital.courier import Courier
from stacks.hospital.gam_desk import Administration
from stacks.hospital.gam_wait import Wait
from stacks.hospital.log import Log
from stacks.hospital.queue import DurableQueue
from stacks.hospital.register_rows import ENGINE, REGISTRY_SCHEMA
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store
from stacks.hospital.web import Face, run
from stacks.hospital.wire.mllp import MllpClient


@asynccontextmanager
async def gam(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: one file in the data folder, HTTP in, one courier to the engine."""
    store = Store(settings.data_dir / "gam.db", REGISTRY_SCHEMA)
    queue = DurableQueue(store)
    link = settings.optional_link("engine", "mllp")
    courier = Courier(queue, ENGINE, [MllpClient(link)], log) if link else None
    desk = Administration(store, queue, courier, Wait(settings, courier))
    yield Face(
        routes=desk.routes(),
        checks={"store": store.check, "engine": desk.ready},
        background=[courier.run] if courier else [],
    )
    await store.close()


if __name__ == "__main__":
    run(gam)
