"""Imaging: the archive is away at the morning peak, its mirror serves, scanners keep working."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Bandwidth, CrashLoop, ImageTransfers, Kill, Latency
from stacks.hospital.claims import claims
from stacks.hospital.day import hospital_day, imaging_peak
from stacks.hospital.traffic.presets import Preset

MORNING = 9.0
TRANSFERS = (
    "modalities>dicom-router.dicom", "dicom-router>pacs-a.dicom", "dicom-router>pacs-b.dicom",
)  # fmt: skip
SLOW_MS = 10  # each way, on a path that takes several exchanges per image
SLOW_KB_PER_S = 2_000
LOST_EVERY = 40  # images
UNANSWERED_EVERY, UNANSWERED_MAX = 40, 3  # images; the router waits seconds for each answer

pytestmark = pytest.mark.departments("imaging")


@pytest.mark.experiment("pacs-outage")
def test_archive_down_at_the_morning_peak(experiment: Experiment, preset: Preset) -> None:
    """Archive and mirror are down at the morning peak, then the worklist, too (HSE's radiology)."""
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Kill("pacs-a"), lease_s=preset.lease_s),
            experiment.inject(Kill("pacs-b"), lease_s=preset.lease_s),
            experiment.traffic(imaging_peak(preset)),
        ):
            experiment.wait(preset.window_s / 3, why="scanners work on; nobody takes their images")
            with experiment.inject(Kill("ris"), lease_s=preset.lease_s):
                experiment.wait(preset.window_s, why="they do without a worklist, too")
        experiment.wait(preset.after_s, why="the archives are back; backlogs drain")
    experiment.settle(2 * preset.settle_s)
    experiment.expect(
        *claims(preset.need, "IM-1", "IM-2", "IM-3", "IN-1", "IN-2", "IN-3")
    )  # fmt: skip


@pytest.mark.experiment("pacs-mirror-serves")
def test_the_mirror_takes_over(experiment: Experiment, preset: Preset) -> None:
    """The archive crashes: pictures are read from its mirror in the other room."""
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill("pacs-a"), lease_s=preset.lease_s):
            experiment.wait(preset.window_s, why="the mirror serves, and takes what comes")
        experiment.wait(preset.after_s, why="the archive is back and catches up")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "IM-1", "IM-2", "IN-1", "IN-2", "IN-3", "FO-1")
    )  # fmt: skip


@pytest.mark.experiment("worklist-down")
def test_worklist_down(experiment: Experiment, preset: Preset) -> None:
    """The radiology system is down: examinations without a worklist must find their patient."""
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill("ris"), lease_s=preset.lease_s):
            experiment.wait(preset.window_s, why="radiographers enter patients by hand")
        experiment.wait(preset.after_s, why="the worklist is back; studies find their orders")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "IM-1", "IM-2", "IM-3", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("router-killed")
def test_router_killed(experiment: Experiment, preset: Preset) -> None:
    """The image router is killed again and again while scanners send."""
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(CrashLoop("dicom-router", every_s=4.0), lease_s=preset.lease_s),
            experiment.traffic(imaging_peak(preset, instances=600)),
        ):
            experiment.wait(preset.window_s)
        experiment.wait(preset.after_s, why="the router stays up; its queues drain")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "IM-1", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("images-slow-and-lossy")
def test_slow_and_lossy_imaging_link(experiment: Experiment, preset: Preset) -> None:
    """The way of the images is slow and throttled; transfers to one archive break off, the other's
    answers get lost, so that it is sent images again that it has."""
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Latency(*TRANSFERS, latency_ms=SLOW_MS), lease_s=preset.lease_s),
            experiment.inject(
                Bandwidth(*TRANSFERS, kb_per_s=SLOW_KB_PER_S), lease_s=preset.lease_s
            ),
            experiment.inject(
                ImageTransfers("dicom-router>pacs-a.dicom", do="abort", every=LOST_EVERY),
                lease_s=preset.lease_s,
            ),
            experiment.inject(
                ImageTransfers(
                    "dicom-router>pacs-b.dicom",
                    do="drop",
                    every=UNANSWERED_EVERY,
                    count=UNANSWERED_MAX,
                ),
                lease_s=preset.lease_s,
            ),
        ):
            experiment.wait(preset.window_s, why="images take longer, and some are cut off")
        experiment.wait(preset.after_s, why="the way is free again")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "IM-1", "IM-2", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("archive-full")
def test_archive_out_of_resources(experiment: Experiment, preset: Preset) -> None:
    """The archive answers A700, out of resources, to every third image."""
    with experiment.traffic(hospital_day(preset, hour=MORNING)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(
            ImageTransfers("dicom-router>pacs-a.dicom", do="refuse", every=3),
            lease_s=preset.lease_s,
        ):
            experiment.wait(preset.window_s, why="refused images are offered again")
        experiment.wait(preset.after_s, why="the archive takes all again")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "IM-1", "IM-2", "IN-1", "IN-2", "IN-3"))
