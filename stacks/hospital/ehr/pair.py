"""The database pair as the record uses it: writes to the primary, reads from whoever answers.

Not libpq's list of addresses: it asks one node after the other, two seconds for each that hangs;
here both nodes are watched, and a request goes straight to the right one.
It refuses to call a write done, or not done, when it does not know: see Unavailable and Unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import psycopg

from stacks.hospital.bugs import planted
from stacks.hospital.ehr.node import WARM, Away, Connection, Node, Session
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Settings, SettingsError

READ_S, LAST_READ_S = 1.2, 1.8
"""One attempt at one node; the last node to be asked gets more time."""
WRITE_S = 3.0
"""A whole write, its wait for the standby included."""
ROLE_WAIT_S = 0.25
"""How long a request waits for a node to become what it needs."""
TAKE_S = 0.6
WRITES = 8
"""Writes in progress; more would keep readers out while a commit waits for the standby."""
NODES = ("ehr-db-a", "ehr-db-b")
T = TypeVar("T")
Work = Callable[[Connection], Awaitable[T]]


class Unavailable(Exception):
    """Not served; if it was a write, it did not happen."""


class NotThisOne(Unavailable):
    """The node refused this write, and may well take another one (too large, too slow)."""


_NODE = ("08", "25", "53", "57P", "58")
"""How SQLSTATE begins where the node itself is in trouble: connections, read-only, no room, being
stopped, errors of its disk."""


class Unknown(Exception):
    """A write was sent and its end was not seen: it may have happened or not."""


class Pair:
    """Up to two nodes, found by what they say they are, never by name.

    `warm` connections to each are kept open beforehand, at most CONNECTIONS opened.
    """

    def __init__(self, settings: Settings, log: Log, warm: int = WARM) -> None:
        links = [(name, settings.optional_link(name, "postgres")) for name in NODES]
        found = [(name, address) for name, address in links if address is not None]
        if not found:
            raise SettingsError(f"{settings.name}: no LINK_EHR_DB_A_POSTGRES; give it as host:port")
        if planted("one-node-only") and settings.name.startswith("ehr"):  # not the copy's list
            found = found[:1]
        self._changed = asyncio.Event()
        self.nodes = [Node(name, address, log, self._announce, warm) for name, address in found]
        self._without_primary = False  # the last writer waited in vain
        self._writes = asyncio.Semaphore(WRITES)
        self._stuck = False  # the last writer found no place among the writes in progress

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch(self, stop: asyncio.Event) -> None:
        """Background work: keep knowing which node is what."""
        async with asyncio.TaskGroup() as group:
            for node in self.nodes:
                group.create_task(node.watch(stop))
                group.create_task(node.keep_warm(stop))

    def primary(self) -> Node | None:
        """The writable node; of two that say so, the one promoted last."""
        primaries = [node for node in self.nodes if node.role == "primary"]
        if len(primaries) > 1 and not planted("stale-primary-writable"):
            primaries.sort(key=lambda node: node.timeline, reverse=True)
        return primaries[0] if primaries else None

    def standby(self) -> Node | None:
        """The readable node that is not written to."""
        return next((node for node in self.nodes if node.role == "standby"), None)

    def roles(self) -> str:
        """One line for people: who is what, and why not."""
        return "; ".join(
            f"{node.name} is {node.role}" + (f" ({node.reason})" if node.reason else "")
            for node in self.nodes
        )

    async def writable(self) -> Node:
        """The primary; Unavailable if there is none, at once when that is no news.

        Who waits holds a slot of the service: waiting writers must not keep the readers out.
        """
        node = self.primary()
        if node is None and not self._without_primary:
            await self._wait_for_change()
            node = self.primary()
        self._without_primary = node is None
        if node is None:
            raise Unavailable(f"no writable primary database: {self.roles()}")
        return node

    async def _wait_for_change(self) -> None:
        try:
            async with asyncio.timeout(ROLE_WAIT_S):
                await self._changed.wait()
        except TimeoutError:
            return

    # -- reads --------------------------------------------------------------------------------

    def _readable(self, prefer_standby: bool) -> Sequence[Node]:
        order = [self.primary(), self.standby()]
        if planted("reads-need-primary"):
            order = order[:1]
        elif prefer_standby:
            order.reverse()
        return [node for node in order if node is not None]

    async def read(self, work: Work[T], prefer_standby: bool = False) -> tuple[T, str]:
        """The result of `work`, and `primary` or `standby`; raises Unavailable."""
        nodes = self._readable(prefer_standby)
        if not nodes:
            await self._wait_for_change()
            nodes = self._readable(prefer_standby)
        troubles = []
        for number, node in enumerate(nodes, 1):
            try:
                return await self._read_at(
                    node, work, LAST_READ_S if number == len(nodes) else READ_S
                )
            except (Away, psycopg.OperationalError, psycopg.errors.UndefinedTable) as error:
                troubles.append(f"{node.name}: {describe(error)}")
                node.suspect()
        why = "; ".join(troubles) or self.roles()
        raise Unavailable(f"no database node can be read: {why}")

    async def _read_at(self, node: Node, work: Work[T], limit_s: float) -> tuple[T, str]:
        served_by = node.role
        session = await node.take(TAKE_S)
        sound = False
        try:
            with session.bounded(limit_s):
                result = await work(session.connection)
            sound = True
            return result, served_by
        finally:
            await node.give_back(session, sound)

    # -- writes -------------------------------------------------------------------------------

    async def write(self, work: Work[T]) -> T:
        """The result of `work`, committed on the primary and confirmed by its standby.

        `work` may use one statement or `connection.transaction()`; outside a transaction each
        statement commits by itself. Raises Unavailable (did not happen, told at once where it is
        no news that writes wait for the database), Unknown (may have).
        """
        await self._take_place()
        try:
            return await self._write(work)
        finally:
            self._writes.release()

    async def _take_place(self) -> None:
        """Among the writes in progress. Who waits holds a slot of the service, as in `writable`."""
        if not (self._stuck and self._writes.locked()):
            with suppress(TimeoutError):
                async with asyncio.timeout(TAKE_S):
                    await self._writes.acquire()
                self._stuck = False
                return
        self._stuck = True
        raise Unavailable(f"{WRITES} writes already wait for the database; try again in a moment")

    async def _write(self, work: Work[T]) -> T:
        node = await self.writable()
        try:
            session = await node.take(TAKE_S)
        except Away as error:
            node.suspect()
            raise Unavailable(str(error)) from None
        sound = False
        try:
            with session.bounded(WRITE_S):
                result = await work(session.connection)
            if session.doubtful:
                raise Unknown(f"{node.name} committed without its standby's confirmation in time")
            sound = True
            return result
        except psycopg.Error as error:
            sound = self._judge(error, session, node)
            raise
        finally:
            await node.give_back(session, sound)

    @staticmethod
    def _judge(error: psycopg.Error, session: Session, node: Node) -> bool:
        """Raise Unknown or Unavailable for trouble with the node; True for a mere refusal."""
        lost = session.connection.closed or session.doubtful or error.sqlstate is None
        if lost and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            node.suspect()
            raise Unknown(f"{node.name} was lost during the write: {describe(error)}") from None
        if isinstance(error, psycopg.OperationalError | psycopg.errors.ReadOnlySqlTransaction):
            node.suspect()
            kind = Unavailable if (error.sqlstate or "").startswith(_NODE) else NotThisOne
            raise kind(f"{node.name} refused the write: {describe(error)}") from None
        return True

    async def close(self) -> None:
        """Close what is idle."""
        for node in self.nodes:
            await node.close()
