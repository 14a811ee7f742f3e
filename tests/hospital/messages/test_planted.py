"""The planted defects of engine, laboratory and analysers: each does its harm, its absence none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacks.hospital import engine
from stacks.hospital.wire import mllp
from stacks.hospital.wire.hl7 import Hl7Error, Report, parse
from tests.ports import free_port

from .stand import Peer, Process, asynchronous, until
from .test_analysers import analysers_in
from .test_engine import ORDER, engine_in, give
from .test_lis import PLAIN, laboratory_in, order, result

NAMES = [f"C{number:02d}" for number in range(10)]


def with_and_without(bug: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bug", ["", bug])


@pytest.fixture(autouse=True)
def planted_bug(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSPITAL_BUG", bug)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledgements are waited for 0.2 s instead of 5 s."""

    def client(address: mllp.Address, check_ack_id: bool = True) -> mllp.MllpClient:
        return mllp.MllpClient(address, ack_s=0.2, check_ack_id=check_ack_id)

    monkeypatch.setattr(engine, "MllpClient", client)


def order_of(name: str) -> object:
    return type(ORDER)(name, "M1", ("NA",))


@pytest.mark.usefixtures("impatient")
@with_and_without("late-ack-shift")
@asynchronous
async def test_late_ack_shift(tmp_path: Path, bug: str) -> None:
    """Late answers: with the defect messages are believed delivered that were never sent."""
    late = asyncio.Event()

    async def hold() -> None:
        await late.wait()

    lis = await Peer(lambda _n, _t: hold()).start()
    async with engine_in(tmp_path, lis=lis.port) as works:
        for name in NAMES:
            await give(works, name, order_of(name))  # type: ignore[arg-type]
        await until("time-outs", 5, lambda: works.couriers["lis"].trip.failures > 2)
        late.set()
        await until("the queue is empty", 5, lambda: not works.queue.depth("lis").waiting)
        assert not works.queue.tasks()
    assert (set(lis.kept_ids) == set(NAMES)) is (bug == "")
    await lis.stop()


@pytest.mark.usefixtures("impatient")
@with_and_without("no-retry-after-timeout")
@asynchronous
async def test_no_retry_after_timeout(tmp_path: Path, bug: str) -> None:
    """One slow answer: with the defect that message is set aside instead of sent again."""

    async def slow() -> None:
        await asyncio.sleep(0.4)
        raise mllp.MllpError("gone", sent=False)  # the peer dies before it stores

    lis = await Peer(lambda n, t: slow() if (n, t) == ("C03", 1) else None).start()
    async with engine_in(tmp_path, lis=lis.port) as works:
        for name in NAMES:
            await give(works, name, order_of(name))  # type: ignore[arg-type]
        await until("the queue is empty", 5, lambda: not works.queue.depth("lis").waiting)
    assert ("C03" in lis.kept_ids) is (bug == "")
    await lis.stop()


@with_and_without("poison-blocks-channel")
@asynchronous
async def test_poison_blocks_channel(tmp_path: Path, bug: str) -> None:
    """One refused message: with the defect everything behind it waits."""
    lis = await Peer(lambda n, _: Hl7Error("101", "no") if n == "C03" else None).start()
    async with engine_in(tmp_path, lis=lis.port) as works:
        for name in NAMES:
            await give(works, name, order_of(name))  # type: ignore[arg-type]
        await until("it was refused", 5, lambda: works.couriers["lis"].trip.refused > (bug != ""))
        if not bug:
            await until("the rest came", 5, lambda: len(lis.kept) == len(NAMES) - 1)
    assert ("C09" in lis.kept_ids) is (bug == "")
    await lis.stop()


@pytest.mark.usefixtures("impatient")
@with_and_without("retry-storm")
@asynchronous
async def test_retry_storm(tmp_path: Path, bug: str) -> None:
    """A stalled destination: with the defect one message becomes many."""
    gate = asyncio.Event()

    async def stall() -> None:
        await gate.wait()

    lis = await Peer(lambda _n, _t: stall()).start()
    async with engine_in(tmp_path, lis=lis.port) as works:
        await give(works, "C00", ORDER)
        await until("time-outs", 5, lambda: works.couriers["lis"].trip.failures > 2)
        gate.set()
        await until("the queue is empty", 5, lambda: not works.queue.depth("lis").waiting)
    assert (len(set(lis.kept_ids)) == 1) is (bug == "")
    await lis.stop()


@with_and_without("newest-first-replay")
@asynchronous
async def test_newest_first_replay(tmp_path: Path, bug: str) -> None:
    """A backlog: with the defect it is replayed from its end."""
    port = free_port()
    async with engine_in(tmp_path, lis=port) as works:
        for name in NAMES:
            await give(works, name, order_of(name))  # type: ignore[arg-type]
        lis = await Peer().start(port)
        await until("all arrived", 5, lambda: len(set(lis.kept_ids)) == len(NAMES))
    assert (lis.kept_ids == NAMES) is (bug == "")
    await lis.stop()


@with_and_without("unmatched-result-dropped")
@asynchronous
async def test_unmatched_result_dropped(tmp_path: Path, bug: str) -> None:
    """Result before order: with the defect there is never a report."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(result())
        await laboratory.give(order())
        await laboratory.give(order(2))
        await laboratory.give(result("S-other", 2))
        await until("the other is final", 5, lambda: laboratory.statuses[-1:] == ["final"])
        await asyncio.sleep(0.1 if bug else 0)
        found = {report.specimen for report in laboratory.reports}
    assert (PLAIN in found) is (bug == "")


@with_and_without("critical-not-listed")
@asynchronous
async def test_critical_not_listed(tmp_path: Path, bug: str) -> None:
    """The engine is away: with the defect the phone list is empty."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.engine.stop()
        await laboratory.give(order())
        await laboratory.give(result(critical=True))
        listed = await laboratory.get("/criticals?open=1")
    assert (len(listed) == 1) is (bug == "")


@with_and_without("stat-as-routine")
@asynchronous
async def test_stat_as_routine(tmp_path: Path, bug: str) -> None:
    """A STAT result after a routine one: with the defect it is final only after that one."""
    async with laboratory_in(tmp_path, speed=720.0) as laboratory:
        await laboratory.give(order(2))
        await laboratory.give(result("S-routine", 2))
        await laboratory.give(order(1, stat=True))
        await laboratory.give(result("S-stat", 1))
        await until("both are final", 5, lambda: laboratory.statuses.count("final") == 2)
        first = next(r.specimen for r in laboratory.reports if r.status == "final")
    assert (first == "S-stat") is (bug == "")


@with_and_without("results-mixed")
@asynchronous
async def test_results_mixed(tmp_path: Path, bug: str) -> None:
    """After a reconnection: with the defect reports go out under another patient."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(order(1, "M1"))
        await laboratory.give(result("S-1", 1, "M1"))
        await until("connected", 5, lambda: laboratory.reports)
        await laboratory.engine.stop()
        laboratory.engine = again = await Peer().start(laboratory.engine.port)
        for number in range(2, 8):
            await laboratory.give(order(number, f"M{number}"))
            await laboratory.give(result(f"S-{number}", number, f"M{number}"))
            await until("reported", 5, lambda n=number: _specimens(again, f"S-{n}") >= 2)
        wrong = [r for r in laboratory.reports if r.mrn[1:] != r.placer[1:]]
    assert (wrong == []) is (bug == "")
    await again.stop()


def _specimens(peer: Peer, specimen: str) -> int:
    bodies = [parse(payload).body for payload in peer.kept]
    return sum(isinstance(body, Report) and body.specimen == specimen for body in bodies)


@with_and_without("prelim-overwrites-final")
@asynchronous
async def test_prelim_overwrites_final(tmp_path: Path, bug: str) -> None:
    """After an outage of the engine: with the defect preliminaries follow their finals."""
    async with laboratory_in(tmp_path) as laboratory:
        await laboratory.give(order(1))
        await laboratory.give(result("S-1", 1))
        await until("final", 5, lambda: laboratory.statuses[-1:] == ["final"])
        await laboratory.engine.stop()
        laboratory.engine = again = await Peer().start(laboratory.engine.port)
        await laboratory.give(order(2))
        await laboratory.give(result("S-2", 2))
        await until("final", 5, lambda: "final" in laboratory.statuses)
        queue = laboratory.lis.queue
        await until("the outbox is empty", 5, lambda: not queue.depth("engine").waiting)
        late = [r for r in laboratory.reports if (r.specimen, r.status) == ("S-1", "preliminary")]
    assert (late == []) is (bug == "")
    await again.stop()


@with_and_without("stops-when-lis-down")
@asynchronous
async def test_stops_when_lis_down(tmp_path: Path, bug: str) -> None:
    """No laboratory system: with the defect the line stands still after its first result."""
    async with analysers_in(tmp_path, free_port()) as analysers:
        await analysers.load("S0")
        assert analysers.line.courier is not None
        trip = analysers.line.courier.trip
        await until("the LIS was missed", 5, lambda: trip.failures)
        for number in range(1, 20):
            await analysers.load(f"S{number}")
        if bug:
            await asyncio.sleep(0.5)
        else:
            await until("all are measured", 5, lambda: analysers.finished() == 20)
        assert (analysers.finished() == 20) is (bug == "")


@with_and_without("drops-when-buffer-100")
@asynchronous
async def test_drops_when_buffer_100(tmp_path: Path, bug: str) -> None:
    """130 results held: with the defect the laboratory gets 100 of them."""
    port = free_port()
    async with analysers_in(tmp_path, port) as analysers:
        for number in range(130):
            await analysers.load(f"S{number}")
        await until("all are measured", 5, lambda: analysers.finished() == 130)
        lis = await Peer().start(port)
        queue = analysers.line.queue
        await until("the buffer is empty", 5, lambda: not queue.depth("lis").waiting)
    assert (len(set(lis.kept_ids)) == 130) is (bug == "")
    await lis.stop()


@pytest.fixture
def processes(tmp_path: Path, bug: str) -> Iterator[Process]:
    process = Process("analysers", tmp_path, {"LIS": free_port()}, bug)
    process.start()
    yield process
    process.kill()


@with_and_without("buffer-in-memory")
@asynchronous
async def test_buffer_in_memory(processes: Process, bug: str) -> None:
    """Results held, machine killed: with the defect they never reach the laboratory."""
    tube = {"specimen": "S1", "placer": "P1", "patient": "M1", "tests": ["NA"], "stat": True}
    assert processes.post("/specimens", tube)[0] == 201
    await until("it is measured", 5, lambda: processes.get("/console"))
    processes.kill()
    lis = await Peer().start(processes._links["LIS"])
    await asyncio.to_thread(processes.start)
    assert processes.post("/specimens", tube | {"specimen": "S2"})[0] == 201
    await until("the next one came", 5, lambda: _specimens(lis, "S2"))
    assert bool(_specimens(lis, "S1")) is (bug == "")
    await lis.stop()
