"""The bad input of an experiment: how it is sent, and that the ledger says what became of it."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydicom.uid import JPEG2000Lossless
from pynetdicom import evt

from chaos.journal.events import AnyEvent
from chaos.workload import WorkloadError, WorkloadProcess
from stacks.hospital.bad_input import dicom, inputs
from stacks.hospital.bad_input.__main__ import Params, planned
from stacks.hospital.bad_input.dicom import Way, offered, stored
from stacks.hospital.bad_input.inputs import BadInput, Heard, Sender, no_answer
from stacks.hospital.bad_input.neighbours import Neighbours, NoNeighbours
from stacks.hospital.bad_input.web import Web
from stacks.hospital.claims.refusals import SORTS
from stacks.hospital.day import bad_input
from stacks.hospital.imaging.association import Listening, Scp, listen, storage_contexts
from stacks.hospital.imaging.instances import Examination, encode, instance
from stacks.hospital.log import Log
from stacks.hospital.settings import Address
from stacks.hospital.settings import address as parsed
from stacks.hospital.traffic.config import Config
from stacks.hospital.traffic.ledger import Ledger
from stacks.hospital.wire.hl7 import Hl7Error
from tests.ports import free_port

from .messages.stand import Peer, asynchronous
from .programs import Program, until
from .traffic.fakes import FakeService, Pages

SENT_S = 30.0


# ---------------------------------------------------------------- what an answer is worth


def told(*answers: Heard, stopped: bool = False, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The last word that the ledger has after these attempts; the last answer is repeated."""
    monkeypatch.setattr(inputs, "PAUSE_S", 0.001)
    monkeypatch.setattr(inputs, "PATIENCE_S", 0.5)
    journal, stop, left = Pages(), threading.Event(), list(answers)

    def attempt() -> Heard:
        if stopped:
            stop.set()
        return left.pop(0) if len(left) > 1 else left[0]

    bad = BadInput("bad.slot", "K", "M1", "scheduling", "a slot that is gone", attempt)
    Sender(Ledger(journal, "strangers"), stop).send(bad)
    return journal.events[-1]


def test_a_refusal_is_written_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, by whom and how; an attempt that never got there changes nothing of it."""
    last = told(no_answer("no connection", maybe=False), Heard("409 gone"), monkeypatch=monkeypatch)
    assert (type(last).__name__, last.reason, last.via) == ("OpRefused", "409 gone", "scheduling")
    assert last.attempts == 2


def test_an_acknowledgement_is_written_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes bad input is written down as having taken it."""
    last = told(Heard("201", taken=True), monkeypatch=monkeypatch)
    assert (type(last).__name__, last.strength) == ("OpOk", "201")


def test_a_refusal_after_a_lost_answer_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt may have been taken: nobody may call that refused."""
    last = told(no_answer("reset", maybe=True), Heard("409 gone"), monkeypatch=monkeypatch)
    assert (type(last).__name__, last.reason) == ("OpUnknown", "reset; then 409 gone")


def test_silence_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answered within the sender's patience; and who was stopped proves nothing."""
    last = told(no_answer("no connection", maybe=False), monkeypatch=monkeypatch)
    assert (type(last).__name__, last.reason) == ("OpUnknown", "no connection")
    last = told(no_answer("reset", maybe=True), stopped=True, monkeypatch=monkeypatch)
    assert last.reason.startswith("cut short")


# ---------------------------------------------------------------- HTTP


@pytest.mark.parametrize(
    ("status", "outcome", "heard"),
    [
        (409, True, Heard("409 OperationOutcome conflict: gone")),
        (409, False, Heard("409 without an OperationOutcome")),
        (201, False, Heard("201", taken=True)),
        (503, True, no_answer("503 OperationOutcome conflict: gone", maybe=False)),
        (500, True, no_answer("500 OperationOutcome conflict: gone", maybe=True)),
    ],
)
def test_only_a_4xx_is_a_refusal(status: int, outcome: bool, heard: Heard) -> None:
    """A service that cannot answer now has refused nothing; a bare 4xx has no terms."""
    issue = {"issue": [{"severity": "error", "code": "conflict", "diagnostics": "gone"}]}
    answer = {"resourceType": "OperationOutcome", **issue} if outcome else {}
    service = FakeService(lambda *_: (status, {}, answer))
    try:
        assert (
            Web(parsed("fake", service.address)).hear("POST", "/fhir/Appointment", b"{}") == heard
        )
    finally:
        service.close()


def test_a_closed_connection_may_have_been_heard() -> None:
    """No connection at all was heard by nobody."""
    service = FakeService(lambda *_: None)
    try:
        heard = Web(parsed("fake", service.address)).hear("POST", "/x", b"{}")
    finally:
        service.close()
    assert (heard.answered, heard.maybe) == (False, True)
    heard = Web(Address("127.0.0.1", free_port())).hear("POST", "/x", b"{}")
    assert (heard.answered, heard.maybe) == (False, False)


def test_without_neighbours_it_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who refuses a sound patient is named, and the ledger has no neighbour."""
    monkeypatch.setattr("stacks.hospital.bad_input.neighbours.WITHIN_S", 0.1)
    service, journal = FakeService(lambda *_: (503, {}, {})), Pages()
    try:
        neighbours = Neighbours(Ledger(journal, "strangers"), "strangers7", 1.0)
        with pytest.raises(NoNeighbours, match=r"gam did not take patient\.create .* 503"):
            neighbours.registered(Web(parsed("fake", service.address)), "B0")
    finally:
        service.close()
    assert type(journal.events[-1]).__name__ == "OpUnknown"


# ---------------------------------------------------------------- DICOM


@pytest.fixture
def archive() -> Iterator[Callable[..., Way]]:
    """Listeners that answer every C-STORE with one status; each is stopped at the end."""
    made: list[Scp] = []

    def start(status: int = 0, callers: frozenset[str] | None = None) -> Way:
        bind = Address("127.0.0.1", free_port())
        handlers = [(evt.EVT_C_STORE, lambda _: status)]
        offers = storage_contexts()
        made.append(listen(Listening("PACS_A", bind, offers, handlers, callers), Log("test")))
        return Way("pacs-a", bind, "CT1")

    yield start
    for one in made:
        one.stop()


def image() -> Any:
    return encode(instance(Examination("X1", "CT", "M1"), 1))


def test_dicom_refusals_are_in_the_words_of_the_standard(archive: Callable[..., Way]) -> None:
    """Association, presentation context and C-STORE each have terms of their own."""
    way, compressed = archive(0xC000), image()._replace(transfer_syntax=str(JPEG2000Lossless))
    terms = {
        "bad.title": stored(way, image(), "PACS_OLD"),
        "bad.syntax": offered(way, compressed),
        "bad.image": stored(way, image()),
    }
    sorts = {sort.kind: sort for found in SORTS.values() for sort in found}
    for kind, heard in terms.items():
        assert heard.answered, heard
        assert not heard.taken
        assert re.match(sorts[kind].terms, heard.words), heard.words


def test_what_dicom_takes_and_what_it_leaves_open(archive: Callable[..., Way]) -> None:
    """Status 0000 is taken; out of resources and nobody there are no answers; a caller who is not
    let in was rejected for another reason than the title he called."""
    assert stored(archive(), image()).taken
    assert stored(archive(0xA700), image()) == no_answer(
        "C-STORE status A700: out of resources", maybe=False
    )
    nobody = Way("pacs-a", Address("127.0.0.1", free_port()), "CT1")
    assert not stored(nobody, image()).answered
    assert "reason 3: calling AE" in stored(archive(callers=frozenset({"MR1"})), image()).words


def test_a_listener_that_hangs_up_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks during the association is silence."""
    monkeypatch.setattr(dicom, "BOUNDS", dicom.Bounds(connect_s=1.0, negotiate_s=1.0))
    with socket.create_server(("127.0.0.1", 0)) as door:
        way = Way("pacs-a", Address("127.0.0.1", door.getsockname()[1]), "CT1")

        def hang_up() -> None:
            door.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        assert not stored(way, image()).answered


# ---------------------------------------------------------------- the program


def ended(folder: Path) -> dict[str, list[Any]]:
    """Kind of bad input → the last words on it."""
    lines = (folder / "journal" / "strangers.jsonl").read_bytes().splitlines()
    events = [msgspec.json.decode(line, type=AnyEvent) for line in lines]
    kinds = {e.op: e.kind for e in events if type(e).__name__ == "OpInvoked"}
    found: dict[str, list[Any]] = {kind: [] for kind in kinds.values() if kind.startswith("bad.")}
    for event in events:
        if type(event).__name__ in ("OpOk", "OpRefused", "OpUnknown"):
            found.get(kinds[event.op], []).append(event)
    last = events[-1]
    assert (last.ok, last.started) == (True, last.planned)
    return found


def strangers(folder: Path, times: int, **links: Address) -> WorkloadProcess:
    load = bad_input("smoke", times)
    quick = {**load.params, "window_s": 1.0}
    return WorkloadProcess(
        type(load)(load.name, load.command, quick), folder, seed=7, speed=60,
        links={name: str(where) for name, where in links.items()}, direct={},
    )  # fmt: skip


def run(folder: Path, times: int, sorts: int, **links: Address) -> dict[str, list[Any]]:
    journal = folder / "journal" / "strangers.jsonl"
    last_words = re.compile(rb'"op\.(ok|refused|unknown)"')
    with strangers(folder, times, **links) as child:
        bad = re.compile(rb'"bad\.')
        until("all were sent", SENT_S, lambda: len(bad.findall(journal.read_bytes()))
              >= times * sorts and len(last_words.findall(journal.read_bytes()))
              >= len(re.findall(rb'"op\.invoked"', journal.read_bytes())))  # fmt: skip
        child.stop()
        assert child.exit_codes == {"strangers": 0}
    return ended(folder)


def test_the_seed_decides_what_comes_when() -> None:
    """The same seed gives the same inputs in the same order, another seed another order."""

    def names(seed: int) -> list[str]:
        config = Config("strangers", seed=seed, links={"gam>engine.mllp": "127.0.0.1:9"})
        found = planned(config, Params(times=9), Ledger(Pages(), "strangers"))
        return [bad.key.removeprefix(f"strangers{seed}") for bad in found]

    assert names(7) == names(7)
    assert names(7) != names(8)
    assert sorted(names(7)) == sorted(names(8))


@asynchronous
async def test_an_engine_that_takes_everything_is_found_out(tmp_path: Path) -> None:
    """A stray message that is acknowledged is `ok` in the ledger; a refused one has MSA-1, code."""
    careless = await Peer(lambda *_: None).start()
    link = {"gam>engine.mllp": Address("127.0.0.1", careless.port)}
    found = await asyncio.to_thread(run, tmp_path / "careless", 1, 1, **link)
    assert [type(e).__name__ for e in found["bad.message"]] == ["OpOk"]
    await careless.stop()
    strict = await Peer(lambda *_: Hl7Error("200", "no route")).start()
    link = {"gam>engine.mllp": Address("127.0.0.1", strict.port)}
    found = await asyncio.to_thread(run, tmp_path / "strict", 1, 1, **link)
    assert [e.reason[1:] for e in found["bad.message"]] == ["R 200 no route"]
    await strict.stop()


def test_a_topology_without_the_engine_is_said_in_one_line(tmp_path: Path) -> None:
    """Status 64, the missing link named."""
    with pytest.raises(WorkloadError, match=r"no link 'gam>engine\.mllp'"):
        strangers(tmp_path, 1).__enter__()


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["", "cancels-twice", "any-title"])
def test_the_hospitals_own_services_refuse_every_sort_in_its_terms(
    tmp_path: Path, bug: str
) -> None:
    """Six services as processes: everything is refused as the claim wants it; a planted defect
    takes its own sort and no other."""
    with ExitStack() as running:
        links = _department(tmp_path, running, bug)
        found = run(tmp_path, 3, 7, **links)
    sorts = {sort.kind: sort for some in SORTS.values() for sort in some}
    assert set(found) == set(sorts)
    taken = {kind for kind, words in found.items() if any(hasattr(e, "strength") for e in words)}
    assert taken == {"": set(), "cancels-twice": {"bad.cancel"}, "any-title": {"bad.title"}}[bug]
    for kind, words in found.items():
        assert len(words) == 3
        for event in words:
            if not hasattr(event, "strength"):
                assert type(event).__name__ == "OpRefused", event
                assert re.match(sorts[kind].terms, event.reason), event.reason


def _department(folder: Path, running: ExitStack, bug: str) -> dict[str, Address]:
    """gam, engine, scheduling, radiology, router and two archives; the links into them."""
    ports = {
        name: Address("127.0.0.1", free_port())
        for name in ("engine.mllp", "scheduling.mllp", "ris.mllp", "ris.dicom",
                     "dicom-router.dicom", "pacs-a.dicom", "pacs-b.dicom")
    }  # fmt: skip
    calls = {f"LINK_{n.upper().replace('-', '_').replace('.', '_')}": str(p)
             for n, p in ports.items()}  # fmt: skip
    programs: dict[str, Program] = {}
    for name, module in (
        ("gam", "gam"), ("engine", "engine"), ("scheduling", "appointments.scheduling"),
        ("ris", "imaging.ris"), ("dicom-router", "imaging.router"),
        ("pacs-a", "imaging.pacs"), ("pacs-b", "imaging.pacs"),
    ):  # fmt: skip
        own = {f"BIND_{port.partition('.')[2].upper()}": str(where)
               for port, where in ports.items() if port.partition(".")[0] == name}  # fmt: skip
        environment = {**calls, **own, "SERVICE_NAME": name, "HOSPITAL_BUG": bug,
                       "PACS_KIND": "archive", "HOSPITAL_SPEED": "60"}  # fmt: skip
        programs[name] = Program(module, folder / name, environment)
    for program in programs.values():
        program.start(ready=False)
        running.callback(program.__exit__, None, None, None)
    for name, program in programs.items():
        until(f"{name} ready", SENT_S, lambda one=program: one.health()[0] == 200)

    def http(name: str) -> Address:
        return Address("127.0.0.1", programs[name].port)

    return {
        "admissions>gam.http": http("gam"), "gam>engine.mllp": ports["engine.mllp"],
        "clinics>scheduling.http": http("scheduling"), "radiology>ris.http": http("ris"),
        "modalities>dicom-router.dicom": ports["dicom-router.dicom"],
        "modalities>ris.dicom": ports["ris.dicom"],
        "dicom-router>pacs-a.dicom": ports["pacs-a.dicom"],
        "dicom-router>pacs-b.dicom": ports["pacs-b.dicom"],
    }  # fmt: skip
