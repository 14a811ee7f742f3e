"""The read-only copy as the last way to a chart: when nothing else of the record can be asked."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import LoseRoom, Stop
from stacks.hospital.claims import claims
from stacks.hospital.day import hospital_day
from stacks.hospital.traffic.presets import Preset

pytestmark = pytest.mark.departments("care")


@pytest.mark.experiment("room-a-lost-in-maintenance")
def test_room_a_lost_while_the_other_node_is_in_maintenance(
    experiment: Experiment, preset: Preset
) -> None:
    """Node ehr-b is down for maintenance when room A is lost: charts come from the copy alone."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Stop("ehr-b"), lease_s=preset.lease_s),
            experiment.inject(LoseRoom("A"), lease_s=preset.lease_s),
        ):
            experiment.wait(preset.window_s, why="the copy in room B is all that can be read")
        experiment.wait(preset.after_s, why="room A and the other node are back")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "RA-1", "RA-2", "RA-3", "RS-1", "RS-2", "IN-1", "IN-2", "IN-3", "FO-2")
    )
