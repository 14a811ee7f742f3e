"""What the vault says of a failover: how much of the old log is lost with it, and since when."""

from __future__ import annotations

from pathlib import Path

from stacks.hospital.log import Log
from stacks.hospital.recovery.backup_places import NodeState, Place
from stacks.hospital.recovery.backup_stream import LogStream
from stacks.hospital.settings import Address

NOWHERE = Address("127.0.0.1", 1)


def state(name: str, at: float, timeline: int, flushed: int) -> NodeState:
    return NodeState(name, NOWHERE, False, at, timeline, flushed, flushed)


def test_the_loss_is_told_in_bytes_and_since_when_across_a_gap(tmp_path: Path) -> None:
    """The new primary left the old log at 2,500 bytes; the vault has 4,000 of it. What it cannot
    join begins a new chain, and what was seen of the old primary still counts."""
    (tmp_path / "log").mkdir()
    stream = LogStream(Place(tmp_path, tmp_path, ()), Log("backup"))
    for second in range(5):
        stream._note(state("ehr-db-b", 100.0 + second, 2, 1_000 * second))
    stream._seen.clear()  # as a gap does
    stream._note(state("ehr-db-a", 110.0, 3, 2_600))
    (tmp_path / "log" / stream.chain / "00000003.history").write_text("2\t0/9C4\tno target\n")
    stream._changed_hands(state("ehr-db-a", 110.0, 3, 2_600))
    (found,) = stream.failovers
    assert (found.node, found.timeline, found.left_at) == ("ehr-db-a", 3, 2_500)
    assert (found.lost_bytes, found.since) == (1_500, 102.0)
