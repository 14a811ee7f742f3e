"""The record's database pair: its primary lost, hung and awake again, or lost without the copy."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Kill, Pause, Stop
from stacks.hospital.claims import claims
from stacks.hospital.day import hospital_day
from stacks.hospital.primary import database_primary, wait_for_spare
from stacks.hospital.traffic.presets import Preset

pytestmark = pytest.mark.departments("care")


@pytest.mark.experiment("database-primary-lost")
def test_database_primary_lost(experiment: Experiment, preset: Preset) -> None:
    """The node of the primary database is gone; the synchronous standby must take over."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill(database_primary(experiment.stack)), lease_s=preset.lease_s):
            wait_for_spare(experiment, preset.failover_s)
        experiment.wait(preset.after_s, why="the old primary rejoins")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(
            preset.need,
            "RA-1", "RA-2", "RA-3", "OR-1", "IN-1", "IN-2", "IN-3", "IN-4", "FO-1", "FO-2",
        )
    )  # fmt: skip


@pytest.mark.experiment("database-primary-hung")
def test_database_primary_hung(experiment: Experiment, preset: Preset) -> None:
    """The primary database hangs, the standby is promoted, the old primary wakes: split brain?"""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Pause(database_primary(experiment.stack)), lease_s=preset.lease_s):
            wait_for_spare(experiment, preset.failover_s)
        experiment.wait(preset.after_s, why="the old primary wakes up")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "RA-1", "OR-1", "IN-1", "IN-2", "IN-3", "IN-4", "FO-1", "FO-2")
    )


@pytest.mark.experiment("primary-lost-copy-away")
def test_primary_lost_while_the_copy_is_away(experiment: Experiment, preset: Preset) -> None:
    """The read-only copy is in maintenance when the primary is lost: the standby must be read."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Stop("ro-copy"), lease_s=preset.lease_s),
            experiment.inject(Kill(database_primary(experiment.stack)), lease_s=preset.lease_s),
        ):
            experiment.wait(preset.window_s, why="the standby is all that can be read")
        experiment.wait(preset.after_s, why="primary and copy are back")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "IN-1", "IN-2", "IN-3", "IN-4", "FO-2"))
