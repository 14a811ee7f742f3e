"""The incident duty: looks, decides, writes down, publishes, again and again.

    duty = Duty(settings, book, probes, log); Face(background=[duty.run])

It refuses to act before what it decided is on disk, and to keep silent while an incident goes on.
"""

from __future__ import annotations

import asyncio
import time

from stacks.hospital.bugs import planted
from stacks.hospital.log import Log
from stacks.hospital.recovery.decisions import (
    Criterion,
    World,
    closings,
    core_ready,
    criteria,
    essential_down,
    holdings,
    losses,
    missing,
    openings,
    releases,
)
from stacks.hospital.recovery.journal import (
    ANNOUNCED,
    CHECKED,
    CLOSED,
    DECLARED,
    DOWNTIME,
    NORMAL,
    NOTICE,
    PLANNED,
    Book,
    Entry,
    State,
    words,
)
from stacks.hospital.recovery.plan import BY_NAME, OF_SERVICE
from stacks.hospital.recovery.probes import Probes
from stacks.hospital.settings import Settings
from stacks.hospital.store import StoreError

LOOK_EVERY_S = 0.5
NORMAL_AFTER_S = 2.0
"""Machine time: what goes down right after the declaration was meant by it."""
MINUTE = 60.0
DECLARE_AFTER_S, DECLARE_FLOOR_S = 5 * MINUTE, 2.0
"""Hospital seconds that an essential system must be away; at least so many real ones."""
UPDATE_S = 40 * MINUTE
ETA_S, REVISE_S = 30 * MINUTE, 10 * MINUTE
"""The time of return first given, and how long before it passes it is given anew (hospital s)."""
MONITORING = "monitoring"


class Duty:
    """One loop over one log."""

    def __init__(self, settings: Settings, book: Book, probes: Probes, log: Log) -> None:
        self.book, self._probes, self._log = book, probes, log
        self._real_s = settings.real_s
        self._turn = asyncio.Lock()
        self._away_since = 0.0
        self._checking: asyncio.Task[object] | None = None
        self.world = World(0.0)

    async def run(self, stop: asyncio.Event) -> None:
        """Background work: until told to stop."""
        try:
            while not stop.is_set():
                began = time.monotonic()
                self.world = await self._probes.look()
                try:
                    async with self._turn:
                        await self._decide(self.world)
                except StoreError as error:
                    self._log.warn_once_per(10.0, "store_not_writable", reason=str(error))
                left = LOOK_EVERY_S - (time.monotonic() - began)
                try:
                    async with asyncio.timeout(max(0.05, left)):
                        await stop.wait()
                except TimeoutError:
                    continue
        finally:
            if self._checking is not None:
                self._checking.cancel()

    # -- what people order ------------------------------------------------------------------------

    async def declare(
        self, kind: str, by: str, reason: str, services: tuple[str, ...], eta_s: float
    ) -> bool:
        """Declare a downtime or announce a planned stop; False when an incident goes on already:
        a planned stop is announced in it.

        `eta_s`: hospital seconds until the return, 0 = the usual first estimate. Raises StoreError.
        """
        async with self._turn:
            if self.book.state.incident:
                if kind == PLANNED and not set(services) <= set(self.book.state.announced):
                    await self._announce(by, reason, services, eta_s)
                return False
            await self._declare(kind, by, reason, services, eta_s)
            return True

    async def notice(self, by: str, text: str, eta: float) -> None:
        """Publish a person's notice; `eta` in Unix seconds. Raises StoreError."""
        async with self._turn:
            state = self.book.state
            await self._write([Entry(NOTICE, state.incident, by=by, text=text, eta=eta)])

    async def did(self, what: str, by: str, node: str, text: str) -> None:
        """Write down what was asked of the record's database, and its answer. Raises StoreError."""
        async with self._turn:
            entry = Entry(what, self.book.state.incident, by=by, services=(node,), text=text)
            await self._write([entry])

    async def arrived(self, service: str) -> str:
        """A service has started: why it must wait, or an empty text. Raises StoreError."""
        async with self._turn:
            state = self.book.state
            gated = service in OF_SERVICE and OF_SERVICE[service].gated
            if state.incident and gated and service not in state.closed:
                text = "started during the incident"
                await self._write([Entry(CLOSED, state.incident, services=(service,), text=text)])
            return self.waits(service)

    def waits(self, service: str) -> str:
        """Why a service must not take writes now; empty when it may."""
        state = self.book.state
        if service not in state.closed:
            return ""
        away = missing(service, state, self.world)
        if not away:
            return f"{state.incident}: its own health is looked at"
        return f"{state.incident}: waits for {', '.join(BY_NAME[name].words for name in away)}"

    def unmet(self) -> list[Criterion]:
        """What speaks against `normal`, as last seen."""
        return [one for one in criteria(self.book.state, self.world) if not one.ok]

    # -- one turn ---------------------------------------------------------------------------------

    async def _decide(self, world: World) -> None:
        if not self.book.state.incident:
            await self._detect(world)
            return
        await self._write(closings(self.book.state, world))
        await self._write(holdings(self.book.state, world))
        await self._write(openings(self.book.state, world))
        await self._write(releases(self.book.state, world))
        await self._write(losses(self.book.state, world))
        await self._inform(world)
        await self._return(world)

    async def _detect(self, world: World) -> None:
        gone = essential_down(world)
        if not gone:
            self._away_since = 0.0
            return
        self._away_since = self._away_since or world.at
        if world.at - self._away_since >= max(DECLARE_FLOOR_S, self._real_s(DECLARE_AFTER_S)):
            reasons = ", ".join(f"{name}: {world.looks[name].reason}" for name in gone)
            await self._declare(DOWNTIME, MONITORING, f"no answer: {reasons}"[:300], gone, 0.0)

    async def _declare(
        self, kind: str, by: str, reason: str, services: tuple[str, ...], eta_s: float
    ) -> None:
        now = time.time()
        incident = f"{kind}-{self.book.state.incidents + 1}"
        eta = now + self._real_s(eta_s or ETA_S)
        what = "Planned stop" if kind == PLANNED else "Downtime"
        told = f"{what}: {words(services) or 'several systems'}. {reason}"
        await self._write([
            Entry(DECLARED, incident, now, by, reason, services, (kind,)),
            Entry(NOTICE, incident, now, by, told, eta=eta),
        ])  # fmt: skip

    async def _announce(
        self, by: str, reason: str, services: tuple[str, ...], eta_s: float
    ) -> None:
        """A stop on purpose while an incident goes on."""
        now, incident = time.time(), self.book.state.incident
        told = f"Planned stop: {words(services)}. {reason}"
        eta = now + self._real_s(eta_s or ETA_S)
        await self._write([
            Entry(ANNOUNCED, incident, now, by, reason, services, (PLANNED,)),
            Entry(NOTICE, incident, now, by, told, eta=eta),
        ])  # fmt: skip

    async def _inform(self, world: World) -> None:
        """An update in time, and a new estimate before the old one passes."""
        state = self.book.state
        late = state.eta - world.at < self._real_s(REVISE_S) and not planted("eta-expires")
        if not late and world.at - state.noticed_at < self._real_s(UPDATE_S):
            return
        eta = world.at + self._real_s(ETA_S) if late else state.eta
        if state.closed:
            text = f"Still closed: {words(sorted(state.closed))}."
        elif not core_ready(state, world):
            text = "Essential systems are still away."
        else:
            text = "; ".join(one.text for one in self.unmet()) or "All criteria are met."
        await self._write([Entry(NOTICE, state.incident, by=MONITORING, text=text, eta=eta)])

    async def _return(self, world: World) -> None:
        state = self.book.state
        found = criteria(state, world)
        open_ = [one for one in found if not one.ok]
        if world.at - state.declared_at < NORMAL_AFTER_S:
            return
        if state.kind == DOWNTIME and not state.ever_closed and essential_down(world):
            return
        if open_ and all(one.name == "integrity" for one in open_):
            self._check()
            return
        if not open_:
            met = tuple(f"{one.name}: {one.text}" for one in found)
            await self._write([
                *(Entry(CHECKED, state.incident, world.at, text=text) for text in met),
                Entry(NORMAL, state.incident, world.at, MONITORING, "back to normal", because=met),
            ])  # fmt: skip

    def _check(self) -> None:
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._probes.check_integrity())

    async def _write(self, entries: list[Entry]) -> State:
        if not entries:
            return self.book.state
        for one in entries:
            self._log.info(
                "incident_entry", what=one.what, incident=one.incident, text=one.text,
                services=" ".join(one.services), kinds=" ".join(one.kinds),
            )  # fmt: skip
        return await self.book.write(entries)
