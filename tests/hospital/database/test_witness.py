"""What the witness says of itself."""

from __future__ import annotations

import socket

import pytest

from stacks.hospital import raft_links
from stacks.hospital.database_place import Dcs
from stacks.hospital.witness import health


@pytest.mark.parametrize("votes", ["raft", "etcd"])
def test_the_witness_is_ready_only_when_votes_reach_each_other(votes: Dcs) -> None:
    """Without a leader nobody could be made primary: 503 with the reason."""
    assert health("ehr-db-witness", votes, True)[0] == 200
    status, body = health("ehr-db-witness", votes, False)
    assert status == 503
    assert f"no {votes} leader" in body["checks"][votes]["reason"]


def test_importing_patronis_raft_leaves_the_socket_module_alone() -> None:
    """pysyncobj replaces socket.inet_ntop by one that works on Windows only; we put it back."""
    assert raft_links.CONNECT_RETRY_S > 0  # imported, so pysyncobj is
    assert socket.inet_ntop(socket.AF_INET, b"\x7f\x00\x00\x01") == "127.0.0.1"
