"""What the witness says of itself."""

from __future__ import annotations

from stacks.hospital.witness import health


def test_the_witness_is_ready_only_when_votes_reach_each_other() -> None:
    """Without a raft leader nobody could be made primary: 503 with the reason."""
    assert health("ehr-db-witness", "127.0.0.1:1")[0] == 200
    status, body = health("ehr-db-witness", None)
    assert status == 503
    assert "no raft leader" in body["checks"]["raft"]["reason"]
