"""Writes that wait for a database that hangs, and the slots of the service that they must leave."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from stacks.hospital.ehr import pair as pairs
from stacks.hospital.ehr.pair import TAKE_S, WRITES, Pair, Unavailable


class Hung(Pair):
    """Every write waits until `answers`."""

    def __init__(self) -> None:
        self._writes = asyncio.Semaphore(WRITES)
        self._stuck = False
        self.answers = asyncio.Event()

    async def _write(self, work: Any) -> Any:
        del work
        await self.answers.wait()
        return "done"


async def asked(pair: Hung) -> tuple[str, float]:
    """(done, or why not; after how many seconds)"""
    began = time.monotonic()
    try:
        found = await pair.write(lambda _: asyncio.sleep(0))  # type: ignore[arg-type]
    except Unavailable as error:
        found = str(error)
    return str(found), time.monotonic() - began


def test_only_the_first_waits_for_a_place() -> None:
    """The next ones are told at once, and when writes go through again everybody is served."""

    async def story() -> None:
        pair = Hung()
        under_way = [asyncio.create_task(asked(pair)) for _ in range(WRITES)]
        await asyncio.sleep(0)
        told, took = await asked(pair)
        assert "already wait for the database" in told
        assert took >= TAKE_S * 0.9
        told, took = await asked(pair)
        assert "already wait for the database" in told
        assert took < TAKE_S / 2
        pair.answers.set()
        assert {(await one)[0] for one in under_way} == {"done"}
        assert (await asked(pair))[0] == "done"

    asyncio.run(story())


def test_a_burst_on_a_quick_database_only_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is refused where writes end soon."""
    monkeypatch.setattr(pairs, "TAKE_S", 5.0)

    async def story() -> None:
        pair = Hung()
        burst = [asyncio.create_task(asked(pair)) for _ in range(4 * WRITES)]
        await asyncio.sleep(0.05)
        pair.answers.set()
        assert {(await one)[0] for one in burst} == {"done"}

    asyncio.run(story())
