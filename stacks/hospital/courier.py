"""Carries one queue to one destination: in order, one message at a time, until acknowledged.

    courier = Courier(queue, "engine", [MllpClient(address)], log)
    Face(background=[courier.run])

Refused for good (AE/AR/CE/CR) → parked with a reason and the channel goes on; refused for now
(ERR-3 206/207), no answer or no connection → the same message again, on the next endpoint, with
bounded backoff, for ever. It refuses to skip, to reorder, and to drop; only when one message fails
again and again while the last good one, sent again, passes is it poison: parked, too. A receiver
that can store nothing (206) convicts no message: it may well acknowledge a repetition.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from stacks.hospital.log import Log
from stacks.hospital.queue import DurableQueue, Item
from stacks.hospital.store import StoreError
from stacks.hospital.unstored import NOTHING_CAN_BE
from stacks.hospital.wire.hl7 import Ack
from stacks.hospital.wire.mllp import MllpClient, MllpError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
SUSPECT_AFTER = 10  # failures of one message after which it may be poison
PROOFS = 3  # times that a good message must pass and the suspect fail, in turn
PREFETCH = 16  # an urgent lane waits for at most so many messages already fetched
SHORT_PATIENCE = 0.4  # share of the time-out given to retries, so that a healed link is seen soon
POLL_S = 5.0  # looks into the queue at least so often, bell or not
QUIET_S = 10.0  # at most one log line per event and so many seconds

Refused = Callable[[Item, Ack], Awaitable[bool]]
"""Decides about a refused message: True = dealt with, go on; False = send it again."""
TimedOut = Callable[[Item, MllpError], Awaitable[bool]]
"""Told that a message was sent and not acknowledged: True = give it up; False = send it again."""


@dataclass(slots=True)
class Trip:
    """What a courier is doing now, for /queues and /health."""

    delivered: int = 0
    refused: int = 0
    failures: int = 0  # failed attempts since the last acknowledgement
    in_flight: str = ""  # MSH-10
    since: float = 0.0  # Unix seconds
    trouble: str = ""  # why the last attempt failed; empty when it did not


class Courier:
    """One worker for one destination that may have several equivalent endpoints."""

    def __init__(
        self,
        queue: DurableQueue,
        destination: str,
        clients: Sequence[MllpClient],
        log: Log,
        *,
        on_refused: Refused | None = None,
        on_timeout: TimedOut | None = None,
        on_recovered: Callable[[], Awaitable[None]] | None = None,
        newest_first: bool = False,
        stay_after_timeout: bool = False,
        held: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`held`: kinds of messages that wait for a word from elsewhere; asked again and again."""
        self.destination = destination
        self.trip = Trip()
        self._queue = queue
        self._clients = list(clients)
        self._log = log
        self._on_refused = on_refused or self.park
        self._on_timeout = on_timeout
        self._on_recovered = on_recovered
        self._newest_first = newest_first
        self._held = held
        self._stay_after_timeout = stay_after_timeout
        self._current = 0
        self._connects = 0
        self._passed = queue.passed(destination)
        self._done: set[int] = set()  # delivered, removal not yet committed

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until told to stop; then go on only while the destination keeps accepting."""
        bell = self._queue.bell(self.destination)
        try:
            while True:
                bell.clear()
                items = await self._next_items(stop)
                for item in items:
                    if stop.is_set() and self.trip.failures:
                        return
                    if not await self._deliver(item, stop):
                        return
                await self._settle()
                if items or self._done:
                    continue
                if stop.is_set():
                    return
                await _either(bell, stop, POLL_S)
        finally:
            await self._settle()
            for client in self._clients:
                await client.close()

    async def _next_items(self, stop: asyncio.Event) -> list[Item]:
        try:
            items = self._queue.waiting(
                self.destination, PREFETCH + len(self._done), newest_first=self._newest_first,
                held=self._held(),
            )  # fmt: skip
        except StoreError as error:
            self._log.warn_once_per(QUIET_S, "queue_unreadable", reason=str(error))
            await _either(stop, stop, LONGEST_PAUSE_S)
            return []
        return [item for item in items if item.id not in self._done]

    async def _settle(self) -> None:
        """Forget what was delivered; when the disk refuses, remember it and try again later."""
        if not self._done:
            return
        ids = list(self._done)
        try:
            await self._queue.remove(ids, self._passed)
            self._done.difference_update(ids)
        except StoreError as error:
            self._log.warn_once_per(QUIET_S, "queue_not_writable", reason=str(error))
            await asyncio.sleep(FIRST_PAUSE_S)

    async def _deliver(self, item: Item, stop: asyncio.Event) -> bool:
        """Until the message is acknowledged or parked; False when stopped before."""
        trip, attempt, suspicion = self.trip, 0, 0
        trip.in_flight, trip.since = item.control_id, time.time()
        while True:
            try:
                ack = await self._attempt(item, attempt)
            except MllpError as error:
                self._note(error.reason)
                suspicion += error.sent and not error.late
                if self._on_timeout and error.sent and await self._on_timeout(item, error):
                    break
            else:
                if ack.accepted:
                    trip.delivered += 1
                    await self._note_delivered(item)
                    break
                self._note(f"{ack.code} {ack.error} {ack.text}".strip())
                if ack.transient:
                    suspicion += ack.error != NOTHING_CAN_BE
                else:
                    trip.refused += 1
                    if await self._on_refused(item, ack):
                        trip.failures, trip.trouble = 0, ""
                        break
            attempt += 1
            if stop.is_set():
                return False
            if suspicion >= SUSPECT_AFTER:
                suspicion = 0
                reason = f"poison: {trip.trouble}; other messages pass"
                if await self._is_poison(item) and await self._set_aside(item, reason):
                    trip.failures, trip.trouble = 0, ""
                    break
            if not self._stay_after_timeout:
                self._current = (self._current + 1) % len(self._clients)
            if attempt >= len(self._clients):
                cycle = attempt // len(self._clients) - 1
                pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(cycle, 10))
                await _either(stop, stop, pause)
        trip.in_flight = ""
        return True

    async def _attempt(self, item: Item, attempt: int) -> Ack:
        client = self._clients[self._current]
        cycle = attempt // len(self._clients)
        patience = client.ack_s if cycle % 3 == 0 else client.ack_s * SHORT_PATIENCE
        return await client.send(item.payload, item.control_id, patience)

    async def _note_delivered(self, item: Item) -> None:
        self._done.add(item.id)
        self._passed = item
        failed, self.trip.failures, self.trip.trouble = self.trip.failures > 0, 0, ""
        connects = sum(client.connects for client in self._clients)
        again, self._connects = 0 < self._connects < connects, connects
        if failed or again:
            self._log.info("channel_recovered", destination=self.destination)
            if self._on_recovered:
                await self._on_recovered()

    def _note(self, reason: str) -> None:
        self.trip.failures += 1
        self.trip.trouble = reason
        self._log.warn_once_per(
            QUIET_S, "delivery_failed", destination=self.destination, reason=reason,
            message=self.trip.in_flight,
        )  # fmt: skip

    async def _is_poison(self, suspect: Item) -> bool:
        """Whether the destination takes the last good message again and fails on this one.

        Asked PROOFS times in a row. Sending the good one again is harmless: its MSH-10 is known.
        """
        for _ in range(PROOFS):
            if self._passed is None or await self._takes(self._passed) is not True:
                return False
            if await self._takes(suspect) is not False:
                return False  # taken or unclear: the usual way goes on
        return True

    async def _takes(self, item: Item) -> bool | None:
        """True: acknowledged; False: refused for now or hung up on; None: neither."""
        try:
            ack = await self._attempt(item, 0)
        except MllpError as error:
            return False if error.sent and not error.late else None
        suspect = ack.transient and ack.error != NOTHING_CAN_BE
        return True if ack.accepted else False if suspect else None

    async def park(self, item: Item, ack: Ack) -> bool:
        """Put a refused message aside with its reason; False when the disk refuses."""
        return await self._set_aside(item, f"{ack.code} {ack.error} {ack.text}".strip())

    async def _set_aside(self, item: Item, reason: str) -> bool:
        try:
            await self._queue.park(item.id, reason)
        except StoreError as error:
            self._log.warn_once_per(QUIET_S, "queue_not_writable", reason=str(error))
            return False
        self._log.error(
            "message_parked", destination=self.destination, message=item.control_id, reason=reason
        )
        return True


async def _either(first: asyncio.Event, second: asyncio.Event, wait_s: float) -> None:
    """Return when one of two events is set, or after `wait_s`."""
    if first.is_set() or second.is_set():
        return
    waits = [asyncio.ensure_future(event.wait()) for event in {first, second}]
    try:
        await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
