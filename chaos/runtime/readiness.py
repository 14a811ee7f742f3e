"""Waits until every service of a rising stack is ready, and names the first that is not.

It starts nothing; what became of a service that ended, its runtime says.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Protocol

from chaos.runtime import Address, NotReady, Progress
from chaos.runtime.health import ask_health
from chaos.stack import Service, Stack

POLL_S = 0.05  # between two looks at a service that is not ready yet
ASK_S = 1.0  # one readiness question
DEGRADED_S = 8.0  # a service that stays degraded so long while all rise is taken as it is


class Rising(Protocol):
    """What is asked of a runtime whose stack rises."""

    stack: Stack

    def address(self, service: str, port: str) -> Address:
        """Where the service itself listens."""

    def fail_if_dead(self, service: str) -> None:
        """Raise NotReady with the service's last words when it has ended."""

    def last_words(self, service: str) -> str:
        """The last line of its log, and where the log lies."""


Result = tuple[str, NotReady | None]


def await_all(runtime: Rising, progress: Progress) -> None:
    """One watcher per service; the first failure ends the wait at once. Raises NotReady."""
    results: queue.Queue[Result] = queue.Queue()
    over = threading.Event()
    for service in runtime.stack.services:
        threading.Thread(
            target=_watch, args=(runtime, service, over, results, progress), daemon=True
        ).start()
    try:
        for _ in runtime.stack.services:
            _, failure = results.get()  # bounded: each watcher ends within `within_s`
            if failure:
                raise failure
    finally:
        over.set()


def _watch(
    runtime: Rising,
    service: Service,
    over: threading.Event,
    results: queue.Queue[Result],
    progress: Progress,
) -> None:
    try:
        status = _await_ready(runtime, service, over)
        progress(service.name, status)
        results.put((service.name, None))
    except NotReady as failure:
        results.put((service.name, failure))
    except Exception as error:  # a watcher that dies silently would hang the wait
        results.put((service.name, NotReady(f"{service.name}: {error}")))


def _await_ready(runtime: Rising, service: Service, over: threading.Event) -> str:
    address = runtime.address(service.name, service.ready.port)
    deadline = time.monotonic() + service.ready.within_s
    degraded_since = None
    while True:
        runtime.fail_if_dead(service.name)
        health = ask_health(address, service.ready.path, ASK_S)
        now = time.monotonic()
        if health.status == "ready":
            return "ready"
        if health.status != "degraded":
            degraded_since = None
        elif degraded_since is None:
            degraded_since = now
        elif now - degraded_since > DEGRADED_S:
            return "degraded"
        if now > deadline:
            said = health.reason or health.status
            raise NotReady(
                f"{service.name} was not ready within {service.ready.within_s:g} s: {said}; "
                f"{runtime.last_words(service.name)}"
            )
        if over.wait(POLL_S):
            return "starting"
