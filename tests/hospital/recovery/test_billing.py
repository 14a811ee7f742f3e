"""Billing keeps each charge once, and a deliberate stop loses nothing that it acknowledged."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stacks.hospital.wire.framing import Deframer, enframe
from stacks.hospital.wire.hl7 import Ack, Adt, Body, Charge, Header, build, parse, parse_ack
from tests.hospital.programs import Program
from tests.ports import free_port


class Sender:
    """An engine's courier in small: one connection, one message at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._deframer = Deframer()

    def send(self, control_id: str, body: Body) -> Ack:
        assert isinstance(body, Charge | Adt)
        header = Header(control_id, sender="GAM", receiver="ENGINE", at=1.0)
        self._socket.sendall(enframe(build(header, body)))
        while data := self._socket.recv(65536):
            for frame in self._deframer.feed(data):
                return parse_ack(frame.payload)
        raise ConnectionError("hung up")


def charge(number: int, quantity: int = 1) -> Charge:
    return Charge(f"V{number}-ADMISSION", f"M{number}", f"V{number}", "ADMISSION", 1e9, quantity)


class Desk(Program):
    def __init__(self, folder: Path, defect: str = "") -> None:
        self.mllp = free_port()
        super().__init__(
            "recovery.billing", folder / "billing",
            {"BIND_MLLP": f"127.0.0.1:{self.mllp}", "HOSPITAL_BUG": defect,
             "SERVICE_NAME": "billing"},
        )  # fmt: skip

    def __enter__(self) -> Desk:
        self.start()
        return self

    def kept(self) -> list[str]:
        lines = self.http.get("/export").content.splitlines()
        return [httpx.Response(200, content=line).json()["key"] for line in lines]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path) as running:
        yield running


def test_a_charge_survives_the_way_through_hl7() -> None:
    """What is built is read again, field by field."""
    one = charge(7, 3)
    message = parse(build(Header("C1", sender="GAM", at=1.0), one))
    assert message.body == one
    assert (message.header.kind, message.header.event) == ("DFT", "P03")


def test_repetitions_are_kept_once_and_contradictions_refused(desk: Desk) -> None:
    """By MSH-10 and by the charge's own number; the same number for another charge is refused."""
    sender = Sender(desk.mllp)
    assert sender.send("C1", charge(1)).accepted
    assert sender.send("C1", charge(1)).accepted
    assert sender.send("C2", charge(1)).accepted
    assert desk.kept() == ["V1"]
    ack = sender.send("C3", charge(1, quantity=2))
    assert (ack.accepted, ack.error) == (False, "205")
    assert desk.kept() == ["V1"]


def test_what_is_no_charge_is_refused(desk: Desk) -> None:
    """A movement is not billing's business; the connection goes on."""
    sender = Sender(desk.mllp)
    ack = sender.send("C1", Adt("A01", "M1", visit="V1"))
    assert (ack.accepted, ack.error) == (False, "200")
    assert sender.send("C2", charge(1)).accepted


def test_a_statement_adds_up(desk: Desk) -> None:
    """Lines and total of one visit; nothing charged is 404; the page shows the totals."""
    sender = Sender(desk.mllp)
    sender.send("C1", charge(1))
    sender.send("C2", Charge("V1-STAY", "M1", "V1", "STAY", 1e9))
    found = desk.http.get("/statements/V1").json()
    assert [line["code"] for line in found["lines"]] == ["ADMISSION", "STAY"]
    assert found["total_cents"] == sum(line["cents"] for line in found["lines"]) == 43_500
    assert desk.http.get("/statements/V2").status_code == 404
    assert len(desk.http.get("/charges?patient=M1").json()["charges"]) == 2
    assert "<td>STAY</td><td>1</td>" in desk.http.get("/").text


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_end_while_charges_come_loses_nothing(tmp_path: Path, how: signal.Signals) -> None:
    """Stopped on purpose or killed: after the restart every acknowledged charge is there, once."""
    with Desk(tmp_path) as desk:
        acknowledged: list[int] = []
        enough = threading.Event()

        def send() -> None:
            try:
                sender = Sender(desk.mllp)
                for number in range(5_000):
                    if sender.send(f"C{number}", charge(number)).accepted:
                        acknowledged.append(number)
                    if number == 40:
                        enough.set()
            except OSError:
                return

        thread = threading.Thread(target=send)
        thread.start()
        assert enough.wait(20)
        status = desk.end(how)
        thread.join(10)
        assert status == (0 if how is signal.SIGTERM else -signal.SIGKILL)
        assert 40 < len(acknowledged) < 5_000
        desk.start()
        kept = desk.kept()
    assert len(kept) == len(set(kept))
    assert {f"V{number}" for number in acknowledged} <= set(kept)
    assert len(kept) <= len(acknowledged) + 1  # one may be stored and its acknowledgement lost


def test_the_planted_defect_loses_them_on_a_deliberate_stop(tmp_path: Path) -> None:
    """`billing-forgets`: acknowledged, and gone after the restart."""
    with Desk(tmp_path, "billing-forgets") as desk:
        assert Sender(desk.mllp).send("C1", charge(1)).accepted
        desk.end(signal.SIGTERM)
        desk.start()
        assert desk.kept() == []
