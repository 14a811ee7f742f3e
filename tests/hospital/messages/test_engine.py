"""The engine: routes, stores, then acknowledges; takes a message once; refuses with a reason."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stacks.hospital import engine_http
from stacks.hospital.engine import ENGINE_SCHEMA, Engine
from stacks.hospital.log import Log
from stacks.hospital.settings import Settings
from stacks.hospital.snapshot import copy
from stacks.hospital.store import Store, Unwritable
from stacks.hospital.wire.hl7 import (
    Ack,
    Adt,
    Header,
    Hl7Error,
    ImagingOrder,
    Order,
    Report,
    Value,
    build,
    parse_ack,
)
from stacks.hospital.wire.mllp import Frame
from tests.ports import free_port

from .stand import Peer, asynchronous, browser, until

ADT = Adt("A01", "M1", visit="V1")
ORDER = Order("P1", "M1", ("NA",))
IMAGING = ImagingOrder("P9", "M1", "CT", ("CT",), "STAT")
REPORT = Report("S1", "P1", "M1", "final", (Value("NA", "140"),))


@asynccontextmanager
async def engine_in(folder: Path, **links: int) -> AsyncIterator[Engine]:
    """An engine without its process; links ehr_a, lis, ris, ... are ports of peers.

    Without links, record and laboratory are there in the plan and do not answer.
    """
    links = links or {"ehr_a": free_port(), "lis": free_port()}
    store = Store(folder / "engine.db", ENGINE_SCHEMA)
    works = Engine(store, Log("engine"))
    environment = {f"LINK_{n.upper()}_MLLP": f"127.0.0.1:{port}" for n, port in links.items()}
    works.connect(Settings("engine", "A", folder, environment=environment))
    stop = asyncio.Event()
    running = [asyncio.create_task(courier.run(stop)) for courier in works.couriers.values()]
    try:
        yield works
    finally:
        stop.set()
        if running:
            await asyncio.wait(running, timeout=5)
        await store.close()


async def give(
    works: Engine, control_id: str, body: Adt | Order | ImagingOrder | Report, **msh: str
) -> Ack:
    payload = build(Header(control_id, sender=msh.pop("sender", "GAM"), at=1e9, **msh), body)
    (reply,) = await works.intake.answer(Frame(payload))
    return parse_ack(reply)


def waiting(works: Engine) -> dict[str, list[str]]:
    return {
        name: [item.control_id for item in works.queue.waiting(name, 100)]
        for name in ("ehr", "lis")
    }


@asynchronous
async def test_each_type_has_its_route(tmp_path: Path) -> None:
    """ADT → ehr and lis, OML → lis, ORU → ehr; enhanced mode is answered CA, original AA."""
    async with engine_in(tmp_path) as works:
        assert (await give(works, "C1", ADT)).code == "CA"
        assert (await give(works, "C2", ORDER, accept="", application="")).code == "AA"
        assert (await give(works, "C3", REPORT)).code == "CA"
        assert waiting(works) == {"ehr": ["C1", "C3"], "lis": ["C1", "C2"]}


DEPARTMENTS = ("ris", "scheduling", "website", "callcentre", "sms", "clinic_lists")
SIU = build(Header("S1", sender="SCHEDULING", at=1e9), ADT).replace(b"ADT^A01", b"SIU^S15")


@asynchronous
async def test_departments_are_on_the_route_when_they_stand(tmp_path: Path) -> None:
    """ADT also goes to ris and scheduling, OMI to ris, SIU to the four channels; a hospital of
    departments alone queues nothing for record and laboratory."""
    links = {name: free_port() for name in DEPARTMENTS}
    async with engine_in(tmp_path, **links) as works:
        assert (await give(works, "C1", ADT)).code == "CA"
        assert (await give(works, "C2", IMAGING)).code == "CA"
        (reply,) = await works.intake.answer(Frame(SIU))
        assert parse_ack(reply).code == "CA"
        names = [name.replace("_", "-") for name in DEPARTMENTS]
        found = {n: [i.control_id for i in works.queue.waiting(n, 9)] for n in names}
        assert found["ris"] == ["C1", "C2"]
        assert found["scheduling"] == ["C1"]
        assert all(found[name] == ["S1"] for name in names[2:])
        assert waiting(works) == {"ehr": [], "lis": []}


@asynchronous
async def test_one_department_of_several_stands(tmp_path: Path) -> None:
    """Where of the channels only the website stands, a notice goes there and nowhere else."""
    website = await Peer().start()
    async with engine_in(tmp_path, website=website.port) as works:
        await works.intake.answer(Frame(SIU))
        await until("the website has it", 5, lambda: website.kept_ids == ["S1"])
        await until("it is no longer owed", 5, lambda: not works.queue.depth("website").waiting)
        with sqlite3.connect(tmp_path / "engine.db") as other:
            assert other.execute("SELECT count(*) FROM queue").fetchone() == (0,)
    await website.stop()


@asynchronous
async def test_a_message_that_nobody_here_takes_is_kept(tmp_path: Path) -> None:
    """Without channels and ris: SIU and OMI are accepted, exported as done, queued nowhere, and
    known when they come again; other content under the same MSH-10 is still refused."""
    async with engine_in(tmp_path) as works, browser(engine_http.routes(works)) as client:
        for _ in range(2):
            (reply,) = await works.intake.answer(Frame(SIU))
            assert parse_ack(reply).code == "CA"
            assert (await give(works, "C2", IMAGING)).code == "CA"
        assert works.queue.tasks() == []
        assert waiting(works) == {"ehr": [], "lis": []}
        rows = (await client.get("/export")).text.splitlines()
        assert [json.loads(row)["key"] for row in rows] == ["S1", "C2"]
        assert {json.loads(row)["patient"] for row in rows} == {"M1"}
        other = ImagingOrder("P8", "M1", "MR", ("MR",))
        assert (await give(works, "C2", other)).error == "205"


@asynchronous
async def test_an_accepted_message_is_in_the_file(tmp_path: Path) -> None:
    """When CA is given the message lies, committed, in the queue of every destination."""
    async with engine_in(tmp_path) as works:
        await give(works, "C1", ADT)
        with sqlite3.connect(tmp_path / "engine.db") as other:
            rows = other.execute("SELECT destination FROM queue ORDER BY id").fetchall()
        assert rows == [("ehr",), ("lis",)]


@asynchronous
async def test_a_repetition_is_acknowledged_and_kept_once(tmp_path: Path) -> None:
    """The same MSH-10 of a sender again is CA and queued once, also concurrently and later."""
    async with engine_in(tmp_path) as works:
        acks = await asyncio.gather(*(give(works, "C1", ORDER) for _ in range(20)))
        assert {ack.code for ack in acks} == {"CA"}
        assert (await give(works, "C1", ORDER, sender="OTHER")).code == "CA"
        assert waiting(works)["lis"] == ["C1", "C1"], "another sender may use the same MSH-10"
    async with engine_in(tmp_path) as works:
        assert (await give(works, "C1", ORDER)).code == "CA"
        assert len(waiting(works)["lis"]) == 2, "remembered across a restart"


@asynchronous
async def test_a_reused_control_id_is_refused(tmp_path: Path) -> None:
    """MSH-10 used for other content is refused 205: it would be lost as a repetition."""
    async with engine_in(tmp_path) as works:
        await give(works, "C1", ORDER)
        ack = await give(works, "C1", Order("P2", "M1", ("NA",)))
        assert (ack.code, ack.error) == ("CE", "205")
        assert waiting(works)["lis"] == ["C1"]


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b"nonsense", "AR  100"),
        (b"MSH|^~\\&|A|||||||C1|P|2.5.1\r", "AE C1 101"),
        (build(Header("C1"), ORDER).replace(b"OML^O21", b"MFN^M02"), "CR C1 200"),
        (build(Header("C1"), ORDER).replace(b"2.5.1", b"9.9"), "CR C1 203"),
        (build(Header("C1"), ORDER) + b"x\r", "CR C1 100"),
        (build(Header("C1"), ORDER) + b"NTE|1||\xff\r", "CE C1 102"),
        (b"", "AR  100"),
    ],
)
@asynchronous
async def test_what_cannot_be_carried_is_refused(
    tmp_path: Path, payload: bytes, answer: str
) -> None:
    """Malformed, unknown type or version: a negative acknowledgement with its code, none queued."""
    async with engine_in(tmp_path) as works:
        (reply,) = await works.intake.answer(Frame(payload))
        ack = parse_ack(reply)
        assert f"{ack.code} {ack.control_id} {ack.error}" == answer
        assert waiting(works) == {"ehr": [], "lis": []}
        assert works.intake.refusals[0].reason


@asynchronous
async def test_an_oversized_message_is_refused(tmp_path: Path) -> None:
    """Only the head of it was read: refused under its own MSH-10."""
    async with engine_in(tmp_path) as works:
        head = build(Header("BIG"), ORDER)
        (reply,) = await works.intake.answer(Frame(head, oversized=True))
        assert (parse_ack(reply).code, parse_ack(reply).control_id) == ("CE", "BIG")
        assert waiting(works) == {"ehr": [], "lis": []}


@asynchronous
async def test_a_disk_that_refuses_means_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room in the queue: CE 206, which tells the sender to repeat it; never CA."""

    async def refuse(*_: object) -> None:
        raise Unwritable("disk full")

    async with engine_in(tmp_path) as works:
        monkeypatch.setattr(works.store, "write", refuse)
        ack = await give(works, "C1", ORDER)
        assert (ack.code, ack.error, ack.transient) == ("CE", "206", True)


@asynchronous
async def test_one_destination_away_does_not_hold_the_other(tmp_path: Path) -> None:
    """The record is away: the laboratory gets its messages; later the record gets all, in order."""
    lis = await Peer().start()
    ehr = await Peer().start()
    await ehr.stop()
    async with engine_in(tmp_path, ehr_a=ehr.port, lis=lis.port) as works:
        names = [f"C{number}" for number in range(20)]
        for name in names:
            await give(works, name, ADT)
        await until("the laboratory has all", 5, lambda: lis.kept_ids == names)
        assert not ehr.kept
        ehr = await Peer().start(ehr.port)
        await until("the record has all", 3, lambda: ehr.kept_ids == names)
    await lis.stop()
    await ehr.stop()


@asynchronous
async def test_people_see_queues_and_tasks(tmp_path: Path) -> None:
    """Depth and age per destination; a parked message is a task that can be retried once."""
    healed = False

    def decide(_: str, __: int) -> Hl7Error | None:
        return None if healed else Hl7Error("204", "unknown patient")

    lis = await Peer(decide).start()
    async with engine_in(tmp_path, lis=lis.port) as works:
        client = browser(engine_http.routes(works))
        await give(works, "C1", ORDER)
        await until("it is parked", 5, works.queue.tasks)
        (task,) = (await client.get("/tasks")).json()
        assert (task["control_id"], task["reason"]) == ("C1", "CE 204 unknown patient")
        seen = (await client.get("/queues")).json()["lis"]
        assert (seen["depth"], seen["parked"]) == (0, 1)
        assert (await client.get("/export")).json()["status"] == "parked"
        healed = True
        assert (await client.post(f"/tasks/{task['id']}/retry")).status_code == 200
        await until("it is delivered", 5, lambda: lis.kept_ids == ["C1"])
        for wrong in (f"/tasks/{task['id']}/retry", "/tasks/x/retry", "/tasks/1/burn"):
            answer = await client.post(wrong)
            assert answer.status_code == 404
            assert answer.json()["issue"][0]["diagnostics"]
    await lis.stop()


@asynchronous
async def test_the_export_shows_copies(tmp_path: Path) -> None:
    """The same content under two MSH-10 is exported with count 2, not hidden."""
    async with engine_in(tmp_path) as works, browser(engine_http.routes(works)) as client:
        await give(works, "C1", ORDER)
        await give(works, "C2", ORDER)
        rows = [row.split(b'"count":')[1][:1] for row in (await client.get("/export")).iter_lines()
                for row in [row.encode()]]  # fmt: skip
        assert rows == [b"2", b"2"]


def copied(path: Path) -> tuple[bytes, dict[str, str]]:
    content, _ = copy(path)
    return content, {"X-SHA256": hashlib.sha256(content).hexdigest()}


@asynchronous
async def test_a_restored_queue_goes_before_what_came_later_and_parked_stays_parked(
    tmp_path: Path,
) -> None:
    """An engine that begins empty takes its old file: old order first, known messages once,
    parked ones as tasks that a person can decide; a second time changes nothing."""
    (tmp_path / "old").mkdir()
    async with engine_in(tmp_path / "old") as works:
        for number in range(4):
            await give(works, f"C{number}", ADT)
        (first, *_) = works.queue.waiting("lis", 9)
        await works.queue.park(first.id, "refused")
        content, headers = copied(works.store.path)
    async with engine_in(tmp_path) as works, browser(engine_http.routes(works)) as client:
        await give(works, "C9", ADT)
        await give(works, "C2", ADT)  # sent again meanwhile
        answer = await client.post("/restore", content=content, headers=headers)
        told = answer.json()
        assert answer.status_code == 200, told
        assert (told["messages"], told["waiting"], told["parked"], told["known"]) == (3, 5, 1, 1)
        assert waiting(works) == {"ehr": ["C0", "C1", "C3", "C9", "C2"],
                                  "lis": ["C1", "C3", "C9", "C2"]}  # fmt: skip
        (task,) = works.queue.tasks()
        assert (task.control_id, task.reason) == ("C0", "refused")
        assert (await client.post(f"/tasks/{task.id}/retry")).status_code == 200
        again = (await client.post("/restore", content=content, headers=headers)).json()
        assert (again["messages"], again["waiting"]) == (0, 0)
        assert len(works.queue.waiting("ehr", 9)) == 5


@asynchronous
async def test_no_engine_takes_what_is_no_sound_copy(tmp_path: Path) -> None:
    """Without its hash, torn, of another system, or no database: refused, nothing changed."""
    (tmp_path / "old").mkdir()
    async with engine_in(tmp_path / "old") as works:
        await give(works, "C0", ADT)
        content, headers = copied(works.store.path)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE charge (id INTEGER)")
    foreign = copied(tmp_path / "other.db")
    torn = content[: len(content) // 2]
    async with engine_in(tmp_path) as works, browser(engine_http.routes(works)) as client:
        for what, head, status in (
            (content, {}, 400), (content[:-1], headers, 400), (*foreign, 422),
            (torn, {"X-SHA256": hashlib.sha256(torn).hexdigest()}, 422),
            (b"no", {"X-SHA256": hashlib.sha256(b"no").hexdigest()}, 422),
        ):  # fmt: skip
            answer = await client.post("/restore", content=what, headers=head)
            assert answer.status_code == status, answer.text
        assert waiting(works) == {"ehr": [], "lis": []}
        assert not list(tmp_path.glob(".restore-*"))
