"""What is found before anything is asked of an engine: how many are hit at once, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.faults import Kill, Latency, Pause
from chaos.faults.fault import TargetError
from chaos.plan import Rehearsal
from chaos.runtime import RuntimeFailure
from chaos.runtime.choice import make
from chaos.stack import Link, Port, Project, Room, Service, Stack


def shop(most: int) -> Stack:
    """Three services of a project; nobody runs it."""
    names = ("front", "store", "books")
    return Stack(
        name="shop", project=Project("shop", most), rooms=(Room("host"),),
        services=tuple(Service(n, "host", ports=(Port("http", "http", 80),)) for n in names),
        links=tuple(Link("callers", n, "http") for n in names), outside=("callers",),
    )  # fmt: skip


def test_one_too_many_at_the_same_time_is_refused() -> None:
    """Services and links count alike: a slow link hits the service that it leads to."""
    rehearsal = Rehearsal("x", "", shop(most=2))
    with rehearsal.inject(Kill("front"), lease_s=5):
        with rehearsal.inject(Latency("callers>store.http", latency_ms=10), lease_s=5):
            with pytest.raises(TargetError, match="at most 2 of project shop"):
                with rehearsal.inject(Pause("books"), lease_s=5):
                    pass
    with pytest.raises(TargetError, match="books, front, store would be hit at the same time"):
        with rehearsal.inject(Kill("front", "store", "books"), lease_s=5):
            pass


def test_one_after_the_other_and_twice_the_same_are_not_more() -> None:
    """What has ended is not hit any more; a service hit by two faults is one service."""
    rehearsal = Rehearsal("x", "", shop(most=1))
    for name in ("front", "store", "books"):
        with rehearsal.inject(Kill(name), lease_s=5):
            with rehearsal.inject(Latency(f"callers>{name}.http", latency_ms=10), lease_s=5):
                pass
    assert len(rehearsal.plan().faults) == 6
    assert rehearsal.plan().project is None  # nobody looked at the project


def test_a_project_runs_in_containers_only(tmp_path: Path) -> None:
    """Another runtime is refused with what to say instead."""
    with pytest.raises(RuntimeFailure, match="--runtime docker"):
        make("process", shop(most=1), tmp_path)
