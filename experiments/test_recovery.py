"""Coming back: several systems in stages, and billing after a stop that was announced."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Kill, Stop
from stacks.hospital.claims import claims
from stacks.hospital.day import at, crisis_cell, hospital_day
from stacks.hospital.traffic.presets import Preset

RETURN_S = 30.0  # machine time: programs start, queues are replayed, the record is checked
QUIETER = 0.5  # the backlog is replayed one message at a time, in real time
APART_S = 6.0  # between the return of the laboratory, the record, and what both wait for

pytestmark = pytest.mark.departments("care", "recovery")


@pytest.mark.experiment("staged-return")
def test_staged_return(experiment: Experiment, preset: Preset) -> None:
    """Engine, record and laboratory crash together; the last to come back is the one that all
    others need. A downtime is declared, and the hospital returns in the planned order."""
    with experiment.traffic(hospital_day(preset, load=QUIETER)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Kill("engine"), lease_s=preset.lease_s),
            experiment.traffic(crisis_cell(at(1.0, "declare"))),
        ):
            with experiment.inject(Kill("ehr-a", "ehr-b"), lease_s=preset.lease_s):
                with experiment.inject(Kill("lis"), lease_s=preset.lease_s):
                    experiment.wait(
                        preset.window_s / 2, why="wards read the copy and write on paper"
                    )
            experiment.wait(APART_S, why="record and laboratory are up, and wait for the engine")
        experiment.wait(RETURN_S, why="opened in stages, queues replayed, checked: normal")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RE-1", "RE-2", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("planned-stop")
def test_billing_stopped_on_purpose(experiment: Experiment, preset: Preset) -> None:
    """Saint-Étienne: back-office applications are stopped on purpose. It is announced, nothing
    acknowledged is lost, nobody else notices, and what waited is taken up afterwards."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.traffic(crisis_cell(at(0.0, "announce-billing-stop"))):
            experiment.wait(preset.after_s, why="everybody reads that billing will stop")
        with experiment.inject(Stop("billing"), lease_s=preset.lease_s):
            experiment.wait(preset.window_s, why="charges wait in the engine")
        experiment.wait(RETURN_S, why="billing takes up what waited; normal is declared")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "FO-2", "RE-2", "IN-1", "IN-2", "IN-3"))
