"""When people want something: seeded arrivals of every flow, fixed before anything is asked.

It knows nothing of how the hospital answers: a slow hospital does not make people come later.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

PRIORITIES = ("P0", "P1", "P2", "P3", "P4")
DAY_S = 86_400.0
HOUR_S = 3_600.0

# Share of a day's work per hour, percent: Saint-Luc's ambulatory and ward day; emergencies and
# intensive care are flat; doses are given in four rounds.
_NIGHT = (0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 2.8, 6.0)
_DAY = (10.0, 12.0, 12.0, 10.0, 6.0, 8.0, 8.0, 7.0, 5.0, 3.0)
_EVENING = (1.6, 1.2, 1.0, 0.8, 0.7, 0.7)
SHAPES: Mapping[str, tuple[float, ...]] = {
    "day": (*_NIGHT, *_DAY, *_EVENING),
    "flat": (100 / 24,) * 24,
    "rounds": tuple(20.0 if hour in (8, 12, 18, 22) else 1.0 for hour in range(24)),
}
# Bursts: the first quarter of an hour that begins a round or a clinic brings more than its share.
BURST_HOURS: Mapping[str, tuple[int, ...]] = {"day": (8, 10), "flat": (), "rounds": (8, 12, 18, 22)}
BURST_SHARE_OF_HOUR = 0.25
BURST_FACTOR = 3.0

BATCH_EVERY_S = 10.0  # real seconds between two starts of a batch job

Shape = Literal["day", "flat", "rounds", "even", "batch"]


@dataclass(frozen=True, slots=True)
class Flow:
    """One kind of arrival of one class of patients.

    Shape `even`: a probe, `per_s` per real second, one at a random instant of every 1/per_s
    (so that a window's count is sure). Shape `batch`: a job that asks for everything at once,
    every BATCH_EVERY_S, at `per_s` on average. Other shapes: a Poisson process with `per_s` as
    the mean over a whole day, per real second, modulated by the hour.
    """

    kind: str
    klass: str
    per_s: float
    shape: Shape = "even"

    @property
    def name(self) -> str:
        """`chart.read/P0 even`: unique in a schedule."""
        return f"{self.kind}/{self.klass} {self.shape}"


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """Somebody wants something `at_s` real seconds after the traffic began."""

    at_s: float
    flow: int
    """Which flow of the schedule it belongs to, and the how manieth of that flow it is."""
    number: int
    kind: str
    klass: str
    dice: int
    """63 random bits: whatever is left to chance about this arrival is drawn from them."""


def rate_at(flow: Flow, hospital_s: float) -> float:
    """Arrivals per real second of `flow` at `hospital_s` seconds after midnight."""
    if flow.shape in ("even", "batch"):
        return flow.per_s
    hour, into = divmod(hospital_s % DAY_S, HOUR_S)
    factor = SHAPES[flow.shape][int(hour)] * 24 / 100
    hours = BURST_HOURS[flow.shape]
    if int(hour) in hours:
        # The hour keeps its share: what the burst brings early is missing afterwards.
        in_burst = into < BURST_SHARE_OF_HOUR * HOUR_S
        rest = (1 - BURST_FACTOR * BURST_SHARE_OF_HOUR) / (1 - BURST_SHARE_OF_HOUR)
        factor *= BURST_FACTOR if in_burst else rest
    return flow.per_s * factor


def arrivals(flows: Iterable[Flow], seed: str, hour: float, speed: float) -> Iterator[Arrival]:
    """All arrivals of all flows in order of time, without end; the same for the same arguments.

    `hour` is the hospital's time of day when the traffic begins, `speed` hospital seconds per
    real second.
    """
    streams = [
        _stream(index, flow, seed, hour * HOUR_S, speed)
        for index, flow in enumerate(flows)
        if flow.per_s > 0
    ]
    return heapq.merge(*streams)


def _stream(index: int, flow: Flow, seed: str, start_s: float, speed: float) -> Iterator[Arrival]:
    chance = Random(f"{seed}/{flow.name}")
    if flow.shape == "even":
        instants = _even(flow, chance)
    elif flow.shape == "batch":
        instants = _batch(flow)
    else:
        instants = _poisson(flow, chance, start_s, speed)
    for number, at_s in enumerate(instants):
        yield Arrival(at_s, index, number, flow.kind, flow.klass, chance.getrandbits(63))


def _even(flow: Flow, chance: Random) -> Iterator[float]:
    slot = 0
    while True:
        yield (slot + chance.random()) / flow.per_s
        slot += 1


def _batch(flow: Flow) -> Iterator[float]:
    size = max(1, round(flow.per_s * BATCH_EVERY_S))
    number = 0
    while True:
        yield (number // size) * BATCH_EVERY_S
        number += 1


def _poisson(flow: Flow, chance: Random, start_s: float, speed: float) -> Iterator[float]:
    """A Poisson process of varying rate, by thinning one of the highest rate."""
    highest = flow.per_s * max(SHAPES[flow.shape]) * 24 / 100 * BURST_FACTOR
    at_s = 0.0
    while True:
        at_s += chance.expovariate(highest)
        if chance.random() * highest < rate_at(flow, start_s + at_s * speed):
            yield at_s
