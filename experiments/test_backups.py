"""Backups: the record is restored for trial while its database is away; damage is found in time."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import BitRot, Kill, LostWrites
from stacks.hospital.claims import claims
from stacks.hospital.day import at, crisis_cell, hospital_day
from stacks.hospital.traffic.presets import Preset

DRILL_S = 20.0  # machine time: verify, copy, recover, read, compare
TRIALS_S = 8.0  # machine time: every system's copy verified, restored, opened, read
LIED_S = 25.0  # more than two copies of the vault
CUT_S, COPIED_S, BACK_S, AGAIN_S = 2.0, 14.0, 3.0, 13.0
CHECK_S = 20.0
RETURN_S = 25.0
COLD = "pgdata/base/[145]/[1-9]*"
"""Databases that nobody opens while the hospital works: what lies there is only ever checked."""

pytestmark = pytest.mark.departments("care", "backups")


@pytest.mark.experiment("restore-drill")
def test_restore_drill(experiment: Experiment, preset: Preset) -> None:
    """Both nodes of the record's database are lost at once; the vault, in a room of its own,
    restores the record to where it was. Afterwards the nodes come back, and nothing is missing."""
    lost = Kill("ehr-db-a", "ehr-db-b")
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        experiment.wait(preset.window_s, why="the record is written, and its log received")
        with (
            experiment.inject(lost, lease_s=preset.lease_s),
            experiment.traffic(crisis_cell(at(2.0, "restore-drill"))),
        ):
            experiment.wait(DRILL_S, why="the record is restored for trial in the vault")
        experiment.wait(preset.after_s, why="the nodes are back")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "BK-1", "IN-1", "IN-2", "IN-3"))


@pytest.mark.departments("imaging", "appointments", "recovery", "backups")
@pytest.mark.experiment("restore-systems")
def test_restore_systems(experiment: Experiment, preset: Preset) -> None:
    """The engine, administration, scheduling, billing and the image archive crash at once; the
    vault restores each for trial from its newest copy. Afterwards they come back."""
    lost = Kill("engine", "gam", "scheduling", "billing", "pacs-a")
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        experiment.wait(preset.window_s, why="systems work, and the vault copies their files")
        with (
            experiment.inject(lost, lease_s=preset.lease_s),
            experiment.traffic(crisis_cell(at(1.0, "restore-drill"))),
        ):
            experiment.wait(TRIALS_S, why="every system is restored for trial in the vault")
        experiment.wait(preset.after_s, why="the services are back")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "BK-1", "IN-1", "IN-2", "IN-3"))


@pytest.mark.storage
@pytest.mark.experiment("restore-engine")
def test_restore_engine(experiment: Experiment, preset: Preset) -> None:
    """The laboratory is down and its messages wait in the engine, whose disk has lied for a while:
    after a power cut nothing of that time is on it. The vault, which has copied the loss meanwhile,
    gives back the copy from before it; what is missing then is what came after that copy."""
    lies = LostWrites("engine", gather_s=LIED_S, lying=True)
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Kill("lis"), lease_s=preset.lease_s):
            with experiment.inject(lies, lease_s=preset.lease_s):
                experiment.wait(CUT_S, why="the engine is gone, and what waited in it")
            with experiment.traffic(crisis_cell(at(COPIED_S, "restore-engine"))):
                experiment.wait(COPIED_S + BACK_S, why="it is copied as it is; then given back")
        with experiment.traffic(crisis_cell(at(AGAIN_S, "restore-drill"), name="drill")):
            experiment.wait(AGAIN_S + DRILL_S, why="the laboratory gets what waited; all is tried")
    experiment.settle(preset.settle_s)
    # A movement or a merge may be among what is lost: others then wait for it for ever.
    experiment.expect(*claims(preset.need, "BK-1"))


@pytest.mark.storage
@pytest.mark.departments("imaging", "backups")
@pytest.mark.experiment("restore-images")
def test_restore_images(experiment: Experiment, preset: Preset) -> None:
    """The archive's disk has lied for a while: after a power cut the images of that time, which the
    scanners have let go of, are not on it. The vault stores those that it has copied in it again;
    what is missing then is what came after its last copy."""
    lies = LostWrites("pacs-a", gather_s=LIED_S, lying=True)
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(lies, lease_s=preset.lease_s):
            experiment.wait(CUT_S, why="the archive is gone, and images with it")
        with experiment.traffic(crisis_cell(at(BACK_S, "restore-images"))):
            experiment.wait(2 * BACK_S, why="it is back, and gets what the vault has copied")
        with experiment.traffic(crisis_cell(at(AGAIN_S, "restore-drill"), name="drill")):
            experiment.wait(AGAIN_S + TRIALS_S, why="copies are made again; all is tried")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "BK-1"))


@pytest.mark.storage
@pytest.mark.experiment("bit-rot")
def test_bit_rot(experiment: Experiment, preset: Preset) -> None:
    """Twenty bits flip on the standby's disk, where nobody reads. The integrity check reads it."""
    rot = BitRot("ehr-db-b", flips=20, files=COLD, seed=1)
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(rot, lease_s=preset.lease_s),
            experiment.traffic(crisis_cell(at(1.0, "check-integrity"))),
        ):
            experiment.wait(CHECK_S, why="every page is read and verified")
        experiment.wait(preset.after_s, why="the hospital works on")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "IN-5", "IN-1", "IN-2", "IN-3"))


@pytest.mark.storage
@pytest.mark.departments("care", "recovery", "backups")
@pytest.mark.experiment("false-all-clear")
def test_false_all_clear(experiment: Experiment, preset: Preset) -> None:
    """The engine crashes and comes back; meanwhile the standby's disk has rotted, and everything
    looks well. Normal must not be declared over damage that nobody has reported."""
    rot = BitRot("ehr-db-b", flips=20, files=COLD, seed=1)
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(rot, lease_s=preset.lease_s),
            experiment.traffic(crisis_cell(at(0.5, "declare"))),
        ):
            with experiment.inject(Kill("engine"), lease_s=preset.lease_s):
                experiment.wait(preset.after_s, why="an incident goes on")
            experiment.wait(RETURN_S, why="all is up; is all clear?")
        experiment.wait(preset.after_s, why="the hospital works on")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "IN-5", "IN-1", "IN-2", "IN-3"))
