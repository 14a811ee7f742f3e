"""A full disk: every system refuses aloud, goes on reading, and loses nothing that it took.

On an array that can be filled (chaos.storage). What stands on PostgreSQL is shown by experiments
(experiments/test_disk_full.py): one node alone would not show who takes over.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from stacks.hospital.imaging import dicomweb
from stacks.hospital.imaging.association import AssociationError, AssociationLost
from stacks.hospital.imaging.instances import Encoded
from stacks.hospital.settings import Address
from stacks.hospital.wire.hl7 import (
    Adt,
    Appointment,
    Charge,
    Header,
    ImagingOrder,
    Order,
    build,
)
from stacks.hospital.wire.mllp import MllpClient
from tests.hospital.appointments.channel_stand import BOOKED
from tests.hospital.appointments.scheduling_stand import asked
from tests.hospital.imaging import archives, router_stand
from tests.hospital.programs import Program, until
from tests.hospital.test_gam import patient, post
from tests.ports import free_port
from tests.storage.arrays import mounted, needs_fuse

pytestmark = [pytest.mark.storage, pytest.mark.slow, needs_fuse, pytest.mark.timeout(120)]
FULL = {"name": "full", "kind": "full"}
TRIES = 2_500  # writes until one finds no space: what is preallocated is used up first
BACK_S = 10.0
TAKEN = ""
Said = Adt | Appointment | Charge | ImagingOrder | Order


@dataclass(frozen=True)
class System:
    """One service that runs, and how to write to it and read from it.

    `put(number)`: TAKEN, or how it was refused; `there()`: the numbers that it keeps, with
    repetitions; `refusal`: what a refusal must say.
    """

    program: Program
    put: Callable[[int], str]
    there: Callable[[], list[int]]
    refusal: str


def _mllp(program: Program, port: int, body: Callable[[int], Said], kind: str) -> System:
    """A system that takes HL7."""

    async def send(number: int) -> str:
        header = Header(f"C{number}", sender="GAM", receiver="TEST", at=1e9)
        client = MllpClient(Address("127.0.0.1", port))
        ack = await client.send(build(header, body(number)), header.control_id, 5.0)
        await client.close()
        return TAKEN if ack.accepted else f"{ack.code} {ack.error}"

    def put(number: int) -> str:
        return asyncio.run(send(number))

    def there() -> list[int]:
        rows = [json.loads(line) for line in program.http.get("/export").text.splitlines()]
        return [_number(row["key"]) for row in rows if row["kind"] == kind]

    return System(program, put, there, "206")


def _number(text: str) -> int:
    return int("".join(c for c in text if c.isdigit()))


def _speaking(module: str, folder: Path, **environment: str) -> tuple[Program, int]:
    port = free_port()
    bind = {"BIND_MLLP": f"127.0.0.1:{port}", **environment}
    return Program(module, folder / module.rpartition(".")[2], bind), port


def gam(folder: Path) -> System:
    program = Program("gam", folder / "gam", {})

    def put(number: int) -> str:
        answer = post(program, patient(f"P{number}"))
        return TAKEN if answer.status_code == 201 else _outcome(answer)

    def there() -> list[int]:
        rows = [json.loads(line) for line in program.http.get("/export").text.splitlines()]
        return [_number(row["key"]) for row in rows]

    return System(program, put, there, "503 transient")


def _outcome(answer: httpx.Response) -> str:
    told = answer.json()
    assert told["resourceType"] == "OperationOutcome", told
    return f"{answer.status_code} {told['issue'][0]['code']}"


def engine(folder: Path) -> System:
    nobody = f"127.0.0.1:{free_port()}"
    program, port = _speaking("engine", folder, LINK_LIS_MLLP=nobody)
    return _mllp(program, port, lambda n: Adt("A04", f"M{n}", "Doe", visit=f"V{n}"), "message")


def lis(folder: Path) -> System:
    program, port = _speaking("lis", folder)
    return _mllp(program, port, lambda n: Order(f"PL{n}", f"M{n}", ("NA", "K")), "order")


def billing(folder: Path) -> System:
    program, port = _speaking("recovery.billing", folder)
    return _mllp(
        program, port, lambda n: Charge(f"V{n}-A", f"M{n}", f"V{n}", "ADMISSION", 1e9, 1), "charge"
    )


def ris(folder: Path) -> System:
    program, port = _speaking(
        "imaging.ris", folder, BIND_DICOM=f"127.0.0.1:{free_port()}", SERVICE_NAME="ris"
    )
    return _mllp(
        program, port, lambda n: ImagingOrder(f"PL{n}", f"M{n}", "CT", ("CT",), "ROUTINE"), "order"
    )


def website(folder: Path) -> System:
    program, port = _speaking("appointments.website", folder, SERVICE_NAME="website")

    def body(number: int) -> Appointment:
        return replace(BOOKED, appointment=f"A{number}", mrn=f"M{number}")

    return _mllp(program, port, body, "appointment")


def scheduling(folder: Path) -> System:
    program, _ = _speaking("appointments.scheduling", folder)

    def put(number: int) -> str:
        day, slot = divmod(number, 20)
        answer = program.http.post(
            "/fhir/Appointment",
            json=asked(f"A{number}", f"consultation-c{day}-{480 + 15 * slot}"),
            headers={"If-None-Exist": f"identifier=urn:hospital:appointment|A{number}"},
        )
        return TAKEN if answer.status_code == 201 else _outcome(answer)

    def there() -> list[int]:
        rows = [json.loads(line) for line in program.http.get("/export").text.splitlines()]
        return [_number(row["key"]) for row in rows if row["kind"] == "appointment"]

    return System(program, put, there, "503 transient")


def analysers(folder: Path) -> System:
    program = Program("analysers", folder / "analysers", {"HOSPITAL_SPEED": "60"})

    def put(number: int) -> str:
        tube = {"specimen": f"S{number}", "placer": f"PL{number}", "patient": "M1", "tests": ["NA"]}
        answer = program.http.post("/specimens", json=tube)
        return TAKEN if answer.status_code == 201 else _outcome(answer)

    def there() -> list[int]:
        rows = [json.loads(line) for line in program.http.get("/export").text.splitlines()]
        return [_number(row["key"]) for row in rows]

    return System(program, put, there, "503 transient")


SYSTEMS = (gam, engine, lis, analysers, billing, scheduling, website, ris)


@contextmanager
def _raised(make: Callable[[Path], System], folder: Path) -> Iterator[System]:
    system = make(folder)
    with system.program:
        yield system


@pytest.mark.parametrize("make", SYSTEMS, ids=lambda make: make.__name__)
def test_a_full_disk_is_told_and_survived(make: Callable[[Path], System], tmp_path: Path) -> None:
    """Refused in the protocol's own terms, health says so, reading goes on; with space again it
    takes writes without a restart; what was acknowledged is there once, the refused is not."""
    with mounted(tmp_path / "stack") as array, _raised(make, array.mount) as system:
        taken = [number for number in range(20) if system.put(number) == TAKEN]
        assert taken == list(range(20))
        array.orders.arm(FULL)
        refused, why = _until_full(system, taken)
        assert system.refusal in why
        assert system.program.health()[0] == 503
        assert set(taken) <= set(system.there())
        process = system.program.process
        assert process is not None
        assert process.poll() is None
        more = [system.put(number) for number in range(refused + 1, refused + 6)]
        taken += [refused + 1 + n for n, one in enumerate(more) if one == TAKEN]
        array.orders.clear(["full"])
        until("well again", BACK_S, lambda: system.program.health()[0] == 200)
        after = [refused, *range(90_000, 90_010)]
        assert [system.put(number) for number in after] == [TAKEN] * len(after)
        assert process.poll() is None
        assert sorted(system.there()) == sorted({*taken, *after})
        system.program.end()
        system.program.start()
        assert sorted(system.there()) == sorted({*taken, *after})


def _until_full(system: System, taken: list[int]) -> tuple[int, str]:
    """Write until one is refused: its number, and how."""
    for number in range(20, 20 + TRIES):
        why = system.put(number)
        if why != TAKEN:
            return number, why
        taken.append(number)
    raise AssertionError(f"{TRIES} writes found space on a full disk")


# ---------------------------------------------------------------- images


def _exam(number: int) -> Encoded:
    (image,) = archives.images(f"x{number}", 1, f"M{number}")
    return image


SILENCE = "no answer"
REFUSED = {"archive": {"A700"}, "orthanc": {"A700", SILENCE}}


@pytest.mark.parametrize("kind", archives.KINDS)
def test_an_archive_refuses_images_with_a700(kind: str, tmp_path: Path) -> None:
    """Out of resources, so that the sender keeps the image and comes again (Orthanc says nothing
    at all, to the same end); pictures are still shown; with space again it takes them, and what it
    took is there after a kill."""
    archives.usable(kind)
    with mounted(tmp_path / "stack") as array:
        with archives.Archive(kind, array.mount / "pacs-a") as archive:
            taken = [n for n in range(5) if archives.send(archive, [_exam(n)]) == [0]]
            assert taken == list(range(5))
            array.orders.arm(FULL)
            for number in range(5, TRIES):
                if status := _sent(archive, number):
                    break
                taken.append(number)
            assert status in REFUSED[kind]
            assert archive.process is not None
            assert archive.process.poll() is None
            assert set(_shown(archive)) >= {_exam(n).sop_uid for n in taken}
            array.orders.clear(["full"])
            taken += [number, *range(90_000, 90_005)]
            after = [_exam(n) for n in taken[-6:]]
            assert archives.send(archive, after) == [0] * 6
            archive.end()
        with archives.Archive(kind, array.mount / "pacs-a") as archive:
            assert sorted(_shown(archive)) == sorted(_exam(n).sop_uid for n in taken)


def _sent(archive: archives.Archive, number: int) -> str:
    """Empty when it was taken; else the status in hexadecimal, or that no answer came."""
    try:
        (status,) = archives.send(archive, [_exam(number)])
    except (AssociationLost, AssociationError):
        return SILENCE
    return f"{status:04X}" if status else TAKEN


def _shown(archive: archives.Archive) -> list[str]:
    found = []
    for study in dicomweb.studies(archive.http):
        found += [one.sop_uid for one, _ in dicomweb.files(archive.http, study)]
    return found


def test_the_router_refuses_images_with_a700(tmp_path: Path) -> None:
    """It keeps what it took for the archives, and asks no scanner to forget the rest."""
    with mounted(tmp_path / "stack") as array:
        program, port = router_stand.router(array.mount, {"PACS_A": free_port()})
        with program:
            first, second = router_stand.images("x1", 3), router_stand.images("x2", 3)
            assert router_stand.send(port, first) == [0] * 3
            array.orders.arm(FULL)
            until("it has looked", BACK_S, lambda: set(router_stand.send(port, second)) == {0xA700})
            array.orders.clear(["full"])
            until("space", BACK_S, lambda: set(router_stand.send(port, second)) == {0})
            kept = [row["key"] for row in router_stand.rows(program) if row["kind"] == "instance"]
            assert sorted(kept) == sorted(one.sop_uid for one in (*first, *second))


def test_a_voter_whose_disk_was_full_votes_again(tmp_path: Path) -> None:
    """Raft ends by the first vote that finds no space. The voter begins anew by itself, as the same
    process, when there is space, and the two agree on a leader again."""
    with mounted(tmp_path / "stack") as array:
        one, other = _voters(array.mount / "a", tmp_path / "b")
        log = array.mount / "witness.log"  # beside the folder that is full
        try:
            one.start(ready=False)
            other.start()
            until("they agree", BACK_S, lambda: one.health()[0] == 200)
            array.orders.arm({**FULL, "path": "a/*"})
            other.end()
            other.start(ready=False)  # a new vote
            until("a vote found no space", BACK_S, lambda: b"No space left" in log.read_bytes())
            array.orders.clear(["full"])
            until("they agree again", 2 * BACK_S, lambda: one.health()[0] == 200)
            assert one.process is not None
            assert one.process.poll() is None
        finally:
            one.__exit__(None, None, None)
            other.__exit__(None, None, None)


def _voters(*folders: Path) -> list[Program]:
    """Two that vote with each other, not started."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in folders]
    found = []
    for number, folder in enumerate(folders):
        peer = addresses[1 - number]
        found.append(Program("witness", folder, {
            "SERVICE_NAME": folder.name, "BIND_RAFT": addresses[number],
            "TARGET_PEER_RAFT": peer, "LINK_PEER_RAFT": peer,
        }))  # fmt: skip
    return found
