"""Starts every arrival at its own moment, each in its own green thread, however slow things are.

It refuses to wait for an operation before it starts the next (open model), and to hide that it
fell behind: how late it started things is measured and reported.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator

from gevent.event import Event
from gevent.pool import Group

from stacks.hospital.traffic.schedule import Arrival

MAX_RUNNING = 6_000  # operations under way; one more means that the generator cannot follow
MAX_MEASURED = 2_000_000


class Generator:
    """Runs a schedule; `carry_out(arrival, intended)` is one operation."""

    def __init__(
        self,
        arrivals: Iterator[Arrival],
        carry_out: Callable[[Arrival, float], None],
        report: Callable[[BaseException], None],
        max_running: int = MAX_RUNNING,
    ) -> None:
        self._arrivals, self._carry_out, self._report = arrivals, carry_out, report
        self._max_running = max_running
        self._running = Group()
        self._late_s = array("d")
        self.planned = self.started = self.overflowed = self.failed = 0

    def run(self, stop: Event) -> None:
        """Start arrivals until `stop` is set."""
        began = time.monotonic()
        for arrival in self._arrivals:
            intended = began + arrival.at_s
            while (left := intended - time.monotonic()) > 0:
                if stop.wait(left):
                    return
            if stop.is_set():
                return
            self.planned += 1
            if len(self._running) >= self._max_running:
                self.overflowed += 1
                continue
            self._running.spawn(self._one, arrival, intended)

    def finish(self, within_s: float) -> None:
        """Let operations under way end within `within_s` seconds, then end them."""
        self._running.join(timeout=within_s)
        self._running.kill(block=True, timeout=1.0)

    def late_ms(self) -> tuple[float, float]:
        """How late operations were started: 99th percentile and worst, in milliseconds."""
        if not self._late_s:
            return 0.0, 0.0
        ordered = sorted(self._late_s)
        return ordered[int(0.99 * (len(ordered) - 1))] * 1e3, ordered[-1] * 1e3

    def _one(self, arrival: Arrival, intended: float) -> None:
        self.started += 1
        if len(self._late_s) < MAX_MEASURED:
            self._late_s.append(max(0.0, time.monotonic() - intended))
        try:
            self._carry_out(arrival, intended)
        except Exception as error:
            self.failed += 1
            self._report(error)
