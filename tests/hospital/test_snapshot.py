"""Copies of a service's own SQLite file: of one instant, sound, and refused when they are not."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from stacks.hospital.log import Log
from stacks.hospital.queue import QUEUE_SCHEMA, DurableQueue
from stacks.hospital.recovery.backup_files import NEWEST, FileCopies, sound
from stacks.hospital.recovery.backup_places import Place
from stacks.hospital.settings import read
from stacks.hospital.snapshot import copy, snapshot_route
from stacks.hospital.store import Store


@pytest.fixture
def vault(tmp_path: Path) -> Place:
    folder = tmp_path / "vault"
    (folder / "files").mkdir(parents=True)
    return Place(folder, Path("/nowhere"), ())


def copies(vault: Place, **links: str) -> FileCopies:
    environment = {
        "SERVICE_NAME": "backup", "SERVICE_ROOM": "vault", "DATA_DIR": str(vault.folder), **links,
    }  # fmt: skip
    return FileCopies(vault, read(environment), Log("backup"))


def count(content: bytes, folder: Path) -> int:
    path = folder / "restored.db"
    path.write_bytes(content)
    sound(path)
    connection = sqlite3.connect(path)
    try:
        (found,) = connection.execute("SELECT count(*) FROM queue").fetchone()
    finally:
        connection.close()
    return int(found)


def test_what_was_acknowledged_is_in_the_copy_while_writing_goes_on(tmp_path: Path) -> None:
    """Every message enqueued before the copy began is in it, and nothing is half there."""

    async def story() -> tuple[int, bytes, int]:
        store = Store(tmp_path / "engine.db", QUEUE_SCHEMA)
        queue = DurableQueue(store)
        for number in range(100):
            await queue.enqueue(["ehr"], f"C{number}", b"x" * 2_000)
        writing = asyncio.create_task(_more(queue))
        content, rows = await asyncio.to_thread(copy, store.path)
        assert rows["queue"] == count(content, tmp_path), "counted at the instant of the copy"
        more = await writing
        await store.close()
        return 100, content, more

    async def _more(queue: DurableQueue) -> int:
        for number in range(100, 200):
            await queue.enqueue(["ehr"], f"C{number}", b"x" * 2_000)
        return 100

    least, content, more = asyncio.run(story())
    assert least <= count(content, tmp_path) <= least + more


def test_a_copy_that_changed_on_the_way_is_not_kept(
    tmp_path: Path, vault: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash that the owner sent is compared, retention keeps the newest, and rot is told."""

    async def ask(path: str) -> httpx.Response:
        store = Store(tmp_path / "engine.db", QUEUE_SCHEMA)
        app = Starlette(routes=[snapshot_route(store)])
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            answer = await client.get(path)
        await store.close()
        return answer

    answer = asyncio.run(ask("/snapshot.db"))
    assert answer.status_code == 200
    sent = {"answer": answer}

    def get(*_: object, **__: object) -> httpx.Response:
        return sent["answer"]

    monkeypatch.setattr(httpx, "get", get)
    answer.request = httpx.Request("GET", "http://engine/snapshot.db")
    kept = copies(vault, LINK_ENGINE_HTTP="127.0.0.1:1")
    taken = [kept.take("engine") for _ in range(NEWEST + 3)]
    files = len(kept.all["engine"])
    assert kept.check() == (files, [])
    assert NEWEST < files < len(taken), "the newest, and the first of the hour"
    assert kept.all["engine"][-NEWEST:] == taken[-NEWEST:]
    sent["answer"] = httpx.Response(
        200, content=answer.content[:-1] + b"x", headers={"X-SHA256": answer.headers["X-SHA256"]},
        request=answer.request,
    )  # fmt: skip
    with pytest.raises(ValueError, match="not what was sent"):
        kept.take("engine")
    again = copies(vault, LINK_ENGINE_HTTP="127.0.0.1:1")
    assert again.all == kept.all, "a vault that starts again knows its copies"
    path = vault.folder / "files" / "engine" / taken[-1].name
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    looked, damages = again.check()
    assert looked == files
    assert damages == [f"engine/{taken[-1].name}: is not as it was received"]
