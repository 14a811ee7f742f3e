"""The analysers: every tube is measured and its result held until the laboratory has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stacks.hospital import analysers_http
from stacks.hospital.admission import Admission
from stacks.hospital.analysers import ANALYSERS_SCHEMA, LANE, Line
from stacks.hospital.analytes import ANALYTES, measure
from stacks.hospital.courier import Courier
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store
from stacks.hospital.wire.hl7 import Report, parse
from stacks.hospital.wire.mllp import MllpClient
from tests.ports import free_port

from .stand import Peer, asynchronous, browser, until

SPEED = 36_000.0


class Analysers:
    """The line without its process."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._http = browser(analysers_http.routes(line), Admission([LANE] * 5))

    async def load(self, specimen: str, **other: Any) -> httpx.Response:
        tube = {"specimen": specimen, "placer": f"P-{specimen}", "patient": "M1", "tests": ["NA"]}
        return await self._http.post("/specimens", json=tube | other)

    async def post(self, content: bytes) -> httpx.Response:
        return await self._http.post("/specimens", content=content)

    async def get(self, path: str) -> Any:
        answer = await self._http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def finished(self) -> int:
        return int(
            self.line.store.read(lambda c: c.execute("SELECT count(*) FROM finished").fetchone())[0]
        )


@asynccontextmanager
async def analysers_in(
    folder: Path, port: int | None = None, speed: float = SPEED
) -> AsyncIterator[Analysers]:
    store = Store(folder / "analysers.db", ANALYSERS_SCHEMA)
    line = Line(store, Settings("analysers", "lab", folder, speed), Log("analysers"))
    stop = asyncio.Event()
    running = [asyncio.create_task(line.measure(stop))]
    if port is not None:
        client = MllpClient(("127.0.0.1", port), ack_s=0.5)
        line.courier = Courier(line.queue, "lis", [client], Log("analysers"))
        running.append(asyncio.create_task(line.courier.run(stop)))
    try:
        yield Analysers(line)
    finally:
        stop.set()
        await asyncio.wait(running, timeout=5)
        await store.close()


@asynchronous
async def test_a_tube_gives_a_result(tmp_path: Path) -> None:
    """A tube is measured, shown on the console and sent as ORU^R01 keyed by its specimen."""
    lis = await Peer().start()
    async with analysers_in(tmp_path, lis.port) as analysers:
        assert (await analysers.load("S1", tests=["NA", "K"], stat=True)).status_code == 201
        await until("the laboratory has it", 5, lambda: lis.kept)
        report = parse(lis.kept[0]).body
        assert isinstance(report, Report)
        assert (report.specimen, report.placer, report.mrn) == ("S1", "P-S1", "M1")
        assert report.stat
        assert report.values == measure("S1", ["NA", "K"], False)
        (shown,) = await analysers.get("/console")
        assert (shown["seq"], shown["specimen"], shown["critical"]) == (1, "S1", False)
        await until(
            "it is no longer held", 2, lambda: not analysers.line.queue.depth("lis").waiting
        )
        assert not (await analysers.get("/console?after=0"))[0]["held"]
    await lis.stop()


@asynchronous
async def test_the_line_runs_alone(tmp_path: Path) -> None:
    """With no laboratory system: 300 tubes are measured, shown as held, and all sent afterwards."""
    port = free_port()
    names = [f"S{number}" for number in range(300)]
    async with analysers_in(tmp_path, port) as analysers:
        answers = await asyncio.gather(*(analysers.load(name) for name in names))
        assert {answer.status_code for answer in answers} == {201}
        await until("all are measured", 5, lambda: analysers.finished() == 300)
        shown = await analysers.get("/console?limit=1000")
        assert sorted(item["specimen"] for item in shown) == sorted(names)
        assert all(item["held"] for item in shown)
        assert [item["seq"] for item in shown] == sorted(item["seq"] for item in shown)
        lis = await Peer().start(port)
        await until("the laboratory has all", 5, lambda: len(set(lis.kept_ids)) == 300)
    assert len(lis.kept) == 300
    await lis.stop()


@asynchronous
async def test_loading_again_changes_nothing(tmp_path: Path) -> None:
    """The same tube again is 200 and measured once; another tube under its barcode is 409."""
    async with analysers_in(tmp_path) as analysers:
        assert (await analysers.load("S1")).status_code == 201
        assert (await analysers.load("S1")).status_code == 200
        refused = await analysers.load("S1", patient="M2")
        assert refused.status_code == 409
        assert refused.json()["issue"][0]["diagnostics"]
        await until("it is measured", 5, lambda: analysers.finished() == 1)
        assert (await analysers.load("S1")).status_code == 200
        await asyncio.sleep(0.25)  # longer than the line's look
        assert analysers.finished() == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"specimen":"S"}',
        b'{"specimen":"","placer":"P","patient":"M","tests":["NA"]}',
        b'{"specimen":"S","placer":"P","patient":"M","tests":[]}',
        b'{"specimen":"S","placer":"P","patient":"M","tests":["NA",""]}',
        b'{"specimen":"S\\n","placer":"P","patient":"M","tests":["NA"]}',
        b'{"specimen":5,"placer":"P","patient":"M","tests":["NA"]}',
        b'{"specimen":"S","placer":"P","patient":"M","tests":["NA"],"color":"red"}',
    ],
)
@asynchronous
async def test_a_bad_tube_is_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    """Malformed JSON, missing or empty parts: 400 and a diagnosis, never 500."""
    async with analysers_in(tmp_path) as analysers:
        answer = await analysers.post(content)
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["diagnostics"]


@asynchronous
async def test_criticals_are_printed_locally(tmp_path: Path) -> None:
    """With everything down a critical result is on the local list and can be acknowledged."""
    async with analysers_in(tmp_path) as analysers:
        await analysers.load("S1", critical=True)
        await analysers.load("S2")
        await until("both are measured", 5, lambda: analysers.finished() == 2)
        assert [one["id"] for one in await analysers.get("/criticals?open=1")] == ["S1"]
        answer = await analysers._http.post("/criticals/S1/ack", json={"carer": "Dr B"})
        assert answer.json()["acknowledged_by"] == "Dr B"
        assert await analysers.get("/criticals?open=1") == []


@asynchronous
async def test_running_tubes_survive_a_restart(tmp_path: Path) -> None:
    """A tube on the line when the machine stops is measured after it starts again."""
    async with analysers_in(tmp_path, speed=1.0) as analysers:
        await analysers.load("S1")
        assert analysers.finished() == 0
    store = Store(tmp_path / "analysers.db", ANALYSERS_SCHEMA)
    await store.write(lambda c: c.execute("UPDATE specimen SET due_at = 0") and None)
    await store.close()
    async with analysers_in(tmp_path) as analysers:
        await until("it is measured", 5, lambda: analysers.finished() == 1)


def test_values_are_seeded_and_flagged() -> None:
    """Same specimen, same values; only specimens that should be critical are."""
    tests = [*ANALYTES, "UNKNOWN"]
    for number in range(300):
        values = measure(f"S{number}", tests, False)
        assert values == measure(f"S{number}", tests, False)
        assert not any(value.flag in ("HH", "LL") for value in values)
        assert measure(f"S{number}", tests, True)[0].flag == "HH"
