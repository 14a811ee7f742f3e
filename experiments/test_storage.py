"""Storage that fails: the array of room A slows down by day, or loses its power."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from chaos.experiment import Experiment
from chaos.faults import Cut, Kill, LostArray, LostWrites, SlowStorage, Stop
from stacks.hospital.claims import claims
from stacks.hospital.day import hospital_day
from stacks.hospital.primary import wait_for_spare
from stacks.hospital.traffic.presets import Preset

pytestmark = [pytest.mark.storage, pytest.mark.departments("care")]

LATE_MS, JITTER_MS = 25, 15  # of each write and sync: a disk shelf that rebuilds
QUIETER = 0.6  # nobody takes messages meanwhile: the backlog is replayed one by one, in real time
RATE_KB_S = 20_000  # of everything on the array together
WAITING_S = 3  # messages pile up for so long before the power fails


@pytest.mark.experiment("array-slow")
def test_array_slow(experiment: Experiment, preset: Preset) -> None:
    """Array A answers writes late and moves few bytes: database, record and engine stand on it."""
    slow = SlowStorage(
        "array-a", latency_ms=LATE_MS, jitter_ms=JITTER_MS, kb_per_s=RATE_KB_S,
        operations=("write", "fsync"), seed=1,
    )  # fmt: skip
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(slow, lease_s=preset.lease_s):
            experiment.wait(preset.window_s, why="the array of room A is slow")
        experiment.wait(preset.after_s, why="backlogs drain")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "OR-1", "IN-1", "IN-2", "IN-3", "IN-4", "FO-2"))


@pytest.mark.experiment("array-lost")
def test_array_lost(experiment: Experiment, preset: Preset) -> None:
    """Array A is gone under running services; when it is back, what stands on it starts anew."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(LostArray("array-a"), lease_s=preset.lease_s):
            wait_for_spare(experiment, preset.failover_s)
        experiment.wait(preset.after_s, why="databases rejoin, backlogs drain")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "RA-1", "OR-1", "IN-1", "IN-2", "IN-3", "IN-4", "FO-1", "FO-2")
    )


@pytest.mark.experiment("array-power-cut")
def test_array_power_cut(experiment: Experiment, preset: Preset) -> None:
    """The power of array A fails, with all on it: what was acknowledged must be there again."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(LostWrites("array-a", gather_s=3), lease_s=preset.lease_s):
            experiment.wait(preset.window_s, why="room A has no storage")
        experiment.wait(preset.after_s, why="databases recover, backlogs drain")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "IN-1", "IN-2", "IN-3", "IN-4", "FO-2"))


@pytest.mark.experiment("power-cut-with-backlog")
def test_power_cut_with_a_backlog(experiment: Experiment, preset: Preset) -> None:
    """Messages for the laboratory wait in the engine when the power of array A fails: what it had
    acknowledged before it was on disk, nobody else has."""
    away = Cut("engine>lis.mllp")
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(away, lease_s=preset.lease_s):
            experiment.wait(WAITING_S, why="the laboratory is away, and the engine says so")
            cut = LostWrites("array-a", gather_s=WAITING_S)
            with experiment.inject(cut, lease_s=preset.lease_s):
                experiment.wait(preset.window_s / 3, why="room A has no storage")
        experiment.wait(preset.after_s, why="the engine has its backlog again, and delivers it")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "OR-2", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("array-lost-in-maintenance")
def test_array_lost_while_the_other_node_is_in_maintenance(
    experiment: Experiment, preset: Preset
) -> None:
    """Node ehr-b is in maintenance when array A is lost, and ehr-a with it: the copy is left.

    The server of ehr-a starts from that array. Maintenance is broken off after a while.
    """
    with experiment.traffic(hospital_day(preset, load=QUIETER)):
        experiment.steady(preset.warmup_s / QUIETER * 1.5)
        with ExitStack() as maintenance:
            maintenance.enter_context(experiment.inject(Stop("ehr-b"), lease_s=preset.lease_s))
            with (
                experiment.inject(Kill("ehr-a"), lease_s=preset.lease_s),
                experiment.inject(LostArray("array-a"), lease_s=preset.lease_s),
            ):
                experiment.wait(preset.window_s, why="the copy on array B is all that can be read")
                maintenance.close()  # the engine on array A is well only with a record to talk to
        experiment.wait(preset.after_s, why="array A and both nodes are back")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "RA-1", "RA-2", "RA-3", "RS-1", "IN-1", "IN-2", "IN-3", "FO-2")
    )
