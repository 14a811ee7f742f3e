"""MLLP frames and the few HL7 fields that acknowledgements hang on: pure functions of bytes.

It reads MSH-10, MSA-1 and MSA-2 and rewrites an acknowledgement; it validates nothing else.
Frames above MAX_FRAME and bytes outside frames are loose: they pass.
"""

from __future__ import annotations

from typing import NamedTuple

VT, END = b"\x0b", b"\x1c\r"
MAX_FRAME = 1 << 20  # bytes held while a frame is incomplete
POSITIVE = ("AA", "CA")
NEGATIVE = {"AA": {"AE": "AE", "AR": "AR"}, "CA": {"AE": "CE", "AR": "CR"}}
CODES = ("AA", "AE", "AR", "CA", "CE", "CR")
ERRORS = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    205: "Duplicate key identifier",
    206: "Application record locked",
    207: "Application internal error",
}  # HL7 table 0357


class Chunk(NamedTuple):
    """A frame with its VT and FS CR, or loose bytes."""

    data: bytes
    frame: bool


class Acknowledged(NamedTuple):
    """MSA-1 and MSA-2 of an acknowledgement."""

    code: str
    control_id: str


class Frames:
    """Cuts a stream into frames; holds one incomplete frame of MAX_FRAME bytes at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scan = 0

    def feed(self, data: bytes) -> list[Chunk]:
        """Frames and loose bytes, in order."""
        buffer, chunks = self._buffer, list[Chunk]()
        buffer += data
        while buffer:
            if buffer[0] != VT[0]:
                start = buffer.find(VT)
                self._move(len(buffer) if start < 0 else start, chunks, frame=False)
                continue
            end = buffer.find(END, max(1, self._scan))
            if end >= 0:
                self._move(end + len(END), chunks, frame=True)
            elif len(buffer) > MAX_FRAME:
                self._move(len(buffer), chunks, frame=False)
            else:
                self._scan = len(buffer) - 1  # its last byte may be the FS of FS CR
                break
        return chunks

    def _move(self, size: int, chunks: list[Chunk], *, frame: bool) -> None:
        chunks.append(Chunk(bytes(self._buffer[:size]), frame))
        del self._buffer[:size]
        self._scan = 0

    def rest(self) -> bytes:
        """The incomplete frame."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scan = 0
        return rest


def control_id(frame: bytes) -> str:
    """MSH-10; '' when there is none."""
    head = _segments(frame)[0].split(frame[4:5] or b"|")
    return head[9].decode("latin-1") if head[0] == b"MSH" and len(head) > 9 else ""


def acknowledged(frame: bytes) -> Acknowledged | None:
    """What a frame acknowledges; None when it is no acknowledgement."""
    mark = frame[4:5]
    for segment in _segments(frame):
        if segment.startswith(b"MSA" + mark) and mark:
            fields = segment.split(mark)
            code = fields[1].decode("latin-1")
            if code in CODES and len(fields) > 2:
                return Acknowledged(code, fields[2].decode("latin-1"))
    return None


def negated(frame: bytes, code: str, error: int) -> bytes:
    """The same acknowledgement with MSA-1 `code` (AE or AR) and an ERR segment with `error`."""
    mark = frame[4:5]
    component = frame[5:6] or b"^"
    kept = []
    for segment in _segments(frame):
        if segment.startswith(b"MSA" + mark):
            fields = segment.split(mark)
            said = fields[1].decode("latin-1")
            fields[1] = NEGATIVE.get(said, {}).get(code, code).encode()
            segment = mark.join(fields[:3])
        if segment and not segment.startswith(b"ERR" + mark):
            kept.append(segment)
    text = ERRORS.get(error, "").encode()
    kept.append(
        mark.join([b"ERR", b"", b"", component.join([b"%d" % error, text, b"HL70357"]), b"E"])
    )
    return VT + b"\r".join(kept) + b"\r" + END


def half(frame: bytes) -> bytes:
    """The first half of a frame: it has no end."""
    return frame[: max(1, len(frame) // 2)]


def _segments(frame: bytes) -> list[bytes]:
    return frame[1 : -len(END)].replace(b"\n", b"\r").split(b"\r")
