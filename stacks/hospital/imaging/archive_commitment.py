"""Storage commitment of the archive: a request is kept on disk until its report was delivered.

The report goes out on the requester's association while that is open, else on a new one to the
address known for its AE title. It refuses to vouch for an image that it cannot read back.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from pydicom.dataset import Dataset
from pynetdicom.association import Association

from stacks.hospital.imaging.archive_index import Index
from stacks.hospital.imaging.association import (
    COMMITMENT,
    COMMITMENT_INSTANCE,
    SUCCESS,
    AssociationError,
    association,
    contexts,
)
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Address
from stacks.hospital.store import Store

ALL_KEPT, SOME_MISSING = 1, 2
"""Event types of the report (PS3.4 J.3.3)."""
NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119
MAX_ITEMS = 10_000
MAX_OWED = 1_000
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to deliver; the last one goes on."""
GIVE_UP_S = 24 * 3600.0
"""A requester that was away for so long asks again."""
ANSWER_S = 0.05
"""Grace in which the answer to the request leaves before the report follows it."""


class Malformed(ValueError):
    """The request is not understood; the text says what is missing."""


class Unknown(Exception):
    """There is no way to reach the requester any more."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A report that a requester waits for; `items` are (SOP class, SOP instance)."""

    transaction_uid: str
    caller: str
    items: tuple[tuple[str, str], ...]
    asked_at: float


class Commitment:
    """Takes requests and delivers their reports, for ever, from the archive's own file."""

    def __init__(
        self, store: Store, index: Index, title: str, peers: Mapping[str, Address], log: Log
    ) -> None:
        self._store, self._index, self._title = store, index, title
        self._peers, self._log = peers, log
        self._open: dict[tuple[str, str], Association] = {}
        self._bell = asyncio.Event()
        self._delivering: set[asyncio.Task[None]] = set()

    async def take(self, asked: Dataset, open_: Association) -> None:
        """Keep a request durably. Raises: Malformed, StoreError."""
        owed = _owed(asked, str(open_.requestor.ae_title).strip())
        row = (
            owed.transaction_uid, owed.caller, msgspec.json.encode(owed.items), owed.asked_at,
        )  # fmt: skip
        await self._store.write(lambda connection: _keep(connection, row))
        self._open[owed.transaction_uid, owed.caller] = open_
        self._bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver what is owed until `stop`; what is not delivered then waits on disk."""
        begun: set[tuple[str, str]] = set()

        async def deliver(owed: Owed) -> None:
            try:
                await self._deliver(owed, stop)
            finally:
                begun.discard((owed.transaction_uid, owed.caller))
                self._bell.set()

        while not stop.is_set():
            self._bell.clear()
            for owed in self.owed():
                if (key := (owed.transaction_uid, owed.caller)) not in begun:
                    begun.add(key)
                    task = asyncio.create_task(deliver(owed))
                    self._delivering.add(task)
                    task.add_done_callback(self._delivering.discard)
            waiting = [asyncio.create_task(one.wait()) for one in (self._bell, stop)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in waiting:
                one.cancel()

    def owed(self, limit: int = MAX_OWED) -> list[Owed]:
        """Reports not delivered yet, oldest first."""
        rows = self._store.read(
            lambda connection: connection.execute(
                "SELECT transaction_uid, caller, items, asked_at FROM report"
                " ORDER BY asked_at LIMIT ?",
                (limit,),
            ).fetchall()
        )
        kind = tuple[tuple[str, str], ...]
        return [
            Owed(one[0], one[1], msgspec.json.decode(one[2], type=kind), one[3]) for one in rows
        ]

    async def _deliver(self, owed: Owed, stop: asyncio.Event) -> None:
        key = owed.transaction_uid, owed.caller
        await asyncio.sleep(ANSWER_S)
        attempt = 0
        while not stop.is_set() and time.time() - owed.asked_at < GIVE_UP_S:
            open_ = self._open.pop(key, None)
            try:
                way = await asyncio.to_thread(self._send, owed, open_)
            except Unknown as error:
                self._log.error("report_undeliverable", caller=owed.caller, reason=str(error))
                break
            except Exception as error:
                self._log.warn_once_per(
                    2.0, "report_waits", caller=owed.caller, reason=describe(error)
                )
            else:
                self._log.info(
                    "report_delivered", caller=owed.caller, way=way, items=len(owed.items),
                    transaction=owed.transaction_uid,
                )  # fmt: skip
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S[min(attempt, len(RETRY_S) - 1)]):
                    await stop.wait()
            attempt += 1
        if not stop.is_set():
            await self._store.write(lambda connection: _done(connection, owed))

    def _send(self, owed: Owed, open_: Association | None) -> str:
        """One attempt, in a thread of its own; returns which way it went. Raises on failure."""
        if open_ is not None and open_.is_established:
            with contextlib.suppress(Exception):  # it may close at any moment: then the other way
                if _report(open_, *self._result(owed)) == SUCCESS:
                    return "same association"
        where = self._peers.get(owed.caller)
        if where is None:
            raise Unknown("its association is closed, no address is known: it must ask again")
        asked = contexts([COMMITMENT])
        with association(where, owed.caller, self._title, asked, reporting=True) as own:
            status = _report(own, *self._result(owed))
        if status != SUCCESS:
            raise AssociationError(f"{owed.caller} answers the report with {status:04X}")
        return "new association"

    def _result(self, owed: Owed) -> tuple[Dataset, int]:
        kept, missing = [], []
        for sop_class, sop_uid in owed.items:
            found = self._index.sop_class_kept(sop_uid)
            item = Dataset()
            item.ReferencedSOPClassUID = sop_class
            item.ReferencedSOPInstanceUID = sop_uid
            if found in (sop_class, "*"):
                kept.append(item)
                continue
            item.FailureReason = CLASS_CONFLICT if found else NO_SUCH_INSTANCE
            missing.append(item)
        report = Dataset()
        report.TransactionUID = owed.transaction_uid
        report.RetrieveAETitle = self._title
        if kept:
            report.ReferencedSOPSequence = kept
        if missing:
            report.FailedSOPSequence = missing
            self._log.warn("images_not_kept", caller=owed.caller, missing=len(missing))
        return report, SOME_MISSING if missing else ALL_KEPT


def _report(open_: Association, report: Dataset, event_type: int) -> int:
    status, _ = open_.send_n_event_report(report, event_type, COMMITMENT, COMMITMENT_INSTANCE)
    if "Status" not in status:
        raise AssociationError("the report was not answered")
    return int(status.Status)


def _keep(connection: sqlite3.Connection, row: tuple[object, ...]) -> None:
    connection.execute("INSERT OR REPLACE INTO report VALUES (?, ?, ?, ?)", row)


def _done(connection: sqlite3.Connection, owed: Owed) -> None:
    connection.execute(
        "DELETE FROM report WHERE transaction_uid = ? AND caller = ? AND asked_at = ?",
        (owed.transaction_uid, owed.caller, owed.asked_at),
    )


def _owed(asked: Dataset, caller: str) -> Owed:
    transaction = str(asked.get("TransactionUID", "") or "")
    items = asked.get("ReferencedSOPSequence", None) or []
    if not transaction:
        raise Malformed("TransactionUID is missing")
    if not 0 < len(items) <= MAX_ITEMS:
        raise Malformed(f"ReferencedSOPSequence must hold 1 to {MAX_ITEMS} items")
    pairs = tuple(
        (str(one.get("ReferencedSOPClassUID", "")), str(one.get("ReferencedSOPInstanceUID", "")))
        for one in items
    )
    if not all(uid for _, uid in pairs):
        raise Malformed("an item has no ReferencedSOPInstanceUID")
    return Owed(transaction, caller, pairs, time.time())
