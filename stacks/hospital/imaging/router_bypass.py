"""The PACS bypass: while no archive accepts, urgent studies go to the emergency viewer as well.

It switches itself on and off; a doctor may hold it on. It refuses to take anything away from the
archives: what is bypassed is still owed to them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from stacks.hospital.bugs import planted
from stacks.hospital.imaging import router_recent
from stacks.hospital.imaging.buffer import Carrier
from stacks.hospital.imaging.buffer_threads import Desk, Duty
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings, SettingsError

BYPASS_AFTER_S = 5.0
LOOK_S = 0.25
_HELD = "bypass-held"


class Bypass:
    """Whether images go past the archives, and why."""

    def __init__(
        self, desk: Desk, archives: Sequence[Carrier], viewer: Carrier | None,
        settings: Settings, log: Log,
    ) -> None:  # fmt: skip
        self.on = False
        self.held = False
        """A doctor holds it on."""
        self.since: float | None = None
        self.after_s = _after_s(settings)
        self.duty = Duty("bypass", self._step, log)
        self._desk, self._log = desk, log
        self._archives, self._viewer = archives, viewer
        row = desk.read(
            lambda c: c.execute("SELECT value FROM setting WHERE name = ?", (_HELD,)).fetchone()
        )
        self.held = row is not None and row[0] == "on"

    async def hold(self, on: bool) -> None:
        """A doctor holds it on, or leaves it to the router. Raises: StoreError."""
        value = "on" if on else "off"
        await self._desk.write_soon(
            lambda c: (
                c.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (_HELD, value)) and None
            )
        )
        self.held = on
        self._decide()
        self.duty.ring()

    def _step(self) -> float:
        self._decide()
        if self.on and self._viewer is not None:
            name = self._viewer.route.called
            found = self._desk.read(lambda connection: router_recent.unseen(connection, name))
            if found.images:
                self._desk.write(lambda c: router_recent.bypass(c, name, found))
                self._viewer.duty.ring()
        return LOOK_S

    def _decide(self) -> None:
        on = (self.held or self._nobody_accepts()) and not planted("no-bypass")
        if on != self.on:
            self.on, self.since = on, time.time() if on else None
            self._log.warn("bypass_switched", on=on, by="doctor" if self.held else "router")

    def _nobody_accepts(self) -> bool:
        sinces = [one.trip.failing_since for one in self._archives]
        latest = max((since for since in sinces if since is not None), default=0.0)
        return None not in sinces and bool(sinces) and time.time() - latest >= self.after_s


def _after_s(settings: Settings) -> float:
    text = settings.environment.get("BYPASS_AFTER_S") or str(BYPASS_AFTER_S)
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e6:
        raise SettingsError(f"BYPASS_AFTER_S={text!r} is not a number of seconds")
    return found
