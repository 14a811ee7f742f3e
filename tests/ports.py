"""Loopback ports for tests, each free until the test itself uses it.

    port = free_port()

They lie below the range of outgoing connections, in a block that no other test process and no
stack on this machine uses: what the kernel calls free is some connection's a moment later.
"""

from __future__ import annotations

import functools
import itertools
import socket
from collections.abc import Iterator

from chaos.runtime.ports import HOST, PortBlock, reserve

COUNT = 512
"""They are given in turn, so that nobody meets a port again that has just been used."""


def free_port() -> int:
    """A port where nobody listens, and nobody but the caller will."""
    _, turn = _ours()
    return next(port for port in itertools.islice(turn, COUNT) if _is_free(port))


@functools.cache
def _ours() -> tuple[PortBlock, Iterator[int]]:
    """The block, locked for as long as this process lives, and its ports for ever in turn."""
    block = reserve(COUNT)
    ports = range(block.first, block.first + COUNT)
    for port in ports:
        block.let_go(port)
    return block, itertools.cycle(ports)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
