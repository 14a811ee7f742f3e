"""The partner that sends what nobody can use: the engine takes it, its receivers never do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chaos.journal.events import AnyEvent
from chaos.workload import WorkloadProcess
from stacks.hospital.day import poison_message
from stacks.hospital.poison import LINK, poisons
from stacks.hospital.wire.hl7 import Ack, Header, Hl7Error, Order, build, parse, parse_header
from stacks.hospital.wire.mllp import MllpClient
from stacks.hospital.wire.segments import patient_of
from tests.ports import free_port

from .stand import Peer, Process, asynchronous, until

WITHIN_S = 10.0


def test_its_receivers_refuse_for_good_and_the_engine_does_not() -> None:
    """Header and patient can be read; the whole cannot, and no repetition would change that."""
    kinds = set()
    for poison in poisons("poison-7", 1e9):
        header = parse_header(poison.payload)
        assert header.control_id == poison.control_id
        assert patient_of(poison.payload) == poison.mrn
        with pytest.raises(Hl7Error) as refusal:
            parse(poison.payload)
        assert not Ack("CE", header.control_id, "", refusal.value.code).transient
        kinds.add(header.kind)
    assert kinds == {"OML", "ORU"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[str, dict[str, int]], Process]]:
    """Starts services as processes of their own, and ends them."""
    made: list[Process] = []

    def start(module: str, links: dict[str, int]) -> Process:
        process = Process(module, tmp_path, links)
        made.append(process)
        process.start()
        return process

    yield start
    for process in made:
        process.stop()


def partner(folder: Path, engine_port: int) -> WorkloadProcess:
    return WorkloadProcess(
        poison_message(), folder, seed=7, speed=60, links={LINK: f"127.0.0.1:{engine_port}"},
        direct={},
    )  # fmt: skip


def journal(folder: Path) -> list[Any]:
    lines = (folder / "journal" / "poison.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=AnyEvent) for line in lines]


def test_the_engine_puts_it_aside_for_a_person_and_goes_on(
    tmp_path: Path, running: Callable[[str, dict[str, int]], Process]
) -> None:
    """Taken and acknowledged; then a visible task each, and the order behind it arrives."""
    laboratory = running("lis", {"ENGINE": free_port()})
    engine = running("engine", {"LIS": laboratory.mllp})

    async def order_behind() -> Ack:
        client = MllpClient(("127.0.0.1", engine.mllp))
        sound = Order("P1", "M1", ("NA",))
        try:
            return await client.send(build(Header("C1", sender="EHR", at=1e9), sound), "C1")
        finally:
            await client.close()

    with partner(tmp_path, engine.mllp) as child:
        assert asyncio.run(order_behind()).accepted
        asyncio.run(until("the order is in the laboratory", WITHIN_S, lambda: [
            row for row in laboratory.get("/export") if row["key"] == "P1"
        ]))  # fmt: skip
        (task,) = engine.get("/tasks")
        assert (task["control_id"], task["destination"]) == ("poison-7-1", "lis")
        assert "missing" in task["reason"]
        child.stop()
        assert child.exit_codes == {"poison": 0}
    events = journal(tmp_path)
    invoked = [e for e in events if type(e).__name__ == "OpInvoked"]
    assert [(e.kind, e.klass, e.key) for e in invoked] == [
        ("message.poison", "P4", "poison-7-1"), ("message.poison", "P4", "poison-7-2"),
    ]  # fmt: skip
    assert [e.strength for e in events if type(e).__name__ == "OpOk"] == ["CA", "CA"]
    assert events[-1].ok


@asynchronous
async def test_an_engine_that_does_not_take_it_is_told(tmp_path: Path) -> None:
    """Refused is written as refused, and the workload's end says that its work was not done."""
    engine = await Peer(lambda *_: Hl7Error("200", "no route")).start()

    def work() -> None:
        with partner(tmp_path, engine.port) as child:
            child.stop()

    await asyncio.to_thread(work)
    events = journal(tmp_path)
    assert [e.reason for e in events if type(e).__name__ == "OpRefused"] == ["CR 200 no route"] * 2
    assert not events[-1].ok
    assert "did not take an order without a test" in events[-1].reason
    await engine.stop()
