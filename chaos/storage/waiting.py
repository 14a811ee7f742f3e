"""Requests that have to wait: until their time has come, or until a fault is over.

It holds no thread for any of them, and lets go of a request whose caller is being killed: a
process whose disk hangs can be killed, like one on a hard NFS mount. Other signals do not
interrupt a disk.
"""

from __future__ import annotations

import heapq
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.storage.armed import Armed, Ruling
    from chaos.storage.files import Caller

KILLED_LOOK_S = 0.01  # between two looks whether an interrupted caller is being killed
MOST_EARLY = 10_000


class Request:
    """One request of the kernel that is kept."""

    __slots__ = (
        "body", "caller", "came", "due", "hung_by", "interrupted", "number", "op", "ruling",
        "unique",
    )  # fmt: skip

    def __init__(self, op: int, unique: int, number: int, caller: Caller, body: bytes) -> None:
        self.op = op
        self.unique = unique
        self.number = number
        self.caller = caller
        self.body = body
        self.came = time.monotonic()
        self.due = 0.0
        self.ruling: Ruling | None = None
        self.hung_by: Armed | None = None
        self.interrupted = False


class Waiting:
    """Keeps requests; `go_on` gets those whose wait is over, `let_go` those of killed callers."""

    def __init__(
        self,
        go_on: Callable[[Request], None],
        let_go: Callable[[Request], None],
        next_end: Callable[[], float],
        end_due: Callable[[], None],
    ) -> None:
        self._go_on = go_on
        self._let_go = let_go
        self._next_end = next_end
        self._end_due = end_due
        self._changed = threading.Condition()
        self._kept: dict[int, Request] = {}
        self._dues: list[tuple[float, int]] = []
        self._early: set[int] = set()  # interrupted before they were kept
        self._closed = False

    def keep(self, request: Request) -> None:
        """Keep it until its `due`, or until `hung_by` is over."""
        with self._changed:
            request.interrupted |= request.unique in self._early
            self._early.discard(request.unique)
            self._kept[request.unique] = request
            if request.hung_by is None:
                heapq.heappush(self._dues, (request.due, request.unique))
            self._changed.notify()

    def interrupted(self, unique: int) -> None:
        """The caller of that request got a signal."""
        with self._changed:
            if request := self._kept.get(unique):
                request.interrupted = True
                self._changed.notify()
            else:
                if len(self._early) >= MOST_EARLY:  # of requests that never waited
                    self._early.clear()
                self._early.add(unique)

    def look_again(self) -> None:
        """Faults came or went."""
        with self._changed:
            self._changed.notify()

    def count(self, fault: Armed) -> int:
        """How many requests wait for that fault to be over."""
        with self._changed:
            return sum(request.hung_by is fault for request in self._kept.values())

    def close(self) -> None:
        """The mount is gone: nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def run(self) -> None:
        """Let requests go on when it is time; ends faults whose time is over, too."""
        while not self._closed:
            try:
                self._end_due()
            except OSError as error:  # of tidying up: whoever waits must go on all the same
                print(f"storage: a fault ended untidily: {error}", file=sys.stderr, flush=True)
            with self._changed:
                ready, killed = self._take(time.monotonic())
                if not ready and not killed and not self._closed:
                    self._changed.wait(self._pause_s())
            for request in killed:
                self._let_go(request)
            for request in ready:
                self._go_on(request)

    def _pause_s(self) -> float | None:
        now = time.monotonic()
        ends = [self._next_end() - now]
        if self._dues:
            ends.append(self._dues[0][0] - now)
        if any(request.interrupted for request in self._kept.values()):
            ends.append(KILLED_LOOK_S)
        pause = min(ends)
        return None if pause == float("inf") else max(0.0, pause)

    def _take(self, now: float) -> tuple[list[Request], list[Request]]:
        ready = []
        while self._dues and self._dues[0][0] <= now:
            _, unique = heapq.heappop(self._dues)
            if (request := self._kept.get(unique)) and request.hung_by is None:
                ready.append(self._kept.pop(unique))
        for request in list(self._kept.values()):
            if request.hung_by is not None and request.hung_by.over:
                ready.append(self._kept.pop(request.unique))
        killed = [r for r in self._kept.values() if r.interrupted and is_killed(r.caller.thread)]
        for request in killed:
            del self._kept[request.unique]
        return ready, killed


DEADLY = frozenset(
    {
        signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT,
        signal.SIGBUS, signal.SIGFPE, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2,
        signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ,
    }
)  # fmt: skip
"""Signals that end a process that does nothing about them."""


def is_killed(thread: int) -> bool:
    """Whether a thread that waits in the kernel is about to die of a signal."""
    if not thread:
        return True  # of another namespace: we cannot know, and it must not hang for ever
    try:
        with open(f"/proc/{thread}/status", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        pending = int(lines[b"SigPnd"], 16) | int(lines[b"ShdPnd"], 16)
        kept = int(lines[b"SigBlk"], 16) | int(lines[b"SigIgn"], 16) | int(lines[b"SigCgt"], 16)
    except (OSError, KeyError, ValueError):
        return True
    deadly = sum(1 << (number - 1) for number in DEADLY)
    return bool(pending & (1 << (signal.SIGKILL - 1)) or pending & ~kept & deadly)
