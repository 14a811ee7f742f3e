"""One thread's event loop: sockets through epoll, deadlines through a timer descriptor.

It refuses to wait on anything else: whoever is called here must return at once.

    epoll ──▶ watcher.ready(events)      edge-triggered; the watcher remembers what is left to do
    timerfd ─▶ due Timer.call()          never early; about 0.1 ms late on an idle machine
    eventfd ─▶ calls from other threads  (name look-ups, signals)
"""

from __future__ import annotations

import ctypes
import gc
import heapq
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Protocol

EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
INCOMING = select.EPOLLIN
OUTGOING = select.EPOLLOUT
GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
MAX_EVENTS = 256
AHEAD_NS = 60_000  # a sleeping CPU wakes late: the clock rings this early, the rest is spun away
MAX_CANCELLED = 4096  # timers that will never ring; then the heap is swept
SOON_BUDGET_NS = 20_000_000  # of calls in a row before sockets, the API's among them, have a turn
MAX_REPORTS = 100  # lines of internal errors: a full pipe behind stderr must not block us
GC_THRESHOLD = 50_000  # our objects rarely form cycles; collecting often costs round-trip time

_TFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_TFD_ABSTIME = 1
_NS = 1_000_000_000
_reports = 0


class Watcher(Protocol):
    """Something that owns a descriptor and wants to know when it is ready."""

    def ready(self, events: int) -> None:
        """Do what can be done now, without blocking."""

    def abort(self) -> None:
        """Let everything go: `ready` raised something nobody expected."""


class Timer:
    """A call at a time of the monotonic clock; `cancel` makes it a no-op."""

    __slots__ = ("at_ns", "call")
    cancelled: ClassVar[int] = 0  # still in a loop's heap

    def __init__(self, at_ns: int, call: Callable[[], None]) -> None:
        self.at_ns = at_ns
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Never call; safe after it has called."""
        if self.call is not None:
            self.call = None
            Timer.cancelled += 1


class _TimerDescriptor:
    """timerfd through libc: epoll's own timeout is rounded up to whole milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = int(self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create: this server needs Linux")
        self._spec = (ctypes.c_long * 4)(0, 0, 0, 0)  # interval s, ns; value s, ns

    def set(self, at_ns: int) -> None:
        """Fire at this time of the monotonic clock (0 disarms)."""
        self._spec[2], self._spec[3] = divmod(at_ns, _NS)
        self._libc.timerfd_settime(self.fd, _TFD_ABSTIME, self._spec, None)


class Loop:
    """Runs watchers, timers and calls until `stop`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._soon: deque[Callable[[], None]] = deque()
        self._from_threads: deque[Callable[[], None]] = deque()
        self._clock = _TimerDescriptor()
        self._armed_ns = 0
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._clock.fd, select.EPOLLIN | select.EPOLLET)
        self._epoll.register(self._wake_fd, select.EPOLLIN | select.EPOLLET)
        self._running = True

    def watch(self, fd: int, watcher: Watcher, events: int = EDGES) -> None:
        """Call `watcher.ready` when `fd` becomes ready."""
        self._watchers[fd] = watcher
        self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; closing it takes it out of epoll."""
        self._watchers.pop(fd, None)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor that stays open."""
        self._watchers.pop(fd, None)
        self._epoll.unregister(fd)

    def soon(self, call: Callable[[], None]) -> None:
        """Call after the sockets that are ready now have had their turn."""
        self._soon.append(call)

    def at(self, at_ns: int, call: Callable[[], None]) -> Timer:
        """Call at `at_ns` of `time.monotonic_ns`, never before."""
        timer = Timer(at_ns, call)
        if Timer.cancelled > max(MAX_CANCELLED, len(self._timers) // 2):
            Timer.cancelled = 0
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
        self._sequence += 1
        heapq.heappush(self._timers, (at_ns, self._sequence, timer))
        return timer

    def after_ms(self, delay_ms: float, call: Callable[[], None]) -> Timer:
        """Call after this many milliseconds."""
        return self.at(time.monotonic_ns() + int(delay_ms * 1_000_000), call)

    def from_thread(self, call: Callable[[], None]) -> None:
        """Call in the loop's thread; the only method that other threads may use."""
        self._from_threads.append(call)
        os.eventfd_write(self._wake_fd, 1)

    def stop(self) -> None:
        """Leave `run` after the present turn; safe in a signal handler."""
        self._running = False
        os.eventfd_write(self._wake_fd, 1)

    def run(self) -> None:
        """Serve until `stop`. A watcher that raises is aborted and reported, the others go on."""
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        poll, watchers = self._epoll.poll, self._watchers
        while self._running:
            busy = self._run_due()
            for fd, events in poll(0 if busy else -1, MAX_EVENTS):
                watcher = watchers.get(fd)
                if watcher is None:
                    if fd == self._wake_fd:
                        os.eventfd_read(fd)
                    continue
                try:
                    watcher.ready(events)
                except Exception as error:
                    _report(error)
                    watcher.abort()

    def _run_due(self) -> bool:
        """Run what is due; true if there is more to do without waiting."""
        while self._from_threads:
            self._guard(self._from_threads.popleft())
        limit_ns = time.monotonic_ns() + SOON_BUDGET_NS if self._soon else 0
        for _ in range(len(self._soon)):  # what these add has its turn after the next poll
            self._guard(self._soon.popleft())
            if time.monotonic_ns() > limit_ns:
                break
        self._ring()
        return bool(self._soon)

    def _ring(self) -> None:
        """Call the timers that are due, and set the clock for the next one."""
        timers = self._timers
        now_ns = time.monotonic_ns() if timers else 0
        while timers:
            at_ns, _, timer = timers[0]
            if timer.call is not None and at_ns > now_ns:
                if at_ns - now_ns > AHEAD_NS:
                    break
                while now_ns < at_ns:  # at most AHEAD_NS
                    now_ns = time.monotonic_ns()
            heapq.heappop(timers)
            call, timer.call = timer.call, None
            if call is not None:
                self._guard(call)
                timers = self._timers
            else:
                Timer.cancelled -= 1
        if timers and timers[0][0] != self._armed_ns:
            self._armed_ns = timers[0][0]
            self._clock.set(max(1, self._armed_ns - AHEAD_NS))

    @staticmethod
    def _guard(call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            _report(error)


def _report(error: Exception) -> None:
    """One line for an error that is a defect of this server; it goes on serving."""
    global _reports
    _reports += 1
    if _reports > MAX_REPORTS:
        return
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    print(f"toxiproxy: internal error, still serving: {error!r} at {where}", file=sys.stderr)
