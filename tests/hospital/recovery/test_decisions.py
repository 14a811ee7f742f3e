"""What the incident system decides from what it sees: pure, so every order of events is tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stacks.hospital.recovery.decisions import (
    Integrity,
    Look,
    World,
    closings,
    criteria,
    essential_down,
    holdings,
    missing,
    openings,
    releases,
)
from stacks.hospital.recovery.journal import CLOSED, DECLARED, NORMAL, OPENED, Entry, State, fold
from stacks.hospital.recovery.plan import ALL_KINDS, CHARGES

CARE = ("ehr-db-a", "ehr-db-b", "gam", "engine", "ehr-a", "ehr-b", "lis", "ro-copy", "billing")
UP, DOWN = Look(True), Look(False, "no answer", failed=3)


def world(*down: str, at: float = 100.0, services: tuple[str, ...] = CARE) -> World:
    looks = {name: DOWN if name in down else UP for name in services}
    return World(at, looks, engine_at=at)


def during(*closed: str, kind: str = "downtime", named: tuple[str, ...] = ()) -> State:
    """An incident declared at 10 with these services closed, and what follows for the queues."""
    state = fold(State(), Entry(DECLARED, "i", 10.0, kinds=(kind,), services=named))
    if closed:
        state = fold(state, Entry(CLOSED, "i", 11.0, services=closed))
    for entry in holdings(state, world(*closed)):
        state = fold(state, entry)
    return state


def led(state: State, seen: World) -> tuple[State, list[str]]:
    """One turn: openings, then a release."""
    names: list[str] = []
    for entry in [*openings(state, seen)]:
        names += entry.services
        state = fold(state, replace_at(entry, seen.at))
    return state, names


def replace_at(entry: Entry, at: float) -> Entry:
    return Entry(
        entry.what, entry.incident, at, services=entry.services, kinds=entry.kinds,
        because=entry.because,
    )  # fmt: skip


def test_nothing_opens_before_what_it_needs() -> None:
    """Record and laboratory are up; the engine, which both need, is not."""
    state = during("engine", "ehr-a", "ehr-b", "lis")
    assert openings(state, world("engine")) == []
    assert missing("ehr-a", state, world("engine")) == ["engine"]
    _, names = led(state, world())
    assert names == ["engine", "ehr-a", "ehr-b", "lis"]


def test_the_planned_defect_opens_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`opens-too-early`."""
    monkeypatch.setenv("HOSPITAL_BUG", "opens-too-early")
    opened = openings(during("engine", "lis"), world("engine"))
    assert [one.services for one in opened] == [("lis",)]


def test_one_node_of_a_pair_is_enough_and_each_opens_for_itself() -> None:
    """ehr-a opens while ehr-b is away; ehr-b later."""
    state = during("ehr-a", "ehr-b")
    state, names = led(state, world("ehr-b", "ehr-db-a"))
    assert names == ["ehr-a"]
    assert led(state, world())[1] == ["ehr-b"]


def test_back_office_waits_for_everybody_urgent() -> None:
    """Billing needs administration and engine only, and opens after the laboratory all the same."""
    state = during("lis", "billing")
    assert led(state, world("lis"))[1] == []
    assert led(state, world())[1] == ["lis", "billing"]


def test_what_is_up_stays_open_and_what_goes_down_is_closed() -> None:
    """One failed look closes nobody; a database is never closed: it does not ask."""
    state = during()
    once = replace(world(), looks={**world().looks, "lis": Look(False, "slow", failed=1)})
    assert closings(state, once) == []
    gone = closings(state, world("lis", "ehr-db-a"))
    assert [one.services for one in gone] == [("lis",)]


def test_what_only_starts_is_no_downtime() -> None:
    """A system that was never seen healthy has not gone away."""
    starting = replace(world(), looks={"lis": Look(False, "starts", 9, known=False)})
    assert essential_down(starting) == ()
    assert essential_down(world("ehr-a")) == ()
    assert essential_down(world("ehr-a", "ehr-b")) == ("ehr-a", "ehr-b")
    assert essential_down(world("billing")) == ()


def test_queues_are_held_until_the_core_is_open_and_replayed_in_order() -> None:
    """Movements, orders, results, appointments, charges; one stage at a time, each when the one
    before has nothing waiting."""
    state = during("engine", "ehr-a", "ehr-b")
    assert state.held == ALL_KINDS
    assert releases(state, world()) == []
    state, _ = led(state, world(at=100.0))
    order = []
    for turn in range(1, 20):
        seen = world(at=100.0 + turn)
        busy = {"lis": {"OML": 3}} if turn in (3, 4, 5) else {}
        for entry in releases(state, replace(seen, waiting=busy)):
            order.append((turn, *entry.kinds))
            state = fold(state, replace_at(entry, seen.at))
    assert [kinds for _, *kinds in order] == [["ADT"], ["OML", "OMI"], ["ORU"], ["SIU"], ["DFT"]]
    assert order[2][0] == 6
    assert state.held == ()


def test_movements_wait_for_what_administration_still_holds() -> None:
    """An empty queue in the engine means nothing while the sender has not handed over."""
    state, _ = led(during("engine"), world(at=100.0))
    before = replace(world(at=101.0), empty_at={"gam:engine": 99.0})
    assert releases(state, before) == []
    after = replace(world(at=101.0), empty_at={"gam:engine": 100.5})
    assert [one.kinds for one in releases(state, after)] == [("ADT",)]


def test_messages_for_somebody_who_is_away_hold_up_nobody() -> None:
    """The laboratory is still down: its movements wait, and orders are released all the same."""
    state, _ = led(during("engine"), world("lis", at=100.0))
    state = fold(state, Entry("released", "i", 101.0, kinds=("ADT",)))
    stuck = replace(world("lis", at=102.0), waiting={"lis": {"ADT": 9}})
    assert [one.kinds for one in releases(state, stuck)] == [("OML", "OMI")]
    busy = replace(world("lis", at=102.0), waiting={"ehr": {"ADT": 9}})
    assert releases(state, busy) == []


def test_a_planned_stop_of_billing_holds_charges_only() -> None:
    """Until billing is open again."""
    state = during("billing", kind="planned", named=("billing",))
    assert state.held == CHARGES
    assert releases(state, world("billing")) == []
    state, names = led(state, world(at=100.0))
    assert names == ["billing"]
    assert [one.kinds for one in releases(state, world(at=101.0))] == [CHARGES]


def well(at: float = 200.0) -> World:
    """Everything that `normal` asks for."""
    return replace(
        world(at=at), empty_at={"engine:lis": 150.0, "gam:engine": 150.0}, lag_bytes=0.0,
        copy_as_of=150.0, integrity=Integrity(True, 150.0, "all read"),
    )  # fmt: skip


def unmet(state: State, seen: World) -> set[str]:
    return {one.name for one in criteria(state, seen) if not one.ok}


def test_normal_needs_every_criterion() -> None:
    """Each one alone is enough to refuse it."""
    state, _ = led(during("lis"), world(at=100.0))
    assert unmet(state, well()) == set()
    for broken, name in (
        (replace(well(), empty_at={"engine:lis": 90.0}), "queues"),
        (replace(well(), lag_bytes=1e6), "replication"),
        (replace(well(), lag_bytes=None), "replication"),
        (replace(well(), copy_as_of=99.0), "copy"),
        (replace(well(), copy_as_of=None), "copy"),
        (replace(well(), integrity=None), "integrity"),
        (replace(well(), integrity=Integrity(True, 99.0)), "integrity"),
        (replace(well(), integrity=Integrity(False, 150.0, "row 7")), "integrity"),
        (replace(well(), looks={**well().looks, "ehr-db-b": DOWN}), "services"),
    ):
        assert unmet(state, broken) == {name}
    assert unmet(fold(state, Entry(CLOSED, "i", 150.0, services=("ris",))), well()) == {"classes"}


def test_the_planted_defect_gives_the_all_clear_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """`all-clear-unchecked`."""
    state, _ = led(during("lis"), world(at=100.0))
    monkeypatch.setenv("HOSPITAL_BUG", "all-clear-unchecked")
    assert unmet(state, replace(well(), integrity=None)) == set()


def test_a_planned_stop_is_not_over_before_it_was() -> None:
    """Normal is not declared between the announcement and the stop."""
    state = during(kind="planned", named=("billing",))
    state = replace(state, eta=500.0)
    assert unmet(state, well()) == {"stop over"}
    state = fold(state, Entry(CLOSED, "i", 101.0, services=("billing",)))
    state = fold(state, Entry(OPENED, "i", 102.0, services=("billing",)))
    assert unmet(state, well()) == set()


def test_after_normal_nothing_is_closed_or_held() -> None:
    """A new incident begins from nothing."""
    state = fold(during("lis", "ehr-a", "ehr-b"), Entry(NORMAL, "i", 300.0))
    assert (state.incident, state.closed, state.held) == ("", frozenset(), ())
    assert state.incidents == 1
