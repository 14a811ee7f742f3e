"""Toxics that speak protocols: what reaches each end, and what the sender does afterwards."""

from __future__ import annotations

import json
from io import BytesIO

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RSP, DIMSEMessage
from pynetdicom.pdu import A_ABORT_RQ, P_DATA_TF

from chaos.toxiproxy.toxics.choice import Choice
from chaos.toxiproxy.toxics.dicom import Dicom
from chaos.toxiproxy.toxics.http import Http
from chaos.toxiproxy.toxics.mllp import Mllp
from chaos.toxiproxy.toxics.record import Record
from chaos.toxiproxy.toxics.stage import Ending, Piece
from tests.toxiproxy.talk_bench import (
    MS,
    TalkBench,
    acknowledgement,
    chunked,
    message,
    pdu,
    request,
    response,
    store,
    stored,
)

ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))


def talked(bench: TalkBench, *ids: str) -> TalkBench:
    """Messages with these ids, each acknowledged."""
    for one in ids:
        bench.ask(message(one)).answer(acknowledgement(one))
    return bench


def counts(record: Record, *names: str) -> list[int]:
    return [record.shown()[name] for name in names]


# ---------------------------------------------------------------------- which exchanges


def test_a_choice_is_the_nth_then_every_so_many_more_with_a_bound() -> None:
    """nth 3, every 2, count 2: the third and the fifth, and no more."""
    choice, taken = Choice(nth=3, every=2, count=2), []
    for number in range(1, 12):
        if choice.takes(number, len(taken)):
            taken.append(number)
    assert taken == [3, 5]


@given(seed=st.integers(0, 99), share=st.integers(1, 999))
def test_a_share_is_drawn_by_seed_and_number_alone(seed: int, share: int) -> None:
    """The same seed takes the same exchanges in any order of asking, about as many as the share."""
    choice = Choice(every=1, share=share, seed=seed)
    taken = [n for n in range(1, 501) if choice.takes(n, 0)]
    assert taken == sorted(n for n in range(500, 0, -1) if choice.takes(n, 0))
    assert abs(len(taken) - share / 2) < 60


# ---------------------------------------------------------------------- MLLP


def test_the_nth_acknowledgement_is_dropped_and_no_other() -> None:
    """Every message reaches the receiver; the second acknowledgement does not come back."""
    bench = talked(TalkBench(Mllp("drop", nth=2)), "1", "2", "3")
    assert bench.reached == message("1") + message("2") + message("3")
    assert bench.returned == acknowledgement("1") + acknowledgement("3")
    assert counts(bench.record, "seen", "acted", "answered") == [3, 1, 1]


@pytest.mark.parametrize(("action", "code"), [("error", "AE"), ("reject", "AR")])
def test_a_negated_acknowledgement_is_one_that_an_independent_reader_understands(
    action: str, code: str
) -> None:
    """MSA-1 is AE or AR, MSA-2 still the message's, ERR-3 the ordered code."""
    bench = talked(TalkBench(Mllp(action, code=200)), "77")
    ack = hl7.parse(bench.returned[1:-2].decode())
    assert (str(ack["MSA"][0][1]), str(ack["MSA"][0][2])) == (code, "77")
    assert str(ack["ERR"][0][3]).startswith("200^Unsupported message type^HL70357")
    assert bench.record.shown()["acts"][0]["answer"] == "AA"


def test_what_is_negative_already_is_not_negated() -> None:
    """An AE of the receiver passes as it came and does not count."""
    bench = TalkBench(Mllp("reject", every=1))
    bench.ask(message("1")).answer(acknowledgement("1", "AE"))
    assert bench.returned == acknowledgement("1", "AE")
    assert counts(bench.record, "seen", "acted") == [0, 0]


def test_a_late_acknowledgement_comes_at_its_time_and_nothing_overtakes_it() -> None:
    """Held for exactly the delay; the next acknowledgement waits behind it."""
    bench = talked(TalkBench(Mllp("delay", delay=7000)), "1", "2")
    assert bench.returned == b""
    bench.run(6999)
    assert bench.returned == b""
    bench.run()
    assert bench.now_ns == 7000 * MS
    assert bench.returned == acknowledgement("1") + acknowledgement("2")


def test_a_truncated_acknowledgement_is_half_a_frame_and_the_end() -> None:
    """No end of frame, then the connection closes."""
    bench = talked(TalkBench(Mllp("truncate")), "1")
    assert acknowledgement("1").startswith(bench.returned)
    assert 0 < len(bench.returned) < len(acknowledgement("1"))
    assert bench.endings[1] is Ending.CUT


def test_a_truncated_message_never_reaches_the_receiver_whole() -> None:
    """Half a frame upstream, then the connection closes; the first message passed."""
    bench = talked(TalkBench(Mllp("truncate-message", nth=2)), "1")
    bench.ask(message("2"))
    assert bench.reached.startswith(message("1"))
    assert b"\x1c" not in bench.reached[len(message("1")) :]
    assert bench.endings[0] is Ending.CUT


def test_what_the_sender_does_afterwards_is_counted_over_all_its_connections() -> None:
    """The same again on a new connection, another on the same one, closed: each told apart."""
    record, toxic = Record(), Mllp("drop", every=1)
    first = talked(TalkBench(toxic, record), "1").hang_up()
    assert counts(record, "acted", "closed", "again", "moved_on") == [1, 1, 0, 0]
    second = TalkBench(toxic, record).ask(message("1"))
    assert counts(record, "closed", "again", "moved_on") == [1, 1, 0]
    talked(second.answer(acknowledgement("1")), "2")
    assert counts(record, "acted", "closed", "again", "moved_on") == [3, 1, 1, 1]
    assert record.shown()["acts"][0]["then"] == ["closed", "again"]
    assert first.endings == (Ending.EOF, None)


def test_the_terms_can_change_on_an_open_connection() -> None:
    """After a change the next acknowledgement is treated by the new terms."""
    bench = talked(TalkBench(Mllp("drop", every=1)), "1")
    bench.talk.heed(Mllp("drop", nth=9))
    talked(bench, "2")
    assert bench.returned == acknowledgement("2")


def test_removing_the_toxic_releases_what_it_held() -> None:
    """A delayed acknowledgement and half a message go on at once."""
    bench = talked(TalkBench(Mllp("delay", delay=60_000)), "1")
    bench.ask(message("2")[:9]).leave()
    assert bench.returned == acknowledgement("1")
    assert bench.reached == message("1") + message("2")[:9]
    assert bench.endings == (None, None)


# ---------------------------------------------------------------------- DICOM


def decoded(pdus: bytes) -> DIMSEMessage:
    """A response as an independent implementation reads it."""
    received, answer = P_DATA_TF(), C_STORE_RSP()
    received.decode(pdus)
    assert answer.decode_msg(received.to_primitive())
    return answer


def test_a_refused_store_does_not_reach_the_archive() -> None:
    """The second of three: not a byte upstream, A700 back as a correct C-STORE-RSP."""
    bench = TalkBench(Dicom("refuse", nth=2))
    for number in (1, 2, 3):
        bench.ask(store(number, f"1.2.{number}"))
    assert bench.reached == store(1, "1.2.1") + store(3, "1.2.3")
    answer = decoded(bench.returned).command_set
    assert (answer.Status, answer.MessageIDBeingRespondedTo) == (0xA700, 2)
    assert answer.AffectedSOPInstanceUID == UID("1.2.2")
    assert answer.CommandGroupLength == len(bench.returned) - 6 - 6 - 12
    assert counts(bench.record, "seen", "acted", "answered") == [3, 1, 0]


@pytest.mark.parametrize("after", [0, 2, 99])
def test_an_abort_comes_in_mid_instance_and_both_ends_are_told(after: int) -> None:
    """At most `after` fragments, never the last one, reach the archive; then A-ABORT, both ways."""
    bench = TalkBench(Dicom("abort", nth=2, after=after))
    bench.ask(store(1, "1.2.1")).ask(store(2, "1.2.2", fragments=4) + store(3, "1.2.3"))
    told = bench.reached.removeprefix(store(1, "1.2.1"))
    command = len(store(2, "1.2.2", fragments=0))
    assert told[:-10] == store(2, "1.2.2")[: command + min(after, 3) * 112]
    assert told[-10:] == bench.returned == ABORT
    received = A_ABORT_RQ()
    received.decode(told[-10:])
    assert received.source == 2


def test_after_an_abort_the_sender_has_time_to_read_it() -> None:
    """The archive's end closes nothing; the sender's own end closes both; else two seconds do."""
    for hangs_up in (True, False):
        bench = TalkBench(Dicom("abort")).ask(store(1, "1.2.1"))
        bench.downstream[1].end(Ending.EOF)
        bench.run(1999)
        assert bench.endings == (None, None)
        if hangs_up:
            bench.hang_up()
        else:
            bench.run()
            assert bench.now_ns == 2000 * MS
        assert bench.endings[0] is Ending.CUT


def test_the_archives_response_is_dropped_or_late() -> None:
    """The request arrived and was stored; the nth response does not come back, or comes late."""
    for action in ("drop", "delay"):
        bench = TalkBench(Dicom(action, delay=500))
        for number in (1, 2):
            bench.ask(store(number, f"1.2.{number}")).answer(stored(number, f"1.2.{number}"))
        late = b"" if action == "drop" else stored(1, "1.2.1")
        assert bench.returned == (stored(2, "1.2.2") if action == "drop" else b"")
        bench.run()
        assert bench.returned == late + stored(2, "1.2.2")
        assert bench.record.shown()["acts"][0] == {"of": "1.2.1", "answer": "0000", "then": [
            "moved_on"
        ]}  # fmt: skip


def test_a_command_in_fragments_is_refused_whole() -> None:
    """A command set that comes in two P-DATA is held until it can be judged."""
    whole = store(1, "1.2.1", fragments=1)
    at = whole.index(b"1.2.1") - 8
    command = whole[12:at]
    head, tail = command[:20], whole[32 : len(store(1, "1.2.1", fragments=0))]
    parts = (
        pdu(4, len(head + b"xx").to_bytes(4, "big") + b"\x01\x01" + head)
        + pdu(4, len(tail + b"xx").to_bytes(4, "big") + b"\x01\x03" + tail)
        + whole[len(store(1, "1.2.1", fragments=0)) :]
    )
    bench = TalkBench(Dicom("refuse"))
    bench.ask(parts)
    assert bench.reached == b""
    assert decoded(bench.returned).command_set.Status == 0xA700
    assert TalkBench(Dicom("refuse", nth=2)).ask(parts).record.seen == 1


def test_removing_the_toxic_in_mid_refusal_closes_the_association() -> None:
    """The archive must not see the rest of a data set whose command it did not get."""
    bench = TalkBench(Dicom("refuse")).ask(store(1, "1.2.1")[:-50])
    bench.leave()
    assert bench.endings[0] is Ending.CUT
    assert bench.reached == b""


# ---------------------------------------------------------------------- HTTP


def test_matching_requests_are_refused_and_do_not_reach_the_server() -> None:
    """503 with Retry-After and an OperationOutcome; others pass, in order."""
    bench = TalkBench(Http("refuse", method="POST", path="/fhir/", retry_after=3, every=1))
    bench.ask(request("/fhir/Observation", b"{}") + request("/fhir/Patient", method="GET"))
    assert bench.reached == request("/fhir/Patient", method="GET")
    head, _, body = bench.returned.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 3" in head
    assert json.loads(body)["resourceType"] == "OperationOutcome"
    assert counts(bench.record, "seen", "acted", "answered") == [1, 1, 0]


def test_answers_keep_the_order_of_their_requests() -> None:
    """Pipelined: passed, refused, passed; our answer waits for the one before it."""
    for real in (response(200, b"one"), chunked(b"o", b"ne")):
        bench = TalkBench(Http("refuse", path="/b"))
        bench.ask(request("/a") + request("/b") + request("/c"))
        assert bench.returned == b""
        bench.answer(real[:-3])
        assert bench.returned
        assert real.startswith(bench.returned)
        bench.answer(real[-3:] + response(200, b"three"))
        assert bench.returned.startswith(real + b"HTTP/1.1 503")
        assert bench.returned.endswith(response(200, b"three"))


def test_removing_the_toxic_never_loses_an_answer_in_silence() -> None:
    """One that still waits behind a real response: the connection closes instead."""
    bench = TalkBench(Http("refuse", path="/b")).ask(request("/a") + request("/b"))
    bench.leave()
    assert bench.endings[1] is Ending.CUT


def test_a_response_is_dropped_whole_or_delayed() -> None:
    """The server did its work; its response vanishes or waits, whatever its framing."""
    for real in (response(201, b"x" * 500), chunked(b"x" * 300, b"y"), response(204, b"")):
        for action in ("drop", "delay"):
            bench = TalkBench(Http(action, path="/a", delay=40, nth=2))
            bench.ask(request("/a")).answer(response()).ask(request("/a"))
            for at in range(0, len(real), 37):
                bench.answer(real[at : at + 37])
            assert bench.returned == response()
            bench.ask(request("/z")).answer(response(200, b"z"))
            bench.run()
            kept = b"" if action == "drop" else real
            assert bench.returned == response() + kept + response(200, b"z")
            assert bench.reached == request("/a") * 2 + request("/z")


def test_a_request_that_comes_again_is_known_by_its_body() -> None:
    """The same method, target and body is the same request; another body is another."""
    bench = TalkBench(Http("refuse", path="/"))
    bench.ask(request("/r", b"one")).ask(request("/r", b"two")).ask(request("/r", b"one"))
    assert counts(bench.record, "acted", "moved_on", "again") == [1, 1, 1]


def test_a_client_that_waits_for_100_continue_is_refused_at_once() -> None:
    """It is told to close, and what it still sends goes nowhere."""
    bench = TalkBench(Http("refuse"))
    head = request("/r", b"x" * 10, "PUT", "Expect: 100-continue")[:-10]
    bench.ask(head)
    assert b"Connection: close" in bench.returned
    bench.ask(b"x" * 10 + request("/s"))
    assert bench.reached == b""


def test_an_upgraded_connection_is_left_alone() -> None:
    """After 101 the bytes are no HTTP any more: they pass."""
    bench = TalkBench(Http("drop", nth=2))
    bench.ask(request("/ws", method="GET"))
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"
    bench.answer(switching + b"\x81\x02hi")
    assert bench.returned == switching + b"\x81\x02hi"


# ---------------------------------------------------------------------- garbage

TOXICS = [
    Mllp("drop", nth=10**6),
    Mllp("truncate-message", nth=10**6),
    Dicom("refuse", nth=10**6),
    Dicom("drop", nth=10**6),
    Http("refuse", nth=10**6),
    Http("delay", nth=10**6),
]
PROTOCOL = st.sampled_from(
    [
        message("1"), acknowledgement("1"), store(1, "1.2.3"), stored(1, "1.2.3"),
        request("/a", b"{}"), response(), chunked(b"abc", b"d"), ABORT,
        pdu(1, b"\x00\x01" * 40), b"\x0b", b"\x1c\r", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"\x04\x00\x00\x00\x00\x08\x00\x00\x00\x04\x01\x03", b"\x04\x00\xff\xff\xff\xff",
    ]
)  # fmt: skip
CHUNKS = st.lists(st.tuples(st.booleans(), PROTOCOL | st.binary(max_size=60)), max_size=12)


@pytest.mark.parametrize("toxic", TOXICS, ids=lambda t: f"{t.KIND}-{t.action}")
@given(chunks=CHUNKS, cut=st.integers(1, 40), leaves=st.booleans())
def test_what_is_not_acted_upon_passes_byte_for_byte(
    toxic: Mllp | Dicom | Http, chunks: list[tuple[bool, bytes]], cut: int, leaves: bool
) -> None:
    """Any mixture of protocol and garbage, cut anywhere: both directions arrive unchanged."""
    bench = TalkBench(toxic)
    sent = {True: BytesIO(), False: BytesIO()}
    for asks, data in chunks:
        sent[asks].write(data)
        for at in range(0, len(data), cut):
            (bench.ask if asks else bench.answer)(data[at : at + cut])
    if leaves:
        bench.leave()
    else:
        bench.upstream[1].end(Ending.EOF)
        bench.downstream[1].end(Ending.EOF)
        bench.run()
        assert bench.endings == (Ending.EOF, Ending.EOF)
    assert (bench.reached, bench.returned) == (sent[True].getvalue(), sent[False].getvalue())


ACTING = [
    *(Mllp(action, every=1, delay=5) for action in ("drop", "delay", "error", "truncate")),
    *(Dicom(action, every=1, delay=5) for action in ("abort", "refuse", "drop", "delay")),
    *(Http(action, every=1, delay=5) for action in ("refuse", "drop", "delay")),
]


@pytest.mark.parametrize("toxic", ACTING, ids=lambda t: f"{t.KIND}-{t.action}")
@given(chunks=CHUNKS, cut=st.integers(1, 40), leaves=st.booleans())
def test_acting_on_any_bytes_never_fails_and_comes_to_rest(
    toxic: Mllp | Dicom | Http, chunks: list[tuple[bool, bytes]], cut: int, leaves: bool
) -> None:
    """Whatever is sent while every exchange is acted upon, nothing raises and nothing spins."""
    bench = TalkBench(toxic)
    for asks, data in chunks:
        for at in range(0, len(data), cut):
            (bench.ask if asks else bench.answer)(data[at : at + cut])
    if leaves:
        bench.leave()
    bench.upstream[1].end(Ending.EOF)
    bench.downstream[1].end(Ending.EOF)
    if not leaves:
        bench.run()
    assert bench.record.acted <= bench.record.seen


@pytest.mark.parametrize(
    ("toxic", "exchange"),
    [(Http("refuse", every=1), request("/r")), (Dicom("refuse", every=1), store(1, "1.2", 1))],
    ids=["http", "dicom"],
)
def test_who_does_not_read_our_answers_is_not_read_any_more(
    toxic: Http | Dicom, exchange: bytes
) -> None:
    """Refusals wait in a bounded number; when they are taken the rest is heard and refused."""
    bench, rounds = TalkBench(toxic), 3000
    bench.downstream[2].room = 10_000
    stage, inbox, outlet = bench.downstream
    for _ in range(rounds):
        bench.upstream[1].put(Piece(exchange, 0))
    for _ in range(50):  # nobody takes anything from the outlet
        bench._step(bench.upstream)
        stage.step(0, inbox, outlet)
    assert outlet.size <= 11_000
    assert bench.record.acted <= 1200
    for _ in range(rounds):
        bench.run(0)
        if bench.record.acted == rounds:
            break
    assert (bench.record.acted, bench.reached) == (rounds, b"")


@pytest.mark.parametrize(
    ("toxic", "start"),
    [
        (Mllp("drop"), b"\x0bMSH|^~\\&|"),
        (Dicom("refuse"), b"\x04\x00\x7f\xff\xff\xff"),
        (Dicom("refuse"), b"\x05\x00\x00\x20\x00\x00"),
        (Http("refuse"), b"GET / HTTP/1.1\r\nX: "),
        (Http("refuse"), b"GET /"),
        (Http("drop"), b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
    ids=["frame", "pdu", "pdu-just-too-long", "head", "line", "chunk-size"],
)
def test_an_endless_frame_passes_and_is_never_held_beyond_the_bound(
    toxic: Mllp | Dicom | Http, start: bytes
) -> None:
    """At most about 1 MiB waits; then it passes, and so does what follows."""
    bench, sent = TalkBench(toxic), start
    bench.ask(start)
    for _ in range(40):
        bench.ask(b"a" * 65_536)
        sent += b"a" * 65_536
        assert len(sent) - len(bench.reached) <= (1 << 20) + 65_536
    assert bench.reached == sent
