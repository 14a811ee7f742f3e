"""DICOM upper layer PDUs, their PDVs and command sets (PS3.8, PS3.7): pure functions of bytes.

It reads what C-STORE hangs on and builds a C-STORE response and an abort; it validates no more.
PDUs above MAX_PDU and bytes that are no PDU are loose: they pass, and so does all that follows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAX_PDU = 1 << 20  # bytes held while a PDU is incomplete
MAX_COMMAND = 1 << 16  # bytes of one command set
HEAD = 6
ASSOCIATE_RQ, P_DATA, ABORT = 0x01, 0x04, 0x07
TYPES = range(0x01, 0x08)
C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
NO_DATA_SET = 0x0101
OUT_OF_RESOURCES = 0xA700
ABORT_BY_PROVIDER = bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, 2, 0))  # source 2: UL provider
GROUP_LENGTH, SOP_CLASS, FIELD = 0x0000, 0x0002, 0x0100
MESSAGE_ID, RESPONDED_TO, DATA_SET, STATUS = 0x0110, 0x0120, 0x0800, 0x0900
ERROR_COMMENT, SOP_INSTANCE = 0x0902, 0x1000
MAX_COMMENT = 64  # characters of an LO


class Pdu(NamedTuple):
    """A whole PDU, or loose bytes (`kind` 0)."""

    data: bytes
    kind: int


class Pdv(NamedTuple):
    """One presentation data value with its own header."""

    data: bytes
    context: int
    command: bool
    last: bool

    @property
    def fragment(self) -> bytes:
        return self.data[HEAD:]


class Command(NamedTuple):
    """The fields of a command set that matter here."""

    field: int
    message: int  # Message ID, or the one responded to
    sop_class: str
    sop_instance: str
    has_data: bool
    status: int


class Pdus:
    """Cuts a stream into PDUs; a stream that is none passes loose from there on."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._loose = False

    def feed(self, data: bytes) -> list[Pdu]:
        """PDUs and loose bytes, in order."""
        buffer, pdus = self._buffer, list[Pdu]()
        buffer += data
        while buffer:
            size = len(buffer) if self._loose else _size(buffer)
            if size < 0:
                self._loose = True
                continue
            if size == 0 or size > len(buffer):
                break
            pdus.append(Pdu(bytes(buffer[:size]), 0 if self._loose else buffer[0]))
            del buffer[:size]
        return pdus

    def rest(self) -> bytes:
        """The incomplete PDU."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def _size(buffer: bytearray) -> int:
    """Bytes of the PDU that begins here; 0: not known yet; -1: this is none, or too long."""
    if buffer[0] not in TYPES or (len(buffer) > 1 and buffer[1]):
        return -1
    if len(buffer) < HEAD:
        return 0
    size = HEAD + int.from_bytes(buffer[2:HEAD], "big")
    if size > MAX_PDU:
        return -1
    if buffer[0] == P_DATA and len(buffer) >= 2 * HEAD:  # a first look, for bytes from mid-stream
        first = int.from_bytes(buffer[HEAD : HEAD + 4], "big")
        if not 2 <= first <= size - HEAD - 4 or buffer[10] % 2 == 0 or buffer[11] > 3:
            return -1
    return size


def pdvs(pdu: bytes) -> list[Pdv] | None:
    """The PDVs of a P-DATA-TF PDU; None when they do not fill it exactly."""
    found, at = list[Pdv](), HEAD
    while at < len(pdu):
        if len(pdu) - at < HEAD:
            return None
        size = int.from_bytes(pdu[at : at + 4], "big")
        end = at + 4 + size
        if size < 2 or end > len(pdu):
            return None
        control = pdu[at + 5]
        found.append(Pdv(pdu[at:end], pdu[at + 4], bool(control & 1), bool(control & 2)))
        at = end
    return found


def p_data(values: list[bytes]) -> bytes:
    """A P-DATA-TF PDU of these PDVs."""
    body = b"".join(values)
    return struct.pack(">BBI", P_DATA, 0, len(body)) + body


def read_command(text: bytes) -> Command | None:
    """A command set (Implicit VR Little Endian, group 0000); None when it is none."""
    values = {}
    try:
        for element, value in _elements(text):
            values[element] = value
        field = _number(values[FIELD])
        response = bool(field & 0x8000)
        return Command(
            field=field,
            message=_number(values[RESPONDED_TO if response else MESSAGE_ID]),
            sop_class=_text(values.get(SOP_CLASS, b"")),
            sop_instance=_text(values.get(SOP_INSTANCE, b"")),
            has_data=_number(values[DATA_SET]) != NO_DATA_SET,
            status=_number(values[STATUS]) if response else 0,
        )
    except (KeyError, ValueError, struct.error):
        return None


def store_response(context: int, request: Command, status: int, comment: str) -> bytes:
    """A P-DATA-TF PDU with a C-STORE-RSP: the answer to `request` with this status."""
    elements = (
        (SOP_CLASS, _uid(request.sop_class)),
        (FIELD, struct.pack("<H", C_STORE_RSP)),
        (RESPONDED_TO, struct.pack("<H", request.message)),
        (DATA_SET, struct.pack("<H", NO_DATA_SET)),
        (STATUS, struct.pack("<H", status)),
        (ERROR_COMMENT, _even(comment[:MAX_COMMENT].encode("ascii", "replace"), b" ")),
        (SOP_INSTANCE, _uid(request.sop_instance)),
    )
    body = b"".join(_element(element, value) for element, value in elements)
    command = _element(GROUP_LENGTH, struct.pack("<I", len(body))) + body
    header = struct.pack(">IBB", len(command) + 2, context, 0b11)  # a command, and its last piece
    return p_data([header + command])


def _elements(text: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(text):
        group, element, size = struct.unpack_from("<HHI", text, at)
        at += 8
        if group != 0 or at + size > len(text):
            raise ValueError("no command set")
        yield element, text[at : at + size]
        at += size


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value


def _number(value: bytes) -> int:
    return int(struct.unpack("<H", value)[0])


def _text(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("latin-1")


def _uid(text: str) -> bytes:
    return _even(text.encode("latin-1"), b"\0")


def _even(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) % 2 else value
