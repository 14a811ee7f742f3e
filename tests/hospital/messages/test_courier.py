"""The courier: everything arrives once, in order, whatever the destination does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stacks.hospital.courier import Courier
from stacks.hospital.log import Log
from stacks.hospital.queue import QUEUE_SCHEMA, DurableQueue, Item
from stacks.hospital.store import Store, StoreError
from stacks.hospital.wire.hl7 import Adt, Header, Hl7Error, build
from stacks.hospital.wire.mllp import MllpClient, MllpError
from tests.ports import free_port

from .stand import Peer, asynchronous, until


def message(control_id: str) -> bytes:
    return build(Header(control_id, sender="GAM"), Adt("A01", "M1", visit="V1"))


@asynccontextmanager
async def carrying(
    folder: Path, names: list[str], ports: list[int], ack_s: float = 0.3, **options: Any
) -> AsyncIterator[tuple[DurableQueue, Courier, asyncio.Event]]:
    """A courier at work on a queue that holds the messages `names` for `ehr`."""
    store = Store(folder / "q.db", QUEUE_SCHEMA)
    queue = DurableQueue(store)
    for name in names:
        await queue.enqueue(["ehr"], name, message(name))
    clients = [MllpClient(("127.0.0.1", port), ack_s=ack_s) for port in ports]
    courier = Courier(queue, "ehr", clients, Log("test"), **options)
    stop = asyncio.Event()
    running = asyncio.create_task(courier.run(stop))
    try:
        yield queue, courier, stop
    finally:
        stop.set()
        await asyncio.wait_for(running, 5)
        await store.close()


NAMES = [f"C{number:02d}" for number in range(40)]


@asynchronous
async def test_everything_arrives_once_in_order(tmp_path: Path) -> None:
    """A backlog and a message enqueued later arrive once each, in order, and leave the queue."""
    peer = await Peer().start()
    async with carrying(tmp_path, NAMES, [peer.port]) as (queue, courier, _):
        await until("the backlog is delivered", 5, lambda: len(peer.kept) == len(NAMES))
        await queue.enqueue(["ehr"], "late", message("late"))
        await until("the new one is delivered", 1, lambda: peer.kept_ids[-1:] == ["late"])
        await until("the queue is empty", 1, lambda: queue.depth("ehr").waiting == 0)
        assert courier.trip.delivered == len(NAMES) + 1
    assert peer.seen == [*NAMES, "late"]
    await peer.stop()


@asynchronous
async def test_an_absent_destination_is_waited_for(tmp_path: Path) -> None:
    """Nobody listens for a while: messages wait, and flow within 2 s of its return."""
    port = free_port()
    async with carrying(tmp_path, NAMES, [port]) as (queue, courier, _):
        await until("attempts failed", 5, lambda: courier.trip.failures > 4)
        assert queue.depth("ehr").waiting == len(NAMES)
        peer = await Peer().start(port)
        await until("the backlog is delivered", 2, lambda: len(peer.kept) == len(NAMES))
        assert courier.trip.trouble == ""
    assert peer.kept_ids == NAMES
    await peer.stop()


@asynchronous
async def test_a_message_refused_for_good_is_parked(tmp_path: Path) -> None:
    """CE with a content error: the message becomes a task, the channel goes on."""

    def decide(name: str, _: int) -> Hl7Error | None:
        return Hl7Error("101", "PID-3 is empty") if name == "C03" else None

    peer = await Peer(decide).start()
    async with carrying(tmp_path, NAMES, [peer.port]) as (queue, _, _stop):
        await until("the others are delivered", 5, lambda: len(peer.kept) == len(NAMES) - 1)
        assert [(task.control_id, task.reason) for task in queue.tasks()] == [
            ("C03", "CE 101 PID-3 is empty")
        ]
    assert peer.seen == NAMES
    await peer.stop()


@asynchronous
async def test_a_message_refused_for_now_is_sent_again(tmp_path: Path) -> None:
    """CE with 207: the same message again until it is taken, nothing overtakes it."""

    def decide(name: str, times: int) -> Hl7Error | None:
        return Hl7Error("207", "database away") if name == "C03" and times < 4 else None

    peer = await Peer(decide).start()
    async with carrying(tmp_path, NAMES, [peer.port]) as (queue, _, _stop):
        await until("all are delivered", 5, lambda: len(peer.kept) == len(NAMES))
        assert not queue.tasks()
    assert peer.kept_ids == NAMES
    assert peer.seen.count("C03") == 4
    await peer.stop()


def of_patient(control_id: str, mrn: str) -> bytes:
    return build(Header(control_id, sender="GAM"), Adt("A01", mrn, visit="V1"))


@pytest.mark.parametrize("how", ["refuses for now", "dies"])
@asynchronous
async def test_a_message_that_alone_never_passes_is_poison(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The destination fails on one message for ever and takes others: it is parked, they flow."""
    monkeypatch.setattr("stacks.hospital.courier.LONGEST_PAUSE_S", 0.02)

    async def die() -> None:
        raise MllpError("crashed", sent=False)

    def decide(name: str, _: int) -> Hl7Error | Awaitable[None] | None:
        if name != "poison":
            return None
        return die() if how == "dies" else Hl7Error("207", "unexpected: KeyError")

    peer = await Peer(decide).start()
    async with carrying(tmp_path, [], [peer.port]) as (queue, _, _stop):
        await queue.enqueue(["ehr"], "good", of_patient("good", "M0"))
        await queue.enqueue(["ehr"], "poison", of_patient("poison", "M1"))
        await queue.enqueue(["ehr"], "same", of_patient("same", "M1"))
        await queue.enqueue(["ehr"], "other", of_patient("other", "M2"))
        await until("it is parked", 5, queue.tasks)
        await until("the others came", 5, lambda: peer.kept_ids[-2:] == ["same", "other"])
        assert set(peer.kept_ids[:-2]) == {"good"}, "nothing overtook the suspect"
        assert [task.control_id for task in queue.tasks()] == ["poison"]
    await peer.stop()


@asynchronous
async def test_an_outage_convicts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination that refuses everything for a long while: nothing is parked, all arrives."""
    monkeypatch.setattr("stacks.hospital.courier.LONGEST_PAUSE_S", 0.01)
    away = False
    peer = await Peer(lambda _n, _t: Hl7Error("207", "database away") if away else None).start()
    async with carrying(tmp_path, NAMES[:1], [peer.port]) as (queue, courier, _stop):
        await until("one passed before", 5, lambda: peer.kept)
        away = True
        for name in NAMES[1:]:
            await queue.enqueue(["ehr"], name, message(name))
        await until("a long outage", 5, lambda: courier.trip.failures > 60)
        away = False
        await until("the queue is empty", 5, lambda: queue.depth("ehr").waiting == 0)
        assert not queue.tasks()
    assert peer.kept_ids == NAMES
    await peer.stop()


@asynchronous
async def test_a_full_disk_convicts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination that can store nothing, and acknowledges again what it has: nothing is parked,
    all arrives in order."""
    monkeypatch.setattr("stacks.hospital.courier.LONGEST_PAUSE_S", 0.01)
    full = False

    def decide(name: str, _: int) -> Hl7Error | None:
        news = name not in peer.kept_ids
        return Hl7Error("206", "the disk is full") if full and news else None

    peer = await Peer(decide).start()
    async with carrying(tmp_path, NAMES[:1], [peer.port]) as (queue, courier, _stop):
        await until("one passed before", 5, lambda: peer.kept)
        full = True
        for name in NAMES[1:]:
            await queue.enqueue(["ehr"], name, message(name))
        await until("it is full for long", 5, lambda: courier.trip.failures > 60)
        full = False
        await until("the queue is empty", 5, lambda: queue.depth("ehr").waiting == 0)
        assert not queue.tasks()
    assert list(dict.fromkeys(peer.kept_ids)) == NAMES
    await peer.stop()


@asynchronous
async def test_a_stalled_endpoint_is_left_for_the_other(tmp_path: Path) -> None:
    """One of two endpoints never answers: the other one gets everything, in order."""

    async def stall(_: str, __: int) -> None:
        await asyncio.sleep(5)

    stalled = await Peer(stall).start()
    peer = await Peer().start()
    async with carrying(tmp_path, NAMES, [stalled.port, peer.port]) as (_, _courier, _stop):
        await until("the other took everything", 5, lambda: len(peer.kept) == len(NAMES))
    assert peer.kept_ids == NAMES
    assert stalled.seen == NAMES[:1]
    await stalled.stop()
    await peer.stop()


@asynchronous
async def test_a_flapping_destination_loses_nothing(tmp_path: Path) -> None:
    """Restarted again and again: every message is kept at least once, first copies in order."""
    peer = await Peer().start()
    kept: list[str] = []
    async with carrying(tmp_path, NAMES * 5, [peer.port]) as (queue, _, _stop):
        for _ in range(4):
            # a fast machine may have delivered everything before the last restart
            await until(
                "some arrive",
                5,
                lambda now=peer: len(now.kept) >= 10 or not queue.depth("ehr").waiting,
            )
            await peer.stop()
            kept += peer.kept_ids
            peer = await Peer().start(peer.port)
        await until("the queue is empty", 10, lambda: queue.depth("ehr").waiting == 0)
        kept += peer.kept_ids
    distinct = [name for at, name in enumerate(kept) if at == 0 or kept[at - 1] != name]
    assert distinct == NAMES * 5
    await peer.stop()


@asynchronous
async def test_a_paused_destination_recovers_quickly(tmp_path: Path) -> None:
    """A destination that answers nothing for longer than the time-out: 2 s after, all is there."""
    gate = asyncio.Event()

    async def wait(_: str, __: int) -> None:
        await gate.wait()

    peer = await Peer(wait).start()
    async with carrying(tmp_path, NAMES, [peer.port], ack_s=0.5) as (queue, courier, _):
        await until("time-outs happened", 5, lambda: courier.trip.failures >= 2)
        gate.set()
        began = time.monotonic()
        await until("the queue is empty", 2, lambda: queue.depth("ehr").waiting == 0)
        assert time.monotonic() - began < 2
    assert sorted(set(peer.kept_ids)) == NAMES
    await peer.stop()


@asynchronous
async def test_a_stop_drains_what_the_destination_takes(tmp_path: Path) -> None:
    """Told to stop: a working destination still gets the backlog; a dead one does not delay us."""
    peer = await Peer().start()
    async with carrying(tmp_path, NAMES, [peer.port]) as (queue, _, stop):
        stop.set()
        await until("the backlog is delivered", 5, lambda: queue.depth("ehr").waiting == 0)
    await peer.stop()
    dead = tmp_path / "dead"
    dead.mkdir()
    async with carrying(dead, NAMES, [free_port()]) as (queue, courier, stop):
        await until("it failed", 5, lambda: courier.trip.failures > 1)
        stop.set()
    assert courier.trip.delivered == 0


@asynchronous
async def test_a_disk_that_refuses_removals_causes_no_second_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered but not removable: remembered, delivered once, removed when the disk allows."""
    allowed = asyncio.Event()
    remove = DurableQueue.remove

    async def stubborn(self: DurableQueue, ids: list[int], last: Item) -> None:
        if not allowed.is_set():
            raise StoreError("disk full")
        await remove(self, ids, last)

    monkeypatch.setattr(DurableQueue, "remove", stubborn)
    peer = await Peer().start()
    async with carrying(tmp_path, NAMES, [peer.port]) as (queue, _, _stop):
        await until("all are delivered", 5, lambda: len(peer.kept) == len(NAMES))
        assert queue.depth("ehr").waiting == len(NAMES)
        allowed.set()
        await until("the queue is empty", 5, lambda: queue.depth("ehr").waiting == 0)
    assert peer.seen == NAMES
    await peer.stop()
