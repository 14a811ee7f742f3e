"""A lean C-STORE sender: one blocking socket and no threads that poll (PS3.7, PS3.8).

    line = open_line(address, "PACS_A", "DICOM_ROUTER", {(sop_class, transfer_syntax)})
    status = line.store(encoded, message_id)      line.release()

An association that waits costs nothing, and an image costs a fraction of what a general library
takes. It refuses to wait without a bound and to read a message that is larger than its own kind.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator

from stacks.hospital.imaging.association import AssociationError, AssociationLost, Bounds
from stacks.hospital.imaging.instances import IMPLEMENTATION_UID, Encoded
from stacks.hospital.log import describe
from stacks.hospital.settings import Address

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
OUR_PDU_BYTES = 16_384  # we receive short answers only
PDU_BYTES_MAX = 128 * 1024  # of what we send at a time, however much the peer would take
ANSWER_BYTES_MAX = 256 * 1024
RELEASE_S = 1.0
RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
STATUS, RESPONDS_TO, COMMAND = 0x0900, 0x0120, 0x0100
_REASONS = {
    (1, 1): "no reason given", (1, 2): "application context not supported",
    (1, 3): "our calling AE title is not known", (1, 7): "the called AE title is not known",
    (3, 1): "temporary congestion", (3, 2): "local limit exceeded",
}  # fmt: skip


class Line:
    """An open association for C-STORE; one thread uses it."""

    def __init__(
        self, connection: socket.socket, contexts: dict[tuple[str, str], int], pdu_bytes: int,
        bounds: Bounds, called: str,
    ) -> None:  # fmt: skip
        self.contexts = contexts
        """(SOP class, transfer syntax) → presentation context, of those that were accepted."""
        self._socket, self._bounds, self._called = connection, bounds, called
        self._pdv_bytes = max(1024, min(pdu_bytes or PDU_BYTES_MAX, PDU_BYTES_MAX) - 6)

    def store(self, encoded: Encoded, message_id: int) -> int:
        """C-STORE the data set's own bytes; returns the peer's status.

        Raises: AssociationLost (unknown whether it is stored), ValueError when the peer did not
        accept this SOP class with this transfer syntax.
        """
        context = self.contexts.get((encoded.sop_class, encoded.transfer_syntax))
        if context is None:
            raise ValueError(
                f"{self._called} accepts no {encoded.sop_class} in {encoded.transfer_syntax}"
            )
        message_id = message_id % 0xFFFF + 1
        try:
            self._socket.settimeout(self._bounds.stall_s)
            command = _command(encoded, message_id)
            self._socket.sendall(b"".join(_pdus(context, command, encoded.data, self._pdv_bytes)))
            return self._answer(message_id, time.monotonic() + self._bounds.answer_s)
        except (OSError, ValueError, struct.error) as error:
            self.abort()
            reason = f"no answer to the C-STORE of {encoded.sop_uid}: {describe(error)}"
            raise AssociationLost(reason) from None

    def _answer(self, message_id: int, deadline: float) -> int:
        command = b""
        while True:
            kind, body = _read(self._socket, deadline)
            if kind != DATA:
                raise ValueError(f"{self._called} ends the association (PDU type {kind})")
            for control, fragment in _fragments(body):
                if not control & 1:
                    continue  # a C-STORE answer has no data set
                command += fragment
                if len(command) > ANSWER_BYTES_MAX:
                    raise ValueError("the answer is too long")
                if control & 2:
                    found = dict(_elements(command))
                    ours = found.get(RESPONDS_TO) == message_id
                    if found.get(COMMAND) != C_STORE_RSP or not ours or STATUS not in found:
                        raise ValueError("the answer is not to our C-STORE")
                    return found[STATUS]

    def release(self) -> None:
        """End the association in good order."""
        try:
            self._socket.settimeout(RELEASE_S)
            self._socket.sendall(struct.pack(">BxL4x", RELEASE_RQ, 4))
            _read(self._socket, time.monotonic() + RELEASE_S)
        except (OSError, ValueError, struct.error):
            pass  # the other end is gone: so is the association
        self._socket.close()

    def abort(self) -> None:
        """End it at once."""
        try:
            self._socket.settimeout(RELEASE_S)
            self._socket.sendall(struct.pack(">BxL4x", ABORT, 4))
        except OSError:
            pass
        self._socket.close()


def open_line(
    where: Address, called: str, calling: str, kinds: Iterable[tuple[str, str]], bounds: Bounds
) -> Line:
    """Open an association for images of these (SOP class, transfer syntax).

    Raises: AssociationError.
    """
    asked = {2 * number + 1: kind for number, kind in enumerate(kinds)}
    try:
        connection = socket.create_connection((where.host, where.port), bounds.connect_s)
    except OSError as error:
        raise AssociationError(f"{called} at {where} cannot be reached: {error}") from None
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_request(called, calling, asked))
        kind, body = _read(connection, time.monotonic() + bounds.negotiate_s)
        if kind == AC:
            accepted, pdu_bytes = _accepted(body)
            contexts = {asked[one]: one for one in accepted if one in asked}
            if contexts:
                return Line(connection, contexts, pdu_bytes, bounds, called)
            raise AssociationError(f"{called} accepts none of our contexts", refused=True)
        if kind == RJ:
            reason = _REASONS.get((body[2], body[3]), f"source {body[2]} reason {body[3]}")
            raise AssociationError(f"{called} at {where} rejects us: {reason}", refused=True)
        raise AssociationError(f"{called} at {where} answers with PDU type {kind}")
    except AssociationError:
        connection.close()
        raise
    except (OSError, ValueError, struct.error, IndexError) as error:
        connection.close()
        raise AssociationError(f"{called} at {where} does not answer: {error}") from None


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _request(called: str, calling: str, asked: dict[int, tuple[str, str]]) -> bytes:
    contexts = b"".join(
        _item(0x20, struct.pack(">B3x", number) + _item(0x30, a.encode()) + _item(0x40, t.encode()))
        for number, (a, t) in asked.items()
    )
    user = (
        _item(0x51, struct.pack(">L", OUR_PDU_BYTES))
        + _item(0x52, IMPLEMENTATION_UID.encode())
        + _item(0x55, b"HOSPITAL_1")
    )
    body = (
        struct.pack(">H2x16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
        + _item(0x10, APPLICATION_CONTEXT.encode()) + contexts + _item(0x50, user)
    )  # fmt: skip
    return struct.pack(">BxL", RQ, len(body)) + body


def _items(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        yield kind, body[at + 4 : at + 4 + length]
        at += 4 + length


def _accepted(body: bytes) -> tuple[list[int], int]:
    """Accepted presentation contexts, and the largest PDU that the peer takes (0: no limit)."""
    accepted, pdu_bytes = [], 0
    for kind, item in _items(body[68:]):
        if kind == 0x21 and item[2] == 0:
            accepted.append(item[0])
        if kind == 0x50:
            for one, value in _items(item):
                if one == 0x51:
                    (pdu_bytes,) = struct.unpack(">L", value)
    return accepted, pdu_bytes


def _read(connection: socket.socket, deadline: float) -> tuple[int, bytes]:
    kind, length = struct.unpack(">BxL", _exactly(connection, 6, deadline))
    if length > ANSWER_BYTES_MAX:
        raise ValueError(f"a PDU of {length} bytes is too long")
    return kind, _exactly(connection, length, deadline)


def _exactly(connection: socket.socket, length: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < length:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        connection.settimeout(left)
        part = connection.recv(length - len(found))
        if not part:
            raise ConnectionResetError("the peer hung up")
        found += part
    return bytes(found)


def _pdus(context: int, command: bytes, data: bytes, pdv_bytes: int) -> Iterator[bytes]:
    for content, flag in ((command, 1), (data, 0)):
        for at in range(0, len(content), pdv_bytes):
            part = content[at : at + pdv_bytes]
            control = flag | (2 if at + pdv_bytes >= len(content) else 0)
            yield struct.pack(">BxLLBB", DATA, len(part) + 6, len(part) + 2, context, control)
            yield part


def _fragments(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 6 <= len(body):
        length, _, control = struct.unpack_from(">LBB", body, at)
        if length < 2 or at + 4 + length > len(body):
            raise ValueError("a fragment is cut off")
        yield control, body[at + 6 : at + 4 + length]
        at += 4 + length


def _command(encoded: Encoded, message_id: int) -> bytes:
    """The C-STORE-RQ command set in Implicit VR Little Endian (PS3.7 9.3.1.1)."""

    def uid(element: int, text: str) -> bytes:
        value = text.encode("ascii")
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, element, len(value)) + value

    def short(element: int, value: int) -> bytes:
        return struct.pack("<HHLH", 0, element, 2, value)

    body = b"".join(
        (
            uid(0x0002, encoded.sop_class),
            short(COMMAND, C_STORE_RQ),
            short(0x0110, message_id),
            short(0x0700, 2),
            short(0x0800, 1),
            uid(0x1000, encoded.sop_uid),
        )
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _elements(command: bytes) -> Iterator[tuple[int, int]]:
    """The two-byte elements of a command set: element → number."""
    at = 0
    while at + 8 <= len(command):
        _, element, length = struct.unpack_from("<HHL", command, at)
        if length == 2 and at + 10 <= len(command):
            yield element, struct.unpack_from("<H", command, at + 8)[0]
        at += 8 + length
