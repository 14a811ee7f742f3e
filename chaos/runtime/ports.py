"""Loopback ports of one stack: a block that no other stack on this machine uses.

It gives ports and keeps others off; it never waits for one and never takes one that is in use.

The lock of a block is an abstract Unix socket: it has the same scope as the ports themselves (the
network namespace), works across users, and goes by itself when its holder dies. Blocks lie below
the range from which the kernel takes ports for outgoing connections, so that a service finds its
port again after a kill.
"""

from __future__ import annotations

import contextlib
import random
import socket
from dataclasses import dataclass, field
from pathlib import Path

from chaos.runtime import RuntimeFailure

HOST = "127.0.0.1"
LOWEST = 10240
HIGHEST = 65000
BLOCK = 128  # ports per block; a stack takes as many blocks in a row as it needs
TRIES = 200
LOCK = "\0hospital-chaos-ports-{}"  # of the block that begins with that port


@dataclass(slots=True)
class PortBlock:
    """Ports `first` … `first + count - 1`, locked until `release` (or until we die)."""

    first: int
    count: int
    _locks: list[socket.socket] = field(default_factory=list)
    _held: dict[int, socket.socket] = field(default_factory=dict)

    def port(self, number: int) -> int:
        """The port of that index."""
        if not 0 <= number < self.count:
            raise RuntimeFailure(f"port index {number} is outside a block of {self.count}")
        return self.first + number

    def let_go(self, port: int) -> None:
        """Stop holding one port: its service is about to bind it."""
        if held := self._held.pop(port, None):
            held.close()

    def release(self) -> None:
        """Let go of all ports and of the lock; idempotent."""
        for port in list(self._held):
            self.let_go(port)
        while self._locks:
            self._locks.pop().close()


def reserve(count: int, seed: int | None = None) -> PortBlock:
    """A free block of `count` ports, each bound (not listening) until it is let go."""
    lowest, highest = _range()
    size = -(-count // BLOCK) * BLOCK
    firsts = list(range(lowest, highest - size, BLOCK))
    random.Random(seed).shuffle(firsts)
    for first in firsts[:TRIES]:
        block = PortBlock(first, count)
        if _lock(block, size) and _bind(block):
            return block
        block.release()
    raise RuntimeFailure(
        f"no {count} free loopback ports in a row between {lowest} and {highest}; "
        "look with `ss -ltn`, and end what is left over with `hospital-chaos heal`"
    )


def _range() -> tuple[int, int]:
    """Below the range of outgoing connections when there is room, else above, else everywhere."""
    with contextlib.suppress(OSError, ValueError):
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii")
        low, high = (int(word) for word in text.split())
        if low - LOWEST >= 8 * BLOCK:
            return LOWEST, low
        if HIGHEST - high >= 8 * BLOCK:
            return high + 1, HIGHEST
    return LOWEST, HIGHEST


def _lock(block: PortBlock, size: int) -> bool:
    for first in range(block.first, block.first + size, BLOCK):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        block._locks.append(lock)
        try:
            lock.bind(LOCK.format(first))
        except OSError:
            return False
    return True


def _bind(block: PortBlock) -> bool:
    for port in range(block.first, block.first + block.count):
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        block._held[port] = held
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((HOST, port))
        except OSError:
            return False
    return True
