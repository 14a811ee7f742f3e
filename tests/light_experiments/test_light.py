"""Small experiments with a known outcome each."""

from __future__ import annotations

import os

import pytest

from chaos.claims.served import Served
from chaos.experiment import Experiment
from chaos.faults import Disconnect, Kill, Latency, LostArray, Pause, SkewClock, Squeeze
from chaos.verdict import Need
from chaos.workload import Workload

TRAFFIC = ("{python}", "-m", "tests.light_experiments.light_traffic")
PARAMS = {
    key: float(value)
    for key, value in (p.split("=") for p in os.environ.get("LIGHT_PARAMS", "").split(",") if p)
}
MORE = Need(claim=300, asked=100, why="more than any machine asks in a fifth of a second")
FEW = Need(claim=300, asked=10, why="a light test of about two seconds")


def reads(name: str, need: Need = FEW) -> Served:
    """Reads of one of the two services are answered."""
    return Served(
        id=f"LT-{name}", statement=f"{name} can always be read.", what="reads",
        kinds=(f"{name}.read",), klasses=("P0",), need=need,
    )  # fmt: skip


def traffic() -> Workload:
    return Workload("reads", TRAFFIC, PARAMS)


@pytest.mark.experiment("light-held")
def test_mirror_survives_echo(experiment: Experiment) -> None:
    """The echo service crashes; reads of web and mirror go on."""
    with experiment.traffic(traffic()):
        experiment.steady(1.0)
        with experiment.inject(Kill("echo"), lease_s=30):
            experiment.wait(1.5)
    experiment.settle(5)
    experiment.expect(reads("web"), reads("mirror"))


@pytest.mark.experiment("light-array-lost")
def test_array_lost(experiment: Experiment) -> None:
    """The disk of store and mirror is gone; reads of the web service go on."""
    with experiment.traffic(traffic()):
        experiment.steady(1.0)
        with experiment.inject(LostArray("disk-b"), lease_s=30):
            experiment.wait(1.5)
    experiment.settle(5)
    experiment.expect(reads("web"))


@pytest.mark.experiment("light-broken")
def test_web_crashes(experiment: Experiment) -> None:
    """The web service crashes; its own reads cannot be answered."""
    with experiment.traffic(traffic()):
        experiment.steady(1.0)
        with experiment.inject(Kill("web"), lease_s=30):
            experiment.wait(1.5)
    experiment.settle(5)
    experiment.expect(reads("web"), reads("mirror"))


@pytest.mark.experiment("light-inconclusive")
def test_too_short(experiment: Experiment) -> None:
    """The echo service hangs for so short a time that nothing can be concluded."""
    with experiment.traffic(traffic()):
        experiment.steady(1.0)
        with experiment.inject(Pause("echo"), lease_s=30):
            experiment.wait(0.2)
    experiment.settle(5)
    experiment.expect(reads("web", MORE))


@pytest.mark.experiment("light-long")
def test_long(experiment: Experiment) -> None:
    """The echo service crashes for a minute (for those who stop it before)."""
    with experiment.traffic(traffic()):
        experiment.steady(0.5)
        with (
            experiment.inject(Kill("echo"), lease_s=90),
            experiment.inject(Latency("ward>web.http", latency_ms=20), lease_s=90),
        ):
            experiment.wait(60.0)
    experiment.settle(5)
    experiment.expect(reads("web"))


@pytest.mark.experiment("light-wrong-target")
def test_wrong_target(experiment: Experiment) -> None:
    """A target that does not exist: found before anything is raised."""
    with experiment.traffic(traffic()):
        with experiment.inject(Kill("wbe"), lease_s=30):
            experiment.wait(1.0)
    experiment.expect(reads("web"))


@pytest.mark.experiment("light-squeezed")
def test_web_is_squeezed(experiment: Experiment) -> None:
    """The web service gets a fifth of a CPU, its clock is an hour ahead; the mirror is not hit."""
    with experiment.traffic(traffic()):
        experiment.steady(1.0)
        with (
            experiment.inject(Squeeze("web", cpus=0.2, memory_mib=128, pids=64), lease_s=30),
            experiment.inject(SkewClock("web", offset_s=3600), lease_s=30),
        ):
            experiment.wait(1.5)
        with experiment.inject(Disconnect("A", "B"), lease_s=30):
            experiment.wait(1.0)
    experiment.settle(5)
    experiment.expect(reads("mirror"))
