"""The engine and all four channels as processes: one feed each, and they can disagree."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stacks.hospital.wire.mllp import MllpClient

from ..messages.stand import Process, asynchronous, until
from .channel_stand import BOOKED, CANCELLED, siu

CHANNELS = ("website", "callcentre", "sms", "clinic_lists")


@pytest.fixture
def floor(tmp_path: Path) -> Iterator[dict[str, Process]]:
    """The engine with its four channels."""
    running = {name: Process(f"appointments.{name}", tmp_path, {}) for name in CHANNELS}
    links = {name.upper(): process.mllp for name, process in running.items()}
    running["engine"] = Process("engine", tmp_path, links)
    try:
        for process in running.values():
            process.start(600.0)
        yield running
    finally:
        for process in running.values():
            process.kill()


def _word(process: Process) -> str:
    """What the channel says of A1; empty when it does not know it."""
    address = f"http://127.0.0.1:{process.http}/says"
    with urllib.request.urlopen(address, timeout=5) as response:
        rows = [json.loads(line) for line in response.read().splitlines()]
    return next((row["word"] for row in rows if row["appointment"] == "A1"), "")


@asynchronous
async def test_a_channel_that_is_down_disagrees_until_it_is_back(
    floor: dict[str, Process],
) -> None:
    """A booking reaches all four. The call centre is killed, the appointment cancelled: the other
    three say cancelled; a message that no channel takes is parked and blocks nothing; the call
    centre says cancelled when it is back, without anybody's doing."""
    engine = MllpClient(("127.0.0.1", floor["engine"].mllp))

    async def tell(payload: bytes, control_id: str) -> None:
        assert (await engine.send(payload, control_id)).accepted

    control_id, payload = siu(BOOKED)
    await tell(payload, control_id)
    for name in CHANNELS:
        await until(name, 8, lambda one=name: _word(floor[one]) == "confirmed")
    floor["callcentre"].kill()
    control_id, payload = siu(replace(BOOKED, appointment="A2", clinic="x" * 65))
    await tell(payload, control_id)
    control_id, payload = siu(CANCELLED)
    await tell(payload, control_id)
    for name in ("website", "sms", "clinic_lists"):
        await until(name, 8, lambda one=name: _word(floor[one]) == "cancelled")
    floor["callcentre"].start(600.0)
    status, said = floor["callcentre"].post("/calls", {"appointment": "A1"})
    assert (status, said["word"] in ("confirmed", "cancelled")) == (201, True)
    await until("call centre", 12, lambda: _word(floor["callcentre"]) == "cancelled")
    tasks = floor["engine"].get("/tasks")
    parked = tasks["tasks"] if isinstance(tasks, dict) else tasks
    assert {task["destination"] for task in parked} >= {"website", "sms", "clinic-lists"}
    assert all("clinic" in task["reason"] for task in parked)
    await engine.close()
