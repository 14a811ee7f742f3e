"""MLLP: bounded frames in any chunking, one message outstanding, an acknowledgement for it only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.hospital.wire import framing, mllp, receiving
from stacks.hospital.wire.hl7 import Adt, Header, build, build_ack, parse_ack
from stacks.hospital.wire.intake import Intake
from stacks.hospital.wire.mllp import Deframer, Frame, MllpClient, MllpError, MllpServer, enframe
from tests.ports import free_port

from .stand import Peer, asynchronous, until

PAYLOADS = st.binary(max_size=60).filter(lambda one: mllp.VT not in one and b"\x1c" not in one)
LIMIT = 40


def message(control_id: str) -> bytes:
    return build(Header(control_id, sender="GAM"), Adt("A01", "M1", visit="V1"))


def _chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    bounds = [0, *places, len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(bounds)]


@given(st.lists(PAYLOADS, max_size=5), st.lists(st.integers(0, 10**6), max_size=12), PAYLOADS)
def test_frames_do_not_depend_on_chunks(
    payloads: list[bytes], cuts: list[int], garbage: bytes
) -> None:
    """Any cutting of the stream gives the same frames; noise between frames is skipped."""
    stream = b"".join(garbage + enframe(payload) for payload in payloads)
    deframer = Deframer(LIMIT)
    frames = [frame for chunk in _chunks(stream, cuts) for frame in deframer.feed(chunk)]
    assert [frame.oversized for frame in frames] == [len(one) > LIMIT for one in payloads]
    for frame, payload in zip(frames, payloads, strict=True):
        assert frame.oversized or frame.payload == payload
    assert not deframer.midframe


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_bytes_are_harmless(chunks: list[bytes]) -> None:
    """Random bytes never raise and are never held beyond the limit plus one read."""
    deframer = Deframer(LIMIT)
    for chunk in chunks:
        deframer.feed(chunk)
        assert len(deframer._buffer) <= LIMIT + 1 + len(chunk)


def test_a_frame_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An oversized frame is read past up to a bound, then the connection is given up."""
    monkeypatch.setattr(framing, "MAX_SKIPPED_BYTES", 1000)
    deframer = Deframer(LIMIT)
    for _ in range(19):
        deframer.feed(mllp.VT + b"x" * 50)
    with pytest.raises(MllpError):
        deframer.feed(b"x" * 50)


async def _raw(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def _ack(reader: asyncio.StreamReader) -> str:
    frame = await reader.readuntil(mllp.END)
    ack = parse_ack(frame.strip(mllp.VT + mllp.END))
    return f"{ack.code} {ack.control_id} {ack.error}".strip()


async def _kept(kept: list[str]) -> tuple[MllpServer, Intake, int]:
    async def receive(header: Header, _: bytes) -> None:
        kept.append(header.control_id)

    intake = Intake("PEER", receive)
    server = MllpServer(intake.answer)
    return server, intake, await server.start("127.0.0.1", 0)


@asynchronous
async def test_bad_frames_do_not_end_the_connection() -> None:
    """Garbage, malformed, oversized, then a good message: each answered, on one connection."""
    kept: list[str] = []
    server, intake, port = await _kept(kept)
    reader, writer = await _raw(port)
    writer.write(b"\r\ngarbage" + enframe(b"not HL7 at all"))
    assert await _ack(reader) == "AR  100"
    huge = message("BIG").replace(b"GAM", b"GAM", 1) + b"NTE|1||" + b"x" * (1 << 20)
    writer.write(enframe(huge))
    assert await _ack(reader) == "CE BIG 102"
    writer.write(enframe(message("C1")) + enframe(message("C2")))
    assert [await _ack(reader), await _ack(reader)] == ["CA C1", "CA C2"]
    assert kept == ["C1", "C2"]
    assert [refusal.control_id for refusal in intake.refusals] == ["", "BIG"]
    writer.close()
    await server.stop()


@asynchronous
async def test_a_half_sent_message_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that goes silent inside a frame is dropped after FRAME_S; nothing is stored."""
    monkeypatch.setattr(receiving, "FRAME_S", 0.1)
    kept: list[str] = []
    server, _, port = await _kept(kept)
    reader, writer = await _raw(port)
    writer.write(enframe(message("C1"))[:-1])
    assert await reader.read() == b""
    assert kept == []
    writer.close()
    await server.stop()


@asynchronous
async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-open connection does not stay for ever: IDLE_S bounds it."""
    monkeypatch.setattr(receiving, "IDLE_S", 0.1)
    server, _, port = await _kept([])
    reader, writer = await _raw(port)
    assert await reader.read() == b""
    await until("the conversation is forgotten", 2, lambda: server.connections == 0)
    writer.close()
    await server.stop()


@asynchronous
async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection above the bound is closed at once, the others go on."""
    monkeypatch.setattr(receiving, "MAX_CONNECTIONS", 1)
    server, _, port = await _kept([])
    reader, writer = await _raw(port)
    writer.write(enframe(message("C1")))
    assert await _ack(reader) == "CA C1"
    other, other_writer = await _raw(port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await other.readexactly(1)
    writer.write(enframe(message("C2")))
    assert await _ack(reader) == "CA C2"
    for one in (writer, other_writer):
        one.close()
    await server.stop()


@asynchronous
async def test_one_message_is_outstanding() -> None:
    """Concurrent senders on one client take turns: each gets its own acknowledgement."""
    peer = await Peer().start()
    client = MllpClient(("127.0.0.1", peer.port))
    names = [f"C{number}" for number in range(50)]
    acks = await asyncio.gather(*(client.send(message(name), name) for name in names))
    assert [ack.control_id for ack in acks] == names
    assert sorted(peer.seen) == sorted(names)
    assert client.connects == 1
    await client.close()
    await peer.stop()


async def _answering(*answers: bytes, wait_s: float = 0.0) -> tuple[asyncio.Server, int]:
    """A peer that answers the nth frame with the nth bytes; empty = hangs up."""
    left = list(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while left:
                await reader.readuntil(mllp.END)
                await asyncio.sleep(wait_s)
                answer = left.pop(0)
                if not answer:
                    break
                writer.write(answer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def _ack_for(control_id: str) -> bytes:
    return enframe(build_ack(Header(control_id), "AA", "PEER"))


@pytest.mark.parametrize(
    "wrong",
    [
        _ack_for("OTHER"),
        enframe(b"MSH|garbage"),
        enframe(message("C1")),
        mllp.VT + b"x" * (1 << 21) + mllp.END,
        b"",
    ],
    ids=["other MSA-2", "malformed", "no MSA", "oversized", "closed"],
)
@asynchronous
async def test_a_wrong_answer_is_no_acknowledgement(wrong: bytes) -> None:
    """Anything but an acknowledgement of this message is MllpError(sent), then a new connection."""
    server, port = await _answering(wrong, _ack_for("C1"))
    client = MllpClient(("127.0.0.1", port))
    with pytest.raises(MllpError) as caught:
        await client.send(message("C1"), "C1")
    assert caught.value.sent
    assert not client.connected
    if wrong:
        assert (await client.send(message("C1"), "C1")).accepted
        assert client.connects == 2
    await client.close()
    server.close()


@asynchronous
async def test_a_late_acknowledgement_is_never_read() -> None:
    """After a time-out the connection is gone, so the late answer cannot count for the next."""
    server, port = await _answering(_ack_for("C1"), _ack_for("C2"), wait_s=0.2)
    client = MllpClient(("127.0.0.1", port), ack_s=0.05)
    with pytest.raises(MllpError) as caught:
        await client.send(message("C1"), "C1")
    assert caught.value.sent
    assert (await client.send(message("C2"), "C2", ack_s=2)).control_id == "C2"
    await client.close()
    server.close()


@asynchronous
async def test_without_the_check_the_late_acknowledgement_counts() -> None:
    """The defect that the check prevents: message 2 is believed delivered by message 1's answer."""

    async def late(_: str, __: int) -> None:
        await asyncio.sleep(0.1)

    peer = await Peer(late).start()
    client = MllpClient(("127.0.0.1", peer.port), ack_s=0.05, check_ack_id=False)
    with pytest.raises(MllpError):
        await client.send(message("C1"), "C1")
    assert (await client.send(message("C2"), "C2", ack_s=2)).control_id == "C1"
    assert peer.seen == ["C1"], "message 2 was never sent"
    await client.close()
    await peer.stop()


@asynchronous
async def test_nobody_listening_means_not_sent() -> None:
    """A refused connection is MllpError with sent false: the message surely did not arrive."""
    client = MllpClient(("127.0.0.1", free_port()))
    with pytest.raises(MllpError) as caught:
        await client.send(message("C1"), "C1")
    assert not caught.value.sent


@asynchronous
async def test_the_client_reconnects_after_the_peer_restarted() -> None:
    """A connection that died while idle costs no message and no error."""
    peer = await Peer().start()
    client = MllpClient(("127.0.0.1", peer.port))
    await client.send(message("C1"), "C1")
    await peer.stop()
    await until("the closing is noticed", 2, lambda: not client.connected)
    again = await Peer().start(peer.port)
    assert (await client.send(message("C2"), "C2")).accepted
    assert again.seen == ["C2"]
    await client.close()
    await again.stop()


@asynchronous
async def test_a_defect_of_the_receiver_is_no_acknowledgement() -> None:
    """When the receiving code fails, the connection ends without answer and the reason is told."""

    async def broken(_: Frame) -> Sequence[bytes]:
        raise KeyError("oops")

    told: list[str] = []
    server = MllpServer(broken, on_error=told.append)
    client = MllpClient(("127.0.0.1", await server.start("127.0.0.1", 0)))
    with pytest.raises(MllpError) as caught:
        await client.send(message("C1"), "C1")
    assert caught.value.sent
    assert "oops" in told[0]
    await server.stop()


@asynchronous
async def test_a_stopping_server_answers_what_it_took() -> None:
    """stop() finishes the message in hand before it closes the connection."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_: Frame) -> Sequence[bytes]:
        entered.set()
        await leave.wait()
        return [build_ack(Header("C1"), "AA", "PEER")]

    server = MllpServer(slow)
    port = await server.start("127.0.0.1", 0)
    client = MllpClient(("127.0.0.1", port))
    sending = asyncio.create_task(client.send(message("C1"), "C1"))
    await entered.wait()
    stopping = asyncio.create_task(server.stop())
    leave.set()
    assert (await sending).accepted
    await stopping
    await client.close()
