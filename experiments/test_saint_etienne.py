"""Saint-Étienne, the whole day: the array of room A fails in stages, and everything comes back."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from chaos.experiment import Experiment
from chaos.faults import (
    Bandwidth,
    FailingStorage,
    Latency,
    LinksBetween,
    ReadOnlyStorage,
    SlowStorage,
    Stop,
)
from chaos.runtime.arrays import StorageOperation
from stacks.hospital.claims import claims
from stacks.hospital.day import at, crisis_cell, hospital_day, patients_calling, statistics_batch
from stacks.hospital.primary import wait_for_spare
from stacks.hospital.returning import wait_for_normal
from stacks.hospital.traffic.presets import Preset

pytestmark = [
    pytest.mark.storage,
    pytest.mark.departments("care", "appointments", "recovery"),
]

NOT_INTERRUPTED = ("analysers", "gam", "website")  # as the hospital said; prescription is OR-1
CALM = 3.0  # warm-ups: time enough to ask each of them twenty times
CALLS_PER_S = 8.0  # the website's share is three in ten
QUIETER = 0.5  # the engine's backlog is replayed one message at a time, in real time
LATE_MS, VERY_LATE_MS, BAD_SHARE = 200, 2_000, 0.05
WRITES: tuple[StorageOperation, ...] = ("write", "fsync")
BETWEEN_ROOMS = (
    LinksBetween("A", "B"), "wards>ehr-a.http", "wards>ehr-b.http", "wards>ro-copy.http",
)  # fmt: skip
SLOW_MS = 10  # each way; ten times and more what the hospital's own network takes
SLOW_KB_PER_S = 2_000
READ_S = 3.0  # machine time: everybody reads, and the watcher looks
RETURN_S = 75.0  # machine time, at most: queues are replayed, all is checked


@pytest.mark.experiment("saint-etienne")
def test_saint_etienne(experiment: Experiment, preset: Preset) -> None:
    """Saint-Étienne's day: array A fails in stages, billing is stopped on purpose, all return.

    T+0:00 writes 200 ms late; +0:05 two seconds, and 5 % of all operations fail; +0:15 read-only;
    +0:16 the mirror's resync slows the network down; +0:40 billing, announced with a time of
    return, is stopped (statistics, documents and reporting are part of it here, the batch of
    statistics ends with it); +3:00 the array is replaced, services of room A start on it, the
    database there rejoins from the other, and the resync is throttled: the network is as before;
    +6:00 billing returns, last. The first forty minutes pass at the run's speed. Compressed more
    than that: 0:40 to 3:00 last until the spare has taken over (machine time), 3:00 to 6:00 until
    the database has rejoined, and half a fault window. Not here: intranet and rosters, and damaged
    data (IN-5: bit-rot).
    """
    with (
        experiment.traffic(hospital_day(preset, load=QUIETER)),
        experiment.traffic(patients_calling(preset, calls_per_s=CALLS_PER_S)),
    ):
        experiment.steady(CALM * preset.warmup_s)
        with ExitStack() as apps, ExitStack() as network, ExitStack() as array:
            with experiment.traffic(statistics_batch()):
                _array_fails(experiment, preset, array)
                for slow in (
                    Latency(*BETWEEN_ROOMS, latency_ms=SLOW_MS),
                    Bandwidth(*BETWEEN_ROOMS, kb_per_s=SLOW_KB_PER_S),
                ):
                    network.enter_context(experiment.inject(slow, lease_s=preset.lease_s))
                _minutes(experiment, preset, 24, "room B works alone, over a slow network")
            with experiment.traffic(crisis_cell(at(0.0, "announce-billing-stop"))):
                experiment.wait(READ_S, why="everybody reads that billing will stop")
            apps.enter_context(experiment.inject(Stop("billing"), lease_s=preset.lease_s))
            wait_for_spare(experiment, preset.after_s)
            network.close()  # T+3:00
            array.close()
            experiment.wait(preset.window_s / 2, why="all but billing work as before")
        experiment.wait(preset.after_s, why="billing takes up what waited")
        wait_for_normal(experiment, RETURN_S)
        experiment.wait(READ_S, why="everybody sees what normal looks like")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(
            preset.need, "RA-1", "OR-1", "RS-1", "PR-1", "IN-1", "IN-2", "IN-3", "IN-4", "FO-1",
            "FO-2", "RE-1", "RE-2", independent=NOT_INTERRUPTED,
        )
    )  # fmt: skip


def _array_fails(experiment: Experiment, preset: Preset, array: ExitStack) -> None:
    """T+0:00 to T+0:16. The first stage ends last: then the array is a new one."""

    def stage(fault: SlowStorage | FailingStorage | ReadOnlyStorage) -> None:
        array.enter_context(experiment.inject(fault, lease_s=preset.lease_s))

    stage(SlowStorage("array-a", latency_ms=LATE_MS, operations=WRITES, restarts=True))
    _minutes(experiment, preset, 5, "writes take 200 ms")
    stage(FailingStorage("array-a", probability=BAD_SHARE, seed=1))
    stage(SlowStorage("array-a", latency_ms=VERY_LATE_MS, operations=WRITES))
    _minutes(experiment, preset, 10, "writes take two seconds, and one operation in twenty fails")
    stage(ReadOnlyStorage("array-a"))
    _minutes(experiment, preset, 1, "the array can only be read")


def _minutes(experiment: Experiment, preset: Preset, minutes: float, why: str) -> None:
    """So many minutes of hospital time."""
    experiment.wait(minutes * 60.0 / preset.speed, why=why)
