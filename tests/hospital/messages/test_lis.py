"""The laboratory: a report for every result, once, in order, for the order's patient only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stacks.hospital import lis_book as book
from stacks.hospital import lis_http
from stacks.hospital.analytes import CORRECTED_SHARE, correct, is_corrected, measure
from stacks.hospital.courier import Courier
from stacks.hospital.criticals import CRITICALS_SCHEMA
from stacks.hospital.lis import Lis
from stacks.hospital.log import Log
from stacks.hospital.queue import QUEUE_SCHEMA
from stacks.hospital.records import order_digest
from stacks.hospital.store import Store
from stacks.hospital.wire.hl7 import Ack, Adt, Header, Order, Report, Value, build, parse, parse_ack
from stacks.hospital.wire.mllp import Frame, MllpClient

from .stand import Peer, asynchronous, browser, until

SPEED = 36_000.0  # a hospital hour in 0.1 s
PLAIN = next(f"S{number}" for number in range(99) if not is_corrected(f"S{number}"))
CORRECTED = next(f"S{number}" for number in range(999) if is_corrected(f"S{number}"))


class Laboratory:
    """A LIS without its process, and the engine that takes its reports."""

    def __init__(self, lis: Lis, engine: Peer) -> None:
        self.lis = lis
        self.engine = engine
        self._http = browser(lis_http.routes(lis))
        self._given = 0

    async def give(
        self, body: Adt | Order | Report, control_id: str = "", sender: str = "EHR"
    ) -> Ack:
        self._given += 1
        name = control_id or f"C{self._given}"
        (reply,) = await self.lis.intake.answer(Frame(build(Header(name, sender=sender), body)))
        return parse_ack(reply)

    @property
    def reports(self) -> list[Report]:
        found = [parse(payload).body for payload in self.engine.kept]
        return [body for body in found if isinstance(body, Report)]

    @property
    def statuses(self) -> list[str]:
        return [report.status for report in self.reports]

    async def get(self, path: str) -> Any:
        answer = await self._http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def export(self) -> list[str]:
        return (await self._http.get("/export")).text.splitlines()

    async def post(self, path: str, content: Any) -> httpx.Response:
        return await self._http.post(path, json=content)


@asynccontextmanager
async def laboratory_in(
    folder: Path, speed: float = SPEED, port: int | None = None
) -> AsyncIterator[Laboratory]:
    store = Store(folder / "lis.db", QUEUE_SCHEMA + CRITICALS_SCHEMA + book.LIS_SCHEMA)
    lis = Lis(store, speed, Log("lis"))
    engine = await Peer().start(port or 0)
    client = MllpClient(("127.0.0.1", engine.port), ack_s=0.5)
    lis.courier = Courier(lis.queue, "engine", [client], Log("lis"), on_recovered=lis.recovered)
    stop = asyncio.Event()
    running = [asyncio.create_task(one(stop)) for one in (lis.report, lis.courier.run)]
    try:
        yield Laboratory(lis, engine)
    finally:
        stop.set()
        await asyncio.wait(running, timeout=5)
        await store.close()
        await engine.stop()


def order(number: int = 1, mrn: str = "M1", stat: bool = False) -> Order:
    return Order(f"P{number}", mrn, ("NA", "K"), stat)


def result(
    specimen: str = PLAIN, number: int = 1, mrn: str = "M1", critical: bool = False,
    stat: bool = False,
) -> Report:  # fmt: skip
    values = measure(specimen, ["NA", "K"], critical)
    return Report(specimen, f"P{number}", mrn, "final", values, stat, 1e9)


@asynchronous
async def test_a_result_becomes_preliminary_then_final(tmp_path: Path) -> None:
    """Order and result of one placer: preliminary, then final, same values, same patient."""
    async with laboratory_in(tmp_path) as laboratory:
        assert (await laboratory.give(order())).code == "CA"
        assert (await laboratory.give(result())).code == "CA"
        await until("it is final", 5, lambda: laboratory.statuses == ["preliminary", "final"])
        first, last = laboratory.reports
        assert first.values == last.values == result().values
        assert {(r.mrn, r.placer, r.specimen) for r in laboratory.reports} == {("M1", "P1", PLAIN)}


@asynchronous
async def test_a_few_reports_are_corrected(tmp_path: Path) -> None:
    """A seeded specimen is corrected after its final: one value measured again."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(order())
        await laboratory.give(result(CORRECTED))
        expected = ["preliminary", "final", "corrected"]
        await until("it is corrected", 5, lambda: laboratory.statuses == expected)
        before, after = laboratory.reports[1:]
        assert before.values[:-1] == after.values[:-1]
        assert after.values == correct(CORRECTED, before.values)


def test_the_share_of_corrections_is_a_few_percent() -> None:
    """Of 10,000 specimens about 3 % are corrected."""
    corrected = sum(is_corrected(f"SP-{number}") for number in range(10_000))
    assert abs(corrected / 10_000 - CORRECTED_SHARE) < 0.01


@asynchronous
async def test_a_result_waits_for_its_order(tmp_path: Path) -> None:
    """A result without order is acknowledged, kept and shown as held; the order releases it."""
    async with laboratory_in(tmp_path) as laboratory:
        assert (await laboratory.give(result())).code == "CA"
        (held,) = await laboratory.get("/held")
        assert (held["specimen"], held["reason"]) == (PLAIN, "no order yet")
        assert not laboratory.reports
        await laboratory.give(order())
        await until("it is final", 5, lambda: laboratory.statuses == ["preliminary", "final"])
        assert await laboratory.get("/held") == []


@asynchronous
async def test_a_tube_of_another_patient_is_never_reported(tmp_path: Path) -> None:
    """Patient on the tube and on the order differ: held with the reason, until a merge says why."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(order(mrn="M1"))
        await laboratory.give(result(mrn="M2"))
        (held,) = await laboratory.get("/held")
        assert "patient" in held["reason"]
        assert not laboratory.reports
        await laboratory.give(Adt("A40", "M2", prior_mrn="M1"), sender="GAM")
        await until("it is final", 5, lambda: laboratory.statuses[-1:] == ["final"])
        assert {report.mrn for report in laboratory.reports} == {"M2"}


@asynchronous
async def test_a_merge_moves_everything(tmp_path: Path) -> None:
    """After A40 orders and results belong to the survivor, also those that come later."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(order(1, "OLD"))
        await laboratory.give(Adt("A40", "NEW", prior_mrn="OLD"), sender="GAM")
        await laboratory.give(order(2, "OLD"))
        await laboratory.give(result("S-b", 2, "OLD", critical=True))
        await laboratory.give(Adt("A40", "NEWEST", prior_mrn="NEW"), sender="GAM")
        await until("it is reported", 5, lambda: laboratory.reports)
        assert all('"patient":"NEWEST"' in row for row in await laboratory.export())
        assert (await laboratory.get("/criticals?open=1"))[0]["patient"] == "NEWEST"
        back = await laboratory.give(Adt("A40", "OLD", prior_mrn="NEWEST"), sender="GAM")
        assert (back.code, back.error) == ("CE", "204")


@asynchronous
async def test_repetitions_change_nothing(tmp_path: Path) -> None:
    """The same MSH-10 again, or the same result under a new one: acknowledged, stored once."""
    async with laboratory_in(tmp_path) as laboratory:
        for control_id in ("A", "A", "A"):
            assert (await laboratory.give(order(), control_id)).code == "CA"
        for control_id in ("R", "R", "T"):
            assert (await laboratory.give(result(), control_id, "ANALYSERS")).code == "CA"
        await until("it is final", 5, lambda: laboratory.statuses[-1:] == ["final"])
        assert laboratory.statuses == ["preliminary", "final"]
        rows = await laboratory.export()
        assert len(rows) == 2
        assert all('"count":1' in row for row in rows)


@asynchronous
async def test_an_order_entered_twice_is_not_hidden(tmp_path: Path) -> None:
    """The same order under another MSH-10 was entered twice: the export says so; one report."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(order(), "A")
        assert (await laboratory.give(order(), "B")).code == "CA"
        await laboratory.give(result())
        await until("it is final", 5, lambda: laboratory.statuses == ["preliminary", "final"])
        assert '"count":2' in (await laboratory.export())[0]


@asynchronous
async def test_a_placer_number_is_used_once(tmp_path: Path) -> None:
    """Another order under the same placer number is refused 205, another specimen's order too."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(order())
        assert (await laboratory.give(order(mrn="M9"))).error == "205"
        await laboratory.give(result())
        assert (await laboratory.give(result(number=2))).error == "205"


@asynchronous
async def test_urgent_reports_overtake_routine_ones(tmp_path: Path) -> None:
    """With the engine away, STAT reports wait in front of the routine ones."""
    async with laboratory_in(tmp_path, SPEED) as laboratory:
        await laboratory.engine.stop()
        for number in range(1, 30):
            await laboratory.give(order(number, stat=number == 29))
            await laboratory.give(result(f"S-{number}", number))

        def waiting() -> list[tuple[str, str]]:
            items = laboratory.lis.queue.waiting("engine", 999)
            bodies = [parse(item.payload).body for item in items]
            return [(b.placer, b.status) for b in bodies if isinstance(b, Report)]

        await until("finals wait", 5, lambda: [s for _, s in waiting()].count("final") == 29)
        assert waiting()[:2] == [("P29", "preliminary"), ("P29", "final")]


@asynchronous
async def test_criticals_are_listed_at_once_and_acknowledged_once(tmp_path: Path) -> None:
    """A critical result is on the phone list before its order is known; the first carer stays."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(result(critical=True))
        (critical,) = await laboratory.get("/criticals?open=1")
        assert (critical["id"], critical["acknowledged_by"]) == (PLAIN, None)
        answer = await laboratory.post(f"/criticals/{PLAIN}/ack", {"carer": "nurse A"})
        assert answer.json()["acknowledged_by"] == "nurse A"
        again = await laboratory.post(f"/criticals/{PLAIN}/ack", {"carer": "nurse B"})
        assert (again.status_code, again.json()["acknowledged_by"]) == (200, "nurse A")
        assert await laboratory.get("/criticals?open=1") == []
        assert len(await laboratory.get("/criticals")) == 1


@pytest.mark.parametrize(
    ("specimen", "content", "status"),
    [
        ("none", {"carer": "x"}, 404),
        (PLAIN, {"carer": " "}, 400),
        (PLAIN, {}, 400),
        (PLAIN, [], 400),
    ],
)
@asynchronous
async def test_an_acknowledgement_needs_a_name_and_a_result(
    tmp_path: Path, specimen: str, content: Any, status: int
) -> None:
    """Unknown critical 404, nameless carer 400, each with a reason."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(result(critical=True))
        answer = await laboratory.post(f"/criticals/{specimen}/ack", content)
        assert answer.status_code == status
        assert answer.json()["issue"][0]["diagnostics"]


@asynchronous
async def test_the_feed_shows_every_version(tmp_path: Path) -> None:
    """The web page's feed numbers every version; `after` continues where a reader stopped."""
    async with laboratory_in(tmp_path) as laboratory:
        for number in (1, 2):
            await laboratory.give(order(number))
            await laboratory.give(result(f"S-{number}", number))
        await until("all are final", 5, lambda: laboratory.statuses.count("final") == 2)
        feed = await laboratory.get("/feed/results")
        assert [item["seq"] for item in feed] == [1, 2, 3, 4]
        assert feed[-1]["status"] == "final"
        assert [i["seq"] for i in await laboratory.get("/feed/results?after=3")] == [4]


@asynchronous
async def test_the_export_says_what_is_stored(tmp_path: Path) -> None:
    """Orders by placer with the shared digest, reports by specimen with their status."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(order())
        await laboratory.give(result())
        await until("it is final", 5, lambda: laboratory.statuses[-1:] == ["final"])
        first, second = await laboratory.export()
        assert f'"digest":"{order_digest("P1", "M1", ["NA", "K"], False)}"' in first
        assert f'"key":"{PLAIN}"' in second
        assert '"status":"final"' in second


@asynchronous
async def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    """An unknown type is refused; a result without critical flag is not on the phone list."""
    async with laboratory_in(tmp_path) as laboratory:
        payload = build(Header("C1"), order()).replace(b"OML^O21", b"MDM^T02")
        (reply,) = await laboratory.lis.intake.answer(Frame(payload))
        assert (parse_ack(reply).code, parse_ack(reply).error) == ("CR", "200")
        await laboratory.give(Report("S9", "P9", "M9", "final", (Value("NA", "140", flag="H"),)))
        assert await laboratory.get("/criticals") == []
