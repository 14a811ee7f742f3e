"""The outbox: orders on their way to the engine, in order, by one ehr node at a time.

It refuses to remove a message before the engine has acknowledged that very message. Several are
removed together, for a removal waits for two disks; what is sent again after a crash carries the
same MSH-10, and the engine knows it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import psycopg

from stacks.hospital.ehr import store
from stacks.hospital.ehr.node import PROBE_S, STATEMENT_S, Away, Node, Session
from stacks.hospital.ehr.pair import Pair, Unavailable
from stacks.hospital.ehr.schema import Schema
from stacks.hospital.log import Log, describe
from stacks.hospital.wire.hl7 import Ack
from stacks.hospital.wire.mllp import MllpClient, MllpError

SENDER_LOCK = 7_000_003
"""Session lock of the node that sends."""
LOCK_EVERY_S = 0.5
POLL_S = 0.2
"""Orders taken by the other node are seen within this."""
TIDY_EVERY_S = 2.0
BATCH = 16
ACK_S = 4.0
REMOVE_EVERY_S = 1.0
"""The session is not left silent for longer than this and the sending of one message."""
IDLE_SESSION_S = 8
"""PostgreSQL ends the session of a sender that is silent for so long (it hangs): the lock is free
for the other node. Longer than connecting to the engine and waiting for its acknowledgement."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0


class Outbox:
    """The sender of this node; it works while it holds the lock and waits otherwise."""

    def __init__(self, pair: Pair, schema: Schema, client: MllpClient, log: Log) -> None:
        self._pair, self._schema, self._client, self._log = pair, schema, client, log
        self._bell = asyncio.Event()
        self._pause_s = FIRST_PAUSE_S
        self.leading = False
        self.sent = 0
        self.trouble = ""

    def ring(self) -> None:
        """There is something to send."""
        self._bell.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Background work: lead when possible, and send."""
        while not stop.is_set():
            if not self._schema.ready:
                await _rest(stop, POLL_S)
                continue
            try:
                node = await self._pair.writable()
                session = await node.connect()
            except (Away, Unavailable):
                await _rest(stop, LOCK_EVERY_S)
                continue
            try:
                await self._with(node, session, stop)
            except psycopg.Error as error:
                self._log.warn_once_per(5.0, "outbox_lost_database", error=describe(error))
                node.suspect()
                await _rest(stop, LOCK_EVERY_S)
            finally:
                self.leading = False
                await session.connection.close()
        await self._client.close()

    async def _with(self, node: Node, session: Session, stop: asyncio.Event) -> None:
        limit_ms = IDLE_SESSION_S * 1000
        await _ask(session, f"SET idle_session_timeout = {limit_ms}", ())
        while not stop.is_set() and node is self._pair.primary():
            if await _one(session, "SELECT pg_try_advisory_lock(%s)", (SENDER_LOCK,)):
                self.leading = True
                self._log.info("outbox_leads", node=node.name)
                await self._send(node, session, stop)
                return
            await _rest(stop, LOCK_EVERY_S)

    async def _send(self, node: Node, session: Session, stop: asyncio.Event) -> None:
        tidy_at = 0.0
        while not stop.is_set() and node is self._pair.primary():
            if time.monotonic() >= tidy_at:
                with session.bounded(STATEMENT_S):
                    await store.rebind(session.connection)
                tidy_at = time.monotonic() + TIDY_EVERY_S
            self._bell.clear()
            rows = await _ask(
                session,
                "SELECT seq, control_id, payload, placer FROM outbox "
                "WHERE parked IS NULL ORDER BY seq LIMIT %s",
                (BATCH,),
            )
            await self._batch(session, rows, stop)
            if not rows:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._bell.wait()
            elif self.trouble:
                await _rest(stop, self._pause_s)
                self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    async def _batch(
        self, session: Session, rows: list[tuple[Any, ...]], stop: asyncio.Event
    ) -> None:
        """Send in order until one is not acknowledged; remove those that were."""
        taken: list[int] = []
        removed_at = time.monotonic()
        for row in rows:
            if stop.is_set() or not await self._one_message(session, row, taken):
                break
            if time.monotonic() - removed_at >= REMOVE_EVERY_S:
                await self._remove(session, taken)
                removed_at = time.monotonic()
        await self._remove(session, taken)

    async def _remove(self, session: Session, taken: list[int]) -> None:
        if taken:
            await _ask(session, "DELETE FROM outbox WHERE seq = ANY(%s)", (taken,))
            taken.clear()

    async def _one_message(self, session: Session, row: tuple[Any, ...], taken: list[int]) -> bool:
        """Send one, noted in `taken` when acknowledged; True if the next may follow."""
        seq, control_id, payload, placer = row
        try:
            ack = await self._client.send(bytes(payload), control_id, ACK_S)
        except MllpError as error:
            self.trouble = error.reason
            self._log.warn_once_per(
                5.0, "order_not_acknowledged", placer=placer, reason=error.reason
            )
            return False
        if not ack.accepted and ack.transient:
            self.trouble = f"{ack.code}: {ack.text}"
            return False
        self.trouble, self._pause_s = "", FIRST_PAUSE_S
        if ack.accepted:
            taken.append(seq)
            self.sent += 1
        else:
            await self._park(session, seq, placer, ack)
        return True

    async def _park(self, session: Session, seq: int, placer: str, ack: Ack) -> None:
        reason = f"{ack.code} {ack.error}: {ack.text}"
        self._log.error("order_parked", placer=placer, reason=reason)
        await _ask(
            session, "UPDATE outbox SET parked = %s WHERE seq = %s RETURNING seq", (reason, seq)
        )


async def _ask(session: Session, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    with session.bounded(STATEMENT_S + PROBE_S):
        cursor = await session.connection.execute(query.encode(), values)
        return await cursor.fetchall() if cursor.description else []


async def _one(session: Session, query: str, values: tuple[Any, ...]) -> Any:
    return (await _ask(session, query, values))[0][0]


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
