"""SIGKILL at any moment: what a service acknowledged before, it has afterwards, exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from stacks.hospital.wire.hl7 import (
    Adt,
    Header,
    Message,
    Order,
    Report,
    build,
    parse,
    parse_header,
)
from stacks.hospital.wire.mllp import MllpClient, MllpError
from tests.ports import free_port

from .stand import Peer, Process, asynchronous, until
from .test_lis import order, result

KILLS = 3
SENDERS = 4
Raise = Callable[..., Process]


@pytest.fixture
def raised(tmp_path: Path) -> Iterator[Raise]:
    """A function that starts a service as a process; whatever still runs is killed at the end."""
    processes: list[Process] = []

    def raise_one(module: str, bug: str = "", **links: int) -> Process:
        process = Process(module, tmp_path, {n.upper(): port for n, port in links.items()}, bug)
        processes.append(process)
        process.start()
        return process

    yield raise_one
    for process in processes:
        process.kill()


async def _kill_again_and_again(process: Process, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.1, 0.4))
        process.kill()
        await asyncio.to_thread(process.start)
    await asyncio.sleep(0.1)


async def _send_while(
    running: asyncio.Task[None], port: int, make: Callable[[int], tuple[str, bytes]], ok: list[str]
) -> None:
    """Send message after message, each until it is acknowledged or the task has ended."""
    client = MllpClient(("127.0.0.1", port), ack_s=1.0)
    number = 0
    while not running.done():
        control_id, payload = make(number)
        try:
            ack = await client.send(payload, control_id)
        except MllpError:
            await asyncio.sleep(0.01)
            continue  # unknown: the same message again
        assert ack.accepted, ack
        ok.append(control_id)
        number += 1
    await client.close()


def _firsts(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


@asynchronous
async def test_the_engine_keeps_what_it_acknowledged(raised: Raise) -> None:
    """Killed mid-batch several times under load: every acknowledged message reaches both
    destinations, first copies in each sender's order, and the engine holds each once."""
    ehr, lis = await Peer().start(), await Peer().start()
    engine = raised("engine", ehr_a=ehr.port, lis=lis.port)
    running = asyncio.create_task(_kill_again_and_again(engine, 1))
    acked: list[list[str]] = [[] for _ in range(SENDERS)]

    def make(sender: int) -> Callable[[int], tuple[str, bytes]]:
        def one(number: int) -> tuple[str, bytes]:
            name = f"{sender}-{number}"
            header = Header(name, sender=f"GAM{sender}", at=1e9)
            return name, build(header, Adt("A08", f"M{name}"))

        return one

    await asyncio.gather(
        *(_send_while(running, engine.mllp, make(n), acked[n]) for n in range(SENDERS))
    )
    await running
    everything = {name for names in acked for name in names}
    assert len(everything) > 100, "the batch must be large enough to mean something"
    for peer in (ehr, lis):
        await until("all arrived", 10, lambda now=peer: everything <= set(now.kept_ids))
        firsts = _firsts(peer.kept_ids)
        for number, names in enumerate(acked):
            mine = [name for name in firsts if name.startswith(f"{number}-")]
            assert mine[: len(names)] == names
    rows = engine.get("/export")
    assert set(Counter(row["key"] for row in rows).values()) == {1}
    await ehr.stop()
    await lis.stop()


@asynchronous
async def test_the_laboratory_keeps_what_it_acknowledged(raised: Raise) -> None:
    """Killed while orders and results come in: each acknowledged one is stored once, each result
    is reported preliminary before final, and its report reaches the engine."""
    engine = await Peer().start()
    lis = raised("lis", engine=engine.port)
    running = asyncio.create_task(_kill_again_and_again(lis, 2))
    orders: list[str] = []
    results: list[str] = []

    def an_order(number: int) -> tuple[str, bytes]:
        return f"o{number}", build(Header(f"o{number}", sender="EHR"), order(number))

    def a_result(number: int) -> tuple[str, bytes]:
        report = result(f"S-{number}", number, critical=number % 10 == 0)
        return f"r{number}", build(Header(f"r{number}", sender="ANALYSERS"), report)

    await asyncio.gather(
        _send_while(running, lis.mllp, an_order, orders),
        _send_while(running, lis.mllp, a_result, results),
    )
    await running
    both = min(len(orders), len(results))
    assert both > 50
    rows = lis.get("/export")
    stored = Counter((row["kind"], row["key"]) for row in rows)
    assert set(stored.values()) == {1}
    assert {("order", f"P{name[1:]}") for name in orders} <= set(stored)
    assert {("report", f"S-{name[1:]}") for name in results} <= set(stored)
    wanted = {f"S-{number}" for number in range(both)}

    def finals() -> set[str]:
        return {r.specimen for r in _reports(engine) if r.status != "preliminary"}

    await until("all are final", 10, lambda: wanted <= finals())
    seen: dict[str, list[str]] = {}
    for report in _reports(engine):
        seen.setdefault(report.specimen, []).append(report.status)
    for statuses in seen.values():
        firsts = _firsts(statuses)
        assert firsts == ["preliminary", "final", "corrected"][: len(firsts)]
    listed = {one["id"] for one in lis.get("/criticals?open=1")}
    assert {f"S-{n}" for n in range(both) if n % 10 == 0} <= listed
    await engine.stop()


def _reports(peer: Peer) -> list[Report]:
    bodies = [parse(payload).body for payload in peer.kept]
    return [body for body in bodies if isinstance(body, Report)]


@asynchronous
async def test_the_analysers_keep_what_they_took(raised: Raise) -> None:
    """Killed while tubes are loaded, run and sent: every tube that was taken is measured once and
    its result reaches the laboratory."""
    lis = await Peer().start()
    analysers = raised("analysers", lis=lis.port)
    running = asyncio.create_task(_kill_again_and_again(analysers, 3))
    taken: list[str] = []

    def load(name: str) -> int:
        tube = {"specimen": name, "placer": f"P-{name}", "patient": "M1", "tests": ["NA"]}
        return analysers.post("/specimens", tube)[0]

    number = 0
    while not running.done():
        try:
            status = await asyncio.to_thread(load, f"S{number}")
        except (OSError, HTTPException):
            await asyncio.sleep(0.01)
            continue  # unknown: the same tube again
        assert status in (200, 201, 503)
        if status != 503:
            taken.append(f"S{number}")
            number += 1
    await running
    assert len(taken) > 50
    await until("all arrived", 10, lambda: set(taken) <= {r.specimen for r in _reports(lis)})
    shown = [item["specimen"] for item in analysers.get("/console?limit=1000")]
    assert len(shown) == len(set(shown))
    assert set(taken) <= set(shown) or len(shown) == 1000
    await lis.stop()


@asynchronous
async def test_a_deliberate_stop_drains(raised: Raise) -> None:
    """SIGTERM with a backlog and a working destination: delivered before the exit, status 0."""
    lis = await Peer().start()
    engine = raised("engine", lis=lis.port)
    client = MllpClient(("127.0.0.1", engine.mllp))
    names = [f"C{number}" for number in range(200)]
    for name in names:
        header = Header(name, sender="EHR", at=1e9)
        assert (await client.send(build(header, Order(name, "M1", ("NA",))), name)).accepted
    assert await asyncio.to_thread(engine.stop) == 0
    assert lis.kept_ids == names
    await client.close()
    await lis.stop()


def _lost(engine: Process, lis: Peer, acked: list[str]) -> set[str]:
    del engine
    return set(acked) - set(lis.kept_ids)


@pytest.mark.parametrize(
    ("bug", "loses"), [("", False), ("ack-before-fsync", True), ("queue-in-memory", True)]
)
@asynchronous
async def test_a_kill_shows_a_queue_that_is_not_durable(
    raised: Raise, bug: str, loses: bool
) -> None:
    """The laboratory is away, the engine is killed: the planted defects lose acknowledged orders,
    the healthy engine none."""
    port = free_port()
    engine = raised("engine", bug, lis=port)
    client = MllpClient(("127.0.0.1", engine.mllp))
    names = [f"C{number}" for number in range(20)]
    for name in names:
        header = Header(name, sender="EHR", at=1e9)
        assert (await client.send(build(header, Order(name, "M1", ("NA",))), name)).accepted
    await client.close()
    engine.kill()
    lis = await Peer().start(port)
    await asyncio.to_thread(engine.start)
    last = Header("last", sender="EHR", at=1e9)
    client = MllpClient(("127.0.0.1", engine.mllp))
    await client.send(build(last, Order("last", "M1", ("NA",))), "last")
    await until("the queue was carried", 8, lambda: "last" in lis.kept_ids)
    assert bool(_lost(engine, lis, names)) is loses
    await client.close()
    await lis.stop()


def test_a_port_in_use_is_one_clear_line(raised: Raise, tmp_path: Path) -> None:
    """A second engine on the same MLLP port ends with status 1 and one line, no traceback."""
    engine = raised("engine")
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other = Process("engine", other_folder, {})
    other.mllp = engine.mllp
    with pytest.raises(AssertionError):
        other.start()
    assert "Traceback" not in other.log()
    assert str(engine.mllp) in other.log()


def test_messages_are_equal_to_themselves() -> None:
    """The stand's own reading of a kept payload is the message that was built."""
    payload = build(Header("C1", sender="EHR"), order())
    assert parse(payload) == Message(parse_header(payload), order())
