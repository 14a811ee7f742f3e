"""Servers that die: the Saint-Luc outage, one application node, the interface engine, a room."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import CrashLoop, Kill, LoseRoom
from stacks.hospital.claims import claims
from stacks.hospital.day import (
    at,
    crisis_cell,
    hospital_day,
    patients_calling,
    statistics_batch,
)
from stacks.hospital.primary import database_primary, wait_for_spare
from stacks.hospital.traffic.presets import Preset


@pytest.mark.experiment("saint-luc")
def test_saint_luc(experiment: Experiment, preset: Preset) -> None:
    """Saint-Luc, Tuesday 16:00: several servers crash; are inpatients still cared for?"""
    lease_s = preset.lease_s
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Kill("ehr-a"), lease_s=lease_s),
            experiment.inject(Kill(database_primary(experiment.stack)), lease_s=lease_s),
            experiment.inject(Kill("scheduling"), lease_s=lease_s),
            experiment.inject(Kill("ris"), lease_s=lease_s),
        ):
            with experiment.traffic(statistics_batch()):
                wait_for_spare(experiment, preset.failover_s)
        with (
            experiment.traffic(patients_calling(preset)),
            experiment.traffic(crisis_cell(at(1.0, "decide"))),
        ):
            experiment.wait(
                preset.told_s, why="the servers are back; tomorrow's elective care is called off"
            )
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need,
            "RA-1", "RA-2", "RA-3", "OR-1", "OR-2", "RS-1", "RS-2", "RS-3", "IM-1", "IM-3",
            "SC-1", "SC-2", "SC-3", "IN-1", "IN-2", "IN-3", "IN-4", "PR-1", "PR-2", "FO-1", "FO-2",
        )
    )  # fmt: skip


@pytest.mark.experiment("app-node-crash")
@pytest.mark.departments("care")
def test_app_node_crash(experiment: Experiment, preset: Preset) -> None:
    """One of two application nodes of the record crashes at the evening round."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill("ehr-a"), lease_s=preset.lease_s):
            experiment.wait(preset.window_s)
        experiment.wait(preset.after_s, why="the node is back")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "RA-1", "RA-2", "RA-3", "OR-1", "OR-2", "IN-1", "IN-2", "IN-3", "FO-2")
    )


@pytest.mark.experiment("engine-killed")
@pytest.mark.departments("care")
def test_engine_killed_mid_batch(experiment: Experiment, preset: Preset) -> None:
    """The interface engine is killed again and again in the middle of the lab's peak."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(CrashLoop("engine", every_s=6.0), lease_s=preset.lease_s):
            experiment.wait(preset.window_s)
        experiment.wait(preset.after_s, why="the engine stays up; its queues drain")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "RA-1", "OR-1", "OR-2", "RS-1", "RS-2", "IN-1", "IN-2", "IN-3", "FO-2")
    )


@pytest.mark.experiment("engine-down")
@pytest.mark.departments("care")
def test_engine_down(experiment: Experiment, preset: Preset) -> None:
    """The interface engine is down: wards, admissions and analysers work on, each for itself."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill("engine"), lease_s=preset.lease_s):
            experiment.wait(preset.critical_s, why="orders and results wait where they are")
        experiment.wait(preset.after_s, why="the engine is back; backlogs drain")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(
            preset.need,
            "RA-1", "OR-1", "OR-2", "RS-1", "RS-2", "IN-1", "IN-2", "IN-3", "FO-2",
        )
    )  # fmt: skip


@pytest.mark.experiment("room-a-lost")
@pytest.mark.departments("care")
def test_room_a_lost(experiment: Experiment, preset: Preset) -> None:
    """Server room A is lost whole: application node, database node, interface engine."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(LoseRoom("A"), lease_s=preset.lease_s):
            wait_for_spare(experiment, preset.failover_s)
        experiment.wait(preset.after_s, why="room A is back")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need,
            "RA-1", "RA-2", "RA-3", "OR-1", "OR-2", "RS-1", "RS-2", "IN-1", "IN-2", "IN-3", "IN-4",
            "FO-1", "FO-2",
        )
    )  # fmt: skip
