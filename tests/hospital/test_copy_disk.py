"""A read-only copy whose own disk fails: it says so, marked, and its health does."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from stacks.hospital import copy_snapshot
from stacks.hospital.copy_desk import Desk
from stacks.hospital.copy_snapshot import Snapshot
from stacks.hospital.copy_source import Reading


class Copy:
    """Holds a snapshot that can be read no more."""

    trouble, as_of = "", 1_000.0

    def __init__(self, folder: Path) -> None:
        copy_snapshot.write(folder, Reading(1_000.0, "ehr-db-b", [], []), 1_001.0)
        self.snapshot = Snapshot(folder)

    def held(self) -> Snapshot:
        return self.snapshot


class Gone:
    """A connection to a file on a disk that is gone."""

    def execute(self, *_: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")


def test_a_disk_that_fails_is_a_marked_refusal(tmp_path: Path) -> None:
    """503 with the reason and the marks, so that nobody takes it for the record's answer."""
    copy = Copy(tmp_path)
    copy.snapshot._connection = Gone()  # type: ignore[assignment]

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Desk(copy))
        async with httpx.AsyncClient(transport=transport, base_url="http://copy") as client:
            return await client.get("/fhir/Patient/P1/$everything")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["x-read-only"]) == (503, "READ-ONLY")
    assert "own disk cannot be read: disk I/O error" in answer.text


def test_health_reads_the_disk(tmp_path: Path) -> None:
    """Not the memory."""
    Copy(tmp_path)
    copy_snapshot.touch(tmp_path)
    (tmp_path / copy_snapshot.NAME).unlink()
    with pytest.raises(OSError, match="No such file"):
        copy_snapshot.touch(tmp_path)
