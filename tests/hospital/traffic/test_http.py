"""The small HTTP client: bounded attempts, kept connections, and no half answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from stacks.hospital.settings import address
from stacks.hospital.traffic.http import Caller, NoAnswer
from tests.hospital.traffic.fakes import FakeService, Silence, nobody


@pytest.fixture
def service() -> Iterator[FakeService]:
    made = FakeService(lambda *_: (200, {}, {"hello": 1}))
    yield made
    made.close()


def caller(where: str) -> Caller:
    return Caller("x", address("x", where))


class Raw:
    """A server that sends exactly these bytes after each question, then closes."""

    def __init__(self, answer: bytes) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(8)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, args=(answer,), daemon=True).start()

    def _serve(self, answer: bytes) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

    def close(self) -> None:
        self._socket.close()


def test_connections_are_kept(service: FakeService) -> None:
    """Five questions, one connection."""
    way = caller(service.address)
    for _ in range(5):
        assert way.ask("GET", "/", 1).status == 200
    assert service.connections == 1


def test_a_kept_connection_that_died_is_replaced_once(service: FakeService) -> None:
    """The service closes after each answer without saying so: the next question still succeeds."""
    way = caller(service.address)
    assert way.ask("GET", "/", 1).good
    way._idle[0].shutdown(socket.SHUT_RDWR)
    assert way.ask("GET", "/", 1).good


def test_silence_is_bounded_and_may_have_happened() -> None:
    """A frozen service: no answer within the bound, and the question was sent."""
    frozen = Silence()
    began = time.monotonic()
    with pytest.raises(NoAnswer) as silence:
        caller(frozen.address).ask("POST", "/", 0.2, b"{}")
    frozen.close()
    assert silence.value.sent
    assert time.monotonic() - began < 1


def test_nobody_there_did_not_happen() -> None:
    """Connection refused: certainly not sent."""
    with pytest.raises(NoAnswer, match="connection refused") as silence:
        caller(nobody()).ask("POST", "/", 1, b"{}")
    assert not silence.value.sent


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (CHUNKED + b"2\r\nhi\r\n3;x=1\r\nyou\r\n0\r\n\r\n", b"hiyou"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)  # fmt: skip
def test_bodies_are_read_as_they_are_sent(answer: bytes, body: bytes) -> None:
    """Sized, chunked, up to the end, or none."""
    server = Raw(answer)
    assert caller(server.address).ask("GET", "/", 1).body == body
    server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", b"SSH-2.0-nothing\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: minus\r\n\r\n", b"HTTP/1.1 200 OK\r\nConte",
        CHUNKED + b"zz\r\n",
    ],
)  # fmt: skip
def test_half_an_answer_is_none(answer: bytes) -> None:
    """Torn or malformed answers are NoAnswer, sent; never a traceback, never success."""
    server = Raw(answer)
    with pytest.raises(NoAnswer) as silence:
        caller(server.address).ask("GET", "/", 1)
    server.close()
    assert silence.value.sent


def test_retry_after_is_read_only_as_seconds(service: FakeService) -> None:
    """A date, or nonsense, in Retry-After is no number of seconds."""
    for text, seconds in (("7", 7.0), ("soon", None), ("-1", None), ("9999999", None)):
        service.behave = lambda *_, t=text: (503, {"Retry-After": t}, {})
        assert caller(service.address).ask("GET", "/", 1).retry_after_s == seconds
