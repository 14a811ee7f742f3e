"""The network: slow everywhere, cut between the server rooms, one link that flaps."""

from __future__ import annotations

import pytest

from chaos.experiment import Experiment
from chaos.faults import Bandwidth, Cut, Flap, Latency, LinksBetween, LinksOf
from stacks.hospital.claims import claims
from stacks.hospital.day import hospital_day
from stacks.hospital.traffic.presets import Preset

EVERYWHERE = tuple(LinksOf(room) for room in ("A", "B", "lab", "C"))
SLOW_MS = 10  # each way; ten times and more what a hospital's own network takes
SLOW_KB_PER_S = 500
GIVEN_UP_MS = 6_000  # carers wait 4 s for the answer to what they wrote

pytestmark = pytest.mark.departments("care")


@pytest.mark.experiment("network-slowdown")
def test_all_links_slow(experiment: Experiment, preset: Preset) -> None:
    """Saint-Étienne's slow network: every link ten times slower and throttled."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with (
            experiment.inject(Latency(*EVERYWHERE, latency_ms=SLOW_MS), lease_s=preset.lease_s),
            experiment.inject(
                Bandwidth(*EVERYWHERE, kb_per_s=SLOW_KB_PER_S), lease_s=preset.lease_s
            ),
        ):
            experiment.wait(preset.turnaround_s)
        experiment.wait(preset.after_s, why="the network is fast again")
    experiment.settle(preset.settle_s)
    experiment.expect(
        *claims(preset.need, "RA-1", "OR-1", "OR-2", "RS-1", "RS-3", "IN-1", "IN-2", "IN-3")
    )


@pytest.mark.experiment("rooms-cut")
def test_network_cut_between_rooms(experiment: Experiment, preset: Preset) -> None:
    """The network between server rooms A and B is cut: one truth, and nothing lost."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        with experiment.inject(Cut(LinksBetween("A", "B")), lease_s=preset.lease_s):
            experiment.wait(preset.failover_s, why="both rooms work, apart")
        experiment.wait(preset.after_s, why="the rooms see one another again")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "OR-2", "RS-1", "IN-1", "IN-2", "IN-3", "IN-4"))


@pytest.mark.experiment("flapping-link")
def test_a_link_flaps(experiment: Experiment, preset: Preset) -> None:
    """The link from the engine to the laboratory comes and goes."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        flap = Flap("engine>lis.mllp", down_s=1.0, up_s=2.0)
        with experiment.inject(flap, lease_s=preset.lease_s):
            experiment.wait(preset.window_s)
        experiment.wait(preset.after_s, why="the link stays up")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "OR-1", "OR-2", "RS-1", "IN-1", "IN-2", "IN-3"))


@pytest.mark.experiment("answers-too-late")
def test_answers_come_too_late(experiment: Experiment, preset: Preset) -> None:
    """One node of the record answers after its carers gave up and asked the other: once is once."""
    with experiment.traffic(hospital_day(preset)):
        experiment.steady(preset.warmup_s)
        slow = Latency("wards>ehr-a.http", latency_ms=GIVEN_UP_MS)
        with experiment.inject(slow, lease_s=preset.lease_s):
            experiment.wait(preset.window_s)
        experiment.wait(preset.after_s, why="answers come in time again")
    experiment.settle(preset.settle_s)
    experiment.expect(*claims(preset.need, "RA-1", "OR-1", "OR-2", "IN-1", "IN-2", "IN-3"))
