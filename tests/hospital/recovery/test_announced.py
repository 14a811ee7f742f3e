"""A stop on purpose that is announced while an incident goes on already."""

from __future__ import annotations

from dataclasses import replace

from stacks.hospital.recovery.journal import (
    ANNOUNCED,
    CLOSED,
    NORMAL,
    OPENED,
    RELEASED,
    Entry,
    fold,
)
from tests.hospital.recovery.test_decisions import during, led, unmet, well, world


def test_normal_waits_for_the_announced_stop() -> None:
    """Not between the announcement and the stop, also where the service was away before."""
    state, _ = led(during("lis", "billing"), world(at=100.0))
    state = fold(state, Entry(RELEASED, "i", 101.0, kinds=state.held))
    assert unmet(state, well()) == set()
    state = fold(state, Entry(ANNOUNCED, "i", 101.0, services=("billing",), kinds=("planned",)))
    state = replace(state, eta=500.0)
    assert state.announced == ("billing",)
    assert unmet(state, well()) == {"stop over"}
    state = fold(state, Entry(CLOSED, "i", 102.0, services=("billing",)))
    assert "stop over" not in unmet(state, well())
    state = fold(state, Entry(OPENED, "i", 103.0, services=("billing",)))
    assert unmet(state, well()) == set()


def test_it_ends_with_its_incident() -> None:
    """Nothing of it is left for the next one."""
    state = fold(during("lis"), Entry(ANNOUNCED, "i", 101.0, services=("billing",)))
    assert fold(state, Entry(NORMAL, "i", 300.0)).announced == ()
