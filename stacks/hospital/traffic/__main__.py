"""Runs the hospital's day on Locust without its web UI, as a child of the harness.

It refuses to end in silence: whatever goes wrong is one line on stderr and an exit status.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys

# Locust patches the standard library for gevent when it is imported: before anything of ours.
import locust.env  # isort: split

from gevent.event import Event
from locust import events
from locust.exception import StopUser

from chaos.journal.writer import JournalError
from stacks.hospital.locustfile import HospitalDay
from stacks.hospital.traffic import child
from stacks.hospital.traffic.config import ConfigError, usage_exit
from stacks.hospital.traffic.shift import ORPHAN_FINISH_S, CannotOpen

EXIT_CANNOT_OPEN = 69
EXIT_JOURNAL = 74
CLOSE_S = 9.0
NICER = -10  # the measuring instrument goes before what it measures, where we may say so


class Headless(HospitalDay):
    """The same day, which tells this program how it goes."""

    journaled = True
    closing_time = Event()
    begun = Event()
    ended = Event()
    trouble: BaseException | None = None

    def on_start(self) -> None:
        """Open the wards, then tell the harness."""
        try:
            super().on_start()
        except Exception as error:
            Headless.trouble = error
            raise StopUser from None  # told in one line by main, not by gevent in twenty
        Headless.begun.set()
        child.announce_ready()

    def on_stop(self) -> None:
        """Last words, quicker when the harness is gone."""
        if self.shift is not None and child.orphaned():
            self.shift.finish_s = ORPHAN_FINISH_S
        try:
            super().on_stop()
        except Exception as error:
            Headless.trouble = Headless.trouble or error
        finally:
            Headless.ended.set()


def main() -> int:
    """Play until told to stop; returns the exit status."""
    logging.basicConfig(level=logging.CRITICAL, stream=sys.stderr)  # our own lines say it
    child.end_with_harness(Headless.closing_time.set)
    with contextlib.suppress(OSError):  # not root: the journal says how late we started things
        os.nice(NICER)
    environment = locust.env.Environment(user_classes=[Headless], events=events)
    runner = environment.create_local_runner()
    runner.start(user_count=1, spawn_rate=1)
    while not (Headless.closing_time.wait(0.5) or Headless.ended.is_set()):
        pass
    if Headless.begun.is_set():
        Headless.ended.wait(CLOSE_S)
    runner.quit()
    return _status()


def _status() -> int:
    error = Headless.trouble
    if isinstance(error, ConfigError):
        usage_exit(str(error))
    if error is None and Headless.begun.is_set() and Headless.ended.is_set():
        return 0
    print(error or "stopped before it had begun or ended", file=sys.stderr, flush=True)
    if isinstance(error, JournalError):
        return EXIT_JOURNAL
    return EXIT_CANNOT_OPEN if isinstance(error, CannotOpen) else 1


if __name__ == "__main__":
    raise SystemExit(main())
