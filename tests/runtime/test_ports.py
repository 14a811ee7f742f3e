"""Port blocks: never shared, never in use, below the range of outgoing connections."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from chaos.runtime import RuntimeFailure
from chaos.runtime.ports import BLOCK, HOST, reserve


def test_two_blocks_never_overlap_even_with_one_seed() -> None:
    """The second reservation moves on."""
    one, two = reserve(50, seed=1), reserve(50, seed=1)
    try:
        assert not set(range(one.first, one.first + 50)) & set(range(two.first, two.first + 50))
    finally:
        one.release()
        two.release()


def test_a_block_with_one_port_in_use_is_not_taken() -> None:
    """A listener anywhere in the block makes the reservation move on."""
    seed = secrets.randbits(32)  # a run with the same one would look at the same blocks
    probe = reserve(50, seed)
    first = probe.first
    probe.release()
    with socket.create_server((HOST, first + 49)):
        other = reserve(50, seed)
        assert other.first != first
        other.release()
    again = reserve(50, seed)
    assert again.first == first
    again.release()


def test_a_large_stack_locks_every_block_it_spans() -> None:
    """More ports than a block: the neighbours cannot take its second block."""
    big = reserve(BLOCK + 10, seed=5)
    try:
        others = [reserve(10, seed=number) for number in range(30)]
        for other in others:
            assert not big.first <= other.first < big.first + BLOCK + 10
            other.release()
    finally:
        big.release()


def test_ports_lie_outside_the_range_of_outgoing_connections() -> None:
    """A kernel-chosen port of a client can never be a service's."""
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii")
    low, high = (int(word) for word in text.split())
    if low < 12000 and high > 64000:
        pytest.skip("this machine leaves no room outside that range")
    block = reserve(10)
    assert block.first + 10 <= low or block.first > high
    block.release()


def test_an_index_outside_the_block_is_an_error() -> None:
    """No port beyond those that were reserved."""
    block = reserve(3)
    with pytest.raises(RuntimeFailure):
        block.port(3)
    block.release()
