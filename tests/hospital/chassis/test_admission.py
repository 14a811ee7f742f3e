"""Admission: who is served first, who is shed, and that no slot is ever lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from stacks.hospital.admission import Admission, Lane, Shed, clinical_lanes


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def hold(admission: Admission, priority: int, until: asyncio.Event) -> str:
    """Take a slot and keep it until the event; `ok`, or the reason of being shed."""
    try:
        async with admission.slot(priority):
            await until.wait()
        return "ok"
    except Shed as shed:
        return str(shed)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_elective_work_cannot_take_the_reserved_slots() -> None:
    """However many P3 and P4 come, P0 and P1 find a slot at once."""

    async def work() -> None:
        admission, done = Admission(clinical_lanes(12)), asyncio.Event()
        crowd = [asyncio.create_task(hold(admission, 3 + n % 2, done)) for n in range(100)]
        await settle()
        assert admission.in_progress == 8
        async with asyncio.timeout(0.1):
            async with admission.slot(0), admission.slot(1):
                pass
        done.set()
        outcomes = await asyncio.gather(*crowd)
        assert any("P4 is shed" in outcome for outcome in outcomes)
        assert admission.in_progress == 0

    run(work())


def test_back_office_is_shed_before_elective_before_protected() -> None:
    """As the service fills up, P4 waits first, then P3, then P2; P0 last."""

    async def work() -> None:
        admission, done = Admission(clinical_lanes(12)), asyncio.Event()
        held = []
        full_at: dict[int, int] = {}
        for count in range(13):
            for priority in range(5):
                lane = admission.lanes[priority]
                if priority not in full_at and admission.in_progress >= lane.slots:
                    full_at[priority] = count
            held.append(asyncio.create_task(hold(admission, 0, done)))
            await settle()
        assert full_at == {4: 6, 3: 8, 2: 10, 0: 12, 1: 12}
        done.set()
        await asyncio.gather(*held)

    run(work())


def test_a_freed_slot_goes_to_the_most_urgent_waiter() -> None:
    """Waiters are served by class, and in order of arrival within a class."""

    async def work() -> None:
        admission, done = Admission(clinical_lanes(1)), asyncio.Event()
        served: list[str] = []

        async def visit(name: str, priority: int) -> None:
            async with admission.slot(priority):
                served.append(name)

        first = asyncio.create_task(hold(admission, 0, done))
        await settle()
        waiting = []
        for name, priority in (("p3", 3), ("p1", 1), ("p0", 0), ("p1 too", 1)):
            waiting.append(asyncio.create_task(visit(name, priority)))
            await settle()
        done.set()
        await asyncio.gather(first, *waiting)
        assert served == ["p0", "p1", "p1 too", "p3"]

    run(work())


def test_waiting_is_bounded_in_time_and_number() -> None:
    """A full lane refuses at once, a waiting request after its time; both say when to come back."""

    async def work() -> None:
        lanes = [Lane(1, 1, 0.2, 7)] * 5
        admission, done = Admission(lanes), asyncio.Event()
        held = asyncio.create_task(hold(admission, 0, done))
        await settle()
        waiting = asyncio.create_task(hold(admission, 0, done))
        await settle()
        with pytest.raises(Shed) as refused:
            async with admission.slot(0):
                pass
        assert refused.value.retry_after_s == 7
        assert "already wait" in str(refused.value)
        assert "within 0.2 s" in await waiting
        done.set()
        assert await held == "ok"
        assert admission.shed == [2, 0, 0, 0, 0]

    run(work())


@pytest.mark.parametrize("seed", range(5))
def test_no_slot_is_lost_whatever_is_cancelled(seed: int) -> None:
    """After any mix of visits, time-outs and cancellations every slot is free again."""

    async def work() -> None:
        dice = random.Random(seed)
        lanes = [Lane(3, 5, 0.003, 1)] * 5
        admission, tasks = Admission(lanes), []

        async def visit() -> None:
            try:
                async with admission.slot(dice.randrange(5)):
                    assert admission.in_progress <= 3
                    await asyncio.sleep(dice.random() * 0.004)
            except Shed:
                return

        for _ in range(300):
            tasks.append(asyncio.create_task(visit()))
            if dice.random() < 0.3:
                dice.choice(tasks).cancel()
            if dice.random() < 0.3:
                await asyncio.sleep(0.001)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert admission.in_progress == 0
        async with admission.slot(4):
            assert admission.in_progress == 1

    run(work())
