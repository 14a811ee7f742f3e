"""Who is served first when a service is full: slots, lanes and explicit shedding.

It refuses to queue without bound: whoever cannot be served soon is told so at once, with a reason.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

PRIORITIES = ("P0", "P1", "P2", "P3", "P4")
"""Vital emergency, inpatient, protected ambulatory, elective, back office."""
DEFAULT_PRIORITY = 3
DEFAULT_SLOTS = 12


class Shed(Exception):
    """This request is not served now; `retry_after_s` says when to come again."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Lane:
    """The rules of one class: it starts while fewer than `slots` requests are in progress."""

    slots: int
    waiting: int
    """How many may wait."""
    wait_s: float
    """How long one may wait before it is shed."""
    retry_after_s: int


def clinical_lanes(slots: int = DEFAULT_SLOTS) -> tuple[Lane, ...]:
    """P0 and P1 have a third of the slots to themselves; P4 is shed before P3, P3 before P2."""
    return (
        Lane(slots, 200, 1.5, 1),
        Lane(slots, 200, 1.5, 1),
        Lane(max(1, slots * 5 // 6), 60, 1.0, 2),
        Lane(max(1, slots * 2 // 3), 40, 0.6, 5),
        Lane(max(1, slots // 2), 10, 0.2, 15),
    )


class Admission:
    """Admits requests to a bounded number of slots by priority.

    `lane_of[p]` is the lane that priority p uses: (0, 1, 2, 3, 4) is right; anything else is a
    planted mistake.
    """

    def __init__(
        self, lanes: Sequence[Lane] | None = None, lane_of: Sequence[int] = (0, 1, 2, 3, 4)
    ) -> None:
        self.lanes = tuple(lanes) if lanes is not None else clinical_lanes()
        self.lane_of = tuple(lane_of)
        self.in_progress = 0
        self.shed = [0] * len(PRIORITIES)
        self._waiting: tuple[deque[asyncio.Future[None]], ...] = tuple(deque() for _ in self.lanes)

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[None]:
        """Hold a slot for a request of `priority` (0 to 4); raises Shed with a reason."""
        await self._take(priority)
        try:
            yield
        finally:
            self.in_progress -= 1
            self._hand_over()

    async def _take(self, priority: int) -> None:
        number = self.lane_of[priority]
        lane, waiting = self.lanes[number], self._waiting[number]
        if self.in_progress < lane.slots and not self._anyone_before(number):
            self.in_progress += 1
            return
        if len(waiting) >= lane.waiting:
            self._refuse(priority, lane, f"{len(waiting)} requests of this class already wait")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            async with asyncio.timeout(lane.wait_s):
                await turn
        except TimeoutError:
            if turn.done() and not turn.cancelled():
                return  # the slot was handed over in the same instant: keep it
            self._forget(waiting, turn)
            self._refuse(priority, lane, f"no free slot within {lane.wait_s} s")
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.in_progress -= 1
                self._hand_over()
            else:
                self._forget(waiting, turn)
            raise

    def _anyone_before(self, number: int) -> bool:
        return any(self._waiting[other] for other in range(number + 1))

    @staticmethod
    def _forget(waiting: deque[asyncio.Future[None]], turn: asyncio.Future[None]) -> None:
        if turn in waiting:
            waiting.remove(turn)

    def _refuse(self, priority: int, lane: Lane, why: str) -> None:
        self.shed[priority] += 1
        raise Shed(
            f"overloaded: {PRIORITIES[priority]} is shed, {why}; "
            f"more urgent classes go first, try again in {lane.retry_after_s} s",
            lane.retry_after_s,
        )

    def _hand_over(self) -> None:
        for lane, waiting in zip(self.lanes, self._waiting, strict=True):
            while waiting and self.in_progress < lane.slots:
                turn = waiting.popleft()
                if not turn.done():
                    self.in_progress += 1
                    turn.set_result(None)
