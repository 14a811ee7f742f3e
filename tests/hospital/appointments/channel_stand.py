"""Stands one channel up inside the test, with its real feed line, and speaks SIU to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec

from stacks.hospital.door import Face
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings
from stacks.hospital.wire.hl7 import Ack, Appointment, Header, build, new_control_id
from stacks.hospital.wire.mllp import MllpClient
from tests.ports import free_port

from ..messages.stand import browser

AT = 1_800_000_000.0
SPEED = 3600.0
Service = Callable[[Settings, Log], AbstractAsyncContextManager[Face]]

BOOKED = Appointment(
    event="S12", appointment="A1", mrn="M1", service="consultation", clinic="dermatology",
    slot="consultation-dermatology-510", at=AT, status="booked", version=1, phone="0470123456",
)  # fmt: skip
MOVED = replace(
    BOOKED, event="S13", version=2, slot="consultation-dermatology-2000", at=AT + 90.0
)  # fmt: skip
CANCELLED = replace(BOOKED, event="S15", status="cancelled", version=3, decision="D1")


def siu(message: Appointment) -> tuple[str, bytes]:
    """A fresh control id and the message under it."""
    header = Header(new_control_id(), sender="SCHEDULING", receiver="CHANNEL", at=AT)
    return header.control_id, build(header, message)


@dataclass
class Stand:
    """One channel that runs, its feed and its visitors."""

    http: httpx.AsyncClient
    feed: MllpClient
    face: Face

    async def tell(self, *messages: Appointment) -> list[Ack]:
        """Send notices one after another; the acknowledgements."""
        acks = []
        for message in messages:
            control_id, payload = siu(message)
            acks.append(await self.feed.send(payload, control_id))
        return acks

    async def raw(self, payload: bytes, control_id: str) -> Ack:
        return await self.feed.send(payload, control_id)

    async def get(self, path: str, status: int = 200, **headers: str) -> Any:
        answer = await self.http.get(path, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def says(self) -> dict[str, str]:
        """Appointment → word, as GET /says has it."""
        return {row["appointment"]: row["word"] for row in await self.lines("/says")}

    async def lines(self, path: str) -> list[dict[str, Any]]:
        answer = await self.http.get(path)
        return [msgspec.json.decode(line) for line in answer.content.splitlines()]

    async def until_says(self, appointment: str, word: str, within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s):
            while (await self.says()).get(appointment) != word:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def standing(service: Service, folder: Path, speed: float = SPEED) -> AsyncIterator[Stand]:
    """The service over `folder`, its background work running."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    environment = {"BIND_MLLP": f"127.0.0.1:{port}"}
    settings = Settings("channel", "B", folder, speed, environment=environment)
    stop = asyncio.Event()
    async with service(settings, Log("channel")) as face:
        work = [asyncio.ensure_future(one(stop)) for one in face.background]
        feed = MllpClient(("127.0.0.1", port))
        try:
            async with browser(face.routes) as http:
                yield Stand(http, feed, face)
        finally:
            await feed.close()
            stop.set()
            await asyncio.wait_for(asyncio.gather(*work), 5)
