"""The open model: a slow hospital never makes anybody come later, and lateness is not hidden."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gevent
from gevent.event import Event

from stacks.hospital.traffic.generator import Generator
from stacks.hospital.traffic.schedule import Arrival, Flow, arrivals


def every(seconds: float) -> Iterator[Arrival]:
    number = 0
    while True:
        yield Arrival(number * seconds, 0, number, "x", "P1", number)
        number += 1


def play(generator: Generator, seconds: float) -> None:
    stop = Event()
    gevent.spawn_later(seconds, stop.set)
    generator.run(stop)


def test_a_stalled_hospital_does_not_delay_later_arrivals() -> None:
    """Every operation hangs; all the others still start at their own intended instants."""
    started: list[tuple[float, float]] = []

    def hang(_: Arrival, intended: float) -> None:
        started.append((intended, time.monotonic()))
        gevent.sleep(60)

    generator = Generator(every(0.01), hang, report=lambda _: None)
    play(generator, 1.2)
    generator.finish(0)
    assert generator.started == generator.planned == len(started) >= 50
    assert max(began - intended for intended, began in started) < 0.15
    assert generator.late_ms()[1] < 150


def test_a_busy_generator_confesses() -> None:
    """Whatever keeps the generator itself busy shows as lateness, up to the worst start."""

    def busy(arrival: Arrival, _: float) -> None:
        if arrival.number == 10:
            end = time.monotonic() + 0.3  # not a green sleep: it holds everything up
            while time.monotonic() < end:
                pass

    generator = Generator(every(0.01), busy, report=lambda _: None)
    play(generator, 0.6)
    generator.finish(1)
    assert generator.late_ms()[1] >= 250


def test_too_many_under_way_are_not_started_in_secret() -> None:
    """Beyond its bound the generator starts nothing more and counts what it did not start."""
    generator = Generator(every(0.01), lambda *_: gevent.sleep(60), lambda _: None, max_running=5)
    play(generator, 0.3)
    assert generator.started == 5
    assert generator.overflowed == generator.planned - 5 > 10
    generator.finish(0)


def test_a_failing_operation_is_reported_and_the_rest_goes_on() -> None:
    """An error inside one operation ends that one only, and is counted."""
    troubles: list[BaseException] = []

    def fail_once(arrival: Arrival, _: float) -> None:
        if arrival.number == 3:
            raise KeyError("x")

    generator = Generator(every(0.01), fail_once, troubles.append)
    play(generator, 0.2)
    generator.finish(1)
    assert generator.failed == len(troubles) == 1
    assert generator.started > 10


def test_finishing_is_bounded() -> None:
    """Operations that never end are ended: finish takes no longer than it was given."""
    generator = Generator(every(0.01), lambda *_: gevent.sleep(60), report=lambda _: None)
    play(generator, 0.1)
    began = time.monotonic()
    generator.finish(0.2)
    assert time.monotonic() - began < 1.5


def test_intended_instants_are_the_schedules() -> None:
    """Operations are handed the scheduled instant, not the moment at which they start."""
    flows = [Flow("x", "P1", 50)]
    intended: list[float] = []
    generator = Generator(
        arrivals(flows, "7", 16, 60), lambda _, at: intended.append(at), report=lambda _: None
    )
    play(generator, 0.4)
    generator.finish(1)
    wanted = [next_.at_s for next_, _ in zip(arrivals(flows, "7", 16, 60), intended, strict=False)]
    offsets = [round(at - at_s, 6) for at, at_s in zip(intended, wanted, strict=True)]
    assert len(set(offsets)) == 1
