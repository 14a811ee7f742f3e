"""Disks that fill up, one system at a time: it refuses aloud, reads on, and loses nothing.

The system whose disk is full must say so in its protocol's own words (HTTP 503 or 507 with an
OperationOutcome, HL7 error 206, DICOM A700), whoever sends keeps what was refused, and with space
again work goes on by itself. An acknowledgement of what found no space breaks IN-1.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from chaos.experiment import Experiment
from chaos.faults import FullStorage
from chaos.workload import Workload
from stacks.hospital.claims import claims
from stacks.hospital.day import at, crisis_cell, hospital_day, imaging_peak
from stacks.hospital.traffic.presets import Preset

AFTERNOON, MORNING, SIX = 16.0, 9.0, 6.0
UNTIL_FULL_S = 40.0
"""How long a system may find room in files that it has already: a database's log is written over
and over. A run in which it never wanted more is void."""
LOOKED_S = 6.0
"""Machine time, three looks more: who is in the copy is asked every two seconds, and tells
something only while the copy goes with the time."""
DRILL_S = 40.0  # machine time: the record and every other system are restored for trial
IMAGES = 600
ROUTER = ("dicom-router",)
"""It asks how much is free before it takes an image: it may never want to write at all."""
DATA = ("IN-1", "IN-2", "IN-3")

pytestmark = pytest.mark.storage


@dataclass(frozen=True)
class Closing:
    """What is done when there is space again, how long it takes, and why."""

    workload: Workload
    s: float
    why: str


def _nobody(_: Preset, turn: int) -> tuple[Workload, ...]:
    del turn
    return ()


def _at_the_peak(preset: Preset, turn: int) -> tuple[Workload, ...]:
    return (imaging_peak(preset, instances=IMAGES, name=f"peak{turn}"),)


def _decided(preset: Preset) -> Closing:
    cell = crisis_cell(at(0.5, "decide"))
    return Closing(cell, preset.window_s + preset.told_s, "elective care is called off")


def _drilled(_: Preset) -> Closing:
    return Closing(crisis_cell(at(2.0, "restore-drill")), DRILL_S, "all is restored for trial")


def _disk(
    name: str,
    story: str,
    *turns: tuple[str, ...],
    departments: tuple[str, ...],
    expected: tuple[str, ...],
    hour: float = AFTERNOON,
    meanwhile: Callable[[Preset, int], tuple[Workload, ...]] = _nobody,
    afterwards: Callable[[Preset], Closing] | None = None,
    longer_s: float = 0.0,
) -> Any:
    """The experiment `disk-full-<name>`: in each turn the disks of these services are full."""

    def run(experiment: Experiment, preset: Preset) -> None:
        with experiment.traffic(hospital_day(preset, hour=hour)):
            experiment.steady(preset.warmup_s)
            for turn, services in enumerate(turns, 1):
                full = FullStorage(*services)
                with (
                    _beside(experiment, meanwhile(preset, turn)),
                    experiment.inject(full, lease_s=preset.lease_s),
                ):
                    if services != ROUTER:
                        _until_refused(experiment, len(services))
                    experiment.wait(preset.window_s / len(turns), why="the disk is full")
                experiment.wait(preset.after_s + longer_s, why="there is space again")
            if afterwards is not None:
                closing = afterwards(preset)
                with experiment.traffic(closing.workload):
                    experiment.wait(closing.s, why=closing.why)
        experiment.settle(preset.settle_s)
        experiment.expect(*claims(preset.need, *expected))

    run.__doc__ = story
    marked = pytest.mark.experiment(f"disk-full-{name}")(run)
    return pytest.mark.departments(*departments)(marked)


def _beside(experiment: Experiment, workloads: tuple[Workload, ...]) -> Any:
    return experiment.traffic(*workloads) if workloads else nullcontext()


def _until_refused(experiment: Experiment, disks: int) -> None:
    """Until a write of each service itself found no space."""
    storage = experiment.runtime.storage

    def refused() -> bool:
        found = [
            storage.record(array, name)
            for array in storage.prepared for name in storage.faults(array)
        ]  # fmt: skip
        return sum(1 for one in found if one and one.acted) >= disks

    experiment.until(refused, UNTIL_FULL_S, "a write of the system itself finds no space")


test_record = _disk(
    "record",
    "The disk of the record's primary database is full; charts can be read all the same.",
    ("ehr-db-a",),
    departments=("care",),
    expected=("RA-1", "IN-4", *DATA),
)
test_engine = _disk(
    "engine",
    "The interface engine's disk is full: it takes no message, and forgets none that it took.",
    ("engine",),
    departments=("care",),
    expected=("RA-1", "OR-1", "OR-2", *DATA),
)
test_laboratory = _disk(
    "laboratory",
    "The laboratory's disk is full: orders wait in the engine, results in the analysers.",
    ("lis",),
    departments=("care",),
    expected=("RA-1", "OR-1", "OR-2", "RS-1", *DATA),
)
test_admissions = _disk(
    "admissions",
    "The disk of patient administration is full: nobody is half admitted.",
    ("gam",),
    departments=("care",),
    expected=("RA-1", "OR-1", *DATA),
)
test_imaging = _disk(
    "imaging",
    "The disks of archive and mirror are full, then the router's: scanners go on and keep theirs.",
    ("pacs-a", "pacs-b"),
    ROUTER,
    departments=("imaging",),
    expected=("IM-1", *DATA),
    hour=MORNING,
    meanwhile=_at_the_peak,
)
test_appointments = _disk(
    "appointments",
    "Scheduling's disk is full: what is not booked is said not to be booked.",
    ("scheduling",),
    departments=("appointments",),
    expected=("SC-1", "SC-3", *DATA),
    hour=SIX,
    afterwards=_decided,
)
test_copy = _disk(
    "copy",
    "The read-only copy's disk is full: it serves its last whole state, and says of when that is.",
    ("ro-copy",),
    departments=("care",),
    expected=("RA-1", "RA-2", "RA-3", *DATA),
    longer_s=LOOKED_S,
)
test_billing = _disk(
    "billing",
    "Billing's disk is full: charges wait in the engine, and nobody else notices.",
    ("billing",),
    departments=("care", "recovery"),
    expected=("FO-2", *DATA),
)
test_vault = _disk(
    "vault",
    "The vault's disk is full: it says so, and when it has space again the record is restored.",
    ("backup",),
    departments=("care", "backups"),
    expected=("BK-1", *DATA),
    afterwards=_drilled,
)
