"""The channels that tell patients: the newest version is said, whatever the order it came in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from stacks.hospital.appointments.callcentre import callcentre
from stacks.hospital.appointments.channel import SILENT_S
from stacks.hospital.appointments.channel_book import word_of
from stacks.hospital.appointments.clinic_lists import clinic_lists
from stacks.hospital.appointments.sms import sms
from stacks.hospital.appointments.website import website
from stacks.hospital.health import Degraded
from stacks.hospital.wire.hl7 import Adt, Appointment, Header, build

from ..messages.stand import asynchronous
from .channel_stand import AT, BOOKED, CANCELLED, MOVED, Service, Stand, siu, standing

ALL = pytest.mark.parametrize("service", [website, callcentre, sms, clinic_lists])


@ALL
@pytest.mark.parametrize("order", list(permutations([BOOKED, MOVED, CANCELLED])))
@asynchronous
async def test_the_newest_version_wins_in_any_order(
    tmp_path: Path, service: Service, order: Sequence[Appointment]
) -> None:
    """Booked, moved, cancelled: in whatever order they arrive, all channels say cancelled."""
    async with standing(service, tmp_path) as stand:
        acks = await stand.tell(*order)
        assert all(ack.accepted for ack in acks), "an older version is taken, and not said"
        await stand.until_says("A1", "cancelled")
        [row] = [row for row in await stand.lines("/export") if row["kind"] == "appointment"]
        assert (row["key"], row["status"], row["version"]) == ("A1", "cancelled", 3)


@ALL
@asynchronous
async def test_a_channel_knows_after_a_restart_what_it_acknowledged(
    tmp_path: Path, service: Service
) -> None:
    """What was acknowledged is said again by a new process over the same folder."""
    async with standing(service, tmp_path) as stand:
        await stand.tell(BOOKED, CANCELLED, replace(BOOKED, appointment="A2", mrn="M2"))
    async with standing(service, tmp_path) as stand:
        await stand.until_says("A1", "cancelled")
        await stand.until_says("A2", "confirmed")
        assert (await stand.get("/feed"))["messages"] == 3


@ALL
@asynchronous
async def test_a_repeat_changes_nothing(tmp_path: Path, service: Service) -> None:
    """The same version again, under another MSH-10, is acknowledged and kept once."""
    async with standing(service, tmp_path) as stand:
        acks = await stand.tell(BOOKED, CANCELLED, BOOKED, CANCELLED)
        assert all(ack.accepted for ack in acks)
        await stand.until_says("A1", "cancelled")
        assert (await stand.get("/feed"))["repeats"] == 2


@ALL
@asynchronous
async def test_bad_messages_are_refused_in_the_terms_of_hl7(
    tmp_path: Path, service: Service
) -> None:
    """Wrong type, event, status, time, missing segment or a contradiction: refused with the code
    of table 0357, counted, and the same connection takes the next message."""
    async with standing(service, tmp_path) as stand:
        name, good = siu(BOOKED)
        bad = {
            "200": build(Header(name, sender="GAM", at=AT), Adt("A08", "M1")),
            "201": good.replace(b"SIU^S12", b"SIU^S99"),
            "103": good.replace(b"Booked", b"Perhaps"),
            "102": good.replace(b"-510|", b"-" + b"5" * 200 + b"|"),
            "100": good.replace(b"\rAIS|", b"\rNTE|"),
            "101": good.replace(b"SCH|A1|A1|", b"SCH|||"),
        }
        for code, payload in bad.items():
            assert payload != good
            ack = await stand.raw(payload, name)
            assert (ack.accepted, ack.error, ack.transient) == (False, code, False), code
            assert ack.text
        assert (await stand.tell(BOOKED))[0].accepted
        [ack] = await stand.tell(replace(BOOKED, at=AT + 60))
        assert (ack.accepted, ack.error) == (False, "205")
        feed = await stand.get("/feed")
        assert feed["refused"] == len(bad) + 1
        assert feed["contradictions"] == 1
        await stand.until_says("A1", "confirmed")


@ALL
@asynchronous
async def test_health_tells_a_silent_feed_and_its_age(tmp_path: Path, service: Service) -> None:
    """After an hour (hospital time) without news the feed's check is degraded with its age; news
    makes it well again."""
    async with standing(service, tmp_path, speed=SILENT_S / 2.0) as stand:
        await stand.tell(BOOKED)
        await stand.face.checks["feed"]()
        assert 0 <= (await stand.get("/feed"))["age_s"] < 5

        async with asyncio.timeout(5):
            while not (reason := await _degraded(stand)):
                await asyncio.sleep(0.01)
        assert reason.startswith("no news from scheduling since 20")
        await stand.tell(CANCELLED)
        assert await _degraded(stand) == ""


async def _degraded(stand: Stand) -> str:
    """Why the feed's check says degraded; empty when it is well."""
    try:
        await stand.face.checks["feed"]()
    except Degraded as mode:
        return str(mode)
    return ""


@pytest.mark.parametrize(
    ("event", "status", "moved_before", "word"),
    [
        ("S12", "booked", False, "confirmed"),
        ("S12", "booked", True, "confirmed"),
        ("S13", "booked", False, "moved"),
        ("S14", "booked", False, "confirmed"),
        ("S14", "booked", True, "moved"),
        ("S15", "cancelled", False, "cancelled"),
        ("S15", "booked", False, "cancelled"),
        ("S14", "cancelled", True, "cancelled"),
        ("S26", "noshow", False, "unknown"),
        ("S14", "fulfilled", False, "unknown"),
        ("S12", "", False, "unknown"),
    ],
)
def test_words(event: str, status: str, moved_before: bool, word: str) -> None:
    """Only a booked appointment is ever confirmed, and a cancellation is never anything else."""
    assert word_of(event, status, moved_before) == word


@asynchronous
async def test_an_older_move_changes_what_a_newer_change_means(tmp_path: Path) -> None:
    """A change of an appointment of which the move arrives later: polled before it is confirmed,
    polled after it is moved, as if both had come in order."""
    changed = replace(MOVED, event="S14", version=3)
    async with standing(website, tmp_path) as stand:
        await stand.tell(BOOKED, changed)
        assert await stand.says() == {"A1": "confirmed"}
        await stand.tell(MOVED)
        assert await stand.says() == {"A1": "moved"}
        assert (await stand.get("/appointments/A1"))["word"] == "moved"
