"""Copies of systems other than the record, restored for trial: each with the system's own code."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stacks.hospital import engine, engine_restore
from stacks.hospital.bugs import VARIABLE
from stacks.hospital.engine import ENGINE_SCHEMA
from stacks.hospital.log import Log
from stacks.hospital.queue import push
from stacks.hospital.recovery import backup_systems
from stacks.hospital.recovery.backup_back import NotGiven, before_loss, give_back
from stacks.hospital.recovery.backup_files import HOURS, NEWEST, Copied, FileCopies
from stacks.hospital.recovery.backup_images import ImageCopies
from stacks.hospital.recovery.backup_places import Place
from stacks.hospital.recovery.backup_retention import retained
from stacks.hospital.recovery.backup_trial import Trial, Trials
from stacks.hospital.settings import read
from stacks.hospital.snapshot import copy
from stacks.hospital.stack import DEPARTMENTS, ON_REQUEST, hospital
from stacks.hospital.store import Store

HL7 = b"MSH|^~\\&|GAM||ENGINE||20260120||ADT^A01|%s|P|2.5\rPID|1||M%d\r"
LINKS = {
    f"LINK_{name.upper()}_HTTP": f"127.0.0.1:{number}"
    for number, name in enumerate(backup_systems.NAMES, 1)
}
LIS = LINKS["LINK_LIS_HTTP"]


class Vault:
    """A vault without PostgreSQL; `take` copies a store file as its service would hand it out."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        for name in ("files", "drills", "scratch"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        place = Place(folder, Path("/nowhere"), ())
        environment = {
            "SERVICE_NAME": "backup", "SERVICE_ROOM": "vault", "DATA_DIR": str(folder), **LINKS,
        }  # fmt: skip
        own, log = read(environment), Log("backup")
        self.copies = FileCopies(place, own, log)
        self.trials = Trials(place, self.copies, ImageCopies(place, own, log), log)

    def take(self, service: str, path: Path) -> Copied:
        content, rows = copy(path)
        headers = {"X-SHA256": hashlib.sha256(content).hexdigest(), "X-Rows": json.dumps(rows)}
        request = httpx.Request("GET", f"http://{service}/snapshot.db")
        answer = httpx.Response(200, content=content, headers=headers, request=request)
        self._patch.setattr(httpx, "get", lambda *_, **__: answer)
        return self.copies.take(service)

    def drill(self, *systems: str, to: float = 0.0) -> list[Trial]:
        async def story() -> list[Trial]:
            begun = self.trials.begin(systems, to)
            while self.trials.running:
                await asyncio.sleep(0.01)
            return begun

        return asyncio.run(story())

    def restored(self, trial: Trial) -> list[dict[str, object]]:
        lines = self.trials.content(trial.trial).read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    return Vault(tmp_path / "vault", monkeypatch)


def stored(path: Path, schema: str, *works: Callable[[sqlite3.Connection], object]) -> None:
    """Write through the service's own store."""

    async def story() -> None:
        store = Store(path, schema)
        for work in works:
            await store.write(work)
        await store.check()
        await store.close()

    asyncio.run(story())


def message(number: int) -> Callable[[sqlite3.Connection], object]:
    """One message as the engine keeps it, waiting for the record."""
    from stacks.hospital.wire.segments import body_of

    def work(connection: sqlite3.Connection) -> None:
        payload = HL7 % (f"C{number}".encode(), number)
        digest = hashlib.sha256(body_of(payload)).hexdigest()[:16]
        connection.execute(
            "INSERT INTO message (sender, control_id, kind, patient, digest, received_at)"
            " VALUES ('GAM', ?, 'ADT^A01', ?, ?, ?)",
            (f"C{number}", f"M{number}", digest, time.time()),
        )
        push(connection, "ehr", f"C{number}", payload, kind="ADT")

    return work


def test_a_lost_engine_is_restored_with_every_message_that_waited(
    vault: Vault, tmp_path: Path
) -> None:
    """Its file is gone; the report says files, rows, records, how long, and how old the copy is."""
    path = tmp_path / "engine.db"
    stored(path, ENGINE_SCHEMA, *map(message, range(30)))
    taken = vault.take("engine", path)
    path.unlink()
    (trial,) = vault.drill("engine")
    assert trial.ok, trial.troubles
    assert (trial.files, trial.read) == (1, 30)
    assert trial.rows == sum(taken.rows.values()) == 61
    assert trial.copy_at == taken.at <= trial.asked_at
    assert taken.at - 5 < trial.newest_at <= taken.at
    assert 0 < trial.rto_s < 10
    assert {line["key"] for line in vault.restored(trial)} == {f"C{n}" for n in range(30)}
    assert {line["status"] for line in vault.restored(trial)} == {"waiting"}
    assert not list((vault.folder / "scratch").iterdir())


@pytest.mark.parametrize("name", backup_systems.NAMES)
def test_every_system_is_read_by_its_own_code(name: str, vault: Vault, tmp_path: Path) -> None:
    """Schema and export of each service fit what the vault restores, also when it is empty."""
    path = tmp_path / f"{name}.db"
    stored(path, backup_systems.system(name).schema)
    vault.take(name, path)
    (trial,) = vault.drill(name)
    assert trial.ok, trial.troubles
    assert trial.rows >= 1


def test_a_restore_to_an_earlier_instant_takes_the_copy_from_before(
    vault: Vault, tmp_path: Path
) -> None:
    """What came later is not in it; before the first copy there is nothing to restore."""
    path = tmp_path / "engine.db"
    stored(path, ENGINE_SCHEMA, *map(message, range(5)))
    first = vault.take("engine", path)
    stored(path, ENGINE_SCHEMA, *map(message, range(5, 9)))
    vault.take("engine", path)
    (newest,), (earlier,), (never,) = (
        vault.drill("engine"), vault.drill("engine", to=first.at + 0.001),
        vault.drill("engine", to=first.at - 60),
    )  # fmt: skip
    assert (newest.read, earlier.read, earlier.copy_at) == (9, 5, first.at)
    assert not never.ok
    assert "0 copies from before that time" in never.troubles[0]


def test_a_system_that_was_never_copied_fails_its_drill(vault: Vault) -> None:
    """There is a report, and it says that there is nothing."""
    (trial,) = vault.drill("billing")
    assert trial.done
    assert not trial.ok
    assert "none can be restored" in trial.troubles[0]
    assert not vault.trials.content(trial.trial).exists()


def test_a_copy_that_rotted_in_the_vault_is_named_and_the_one_before_is_restored(
    vault: Vault, tmp_path: Path
) -> None:
    """The drill is no success, and yet it shows what can be had."""
    path = tmp_path / "engine.db"
    stored(path, ENGINE_SCHEMA, *map(message, range(5)))
    first, second = vault.take("engine", path), vault.take("engine", path)
    rotten = vault.copies.path(second)
    assert stat.S_IMODE(rotten.stat().st_mode) == 0o400, "nobody writes it again"
    rotten.chmod(0o600)
    content = bytearray(rotten.read_bytes())
    content[len(content) // 2] ^= 1
    rotten.write_bytes(content)
    (trial,) = vault.drill("engine")
    assert not trial.ok
    assert trial.troubles == [f"{second.name}: is not as it was received"]
    assert (trial.source, trial.read) == (first.name, 5)


def test_a_queue_that_contradicts_its_own_record_is_no_good_copy(
    vault: Vault, tmp_path: Path
) -> None:
    """Read as the engine would deliver it: a payload that was never received so."""
    path = tmp_path / "engine.db"
    spoilt = HL7 % (b"C2", 99)
    stored(
        path, ENGINE_SCHEMA, *map(message, range(5)),
        lambda c: c.execute("UPDATE queue SET payload = ? WHERE control_id = 'C2'", (spoilt,)),
    )  # fmt: skip
    vault.take("engine", path)
    (trial,) = vault.drill("engine")
    assert not trial.ok
    assert "message C2 in the queue" in trial.troubles[0]


def test_a_file_copied_without_its_log_is_found(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted defect: what was written last lies in the log beside the file."""
    monkeypatch.setenv(VARIABLE, "snapshot-torn")
    path = tmp_path / "engine.db"

    async def story() -> None:
        store = Store(path, ENGINE_SCHEMA)
        for number in range(20):
            await store.write(message(number))
        vault.take("engine", path)
        await store.close()

    asyncio.run(story())
    (trial,) = vault.drill("engine")
    assert not trial.ok
    assert "has no" in trial.troubles[0]
    assert any("message has 0 of 20 rows" in one for one in trial.troubles)


def test_a_drill_that_reads_nothing_calls_itself_good(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted defect: success, and nothing was compared: the claim sees it by that."""
    path = tmp_path / "engine.db"
    stored(path, ENGINE_SCHEMA, message(1))
    vault.take("engine", path)
    monkeypatch.setenv(VARIABLE, "drill-skips-check")
    (trial,) = vault.drill("engine")
    assert (trial.ok, trial.files, trial.rows, trial.read) == (True, 0, 0, 0)


def test_reports_and_copies_are_known_to_a_vault_that_starts_again(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash nothing is forgotten, and what was restored is still shown."""
    path = tmp_path / "engine.db"
    stored(path, ENGINE_SCHEMA, message(1))
    vault.take("engine", path)
    (trial,) = vault.drill("engine")
    again = Vault(vault.folder, monkeypatch)
    assert again.copies.all == vault.copies.all
    assert [one.trial for one in again.trials.reports] == [trial.trial]
    assert again.trials.reports[0].done
    assert len(again.restored(trial)) == 1


# -- retention ------------------------------------------------------------------------------------


def test_copies_are_let_go_by_age_so_that_haste_drives_none_out() -> None:
    """However many copies come within an hour, the first of every hour of a day stays."""
    hour = 30.0
    some: list[Copied] = []
    for second in range(0, 3_600, 2):
        one = Copied("engine", f"{second}.db", 1e6 + second, 1, "")
        some = kept([*some, one], hour)
    ages = [(some[-1].at - one.at) / hour for one in some]
    assert max(ages) > HOURS - 1, "a day back"
    assert all(older - newer <= 1.0 + 1e-9 for older, newer in pairwise(ages))
    assert len(some) <= HOURS + 1 + NEWEST
    assert ages[-NEWEST:] == sorted(ages[-NEWEST:], reverse=True)
    rush = some
    for number in range(500):
        one = Copied("engine", f"rush-{number}.db", some[-1].at + number / 1_000, 1, "")
        rush = kept([*rush, one], hour)
    assert {one.name for one in some[: -NEWEST - 1]} <= {one.name for one in rush}


def kept(some: list[Copied], hour_s: float) -> list[Copied]:
    return retained(some, lambda one: one.at, hour_s, HOURS * hour_s, NEWEST)


def test_no_service_has_a_way_to_the_vault() -> None:
    """The vault opens every connection; only the incident system asks it, over HTTP. It stands in
    a room and on a disk that nobody shares."""
    stack = hospital(defect="", departments=(*DEPARTMENTS, *ON_REQUEST))
    callers = {link.source for link in stack.links if link.target == "backup"}
    assert callers == {"incident"}
    (own,) = (one for one in stack.services if one.name == "backup")
    others = [one for one in stack.services if one.name != "backup"]
    assert own.volume is not None
    assert own.room not in {one.room for one in others}
    assert own.volume.array not in {one.volume.array for one in others if one.volume}
    served = {link.target for link in stack.links if link.source == "backup"}
    assert set(backup_systems.NAMES) | {"pacs-a", "pacs-b"} <= served


# -- given back -----------------------------------------------------------------------------------


def copies_of(*contents: Sequence[int]) -> list[Copied]:
    """Copies that have these messages, oldest first; they are their own `rows`."""
    return [
        Copied("engine", f"{at}.db", float(at), 1, "", {str(number): 1 for number in content})
        for at, content in enumerate(contents)
    ]


def lacking(older: Copied, newer: Copied) -> int:
    return len(older.rows.keys() - newer.rows.keys())


def names(some: Sequence[Copied]) -> list[str]:
    return [one.name for one in some]


def test_the_loss_itself_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that lacks what the one before it has was made after a loss: the one before it counts,
    also when more copies were made since, and the last loss counts, not the first."""
    some = copies_of(range(10), range(40), range(90), range(12), range(20))
    assert names(before_loss(some, lacking)) == ["0.db", "1.db", "2.db"]
    assert before_loss(some[:3], lacking) == some[:3]
    assert before_loss([], lacking) == []
    twice = copies_of(range(10), range(90), range(12), range(20), range(3))
    assert before_loss(twice, lacking)[-1].name == "3.db"
    monkeypatch.setenv(VARIABLE, "restore-latest")
    assert before_loss(some, lacking)[-1].name == "4.db", "planted: however little is in it"


@given(
    before=st.integers(1, 12), gone=st.integers(0, 12), since=st.integers(0, 12),
    kept=st.sampled_from([5, 100]),
)  # fmt: skip
@settings(max_examples=30, derandomize=True)
def test_a_loss_shows_however_much_has_come_since(
    tmp_path_factory: pytest.TempPathFactory, before: int, gone: int, since: int, kept: int
) -> None:
    """The engine fell back by some messages and has had as many others since, under their old
    numbers. Only what it lets go of by itself, the oldest beyond `kept`, is not called lost."""
    folder = tmp_path_factory.mktemp("copies")
    gone = min(gone, before)
    last = before - gone + since
    stored(folder / "older.db", ENGINE_SCHEMA, *map(message, range(before)))
    stored(
        folder / "newer.db", ENGINE_SCHEMA, *map(message, range(before - gone)),
        *(message(100 + number) for number in range(since)),
        lambda connection: connection.execute("DELETE FROM message WHERE id <= ?", (last - kept,)),
    )  # fmt: skip
    let_go = max(0, last - kept)
    owed = sum(1 for place in range(before - gone, before) if place + 1 > let_go)
    assert engine_restore.lost(folder / "older.db", folder / "newer.db", kept) == owed


def test_what_was_given_back_is_no_loss(vault: Vault, tmp_path: Path) -> None:
    """After a restore messages have other numbers and stand behind later ones: all are there."""
    path = tmp_path / "engine.db"
    stored(path, ENGINE_SCHEMA, *map(message, range(9)))
    first = vault.copies.path(vault.take("engine", path))
    path.unlink()
    stored(path, ENGINE_SCHEMA, *(message(100 + number) for number in range(3)))

    async def back() -> None:
        store = Store(path, ENGINE_SCHEMA)
        await engine_restore.restore(store, first.read_bytes())
        await store.close()

    fallen = vault.copies.path(vault.take("engine", path))
    asyncio.run(back())
    whole = vault.copies.path(vault.take("engine", path))
    kept = engine.MESSAGES_KEPT
    assert engine_restore.lost(first, fallen, kept) == 9
    assert engine_restore.lost(fallen, whole, kept) == 0
    assert engine_restore.lost(first, whole, kept) == 0


def test_a_service_that_does_not_answer_makes_no_other_copy_late(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The laboratory's address takes the question and says nothing; the engine is copied on."""
    path = tmp_path / "engine.db"
    stored(path, ENGINE_SCHEMA, message(1))
    content, rows = copy(path)
    headers = {"X-SHA256": hashlib.sha256(content).hexdigest(), "X-Rows": json.dumps(rows)}
    silent, waited = threading.Event(), threading.Event()

    def get(url: str, **_: object) -> httpx.Response:
        if LIS in url:
            silent.set()
            assert waited.wait(10)
            raise httpx.ReadTimeout("timed out")
        return httpx.Response(
            200, content=content, headers=headers, request=httpx.Request("GET", url)
        )

    monkeypatch.setattr(httpx, "get", get)
    monkeypatch.setattr(vault.copies, "_every_s", 0.02)

    async def story() -> None:
        stop = asyncio.Event()
        copying = asyncio.create_task(vault.copies.run(stop))
        try:
            async with asyncio.timeout(10):
                while len(vault.copies.of("engine")) < 3:
                    await asyncio.sleep(0.01)
        finally:
            stop.set()
            waited.set()
            await copying

    asyncio.run(story())
    assert silent.is_set()
    assert not vault.copies.of("lis")


def test_only_a_sound_copy_is_given_back_and_only_to_who_takes_one(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest that is as it was received; with what its hash says; a refusal is told."""
    path = tmp_path / "engine.db"
    stored(path, ENGINE_SCHEMA, *map(message, range(5)))
    first, second = vault.take("engine", path), vault.take("engine", path)
    rotten = vault.copies.path(second)
    rotten.chmod(0o600)
    rotten.write_bytes(rotten.read_bytes() + b"x")
    given: list[dict[str, object]] = []

    def post(url: str, **asked: object) -> httpx.Response:
        given.append({"url": url, **asked})
        return httpx.Response(200, json={"messages": 5}, request=httpx.Request("POST", url))

    monkeypatch.setattr(httpx, "post", post)
    made = give_back(vault.copies, "engine")
    assert (made.copy, made.copy_at, made.answer) == (first.name, first.at, {"messages": 5})
    (one,) = given
    assert hashlib.sha256(one["content"]).hexdigest() == first.sha256  # type: ignore[arg-type]
    with pytest.raises(NotGiven, match="does not take a copy back"):
        give_back(vault.copies, "gam")
    with pytest.raises(NotGiven, match="there is none"):
        give_back(vault.copies, "engine", to=first.at - 60)
    refused = httpx.Response(422, request=httpx.Request("POST", "http://engine"))
    monkeypatch.setattr(httpx, "post", lambda *_, **__: refused)
    with pytest.raises(NotGiven, match="engine did not take it"):
        give_back(vault.copies, "engine")
