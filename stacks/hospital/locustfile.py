"""The hospital's day for Locust: with its web UI, or headless as a child of the harness.

    WORKLOAD_CONFIG=... locust -f stacks/hospital/locustfile.py

One Locust user is one whole hospital's people; the number of users multiplies the traffic. It
refuses to start without the addresses of a raised hospital (WORKLOAD_CONFIG).
"""

from __future__ import annotations

from typing import Any

import msgspec
from gevent.event import Event
from gevent.lock import Semaphore
from locust import User, constant, events, task
from locust.exception import StopUser

from stacks.hospital.traffic.config import ConfigError, read, usage_exit
from stacks.hospital.traffic.shift import Shift

_numbers = iter(range(1_000_000))
_opening = Semaphore()


def _check(**_: Any) -> None:
    try:
        read()
    except ConfigError as error:
        usage_exit(str(error))


events.init.add_listener(_check)  # type: ignore[no-untyped-call]


class HospitalDay(User):
    """One hospital's people for as long as the test runs."""

    wait_time = constant(0)
    shift: Shift | None = None
    journaled = False
    """Only the harness's headless run is judged; a web UI may be started and stopped at will."""
    closing_time: Event | None = None
    """When set, the day ends in good order; None: only Locust itself ends it."""

    def on_start(self) -> None:
        """Open the wards."""
        fire = self.environment.events.request.fire
        config = read() if self.journaled else msgspec.structs.replace(read(), journal="")
        self.shift = Shift(config, fire, next(_numbers), self.closing_time)
        with _opening:
            self.shift.open()

    @task
    def play(self) -> None:
        """The day itself: arrivals at their own times until the test stops."""
        assert self.shift is not None
        self.shift.play()
        raise StopUser

    def on_stop(self) -> None:
        """Last words."""
        if self.shift is not None:
            self.shift.close()
