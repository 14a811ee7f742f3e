"""One node of the database pair: its few connections, and what it is just now.

It refuses to wait on a node that hangs: whatever takes too long has its socket cut, so that the
next request finds out at once and goes elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import psycopg
from psycopg import AsyncConnection

from stacks.hospital import postgres
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Address

CONNECT_S = 2.0
TAKE_CONNECT_S = 1.2
"""How long a request waits for a connection of its own."""
STATEMENT_S = 2.5
"""PostgreSQL itself gives a statement up after this."""
PROBE_S = 1.0
"""A node that does not say what it is within this hangs: it counts as away."""
PROBE_EVERY_S = 0.3
CONNECTIONS = 16
WARM = 8
"""Connections kept open beforehand: opening one takes five round trips, too long on a slow link."""
WARM_EVERY_S = 0.25
PROBE = (
    "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN '' "
    "ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END"
)
Role = Literal["primary", "standby", "away"]
Connection = AsyncConnection[tuple[Any, ...]]


class Away(Exception):
    """This node cannot be used now; nothing was sent to it."""


class Session:
    """One connection; `doubtful` once a commit was reported without its standby's word."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.doubtful = False
        connection.add_notice_handler(self._notice)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        # A commit that waits for the standby and is cancelled "succeeds" with this warning.
        if notice.sqlstate in ("57014", "57P01"):
            self.doubtful = True

    @property
    def usable(self) -> bool:
        """Whether the connection is open and silent: a peer that died has left an end of file."""
        if self.connection.closed or self.doubtful:
            return False
        poll = select.poll()
        poll.register(self.connection.pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    def cut(self) -> None:
        """End the connection under whoever waits on it; it fails there at once."""
        with suppress(OSError, psycopg.Error):
            with socket.socket(fileno=os.dup(self.connection.pgconn.socket)) as twin:
                twin.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def bounded(self, limit_s: float) -> Iterator[None]:
        """Cut the connection if the block takes longer than `limit_s`.

        Not a task cancellation: psycopg would then wait for the hung server's consent.
        """
        timer = asyncio.get_running_loop().call_later(limit_s, self.cut)
        try:
            yield
        finally:
            timer.cancel()


class Node:
    """One PostgreSQL server. `role` is what it said at the last look, at most ~1.3 s ago."""

    def __init__(
        self, name: str, address: Address, log: Log, changed: Callable[[], None], warm: int = WARM
    ) -> None:
        self.name, self.address, self.log, self.warm = name, address, log, warm
        self.role: Role = "away"
        self.timeline = ""
        self.reason = "not asked yet"
        self._changed = changed
        self._look_now = asyncio.Event()
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[Session] = []
        self._used: set[Session] = set()

    async def take(self, wait_s: float) -> Session:
        """A connection for one piece of work; give it back with `give_back`. Raises Away."""
        try:
            async with asyncio.timeout(wait_s):
                await self._room.acquire()
        except TimeoutError:
            raise Away(f"{self.name}: all {CONNECTIONS} connections are busy") from None
        try:
            session = await self._from_idle() or await self.connect(TAKE_CONNECT_S)
        except BaseException:
            self._room.release()
            raise
        self._used.add(session)
        return session

    async def _from_idle(self) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            if session.usable:
                return session
            await session.connection.close()
        return None

    async def give_back(self, session: Session, sound: bool) -> None:
        """Return a connection; `sound` false closes it."""
        self._used.discard(session)
        try:
            if sound and session.usable and self.role != "away":
                self._idle.append(session)
            else:
                await session.connection.close()
        finally:
            self._room.release()

    async def connect(self, wait_s: float = CONNECT_S) -> Session:
        """A connection outside the pool. Raises Away within CONNECT_S."""
        try:
            async with asyncio.timeout(min(wait_s, CONNECT_S)):
                connection: Connection = await AsyncConnection.connect(
                    postgres.dsn(self.address, sslmode="disable", gssencmode="disable"),
                    options=f"-c statement_timeout={STATEMENT_S * 1e3:.0f} -c jit=off "
                    "-c idle_in_transaction_session_timeout=5000",
                    autocommit=True,
                )
        except TimeoutError:
            raise Away(f"{self.name} ({self.address}): no connection in time") from None
        except (psycopg.Error, OSError) as error:
            raise Away(f"{self.name} ({self.address}): {describe(error)}") from None
        return Session(connection)

    def suspect(self) -> None:
        """Something went wrong with this node: look at it now."""
        self._look_now.set()

    async def keep_warm(self, stop: asyncio.Event) -> None:
        """Keep `warm` connections open until `stop`, so that a slow link is no obstacle later."""
        while not stop.is_set():
            if self.role != "away" and len(self._idle) + len(self._used) < self.warm:
                with suppress(Away):
                    self._idle.insert(0, await self.connect())
                    continue
            with suppress(TimeoutError):
                async with asyncio.timeout(WARM_EVERY_S):
                    await stop.wait()

    async def watch(self, stop: asyncio.Event) -> None:
        """Keep `role` true until `stop`."""
        session: Session | None = None
        while not stop.is_set():
            try:
                session = session or await self.connect()
                with session.bounded(PROBE_S):
                    cursor = await session.connection.execute(PROBE)
                    row = await cursor.fetchone()
                assert row is not None
                self._is("standby" if row[0] else "primary", row[1], "")
            except (Away, psycopg.Error) as error:
                if session is not None:
                    await session.connection.close()
                    session = None
                self._is("away", "", str(error) if isinstance(error, Away) else describe(error))
            self._look_now.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_EVERY_S):
                    await self._look_now.wait()
        if session is not None:
            await session.connection.close()

    def _is(self, role: Role, timeline: str, reason: str) -> None:
        self.reason = reason
        if (role, timeline) == (self.role, self.timeline):
            return
        self.log.info("database_role", node=self.name, role=role, was=self.role, reason=reason)
        before, self.role, self.timeline = self.role, role, timeline
        if role == "away" or before == "primary":
            self._forget()
        self._changed()

    def _forget(self) -> None:
        """The node is gone or no longer the primary: nobody goes on waiting for it."""
        for session in [*self._used, *self._idle]:
            session.cut()
        idle, self._idle = self._idle, []
        for session in idle:
            session.connection.pgconn.finish()

    async def close(self) -> None:
        """Close every idle connection."""
        idle, self._idle = self._idle, []
        for session in idle:
            await session.connection.close()
