"""The systems whose own files the vault keeps, and how each one's own code reads a restored file.

    with opened(restored, SYSTEMS["engine"]) as store: for record in records(store, system): ...

It refuses to know a system's tables itself: schema and reading are the service's.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stacks.hospital.pages import PAGE, Page
from stacks.hospital.records import Record
from stacks.hospital.snapshot import tables
from stacks.hospital.store import Store
from stacks.hospital.wire.segments import body_of

TROUBLES_MAX = 5
_QUEUED = "SELECT control_id, payload FROM queue ORDER BY id"
_KNOWN = "SELECT 1 FROM message WHERE control_id = ? AND digest = ?"


@dataclass(frozen=True, slots=True)
class System:
    """One system's own file, as its service has it."""

    schema: str
    pages: Callable[[Store], tuple[Page, ...]]
    inner: Callable[[Store], list[str]] = lambda _: []
    """What of its content contradicts itself, in words."""
    lost: Callable[[Path, Path], int] | None = None
    """(an older copy, a newer one) → what is missing from the newer one though nothing there was
    ever taken away on purpose; None: it cannot be told. Raises sqlite3.Error."""


def system(name: str) -> System:
    """The system of that name; KeyError. Slow to import: the vault asks in a drill only."""
    return _SYSTEMS[name]()


def _engine() -> System:
    from stacks.hospital import engine, engine_http, engine_restore

    lost = partial(engine_restore.lost, kept=engine.MESSAGES_KEPT)
    return System(engine.ENGINE_SCHEMA, engine_http.pages, undelivered, lost)


def _gam() -> System:
    from stacks.hospital import gam_desk, register_rows

    return System(register_rows.REGISTRY_SCHEMA, gam_desk.pages)


def _lis() -> System:
    from stacks.hospital import lis, lis_http

    return System(lis.SCHEMA, lis_http.pages)


def _scheduling() -> System:
    from stacks.hospital.appointments import scheduling_rows, scheduling_search

    return System(
        scheduling_rows.SCHEDULING_SCHEMA, lambda store: scheduling_search.Search(store).pages()
    )


def _billing() -> System:
    from stacks.hospital.recovery import billing_book

    return System(
        billing_book.BILLING_SCHEMA, lambda store: (billing_book.BillingBook(store).page,)
    )


_SYSTEMS: Mapping[str, Callable[[], System]] = {
    "engine": _engine, "gam": _gam, "lis": _lis, "scheduling": _scheduling, "billing": _billing,
}  # fmt: skip
NAMES = tuple(_SYSTEMS)
"""Whose files are kept; images are kept one by one."""


def undelivered(store: Store) -> list[str]:
    """Messages that a restored engine would deliver, and that are not as they were received.

    Raises StoreError.
    """

    def work(connection: sqlite3.Connection) -> list[str]:
        wrong = []
        for control_id, payload in connection.execute(_QUEUED):
            digest = hashlib.sha256(body_of(payload)).hexdigest()[:16]
            if connection.execute(_KNOWN, (control_id, digest)).fetchone() is None:
                wrong.append(f"message {control_id} in the queue is not the one that was received")
        return wrong

    return store.read(work)


def lacking(path: Path, one: System) -> set[str]:
    """Tables of the service's schema that a restored file does not have. Raises sqlite3.Error."""
    wanted, found = sqlite3.connect(":memory:"), sqlite3.connect(path)
    try:
        wanted.executescript(one.schema)
        return tables(wanted) - tables(found)
    finally:
        wanted.close()
        found.close()


@asynccontextmanager
async def opened(path: Path, one: System) -> AsyncIterator[Store]:
    """The restored file, opened by the service's own code, as at its start. Raises StoreError."""
    store = Store(path, one.schema)
    try:
        yield store
    finally:
        await store.close()


def read(path: Path, one: System) -> tuple[list[Record], list[str]]:
    """(every record, what contradicts itself), read as the service reads. From a thread without
    an event loop. Raises StoreError, ValueError."""

    async def reading() -> tuple[list[Record], list[str]]:
        async with opened(path, one) as store:
            found: list[Record] = []
            for page in one.pages(store):
                after = 0
                while True:
                    records, last = page(after, PAGE)
                    if last == after:
                        break
                    found += records
                    after = last
            return found, one.inner(store)[:TROUBLES_MAX]

    return asyncio.run(reading())
