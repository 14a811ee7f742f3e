"""A service's side of a staged return: whether it may take writes, and which messages wait.

    gate = Gate(name, link, log); await gate.arrive(); ...; gate.closed   # why, or ""
    holds = Holds(link, log); await holds.ask(); holds.kinds              # the engine's queues

Asked of the incident system over HTTP. A closed service refuses what people write; messages from
other systems are not the gate's business: the engine keeps them. It refuses to keep the hospital
closed on its own: an incident system that does not answer holds nobody back (START_ASK_S,
LAST_WORD_S).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx

from stacks.hospital.health import Noted
from stacks.hospital.log import Log
from stacks.hospital.settings import Address

START_ASK_S = 1.5
"""How long a service that starts waits for the incident system's word before it opens."""
ASK_S = 1.0
EVERY_S = 0.25
LAST_WORD_S = 30.0
"""The incident system's last word counts for so long when it does not answer any more."""
ALWAYS = ("/integrity",)
"""What is asked of a closed service before it may open."""
READS = ("GET", "HEAD", "OPTIONS")


class Gate:
    """Closed from a service's start until the incident system opens it; open without its word."""

    def __init__(self, name: str, link: Address, log: Log) -> None:
        self._log, self._url = log, f"http://{link}/gate/{name}"
        self._client = httpx.AsyncClient(timeout=ASK_S, verify=False)
        self._heard_at = time.monotonic()
        self.closed = ""
        """Why no writes are taken; empty when they are."""

    def lets(self, method: str, path: str) -> bool:
        """Whether a request may pass."""
        return not self.closed or method in READS or path in ALWAYS

    async def arrive(self) -> None:
        """Tell the incident system that this service has started, and take its word."""
        await self._ask("POST", START_ASK_S)
        if self.closed:
            self._log.warn("gate_closed", reason=self.closed)

    async def follow(self, stop: asyncio.Event) -> None:
        """Background work: ask until opened."""
        while self.closed and not stop.is_set():
            await _pause(stop)
            if not await self._ask("GET", ASK_S) and _old(self._heard_at):
                self.closed = ""
            if not self.closed:
                self._log.info("gate_opened")

    async def check(self) -> None:
        """Health: a held service is well itself, can be read, and is not open for writes."""
        if self.closed:
            raise Noted(f"held: {self.closed}")

    async def _ask(self, method: str, within_s: float) -> bool:
        found = await _json(self._client, method, self._url, within_s)
        if found is None:
            return False
        self._heard_at = time.monotonic()
        self.closed = "" if found.get("open", True) else str(found.get("reason") or "not opened")
        return True


class Holds:
    """Kinds of messages that the engine keeps in its queues until they are released."""

    def __init__(self, link: Address, log: Log) -> None:
        self._log, self._url = log, f"http://{link}/holds"
        self._client = httpx.AsyncClient(timeout=ASK_S, verify=False)
        self._heard_at = time.monotonic()
        self.kinds: tuple[str, ...] = ()

    async def ask(self) -> bool:
        """Take the incident system's word; False when there is none."""
        found = await _json(self._client, "GET", self._url, ASK_S)
        if found is None:
            return False
        self._heard_at = time.monotonic()
        kinds = found.get("held")
        self.kinds = tuple(str(one) for one in kinds) if isinstance(kinds, list) else ()
        return True

    async def changes(self, stop: asyncio.Event) -> AsyncIterator[tuple[str, ...]]:
        """The kinds held, whenever they change, until `stop`."""
        known = self.kinds
        while not stop.is_set():
            if not await self.ask() and self.kinds and _old(self._heard_at):
                self.kinds = ()
            if self.kinds != known:
                known = self.kinds
                self._log.info("holds_changed", held=" ".join(known))
                yield known
            await _pause(stop)


def _old(heard_at: float) -> bool:
    return time.monotonic() - heard_at > LAST_WORD_S


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(EVERY_S):
            await stop.wait()
    except TimeoutError:
        return


async def _json(
    client: httpx.AsyncClient, method: str, url: str, within_s: float
) -> dict[str, Any] | None:
    """The JSON object of the answer; None when there is none."""
    try:
        async with asyncio.timeout(within_s):
            answer = await client.request(method, url, headers={"X-Priority": "P0"})
            found = answer.json()
    except (httpx.HTTPError, ValueError, TimeoutError):
        return None
    return found if answer.status_code == 200 and isinstance(found, dict) else None
