"""The lean C-STORE sender meets peers that hang, lie, refuse or end in the middle."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from stacks.hospital.imaging.association import (
    COMMITMENT,
    AssociationError,
    AssociationLost,
    Bounds,
    Listening,
    contexts,
    listen,
)
from stacks.hospital.imaging.buffer_wire import open_line
from stacks.hospital.imaging.instances import RAW_EXPLICIT, STORAGE
from stacks.hospital.log import Log
from stacks.hospital.settings import Address
from tests.ports import free_port

from .router_stand import HOST, Archive, images

BOUNDS = Bounds(connect_s=0.5, negotiate_s=0.5, answer_s=0.5, idle_s=5.0, stall_s=0.5)
KINDS = [(one, RAW_EXPLICIT) for one in STORAGE.values()]
ACCEPT = (
    struct.pack(">H2x16s16s32x", 1, b"PACS_A", b"CT1")
    + struct.pack(">BxH", 0x21, 25) + b"\1\0\0\0" + struct.pack(">BxH", 0x40, 17)
    + RAW_EXPLICIT.encode()[:17]
)  # fmt: skip
Talk = Callable[[socket.socket], None]


@pytest.fixture
def peer() -> Iterator[Callable[[Talk], Address]]:
    """Starts a TCP peer that talks as it is told to each that calls."""
    listeners: list[socket.socket] = []

    def start(talk: Talk) -> Address:
        listener = socket.create_server((HOST, 0))
        listeners.append(listener)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    talk(connection)
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        return Address(HOST, int(listener.getsockname()[1]))

    yield start
    for one in listeners:
        one.close()


def _accept(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(struct.pack(">BxL", 2, len(ACCEPT)) + ACCEPT)


def _hang(connection: socket.socket) -> None:
    connection.recv(65536)
    time.sleep(1.5)


def _nonsense(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _reject(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(struct.pack(">BxLxBBB", 3, 4, 1, 1, 7))


@pytest.mark.parametrize(
    ("talk", "says"),
    [(_hang, "does not answer"), (_nonsense, "does not answer"), (_reject, "called AE title")],
)
def test_no_association_is_said_in_time(
    peer: Callable[[Talk], Address], talk: Talk, says: str
) -> None:
    """Hanging, nonsense and rejection: AssociationError with the reason, within the bounds."""
    began = time.monotonic()
    with pytest.raises(AssociationError, match=says):
        open_line(peer(talk), "PACS_A", "CT1", KINDS, BOUNDS)
    assert time.monotonic() - began < 1.5


def _then(answer: bytes, wait_s: float = 0.0) -> Talk:
    def talk(connection: socket.socket) -> None:
        _accept(connection)
        connection.recv(65536)
        connection.sendall(answer)
        time.sleep(wait_s)

    return talk


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\4\0\0\0\0\3",
        struct.pack(">BxL4x", 7, 4),
        b"\4\0\x7f\xff\xff\xff",
        b"\4\0\0\0\0\x0a" + b"\0\0\0\6\1\3" + b"junk",
        b"\4\0\0\0\0\4" + b"\0\0\0\xff",
    ],
    ids=["closed", "cut off", "abort", "huge", "other answer", "bad fragment"],
)
def test_an_association_that_breaks_is_unknown_never_a_success(
    peer: Callable[[Talk], Address], answer: bytes
) -> None:
    """Whatever comes but the answer to our request: AssociationLost."""
    line = open_line(peer(_then(answer)), "PACS_A", "CT1", [KINDS[0]], BOUNDS)
    with pytest.raises(AssociationLost):
        line.store(images("e1", 1)[0], 1)


def test_a_silent_peer_is_given_up_in_time(peer: Callable[[Talk], Address]) -> None:
    """No answer to a C-STORE: AssociationLost after answer_s."""
    line = open_line(peer(_then(b"", 2.0)), "PACS_A", "CT1", [KINDS[0]], BOUNDS)
    began = time.monotonic()
    with pytest.raises(AssociationLost):
        line.store(images("e1", 1)[0], 1)
    assert time.monotonic() - began < 1.5


def test_against_an_independent_implementation() -> None:
    """pynetdicom understands what we send, large images too, and a refused context is said."""
    archive = Archive("PACS_A").open()
    try:
        line = open_line(archive.address, "PACS_A", "CT1", KINDS, BOUNDS)
        found = images("e1", 3)
        large = found[2]._replace(data=found[2].data + bytes(3_000_001))
        assert [line.store(one, 65_534 + i) for i, one in enumerate([*found[:2], large])] == [0] * 3
        line.release()
        assert archive.kept[large.sop_uid] == large.data
        line = open_line(archive.address, "PACS_A", "CT1", KINDS, BOUNDS)
        with pytest.raises(ValueError, match="accepts no"):
            line.store(found[0]._replace(transfer_syntax="1.2.840.10008.1.2.4.90"), 1)
        line.abort()
    finally:
        archive.close()


def test_a_peer_without_storage_accepts_none() -> None:
    """Nothing accepted: AssociationError that says that the peer refused."""
    where = Address(HOST, free_port())
    scp = listen(Listening("PACS_A", where, contexts([COMMITMENT]), []), Log("test"))
    try:
        with pytest.raises(AssociationError) as refused:
            open_line(where, "PACS_A", "CT1", KINDS, BOUNDS)
        assert refused.value.refused
    finally:
        scp.stop()
