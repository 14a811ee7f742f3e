"""Store and queue: durable when answered, one fsync for many, honest when the disk refuses."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from stacks.hospital.queue import QUEUE_SCHEMA, DurableQueue, push
from stacks.hospital.store import Store, StoreError

from .stand import asynchronous

NOTES = "CREATE TABLE IF NOT EXISTS note (text TEXT UNIQUE)"


def add(text: str) -> object:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO note VALUES (?)", (text,))

    return work


def notes(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY rowid")]


@asynchronous
async def test_an_answered_write_is_in_the_file(tmp_path: Path) -> None:
    """What write() answered is read by another connection, and by the store's own reader."""
    store = Store(tmp_path / "s.db", NOTES)
    await store.write(add("a"))
    assert notes(store.path) == ["a"]
    assert store.read(lambda c: c.execute("SELECT count(*) FROM note").fetchone()) == (1,)
    await store.check()
    await store.close()


@asynchronous
async def test_concurrent_writes_share_a_commit(tmp_path: Path) -> None:
    """500 concurrent writes need far fewer commits, and all are stored, in order."""
    store = Store(tmp_path / "s.db", NOTES)
    names = [f"{number:03d}" for number in range(500)]
    await asyncio.gather(*(store.write(add(name)) for name in names))
    assert store.commits < 100
    assert notes(store.path) == names
    await store.close()


@asynchronous
async def test_a_failing_write_undoes_its_own_part_only(tmp_path: Path) -> None:
    """An error inside one write reaches its caller; its neighbours in the batch are stored."""

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO note VALUES ('half')")
        raise ValueError("no")

    store = Store(tmp_path / "s.db", NOTES)
    results = await asyncio.gather(
        store.write(add("a")), store.write(broken), store.write(add("a")), store.write(add("b")),
        return_exceptions=True,
    )  # fmt: skip
    assert [type(result) for result in results] == [type(None), ValueError, StoreError, type(None)]
    assert notes(store.path) == ["a", "b"]
    await store.close()


@asynchronous
async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    """When the file cannot grow, every write of the batch is StoreError and nothing of it stays."""
    store = Store(tmp_path / "s.db", NOTES)
    await store.write(add("a"))
    await store.write(lambda c: c.execute("PRAGMA max_page_count=1") and None)
    results = await asyncio.gather(
        *(store.write(add(f"{number}" * 3000)) for number in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, StoreError) for result in results)
    assert notes(store.path) == ["a"]
    await store.write(add("b"))  # the connection was opened anew: room again
    assert notes(store.path) == ["a", "b"]
    await store.close()


@asynchronous
async def test_an_unusable_file_is_one_clear_error(tmp_path: Path) -> None:
    """A file that is no database is StoreError with its path, not a traceback of SQLite."""
    (tmp_path / "s.db").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match=r"s\.db"):
        Store(tmp_path / "s.db", NOTES)


@asynchronous
async def test_the_queue_keeps_order_and_lanes(tmp_path: Path) -> None:
    """Lane 0 goes before lane 1; inside a lane first in, first out; destinations are apart."""
    store = Store(tmp_path / "q.db", QUEUE_SCHEMA)
    queue = DurableQueue(store)
    for name, lane in (("a", 1), ("b", 1), ("c", 0), ("d", 1), ("e", 0)):
        await queue.enqueue(["ehr", "lis"], name, b"x", lane)
    assert [item.control_id for item in queue.waiting("ehr", 10)] == ["c", "e", "a", "b", "d"]
    head = queue.waiting("ehr", 2)
    await queue.remove([item.id for item in head])
    assert [item.control_id for item in queue.waiting("ehr", 10)] == ["a", "b", "d"]
    assert queue.depth("lis").waiting == 5
    assert queue.depth("nobody").waiting == 0
    await store.close()


@asynchronous
async def test_a_parked_message_is_a_task(tmp_path: Path) -> None:
    """Parked: out of the way, visible with its reason; retried at its old place, or discarded."""
    store = Store(tmp_path / "q.db", QUEUE_SCHEMA)
    queue = DurableQueue(store)
    for name in "abc":
        await queue.enqueue(["ehr"], name, b"x")
    first, second, _ = queue.waiting("ehr", 10)
    await queue.park(first.id, "AE 101")
    await queue.park(second.id, "AE 102")
    assert [item.control_id for item in queue.waiting("ehr", 10)] == ["c"]
    assert [task.reason for task in queue.tasks()] == ["AE 101", "AE 102"]
    assert await queue.retry(first.id)
    assert [item.control_id for item in queue.waiting("ehr", 10)] == ["a", "c"]
    assert await queue.discard(second.id)
    assert not queue.tasks()
    assert not await queue.discard(first.id), "only parked messages can be discarded"
    assert not await queue.retry(999)
    await store.close()


@asynchronous
async def test_a_queue_survives_closing(tmp_path: Path) -> None:
    """What was enqueued, also inside the caller's own transaction, is there after reopening."""
    store = Store(tmp_path / "q.db", QUEUE_SCHEMA)
    await DurableQueue(store).enqueue(["ehr"], "a", b"x")
    await store.write(lambda connection: push(connection, "ehr", "b", b"y"))
    await store.close()
    store = Store(tmp_path / "q.db", QUEUE_SCHEMA)
    assert [item.payload for item in DurableQueue(store).waiting("ehr", 10)] == [b"x", b"y"]
    await store.close()
