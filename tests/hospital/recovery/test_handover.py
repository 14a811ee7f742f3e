"""Back to the other room and a node made anew: what is asked of Patroni, and what never is."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stacks.hospital.recovery.handover import Answer, Handover
from stacks.hospital.settings import Address

A, B = "ehr-db-a", "ehr-db-b"


class Patroni:
    """Answers like the REST API of a node; every order is kept."""

    def __init__(self, role: str, lag: int = 0) -> None:
        self.members = [
            {"name": B, "role": "leader", "state": "running", "timeline": 2},
            {"name": A, "role": role, "state": "streaming", "timeline": 2, "lag": lag},
        ]
        self.orders: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        fake = self

        class Face(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, json.dumps({"members": fake.members}))

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.orders.append((self.path, json.loads(raw)))
                self._answer(fake.status, "as Patroni says")

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """In silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Face)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def optional_link(self, name: str, port: str) -> Address | None:
        """Stands for the Settings: both nodes answer here."""
        assert port == "rest"
        return Address("127.0.0.1", self.server.server_port) if name in (A, B) else None


@pytest.fixture
def made() -> Iterator[Callable[..., Patroni]]:
    """Fakes that end with the test."""
    fakes: list[Patroni] = []

    def make(role: str, lag: int = 0) -> Patroni:
        fakes.append(Patroni(role, lag))
        return fakes[-1]

    yield make
    for one in fakes:
        one.server.shutdown()
        one.server.server_close()


def asked(patroni: Patroni, order: Callable[[Handover], Awaitable[Answer]]) -> Answer:
    async def ask() -> Answer:
        handover = Handover(patroni)  # type: ignore[arg-type]
        try:
            return await order(handover)
        finally:
            await handover.close()

    return asyncio.run(ask())


def test_a_synchronous_standby_is_handed_over_to(made: Callable[..., Patroni]) -> None:
    """By the planned handover, which names both."""
    patroni = made("sync_standby", lag=120)
    found = asked(patroni, lambda handover: handover.back(A))
    assert found.done
    assert patroni.orders == [("/switchover", {"leader": B, "candidate": A})]


def test_one_that_is_behind_is_refused_and_nothing_is_ordered(
    made: Callable[..., Patroni],
) -> None:
    """The answer says how far."""
    patroni = made("replica", lag=4_096)
    found = asked(patroni, lambda handover: handover.back(A))
    assert not found.done
    assert "4096 bytes" in found.text
    assert patroni.orders == []


def test_the_planted_defect_forces_it(
    made: Callable[..., Patroni], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`failback-while-behind`."""
    monkeypatch.setenv("HOSPITAL_BUG", "failback-while-behind")
    patroni = made("replica", lag=4_096)
    assert asked(patroni, lambda handover: handover.back(A)).done
    assert patroni.orders == [("/failover", {"candidate": A})]


def test_patroni_s_own_refusal_is_passed_on(made: Callable[..., Patroni]) -> None:
    """It may know better than the look before it."""
    patroni = made("sync_standby")
    patroni.status = 412
    found = asked(patroni, lambda handover: handover.back(A))
    assert (found.done, found.text) == (False, "ehr-db-b: as Patroni says")


def test_who_is_primary_already_is_left_alone(made: Callable[..., Patroni]) -> None:
    """Asking twice does nothing twice."""
    patroni = made("sync_standby")
    assert asked(patroni, lambda handover: handover.back(B)).done
    assert patroni.orders == []


def test_a_standby_is_made_anew_and_the_primary_never(made: Callable[..., Patroni]) -> None:
    """Its data are thrown away: somebody else must have them."""
    patroni = made("replica")
    assert asked(patroni, lambda handover: handover.anew(A)).done
    assert not asked(patroni, lambda handover: handover.anew(B)).done
    patroni.members = patroni.members[1:]
    assert not asked(patroni, lambda handover: handover.anew(A)).done
    assert patroni.orders == [("/reinitialize", {"force": True, "from_leader": True})]


def test_nobody_answers(made: Callable[..., Patroni]) -> None:
    """Then nobody is primary, as far as anybody knows, and nothing is done."""
    patroni = made("sync_standby")
    patroni.server.shutdown()
    patroni.server.server_close()
    found = asked(patroni, lambda handover: handover.back(A))
    assert (found.done, found.text) == (False, "refused: nobody is primary")
