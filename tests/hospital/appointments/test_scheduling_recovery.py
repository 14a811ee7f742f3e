"""Backup, restore, log: what was acknowledged is there again; planted defects lose it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stacks.hospital.appointments import scheduling_rows as rows
from stacks.hospital.appointments.scheduling_agenda import Agenda
from stacks.hospital.appointments.scheduling_log import ChangeLog, LogError
from stacks.hospital.appointments.scheduling_rows import SCHEDULING_SCHEMA, Booked, Change
from stacks.hospital.appointments.scheduling_rules import Asked
from stacks.hospital.appointments.slots import slot_of
from stacks.hospital.store import Store

from ..programs import Engine, until
from .scheduling_stand import Clinic, events, notices

NOON = 1795348800.0  # of the day of the stand's decisions
MANY = 2_900
DECISION_S = 3.0
READ_S = 1.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine().open()
    yield engine
    engine.end()


def busy_day(clinic: Clinic) -> None:
    """Bookings, moves, cancellations, a decision, a rebooking, before and after a backup."""
    for number in range(6):
        clinic.book(f"A{number}", f"consultation-heart-{number}", f"M{number}")
    clinic.change("A0", "consultation-heart-90", 1, "M0")
    assert clinic.http.post("/backup").status_code == 201
    clinic.change("A0", "consultation-heart-91", 2, "M0")
    clinic.change("A1", "consultation-heart-1", 1, "M1", status="cancelled")
    clinic.book("A6", "consultation-heart-1", "M6")
    clinic.book("E1", "endoscopy-e-1", "M1")
    clinic.decide("D1", "endoscopy")
    clinic.book("E2", "endoscopy-e-2", "M1", at="2027-01-01T08:00:00Z")
    done = clinic.http.post("/tasks/E1/done", json={"appointment": "E2"})
    assert done.status_code == 200


def everything(clinic: Clinic) -> list[str]:
    return sorted(clinic.http.get("/export").text.splitlines())


def test_a_restore_brings_every_change_back(tmp_path: Path, engine: Engine) -> None:
    """After a restore the agenda is the same, line by line; no slot is free that was given; the
    notices since the backup go out again under their old names and nothing is told twice anew."""
    with Clinic(tmp_path, engine) as clinic:
        busy_day(clinic)
        until("queue is empty", 5, lambda: _depth(clinic) == 0)
        before, told = everything(clinic), notices(engine)
        made = clinic.http.post("/restore").json()
        assert (made["backup_seq"], made["replayed"]) == (7, 7)
        assert everything(clinic) == before
        assert clinic.book("Z", "consultation-heart-91", "M9").status_code == 409
        assert clinic.decide("D1", "endoscopy").status_code == 200
        assert clinic.book("A9", "consultation-heart-9", "M9").status_code == 201
        until("the new one is told", 5, lambda: events(notices(engine), "A9"))
        until("queue is empty", 5, lambda: _depth(clinic) == 0)
        assert set(notices(engine)) == {*told, *notices(engine)[-1:]}
        names = [one.header.control_id for one in engine.messages]
        bodies = {name: m.body for name, m in zip(names, engine.messages, strict=True)}
        assert len(bodies) == len(notices(engine))  # a second copy has the first one's MSH-10


def _depth(clinic: Clinic) -> int:
    return int(clinic.http.get("/queues").json()["destinations"]["engine"]["depth"])


def test_a_restore_without_a_backup_takes_all_from_the_log(tmp_path: Path, engine: Engine) -> None:
    """The log goes back to the first change."""
    with Clinic(tmp_path, engine) as clinic:
        busy_day(clinic)
        (clinic.folder / "backup" / "scheduling.db").unlink()
        before = everything(clinic)
        assert clinic.http.post("/restore").json()["backup_seq"] == 0
        assert everything(clinic) == before


def test_a_restore_from_a_ruined_backup_changes_nothing(tmp_path: Path, engine: Engine) -> None:
    """A backup that cannot be read: 503 with the reason, the agenda is the old one and works."""
    with Clinic(tmp_path, engine) as clinic:
        busy_day(clinic)
        before = everything(clinic)
        (clinic.folder / "backup" / "scheduling.db").write_bytes(b"not a database" * 999)
        refused = clinic.http.post("/restore")
        assert refused.status_code == 503
        assert "backup" in refused.json()["issue"][0]["diagnostics"]
        assert everything(clinic) == before
        assert clinic.book("A9", "consultation-heart-9").status_code == 201


@pytest.mark.parametrize("harm", ["lost", "ruined", "truncated", "older"])
def test_a_start_without_its_database_has_everything(
    tmp_path: Path, engine: Engine, harm: str
) -> None:
    """Database file lost, ruined, cut or replaced by an old copy: the next start has all again."""
    with Clinic(tmp_path, engine) as clinic:
        busy_day(clinic)
        before = everything(clinic)
        clinic.end()
        database = clinic.folder / "scheduling.db"
        for suffix in ("-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        if harm == "lost":
            database.unlink()
        elif harm == "ruined":
            database.write_bytes(b"\0" * 20_000)
        elif harm == "truncated":
            database.write_bytes(database.read_bytes()[:5000])
        else:
            database.write_bytes((clinic.folder / "backup" / "scheduling.db").read_bytes())
        clinic.start()
        assert everything(clinic) == before


def test_a_log_line_that_a_crash_cut_off_is_made_whole(tmp_path: Path, engine: Engine) -> None:
    """The database is ahead of a cut log: the next start completes the log from it."""
    with Clinic(tmp_path, engine) as clinic:
        for number in range(3):
            clinic.book(f"A{number}", f"consultation-heart-{number}")
        clinic.end()
        log = clinic.folder / "log" / "changes.log"
        whole = log.read_bytes()
        with sqlite3.connect(clinic.folder / "scheduling.db") as database:
            assert database.execute("SELECT seq FROM unlogged").fetchall() == [(3,)]
        log.write_bytes(whole[:-20])
        clinic.start()
        until("the log is whole", 5, lambda: log.read_bytes() == whole)
        assert clinic.http.post("/restore").json()["replayed"] == 3


@pytest.mark.parametrize("harm", ["middle", "gone"])
def test_a_damaged_log_is_one_clear_line(tmp_path: Path, engine: Engine, harm: str) -> None:
    """Damage before the last line, or a log that was lost: the start is refused with a reason."""
    with Clinic(tmp_path, engine) as clinic:
        for number in range(3):
            clinic.book(f"A{number}", f"consultation-heart-{number}")
        clinic.end()
        log = clinic.folder / "log" / "changes.log"
        text = log.read_bytes()
        log.write_bytes(text.replace(b'"A0"', b'"A7"') if harm == "middle" else b"")
        clinic.start(ready=False)
        assert clinic.process is not None
        assert clinic.process.wait(10) == 1
        said = (tmp_path / "appointments.scheduling.log").read_text()
        assert "changes.log" in said.splitlines()[-1]
        assert "Traceback" not in said


def test_the_mode_survives(tmp_path: Path, engine: Engine) -> None:
    """Read-only stays read-only over a kill and over a restore."""
    with Clinic(tmp_path, engine) as clinic:
        clinic.http.post("/mode", json={"mode": "read-only"})
        clinic.end()
        clinic.start()
        clinic.http.post("/restore")
        assert clinic.http.get("/mode").json() == {"mode": "read-only"}


def test_a_deliberate_stop_delivers_and_ends_well(tmp_path: Path, engine: Engine) -> None:
    """SIGTERM with notices waiting: all are told before the end, status 0."""
    with Clinic(tmp_path, engine) as clinic:
        for number in range(20):
            clinic.book(f"A{number}", f"consultation-heart-{number}")
        assert clinic.end(signal.SIGTERM) == 0
        assert len(notices(engine)) == 20


# -- planted defects ------------------------------------------------------------------------------


@pytest.mark.parametrize(("bug", "gone"), [("", False), ("double-booked-after-restore", True)])
def test_a_restore_without_its_log_gives_slots_twice(
    tmp_path: Path, engine: Engine, bug: str, gone: bool
) -> None:
    """Planted: what was booked since the backup is lost and its slot is given again."""
    with Clinic(tmp_path, engine, bug) as clinic:
        clinic.book("A1", "consultation-heart-1")
        clinic.http.post("/backup")
        clinic.book("A2", "consultation-heart-2")
        clinic.http.post("/restore")
        assert ("A2" not in clinic.export("appointment")) is gone
        assert (clinic.book("A3", "consultation-heart-2", "M3").status_code == 201) is gone
        clinic.end()
        clinic.start()
        assert clinic.book("A4", "consultation-heart-4").status_code == 201


@pytest.mark.parametrize(
    ("bug", "dialysis", "tasks"),
    [("", 0, 20), ("cancels-dialysis", 1, 21), ("rebooking-forgotten", 0, 18)],
)
def test_planted_decisions(
    tmp_path: Path, engine: Engine, bug: str, dialysis: int, tasks: int
) -> None:
    """A sound decision spares dialysis and gives every cancelled patient a task; planted ones do
    not."""
    with Clinic(tmp_path, engine, bug) as clinic:
        for number in range(20):
            clinic.book(f"A{number}", f"consultation-heart-{number}")
        clinic.book("DIA", "dialysis-kidney-1")
        cancelled = clinic.decide("D1", "consultation").json()["cancelled"]
        assert len(cancelled) == 20 + dialysis
        status = clinic.export("appointment")["DIA"]["status"]
        assert (status == "cancelled") is bool(dialysis)
        assert len(clinic.export("rebooking")) == tasks


# -- a mass cancellation --------------------------------------------------------------------------


def full_agenda(folder: Path, many: int) -> None:
    """A data folder with so many consultations booked."""
    folder.mkdir(parents=True)

    async def fill() -> None:
        agenda = Agenda(
            Store(folder / "scheduling.db", SCHEDULING_SCHEMA),
            ChangeLog(folder / "log" / "changes.log"),
        )
        booked = [
            Booked(f"A{n}", f"M{n}", "consultation", "heart", f"consultation-heart-{n}", NOON + n,
                   "booked", 1, "0470", "", "", NOON)
            for n in range(many)
        ]  # fmt: skip

        def work(connection: sqlite3.Connection) -> None:
            rows.record(connection, rows.next_change(connection, appointments=booked))

        await agenda.write(work)
        await agenda.close()

    asyncio.run(fill())


def test_a_mass_cancellation_is_quick_and_blocks_no_urgent_read(
    tmp_path: Path, engine: Engine
) -> None:
    """2,900 appointments in one decision within 3 s; urgent reads are answered meanwhile; the
    service is killed at once and every S15 is still told."""
    clinic = Clinic(tmp_path, engine)
    full_agenda(clinic.folder, MANY)
    with clinic:
        clinic.book("P0", "vital-surgery-or-1")
        slowest, stop = [0.0], threading.Event()

        def read() -> None:
            while not stop.is_set():
                began = time.monotonic()
                answer = clinic.http.get("/fhir/Appointment/P0", headers={"X-Priority": "P0"})
                assert answer.status_code == 200
                slowest.append(time.monotonic() - began)

        reader = threading.Thread(target=read)
        reader.start()
        began = time.monotonic()
        made = clinic.decide("D1", "consultation")
        took = time.monotonic() - began
        stop.set()
        reader.join()
        clinic.end()
        assert (made.status_code, len(made.json()["cancelled"])) == (201, MANY)
        assert took < DECISION_S
        assert max(slowest) < READ_S
        clinic.start()
        again = clinic.decide("D1", "consultation")
        assert (again.status_code, again.json()) == (200, made.json())
        assert len(clinic.export("rebooking")) == MANY
        until("all are told", 20, lambda: len(notices(engine)) >= MANY + 1)
        cancelled = {one.appointment for one in notices(engine) if one.event == "S15"}
        assert cancelled == {f"A{n}" for n in range(MANY)}


# -- the log alone --------------------------------------------------------------------------------


def lines(*seqs: int) -> list[tuple[int, bytes]]:
    return [(seq, json.dumps({"seq": seq, "at": 1.0, "mode": "open"}).encode()) for seq in seqs]


@pytest.mark.parametrize("cut", range(1, 50, 7))
def test_the_log_survives_any_cut_of_its_last_append(tmp_path: Path, cut: int) -> None:
    """Opened after a cut it has every whole line and goes on after the last of them."""
    path = tmp_path / "log" / "changes.log"
    log = ChangeLog(path)
    log.append(lines(1, 2))
    log.append(lines(3, 4))
    log.close()
    path.write_bytes(path.read_bytes()[:-cut])
    log = ChangeLog(path)
    assert log.last_seq == 3
    log.append(lines(4))
    assert [change.seq for change in log.after(0)] == [1, 2, 3, 4]
    assert list(log.after(3)) == [Change(4, 1.0, mode="open")]
    log.close()


def test_the_log_refuses_damage_in_the_middle(tmp_path: Path) -> None:
    """A line whose content does not fit its checksum, with whole lines after it."""
    path = tmp_path / "log" / "changes.log"
    log = ChangeLog(path)
    log.append(lines(1, 2))
    log.close()
    path.write_bytes(path.read_bytes().replace(b'"seq": 1', b'"seq": 7'))
    with pytest.raises(LogError, match="line 1"):
        ChangeLog(path)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append that fails midway is not there; the next one is whole."""
    log = ChangeLog(tmp_path / "log" / "changes.log")
    log.append(lines(1))

    def no_space(file: int, data: bytes) -> None:
        os.write(file, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("stacks.hospital.appointments.scheduling_log._write_all", no_space)
        with pytest.raises(LogError, match="No space"):
            log.append(lines(2))
    log.append(lines(2))
    assert [change.seq for change in log.after(0)] == [1, 2]
    log.close()


def test_a_change_that_the_log_cannot_take_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets an error, and when the log works again the change is in it."""

    async def play() -> None:
        log = ChangeLog(tmp_path / "log" / "changes.log")
        agenda = Agenda(Store(tmp_path / "scheduling.db", SCHEDULING_SCHEMA), log)
        slot = slot_of("consultation-heart-1")
        assert slot is not None

        def no_space(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("stacks.hospital.appointments.scheduling_log._write_all", no_space)
            with pytest.raises(LogError):
                await agenda.book(Asked("A1", "M1", slot, NOON))
        one, new = await agenda.book(Asked("A1", "M1", slot, NOON))
        assert (one.version, new, log.last_seq) == (1, False, 1)
        await agenda.close()

    asyncio.run(play())
