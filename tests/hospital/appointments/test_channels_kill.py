"""SIGKILL at any moment: a channel says afterwards what it acknowledged, and no phone is told the
same twice without a mark."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stacks.hospital.appointments.channel import channel
from stacks.hospital.appointments.channel_notices import NOTICES_SCHEMA, Notices, announce
from stacks.hospital.appointments.channel_phones import PHONES_SCHEMA, Phones, Text
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store
from stacks.hospital.wire.hl7 import Appointment
from stacks.hospital.wire.mllp import MllpClient, MllpError

from ..messages.stand import Process, asynchronous
from .channel_stand import BOOKED, CANCELLED, siu

KILLS = 3
NAMES = ("website", "callcentre", "sms", "clinic_lists")


@pytest.fixture
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    """The channel named by the test, as its own process."""
    made = Process(f"appointments.{request.param}", tmp_path, {})
    made.start()
    yield made
    made.kill()


def _ndjson(process: Process, path: str) -> list[dict[str, Any]]:
    address = f"http://127.0.0.1:{process.http}{path}"
    with urllib.request.urlopen(address, timeout=5) as response:
        return [json.loads(line) for line in response.read().splitlines()]


async def _kill_again_and_again(process: Process, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.15, 0.4))
        process.kill()
        await asyncio.to_thread(process.start)
    await asyncio.sleep(0.1)


def _message(number: int) -> Appointment:
    """Every third appointment is cancelled after it was booked; each has a phone of its own."""
    name, step = divmod(number, 2)
    phone = f"0470{name:05d}1"
    if step and name % 3 == 0:
        return replace(CANCELLED, appointment=f"A{name}", phone=phone)
    return replace(BOOKED, appointment=f"A{name}", version=step + 1, phone=phone)


async def _send_while(running: asyncio.Task[None], port: int) -> list[Appointment]:
    """One message after another, each until it is acknowledged or the kills are over."""
    client = MllpClient(("127.0.0.1", port), ack_s=1.0)
    acknowledged: list[Appointment] = []
    while not running.done():
        message = _message(len(acknowledged))
        control_id, payload = siu(message)
        try:
            ack = await client.send(payload, control_id)
        except MllpError:
            await asyncio.sleep(0.01)
            continue
        assert ack.accepted, ack
        acknowledged.append(message)
    await client.close()
    return acknowledged


def _expected(messages: Sequence[Appointment]) -> dict[str, str]:
    return {one.appointment: "cancelled" if one.event == "S15" else "confirmed" for one in messages}


@pytest.mark.parametrize("process", NAMES, indirect=True)
@asynchronous
async def test_a_channel_says_what_it_acknowledged(process: Process) -> None:
    """Killed three times under load: every acknowledged message is kept once and its word said;
    the paper follows with the next print."""
    running = asyncio.create_task(_kill_again_and_again(process, 5))
    acknowledged = await _send_while(running, process.mllp)
    assert len(acknowledged) > 60, "the load must be large enough to mean something"
    expected = _expected(acknowledged)
    async with asyncio.timeout(8):
        while True:
            said = {row["appointment"]: row["word"] for row in _ndjson(process, "/says")}
            if {name: said.get(name) for name in expected} == expected:
                break
            await asyncio.sleep(0.05)
    rows = [row for row in process.get("/export") if row["kind"] == "appointment"]
    keys = [row["key"] for row in rows]
    assert len(keys) == len(set(keys))
    assert set(expected) <= set(keys)
    assert "Traceback" not in process.log()


@pytest.mark.parametrize("process", ["sms"], indirect=True)
@asynchronous
async def test_no_phone_is_told_twice_without_a_mark(process: Process) -> None:
    """Killed while notices go out: every patient's last message is the right word, each notice is
    shown once, and of its copies at most one came unmarked."""
    running = asyncio.create_task(_kill_again_and_again(process, 9))
    acknowledged = await _send_while(running, process.mllp)
    expected = _expected(acknowledged)
    async with asyncio.timeout(15):
        while any(
            row["status"] != "delivered"
            for row in process.get("/export")
            if row["kind"] == "notice"
        ):
            await asyncio.sleep(0.1)
    phones = {one.appointment: one.phone for one in acknowledged}
    for appointment, word in expected.items():
        messages = process.get(f"/phones/{phones[appointment]}")["messages"]
        assert messages[-1]["word"] == word
        notices = [one["notice"] for one in messages]
        assert len(notices) == len(set(notices))
        assert all(one["unmarked_copies"] <= 1 for one in messages)


class _Dying:
    """A network that delivers and then never answers: the program is killed there."""

    def __init__(self, phones: Phones) -> None:
        self._phones = phones

    async def carry(self, texts: Sequence[Text]) -> list[str]:
        await self._phones.carry(texts)
        raise asyncio.CancelledError


@asynccontextmanager
async def _over(folder: Path, dies: bool) -> AsyncIterator[tuple[Any, Notices, Phones]]:
    settings = Settings("sms", "outside", folder, 1e6)
    log = Log("sms")
    async with channel(settings, log, NOTICES_SCHEMA, changed=announce) as made:
        network = Store(folder / "phones.db", PHONES_SCHEMA)
        phones = Phones(network)
        carrier = _Dying(phones) if dies else phones
        yield made, Notices(made.book.store, carrier, settings, log), phones
        await network.close()


@asynchronous
async def test_a_try_of_unknown_outcome_is_repeated_with_a_mark(tmp_path: Path) -> None:
    """Killed after the phone had the message and before that was noted: the next program sends it
    again marked as a repeat, the phone shows it once, and a first try is never marked."""
    async with _over(tmp_path, dies=True) as (made, notices, phones):
        await made.book.hear(CANCELLED)
        with pytest.raises(asyncio.CancelledError):
            await notices.send_due()
        [before] = phones.inbox(CANCELLED.phone)
        assert (before["copies"], before["unmarked_copies"]) == (1, 1)
    async with _over(tmp_path, dies=False) as (made, notices, phones):
        async with asyncio.timeout(5):
            while not await notices.send_due():
                await asyncio.sleep(0.01)
        [after] = phones.inbox(CANCELLED.phone)
        assert (after["copies"], after["unmarked_copies"]) == (2, 1)
        [notice] = notices.listed(None, 0, 10)
        assert (notice["status"], notice["tries"]) == ("delivered", 2)
        assert await notices.send_due() == 0
