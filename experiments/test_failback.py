"""Failover, failback, and an all-clear that must not be given: the pair through one bad night."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import BitRot, Cut, LostWrites, Pause
from stacks.hospital.claims import claims
from stacks.hospital.day import at, crisis_cell, hospital_day
from stacks.hospital.primary import database_primary, wait_for_spare
from stacks.hospital.returning import (
    wait_for_check,
    wait_for_normal,
    wait_for_pair,
    wait_until_behind,
)
from stacks.hospital.traffic.presets import Preset

QUIETER = 0.5  # night: the evening's load is over, and the backlog is replayed in real time
SPARE_S = 20.0  # machine time: before that Patroni lets no spare take over
MIRROR = "ehr-db-a>ehr-db-b.postgres"  # by which the node of room A follows the one of room B
ASKED_S, UNNOTICED_S = 4.0, 0.5
CHECK_S, NORMAL_S = 60.0, 90.0  # machine time, at most
UNREAD = "pgdata/base/4/[1-9][0-9][0-9][0-9]"
"""Tables and indexes of a database that nobody opens, not even the recovery after a crash: what
lies there is only ever checked. Nothing puts a sound page over a damaged one: neither what the
hospital writes, nor pg_rewind (maps of free space it would fetch anew)."""

pytestmark = [pytest.mark.storage, pytest.mark.departments("care", "recovery", "backups")]


@pytest.mark.experiment("failover-failback")
def test_failover_failback(experiment: Experiment, preset: Preset) -> None:
    """The primary hangs and the spare takes over; people want to go back while room A is behind;
    then the new primary's disk loses power and what was not synced, and twenty pages rot. It comes
    back and looks well: is all clear?"""
    rot = BitRot("ehr-db-b", flips=20, files=UNREAD, seed=1)
    power = LostWrites("ehr-db-b", gather_s=3)
    with experiment.traffic(hospital_day(preset, load=QUIETER)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Pause(database_primary(experiment.stack)), lease_s=preset.lease_s):
            wait_for_spare(experiment, SPARE_S)
        wait_for_pair(experiment)  # the old primary woke up, was fenced, and follows

        with experiment.inject(Cut(MIRROR), lease_s=preset.lease_s):
            wait_until_behind(experiment)
            experiment.wait(preset.after_s / 2, why="writes go on, with one copy")
            with experiment.traffic(crisis_cell(at(0.0, "fail-back"), name="failback")):
                experiment.wait(ASKED_S, why="back to room A, now?")
        wait_for_pair(experiment)
        wait_for_normal(experiment, NORMAL_S)

        with experiment.inject(rot, lease_s=preset.lease_s):
            experiment.wait(UNNOTICED_S, why="nobody reads there")
        with (
            experiment.inject(power, lease_s=preset.lease_s),
            experiment.traffic(crisis_cell(at(0.0, "declare"), name="declared")),
        ):
            wait_for_spare(experiment, SPARE_S)
        with experiment.traffic(
            crisis_cell(at(0.0, "ask-all-clear"), at(1.0, "check-integrity"), name="first-ask")
        ):
            wait_for_check(experiment, CHECK_S)
        with experiment.traffic(crisis_cell(at(0.0, "rebuild-spare"), name="rebuild")):
            wait_for_normal(experiment, NORMAL_S)
        with experiment.traffic(crisis_cell(at(0.0, "ask-all-clear"), name="second-ask")):
            experiment.wait(ASKED_S, why="is all clear now?")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "FO-1", "RA-1", "RA-2", "RE-2", "IN-5", "IN-1", "IN-2", "IN-3", "IN-4")
    )
