"""Half the capacity and a flood of reports: who is served, and who waits?"""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Kill
from stacks.hospital.claims import claims
from stacks.hospital.day import elective_rush, hospital_day
from stacks.hospital.traffic.presets import Preset

pytestmark = pytest.mark.departments("care")


@pytest.mark.experiment("overload")
def test_overload_with_half_the_capacity(experiment: Experiment, preset: Preset) -> None:
    """One of two nodes is gone and the back office asks for everything at once."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill("ehr-b"), lease_s=preset.lease_s):
            with experiment.traffic(elective_rush(preset)):
                experiment.wait(preset.window_s, why="elective and back-office work is shed first")
        experiment.wait(preset.after_s, why="capacity is back; shed work is taken")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "OR-1", "PR-1", "IN-1", "IN-2", "IN-3"))
