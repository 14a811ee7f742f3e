"""The planted defects of the channels: each does its harm, its absence none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from stacks.hospital.appointments.callcentre import LAG_S, callcentre
from stacks.hospital.appointments.clinic_lists import PRINT_S, clinic_lists
from stacks.hospital.appointments.sms import sms
from stacks.hospital.appointments.website import website

from ..messages.stand import asynchronous
from .channel_stand import BOOKED, CANCELLED, standing


def with_and_without(bug: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bug", ["", bug])


@pytest.fixture(autouse=True)
def planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSPITAL_BUG", bug)


@with_and_without("callcentre-lags")
@asynchronous
async def test_callcentre_lags(tmp_path: Path, bug: str) -> None:
    """A call after the cancellation: with the defect `confirmed` is said, and `cancelled` only
    after twenty minutes of the hospital."""
    async with standing(callcentre, tmp_path, speed=LAG_S / 2.0) as stand:
        await stand.tell(BOOKED)
        await stand.until_says("A1", "confirmed")
        await stand.tell(CANCELLED)
        answer = await stand.http.post("/calls", json={"appointment": "A1"})
        assert answer.json()["word"] == ("confirmed" if bug else "cancelled")
        await stand.until_says("A1", "cancelled")


@with_and_without("website-not-told")
@asynchronous
async def test_website_not_told(tmp_path: Path, bug: str) -> None:
    """With the defect the cancellation is acknowledged and never shown."""
    async with standing(website, tmp_path) as stand:
        acks = await stand.tell(BOOKED, CANCELLED)
        assert all(ack.accepted for ack in acks)
        word = (await stand.get("/appointments/A1"))["word"]
        assert word == ("confirmed" if bug else "cancelled")


@with_and_without("sms-once")
@asynchronous
async def test_sms_once(tmp_path: Path, bug: str) -> None:
    """With the defect a phone out of coverage gets nothing and a landline is on no list: both
    are given up, and no message waits for ever."""
    async with standing(sms, tmp_path, speed=36_000) as stand:
        await stand.tell(
            replace(CANCELLED, phone="0470000017"),
            replace(CANCELLED, appointment="A2", phone="025551200"),
            replace(CANCELLED, appointment="A3"),
        )
        async with asyncio.timeout(5):
            while not (await stand.get("/phones/0470123456"))["messages"]:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # a retry would be due after 2 ms
        assert bool((await stand.get("/phones/0470000017"))["messages"]) is not bool(bug)
        assert len(await stand.get("/unreachable")) == (0 if bug else 1)
        states = sorted(one["status"] for one in await stand.get("/notices"))
        rest = ["given-up", "given-up"] if bug else ["delivered", "unreachable"]
        assert states == ["delivered", *rest]  # nothing stays pending


@with_and_without("late-booking-wins")
@asynchronous
async def test_late_booking_wins(tmp_path: Path, bug: str) -> None:
    """An older booking that comes late, and the next scheduled print, overwrite the cancellation
    with the defect; without it the list goes on saying cancelled."""
    async with standing(clinic_lists, tmp_path, speed=PRINT_S / 2.0) as stand:
        await stand.tell(BOOKED, CANCELLED)
        await stand.until_says("A1", "cancelled")
        printed = (await stand.get("/lists/dermatology"))["printed_at"]
        async with asyncio.timeout(5):
            while (await stand.get("/lists/dermatology"))["printed_at"] == printed:
                await asyncio.sleep(0.01)
        if bug:
            await stand.until_says("A1", "confirmed")
        assert (await stand.says())["A1"] == ("confirmed" if bug else "cancelled")
        await stand.tell(replace(CANCELLED, appointment="A2"))
        await stand.tell(replace(BOOKED, appointment="A2"))
        await stand.until_says("A2", "confirmed" if bug else "cancelled")
