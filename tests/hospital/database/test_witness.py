"""What the witness says of itself."""

from __future__ import annotations

import socket

from stacks.hospital.witness import health


def test_the_witness_is_ready_only_when_votes_reach_each_other() -> None:
    """Without a raft leader nobody could be made primary: 503 with the reason."""
    assert health("ehr-db-witness", "127.0.0.1:1")[0] == 200
    status, body = health("ehr-db-witness", None)
    assert status == 503
    assert "no raft leader" in body["checks"]["raft"]["reason"]


def test_importing_the_witness_leaves_the_socket_module_alone() -> None:
    """pysyncobj replaces socket.inet_ntop by one that works on Windows only; we put it back."""
    assert socket.inet_ntop(socket.AF_INET, b"\x7f\x00\x00\x01") == "127.0.0.1"
