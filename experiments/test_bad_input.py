"""Input that is wrong: radiology, scheduling and the engine refuse it, and nothing comes of it."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Latency
from stacks.hospital.claims import claims
from stacks.hospital.day import bad_input, hospital_day
from stacks.hospital.traffic.presets import Preset

MORNING = 9.0
WAYS = (
    "modalities>dicom-router.dicom", "dicom-router>pacs-a.dicom", "dicom-router>pacs-b.dicom",
    "modalities>ris.dicom", "clinics>scheduling.http", "gam>engine.mllp",
)  # fmt: skip
SLOW_MS = 5  # each way: strangers and sound senders share a network that is not at its best

pytestmark = pytest.mark.departments("imaging", "appointments")


@pytest.mark.experiment("bad-input")
def test_bad_input_is_refused(experiment: Experiment, preset: Preset) -> None:
    """Unreadable images, unknown titles, encodings and patients, slots that are gone, second
    cancellations and stray HL7 come in among a day's sound input, over a slow network."""
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Latency(*WAYS, latency_ms=SLOW_MS), lease_s=preset.lease_s),
            experiment.traffic(bad_input(preset)),
        ):
            experiment.wait(preset.window_s, why="all of it is to be refused, each in its terms")
        experiment.wait(preset.after_s, why="sound input goes on")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "BI-1", "IM-1", "IN-1", "IN-2", "IN-3")
    )  # fmt: skip
