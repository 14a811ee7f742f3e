"""The incident system: declares downtime, publishes notices, opens services in the planned order.

    people ──POST──▶ log (own SQLite) ◀── duty ──probes──▶ every service
    services that start ──ask──▶ gate     engine ──asks──▶ holds

It starts no process: it decides when one that has come back takes writes. It refuses to depend on
anything in the hospital, and nothing in the hospital waits for it when it is away (see gate.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stacks.hospital.log import Log
from stacks.hospital.recovery.duty import Duty
from stacks.hospital.recovery.handover import Handover
from stacks.hospital.recovery.incident_http import Desk
from stacks.hospital.recovery.journal import JOURNAL_SCHEMA, Book
from stacks.hospital.recovery.probes import Probes
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store
from stacks.hospital.web import Face, run


@asynccontextmanager
async def incident(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: its log in the data folder, probes out, HTTP in."""
    store = Store(settings.data_dir / "incident.db", JOURNAL_SCHEMA)
    probes = Probes(settings)
    duty = Duty(settings, Book(store), probes, log)
    handover = Handover(settings)
    yield Face(
        routes=Desk(duty, handover, settings.real_s(60.0)).routes(),
        checks={"store": store.check},
        background=[duty.run],
    )
    await probes.close()
    await handover.close()
    await store.close()


if __name__ == "__main__":
    run(incident)
