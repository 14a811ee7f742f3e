"""The laboratory system away for hours, and an engine whose partner answers too late or never."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Cut, Kill, Latency
from stacks.hospital.claims import claims
from stacks.hospital.day import hospital_day
from stacks.hospital.traffic.presets import Preset

LATE_MS = 7_000  # beyond the engine's own time-out for an acknowledgement
EPISODE_S = 6.0  # at least one acknowledgement comes too late
EPISODES = 4
BETWEEN_S = 1.0
DEAD_S = 3.0

pytestmark = pytest.mark.departments("care")


@pytest.mark.experiment("lis-down")
def test_lis_down_for_hours(experiment: Experiment, preset: Preset) -> None:
    """The laboratory system is down for hours of hospital time; analysers work on alone."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill("lis"), lease_s=preset.lease_s):
            experiment.wait(preset.window_s, why="analysers and wards go on without the LIS")
        experiment.wait(preset.after_s, why="the LIS is back; backlogs drain")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need,
            "RA-1", "OR-1", "OR-2", "RS-1", "RS-2", "IN-1", "IN-2", "IN-3"
        )
    )  # fmt: skip


@pytest.mark.experiment("late-acknowledgements")
def test_acknowledgements_come_too_late(experiment: Experiment, preset: Preset) -> None:
    """The laboratory acknowledges later than the engine waits: nothing lost, nothing twice.

    Again and again, because each time only the message at the head of the queue is in doubt.
    """
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        for _ in range(EPISODES):
            slow = Latency("engine>lis.mllp", latency_ms=LATE_MS)
            with experiment.inject(slow, lease_s=preset.lease_s):
                experiment.wait(max(EPISODE_S, preset.window_s / EPISODES))
            experiment.wait(BETWEEN_S, why="acknowledgements come in time again")
        experiment.wait(preset.after_s, why="the backlog drains")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "OR-1", "OR-2", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("messages-swallowed")
def test_messages_vanish_on_the_way(experiment: Experiment, preset: Preset) -> None:
    """The network swallows what the engine sends to the laboratory: no answer, no error."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        for _ in range(EPISODES):
            silence = Cut("engine>lis.mllp", silent=True)
            with experiment.inject(silence, lease_s=preset.lease_s):
                experiment.wait(max(EPISODE_S, preset.window_s / EPISODES))
            experiment.wait(BETWEEN_S, why="the link carries messages again")
        experiment.wait(preset.after_s, why="the backlog drains")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "OR-1", "OR-2", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("engine-killed-with-backlog")
def test_engine_killed_with_a_backlog(experiment: Experiment, preset: Preset) -> None:
    """The laboratory is down, its messages wait in the engine, and the engine dies, too."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill("lis"), lease_s=preset.lease_s):
            experiment.wait(preset.window_s / 2, why="messages for the laboratory pile up")
            with experiment.inject(Kill("engine"), lease_s=preset.lease_s):
                experiment.wait(DEAD_S)
            experiment.wait(preset.window_s / 2, why="the engine has its backlog again")
        experiment.wait(preset.after_s, why="the LIS is back; backlogs drain")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "OR-1", "OR-2", "IN-1", "IN-2", "IN-3"))
