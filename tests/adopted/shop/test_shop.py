"""Experiments on the shop: what its owner would write."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.claims.served import Served
from chaos.experiment import Experiment
from chaos.faults import (
    CrashLoop,
    Cut,
    Flap,
    Kill,
    Latency,
    Pause,
    Reset,
    Squeeze,
    Stop,
    WebRequests,
)
from chaos.verdict import Need
from chaos.workload import Workload

FEW = Need(claim=300, asked=20, why="a shop of two containers, watched for seconds")
PRICES = Served(
    id="SH-1", statement="Customers are told the price.", what="prices", kinds=("price.read",),
    klasses=("P0",), need=FEW, within_s=1.5,
)  # fmt: skip


def customers() -> Workload:
    """Started by path: the shop is no part of any package that is installed."""
    return Workload("customers", ("{python}", str(Path(__file__).with_name("customers.py"))), {})


@pytest.mark.experiment("shop-store-dies")
def test_store_dies(experiment: Experiment) -> None:
    """The store is killed; customers still want to know the price."""
    with experiment.traffic(customers()):
        experiment.steady(2.0)
        with experiment.inject(Kill("store"), lease_s=30):
            experiment.wait(3.0)
    experiment.settle(5)
    experiment.expect(PRICES)


@pytest.mark.experiment("shop-store-slow")
def test_store_slow(experiment: Experiment) -> None:
    """Every answer of the store takes 300 ms longer, and those of the front 100 ms."""
    with experiment.traffic(customers()):
        experiment.steady(2.0)
        with (
            experiment.inject(Latency("front>store.redis", latency_ms=300), lease_s=30),
            experiment.inject(Latency("customers>front.http", latency_ms=100), lease_s=30),
        ):
            experiment.wait(3.0)
    experiment.settle(5)
    experiment.expect(PRICES)


@pytest.mark.experiment("shop-books-die")
def test_books_die(experiment: Experiment) -> None:
    """A container that nobody has opted in is named as the target."""
    with experiment.traffic(customers()):
        with experiment.inject(Kill("books"), lease_s=30):
            experiment.wait(1.0)
    experiment.expect(PRICES)


@pytest.mark.experiment("shop-too-many")
def test_too_many(experiment: Experiment) -> None:
    """More are hit at once than the shop's stack allows."""
    with experiment.traffic(customers()):
        with (
            experiment.inject(Kill("store"), lease_s=30),
            experiment.inject(Pause("front"), lease_s=30),
        ):
            experiment.wait(1.0)
    experiment.expect(PRICES)


@pytest.mark.experiment("shop-everything")
def test_everything(experiment: Experiment) -> None:
    """Whatever can happen to an existing project happens, one after the other."""
    with experiment.traffic(customers()):
        experiment.steady(1.0)
        for fault in (
            Squeeze("store", cpus=0.2),
            Pause("store"),
            Stop("store"),
            CrashLoop("store", every_s=1.0),
            Cut("front>store.redis"),
            Cut("customers>front.http", silent=True),
            Reset("front>store.redis"),
            Flap("front>store.redis"),
            WebRequests("customers>front.http", do="refuse"),
        ):
            with experiment.inject(fault, lease_s=30):
                experiment.wait(1.5)
    experiment.settle(5)
    experiment.expect(PRICES)


@pytest.mark.experiment("shop-long")
def test_long(experiment: Experiment) -> None:
    """The store is killed and the front slow, for a minute (for those who end it before)."""
    with experiment.traffic(customers()):
        experiment.steady(1.0)
        with (
            experiment.inject(Kill("store"), lease_s=90),
            experiment.inject(Latency("customers>front.http", latency_ms=50), lease_s=90),
        ):
            experiment.wait(60.0)
    experiment.settle(5)
    experiment.expect(PRICES)
