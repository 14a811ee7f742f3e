"""One connection under one speaking toxic, on a clock of our own: no sockets, no waiting."""

from __future__ import annotations

import struct
from random import Random

from chaos.toxiproxy.toxics.record import Record
from chaos.toxiproxy.toxics.stage import Ending, Inbox, Memory, Piece, Stage, Toxic
from chaos.toxiproxy.toxics.talk import Speaking

MS = 1_000_000
MAX_STEPS = 10_000
ROOM = 1 << 62


class TalkBench:
    """`ask` and `answer` feed the two sides; `reached` and `returned` are what came through."""

    def __init__(self, toxic: Toxic, record: Record | None = None) -> None:
        assert isinstance(toxic, Speaking)
        self.record = record or Record()
        self.talk = toxic.talk(self.record)
        self.now_ns = 0
        self.reached = b""
        self.returned = b""
        self.upstream = self._side(toxic, asks=True)
        self.downstream = self._side(toxic, asks=False)

    def _side(self, toxic: Toxic, *, asks: bool) -> tuple[Stage, Inbox, Inbox]:
        memory = Memory(True, talk=self.talk, asks=asks)
        stage = toxic.stage(memory, Random(1))
        return stage, Inbox(stage.room), Inbox(ROOM)

    def ask(self, data: bytes) -> TalkBench:
        self.upstream[1].put(Piece(data, self.now_ns))
        return self.run(self.now_ns / MS)

    def answer(self, data: bytes) -> TalkBench:
        self.downstream[1].put(Piece(data, self.now_ns))
        return self.run(self.now_ns / MS)

    def run(self, until_ms: float = 1e9) -> TalkBench:
        """Jump from one wake-up to the next."""
        for _ in range(MAX_STEPS):
            dues = [self._step(side) for side in (self.upstream, self.downstream)]
            self._collect()
            if self.talk.stirred:
                self.talk.stirred = False
                continue
            wakes = [due_ns for due_ns in dues if due_ns is not None]
            if not wakes or min(wakes) > until_ms * MS:
                return self
            assert min(wakes) > self.now_ns, "a stage that asks for the past spins"
            self.now_ns = min(wakes)
        raise AssertionError("the stages never come to rest")

    def _step(self, side: tuple[Stage, Inbox, Inbox]) -> int | None:
        stage, inbox, outlet = side
        if outlet.ending in (Ending.CUT, Ending.RESET):
            inbox.clear()
            return None
        return stage.step(self.now_ns, inbox, outlet)

    def _collect(self) -> None:
        while self.upstream[2].pieces:
            self.reached += bytes(self.upstream[2].take().data)
        while self.downstream[2].pieces:
            self.returned += bytes(self.downstream[2].take().data)

    def hang_up(self) -> TalkBench:
        """The client ends its direction."""
        self.upstream[1].end(Ending.EOF)
        return self.run(self.now_ns / MS)

    def leave(self) -> TalkBench:
        """The toxic is removed."""
        for stage, inbox, outlet in (self.upstream, self.downstream):
            stage.leave(inbox, outlet)
        self._collect()
        return self

    @property
    def endings(self) -> tuple[Ending | None, Ending | None]:
        return self.upstream[2].ending, self.downstream[2].ending


def message(control_id: str, more: bytes = b"EVN|A01\r") -> bytes:
    """An MLLP frame with an HL7 message."""
    head = f"MSH|^~\\&|ENGINE|A|LIS|B|20261122||ORM^O01|{control_id}|P|2.5\r".encode()
    return b"\x0b" + head + more + b"\x1c\r"


def acknowledgement(control_id: str, code: str = "AA") -> bytes:
    """An MLLP frame with its acknowledgement."""
    head = f"MSH|^~\\&|LIS|B|ENGINE|A|20261122||ACK|A{control_id}|P|2.5\r".encode()
    return b"\x0b" + head + f"MSA|{code}|{control_id}\r".encode() + b"\x1c\r"


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def pdv(body: bytes, *, command: bool, last: bool, context: int = 1) -> bytes:
    return struct.pack(">IBB", len(body) + 2, context, command | last << 1) + body


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def store(message_id: int, instance: str, fragments: int = 4) -> bytes:
    """P-DATA PDUs of one C-STORE request: the command, then the data set in fragments."""
    body = (
        element(0x0002, b"1.2.840.10008.5.1.4.1.1.2")
        + element(0x0100, struct.pack("<H", 0x0001))
        + element(0x0110, struct.pack("<H", message_id))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, instance.encode())
    )
    command = element(0x0000, struct.pack("<I", len(body))) + body
    pdus = pdu(4, pdv(command, command=True, last=True))
    for number in range(fragments):
        fragment = bytes([number + 1]) * 100
        pdus += pdu(4, pdv(fragment, command=False, last=number == fragments - 1))
    return pdus


def stored(message_id: int, instance: str, status: int = 0) -> bytes:
    """The archive's response."""
    body = (
        element(0x0100, struct.pack("<H", 0x8001))
        + element(0x0120, struct.pack("<H", message_id))
        + element(0x0800, struct.pack("<H", 0x0101))
        + element(0x0900, struct.pack("<H", status))
        + element(0x1000, instance.encode())
    )
    command = element(0x0000, struct.pack("<I", len(body))) + body
    return pdu(4, pdv(command, command=True, last=True))


def request(target: str, body: bytes = b"", method: str = "POST", *more: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: ehr", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def response(status: int = 200, body: bytes = b"ok") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*chunks: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (*chunks, b""))
