"""Who took over from whom, what it lost, and who must not take over: pure, from what was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stacks.hospital.recovery.decisions import (
    Look,
    Takeover,
    World,
    criteria,
    losses,
    lost_words,
)
from stacks.hospital.recovery.handover import behind
from stacks.hospital.recovery.journal import DECLARED, LOSS, NORMAL, Entry, State, fold
from stacks.hospital.recovery.takeovers import Takeovers

A, B = "ehr-db-a", "ehr-db-b"
Member = dict[str, object]


def member(name: str, role: str, timeline: int | None = 1, **more: object) -> Member:
    return {"name": name, "role": role, "timeline": timeline, "state": "streaming", **more}


def pair(leader: str, timeline: int, other_role: str = "sync_standby") -> list[Member]:
    other = B if leader == A else A
    return [member(leader, "leader", timeline), member(other, other_role, timeline)]


def failed_over(role: str) -> Takeovers:
    found = Takeovers()
    found.seen(pair(A, 1, role), 10.0)
    found.seen([member(B, "leader", 2)], 40.0)
    return found


@pytest.mark.parametrize(("role", "synchronous"), [("sync_standby", True), ("replica", False)])
def test_whether_it_was_synchronous_is_what_was_seen_before(role: str, synchronous: bool) -> None:
    """By then the old primary was still in charge; afterwards everybody is nobody's standby."""
    (one,) = failed_over(role).all
    assert (one.node, one.timeline, one.at, one.synchronous) == (B, 2, 40.0, synchronous)


def test_the_first_primary_took_over_from_nobody() -> None:
    """Whatever its timeline is."""
    found = Takeovers()
    found.seen(pair(A, 7), 1.0)
    found.seen(pair(A, 7), 2.0)
    assert found.all == ()


def test_an_old_view_changes_nothing() -> None:
    """A node that slept still believes in the old primary; then it learns."""
    found = failed_over("sync_standby")
    found.seen(pair(A, 1), 41.0)
    found.seen(pair(B, 2), 42.0)
    assert len(found.all) == 1


def test_a_lock_without_a_promotion_is_no_takeover_yet() -> None:
    """The new leader still shows the old timeline, and its own role as a standby is over."""
    found = Takeovers()
    found.seen(pair(A, 1), 1.0)
    found.seen([member(B, "leader", 1)], 2.0)
    assert found.all == ()
    found.seen([member(B, "leader", 2)], 3.0)
    assert [one.synchronous for one in found.all] == [True]


def test_a_primary_that_comes_back_by_itself_is_not_taken_for_whole() -> None:
    """Its disk may have lost what it had synced: only the vault can say."""
    found = Takeovers()
    found.seen(pair(A, 1), 1.0)
    found.seen([member(A, "leader", 2)], 2.0)
    assert [one.synchronous for one in found.all] == [False]


@pytest.mark.parametrize("members", [[], [member(A, "replica")], [member(A, "leader", None)]])
def test_a_view_without_a_primary_says_nothing(members: list[Member]) -> None:
    """Nobody, a standby alone, a leader who does not know where he is."""
    found = failed_over("sync_standby")
    found.seen(members, 50.0)
    assert len(found.all) == 1


def test_the_vault_says_what_was_lost_and_since_when() -> None:
    """By timeline; what it says of others, or not in its own shape, changes nothing."""
    found = failed_over("replica")
    assert found.open
    for nothing in (None, {}, {"failovers": None}, {"failovers": [{"timeline": 2}]},
                    {"failovers": [{"timeline": 9, "lost_bytes": 5}]}):  # fmt: skip
        found.evidence(nothing)
        assert found.open
    found.evidence({"failovers": [{"timeline": 2, "lost_bytes": 4096, "since": 39.0}]})
    (one,) = found.all
    assert (one.lost_bytes, one.since, found.open) == (4096.0, 39.0, False)


# ---------------------------------------------------------------- what is said of it

ASYNCHRONOUS = Takeover(40.0, B, 2, synchronous=False)
SYNCHRONOUS = Takeover(40.0, B, 2, synchronous=True)


@pytest.mark.parametrize(
    ("takeover", "begins"),
    [
        (SYNCHRONOUS, "none:"),
        (replace(SYNCHRONOUS, lost_bytes=300.0), "none:"),  # nobody was told of those
        (replace(ASYNCHRONOUS, lost_bytes=4096.0, since=39.0), "lost: 4096 bytes"),
        (replace(ASYNCHRONOUS, lost_bytes=0.0), "unknown:"),
        (ASYNCHRONOUS, "unknown:"),
    ],
)
def test_nothing_was_lost_is_said_of_a_synchronous_standby_only(
    takeover: Takeover, begins: str
) -> None:
    """The vault has what the old primary had on its disk, not what it had acknowledged."""
    assert lost_words(takeover).startswith(begins)


def test_the_planted_defect_denies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`failover-loss-unreported`."""
    monkeypatch.setenv("HOSPITAL_BUG", "failover-loss-unreported")
    assert lost_words(replace(ASYNCHRONOUS, lost_bytes=4096.0)).startswith("none:")


def seen(at: float, *takeovers: Takeover, vault: bool = True) -> World:
    looks = {name: Look(True) for name in (A, B, "ehr-a")}
    return World(at, looks, lag_bytes=0.0, takeovers=takeovers, vault=vault)


DURING = fold(State(), Entry(DECLARED, "downtime-1", 35.0))


def test_the_vault_is_waited_for_and_not_for_ever() -> None:
    """Without a vault, and when it stays silent, `unknown` is said at once or in a while."""
    assert losses(DURING, seen(41.0, ASYNCHRONOUS)) == []
    for world in (seen(41.0, ASYNCHRONOUS, vault=False), seen(60.0, ASYNCHRONOUS)):
        (entry,) = losses(DURING, world)
        assert (entry.what, entry.services, entry.kinds) == (LOSS, (B,), ("2",))
        assert entry.text.startswith("unknown:")


def data_loss(state: State, world: World) -> list[bool]:
    return [one.ok for one in criteria(state, world) if one.name == "data loss"]


def test_normal_waits_until_it_is_said_and_it_is_said_once() -> None:
    """A criterion of the all-clear while unsaid; afterwards its words; none in the next one."""
    world = seen(41.0, SYNCHRONOUS)
    assert data_loss(DURING, seen(41.0)) == []
    assert data_loss(DURING, world) == [False]
    (entry,) = losses(DURING, world)
    said = fold(DURING, entry)
    assert data_loss(said, world) == [True]
    assert losses(said, world) == []
    assert "synchronous" in next(
        one.text for one in criteria(said, world) if one.name == "data loss"
    )
    over = fold(fold(said, Entry(NORMAL, "downtime-1", 50.0)), Entry(DECLARED, "downtime-2", 60.0))
    assert data_loss(over, world) == []


# ---------------------------------------------------------------- who must not take over


@pytest.mark.parametrize(
    ("to", "role", "words"),
    [
        (A, "sync_standby", ""),
        (A, "replica", "ehr-db-a is no synchronous standby of ehr-db-b (replica"),
        ("ehr-db-c", "sync_standby", "not in the cluster"),
    ],
)
def test_only_who_has_everything_takes_over(to: str, role: str, words: str) -> None:
    """The synchronous standby; the reason names who is what."""
    members = {str(one["name"]): one for one in pair(B, 2, role)}
    reason = behind(to, B, members)
    assert reason.startswith(words) if words.startswith("ehr-db-a") else words in reason
    assert bool(reason) == bool(words)


def test_nobody_takes_over_from_nobody() -> None:
    """Without a primary there is nothing to hand over."""
    assert behind(A, "", {A: member(A, "sync_standby")}) == "nobody is primary"


def test_how_far_it_is_behind_is_told() -> None:
    """In bytes, where Patroni knows."""
    members = {A: member(A, "replica", lag=12_345), B: member(B, "leader", 2)}
    assert "12345 bytes" in behind(A, B, members)
    members[A]["lag"] = "unknown"
    assert "nobody knows how far" in behind(A, B, members)
