"""Appointments: the reduced day after Saint-Luc's crash, and scheduling restored from backup."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Kill, Latency
from stacks.hospital.claims import claims
from stacks.hospital.day import at, crisis_cell, hospital_day, patients_calling
from stacks.hospital.traffic.presets import Preset

SIX = 6.0  # o'clock: the crisis cell meets
FEEDS = tuple(f"engine>{one}.mllp" for one in ("website", "callcentre", "sms", "clinic-lists"))
SLOW_MS = 5  # each way: the network has not recovered from the day before
HALF_PAST_SEVEN = 7.5  # Saint-Luc's patient rang at 07:25, and was told that it stood

pytestmark = pytest.mark.departments("appointments")


@pytest.mark.experiment("reduced-day")
def test_the_reduced_day(experiment: Experiment, preset: Preset) -> None:
    """Saint-Luc, the day after: elective care is called off at six; what are patients told?"""
    cell = crisis_cell(at(0.5, "read-only"), at(2.0, "decide"))
    with experiment.traffic(hospital_day(preset, hour=SIX)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Latency(*FEEDS, latency_ms=SLOW_MS), lease_s=preset.lease_s),
            experiment.traffic(patients_calling(preset)),
            experiment.traffic(cell),
        ):
            experiment.wait(_until(HALF_PAST_SEVEN, preset), why="patients ring, at 07:25 as well")
        experiment.wait(preset.after_s, why="the network is well again")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "SC-1", "SC-2", "SC-3", "PR-2", "IN-1", "IN-2", "IN-3")
    )  # fmt: skip


def _until(clock: float, preset: Preset) -> float:
    """Real seconds from the end of the warm-up, which begins at six, until a time of that day."""
    return max(preset.window_s, (clock - SIX) * 3_600 / preset.speed - preset.warmup_s)


@pytest.mark.experiment("scheduling-restored")
def test_scheduling_restored_from_backup(experiment: Experiment, preset: Preset) -> None:
    """Scheduling crashes and comes back from a backup that is older than many bookings."""
    with experiment.traffic(hospital_day(preset, hour=SIX)):
        experiment.steady(preset.warmup_s)
        with experiment.traffic(crisis_cell(at(0.0, "backup"), at(3.0, "decide"), name="before")):
            experiment.wait(preset.window_s / 2, why="bookings and a decision follow the backup")
        with experiment.inject(Kill("scheduling"), lease_s=preset.lease_s):
            experiment.wait(preset.window_s, why="clinics work from their printed lists")
        with experiment.traffic(crisis_cell(at(0.0, "restore"), at(1.0, "open"), name="after")):
            experiment.wait(preset.after_s, why="the backup is restored and replayed")
        experiment.wait(preset.after_s, why="clinics book again")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "SC-1", "SC-3", "PR-2", "IN-1", "IN-2", "IN-3")
    )  # fmt: skip
