"""The interface engine between partners that answer too late and one that sends rubbish."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Acknowledgements, Kill, TruncatedMessages
from stacks.hospital.claims import claims
from stacks.hospital.day import hospital_day, poison_message
from stacks.hospital.traffic.presets import Preset

MORNING = 8.0  # the laboratory's peak
LATE_MS = 7_000  # beyond the engine's own time-out for an acknowledgement
BETWEEN_S = 2.0
BATCH_S = 2.0
DEAD_S = 3.0

pytestmark = pytest.mark.departments("care")


def too_late() -> Acknowledgements:
    """Both nodes of the record take every message and say so when the engine has given up."""
    return Acknowledgements(
        "engine>ehr-a.mllp", "engine>ehr-b.mllp", do="delay", every=1, delay_ms=LATE_MS
    )


@pytest.mark.experiment("engine-stalls")
def test_engine_stalls(experiment: Experiment, preset: Preset) -> None:
    """The record acknowledges too late, a partner sends poison, the engine dies mid-batch."""
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(too_late(), lease_s=preset.lease_s):
            experiment.wait(preset.window_s, why="every report is sent again and again")
        experiment.wait(BETWEEN_S, why="acknowledgements come in time again")
        with experiment.traffic(poison_message()):
            with experiment.inject(too_late(), lease_s=preset.lease_s):
                experiment.wait(BATCH_S, why="a batch waits; its first message is in doubt")
                with experiment.inject(Kill("engine"), lease_s=preset.lease_s):
                    experiment.wait(DEAD_S)
            experiment.wait(preset.critical_s, why="the engine is back; backlogs drain")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "OR-2", "RS-2", "RS-3", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("poison-message")
def test_a_message_that_nobody_can_use(experiment: Experiment, preset: Preset) -> None:
    """One message is refused for good, others only break off on the way: nothing waits for it.

    The one must be put aside and the others sent again; who takes one for the other loses orders.
    """
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        breaks_off = TruncatedMessages("engine>lis.mllp", nth=5, every=25)
        with (
            experiment.inject(breaks_off, lease_s=preset.lease_s),
            experiment.traffic(poison_message()),
        ):
            experiment.wait(preset.turnaround_s, why="urgent tests go on behind the poison")
        experiment.wait(preset.after_s, why="messages arrive whole again")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "OR-2", "RS-2", "RS-3", "IN-1", "IN-2", "IN-3"))
