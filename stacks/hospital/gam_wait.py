"""The planted defect `gam-needs-ehr`: an admission that waits for the record system.

It is no part of a sound hospital; administration must never wait for anybody.
"""

from __future__ import annotations

import asyncio

import httpx

from stacks.hospital.courier import Courier
from stacks.hospital.settings import Settings
from stacks.hospital.web import Refusal

WAIT_S = 3.0
POLL_S = 0.05
RECORDS = ("ehr-a", "ehr-b")


class Wait:
    """Waits until the record is well; without a link to it, until the engine takes messages."""

    def __init__(self, settings: Settings, courier: Courier | None) -> None:
        links = [settings.optional_link(name, "http") for name in RECORDS]
        self._links = [link for link in links if link is not None]
        self._courier = courier

    async def for_record(self) -> None:
        """Raises Refusal 503 when that takes longer than WAIT_S; nothing was stored then."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not await self._well():
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise Refusal(503, "transient", "the record system does not answer") from None

    async def _well(self) -> bool:
        if not self._links:
            return self._courier is not None and not self._courier.trip.trouble
        async with httpx.AsyncClient(timeout=WAIT_S / 2) as client:
            for link in self._links:
                try:
                    if (await client.get(f"http://{link}/health")).status_code == 200:
                        return True
                except httpx.HTTPError:
                    continue
        return False
