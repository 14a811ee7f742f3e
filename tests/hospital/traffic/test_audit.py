"""The auditor: waits for backlogs, reads stores as they lie, and admits what it could not read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chaos.journal.events import AnyEvent, Drained, Record, StoreRead
from chaos.workload import Workload, WorkloadProcess
from stacks.hospital import backlog as b
from stacks.hospital.audit import RECEIVED, RESTORED
from stacks.hospital.backlog import Backlog, depths
from stacks.hospital.imaging import instances
from stacks.hospital.stack import AUDIT
from stacks.hospital.traffic.config import Config
from tests.hospital.traffic.fakes import FakeService, Reply, nobody


class Archive:
    """A service with queues and an export."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = list(records)
        self.queues: dict[str, Any] = {}
        self.buffer: dict[str, int] = {}
        self.torn = False
        self.service = FakeService(self._behave)

    def _behave(self, _: str, path: str, *__: Any) -> Reply:
        if path == "/buffer":
            return 200, {}, self.buffer
        if path == "/queues":
            return 200, {}, self.queues
        lines = b"".join(json.dumps(record).encode() + b"\n" for record in self.records)
        return 200, {}, lines[:-9] if self.torn else lines


def record(kind: str, key: str, status: str = "active", **more: Any) -> dict[str, Any]:
    return {
        "kind": kind, "key": key, "patient": "M1", "status": status, "version": 1, "digest": "d",
        "stored_at": 1_700_000_000.0, **more,
    }  # fmt: skip


@pytest.fixture
def stores() -> Iterator[dict[str, Archive]]:
    made = {
        "gam": Archive(record("patient", "M1")),
        "lis": Archive(record("order", "O1"), record("order", "O1")),
        "analysers": Archive(record("specimen", "S1", "delivered")),
        "engine": Archive(record("message", "A", "delivered"), record("message", "B", "parked")),
    }
    yield made
    for each in made.values():
        each.service.close()


def direct(stores: dict[str, Archive]) -> dict[str, str]:
    return {f"{name}.http": each.service.address for name, each in stores.items()}


def audit(run: Path, addresses: dict[str, str], drain_s: float = 5.0) -> list[Any]:
    workload = Workload("audit", AUDIT, {"drain_s": drain_s})
    with WorkloadProcess(workload, run, seed=1, speed=600, links={}, direct=addresses) as child:
        assert child.wait(30)
        assert child.exit_codes == {"audit": 0}
    lines = (run / "journal" / "audit.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=AnyEvent) for line in lines]


def of(events: list[Any], type_: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, type_)]


def test_stores_are_written_down_as_they_lie(tmp_path: Path, stores: dict[str, Archive]) -> None:
    """Doubles stay doubles, delivered messages are no debt, parked ones are tasks."""
    events = audit(tmp_path, direct(stores))
    assert of(events, Drained)[0].ok
    rows = [(r.store, r.kind, r.key) for r in of(events, Record)]
    assert rows.count(("lis", "order", "O1")) == 2
    assert [row for row in rows if row[0] == "engine"] == [("engine", "task", "B")]
    assert {s.store: s.complete for s in of(events, StoreRead)} == dict.fromkeys(stores, True)
    ages = [time.monotonic() - r.at for r in of(events, Record)]
    wanted = time.time() - 1_700_000_000.0
    assert all(abs(age - wanted) < 60 for age in ages)  # wall clock turned into monotonic


def test_a_message_that_was_parked_is_a_message_among_what_was_restored(
    tmp_path: Path, stores: dict[str, Archive]
) -> None:
    """A task in the engine; beside business it is compared with the copy that it was in."""
    copied = Archive(record("message", "B", "parked"))
    try:
        addresses = {**direct(stores), "backup.http": copied.service.address}
        kinds = {
            (one.store, one.kind) for one in of(audit(tmp_path, addresses), Record)
            if one.key == "B"
        }  # fmt: skip
    finally:
        copied.service.close()
    assert ("engine", "task") in kinds
    beside = {kind for store, kind in kinds if store == RECEIVED or store.startswith(RESTORED)}
    assert beside == {"kept.message"}


def test_a_store_that_is_gone_or_torn_is_incomplete(
    tmp_path: Path, stores: dict[str, Archive]
) -> None:
    """What could not be read to its end is said, never passed over; the rest is read."""
    stores["lis"].torn = True
    addresses = {**direct(stores), "gam.http": nobody(), "ehr-db-a.postgres": nobody()}
    events = audit(tmp_path, addresses, drain_s=0.5)
    read = {s.store: s for s in of(events, StoreRead)}
    assert {name for name, s in read.items() if not s.complete} == {"gam", "lis", "ehr-db-a"}
    assert all(s.reason for s in read.values() if not s.complete)
    assert read["analysers"].records == 1
    (drained,) = of(events, Drained)
    assert not drained.ok
    assert "gam does not answer" in drained.reason


def test_draining_waits_until_nothing_is_owed(stores: dict[str, Archive]) -> None:
    """A queue with something in it, a tube on the line: not drained; empty twice: drained."""
    stores["engine"].queues = {"destinations": {"ehr": {"depth": 2}, "lis": {"depth": 0}}}
    with Backlog(Config("audit", speed=600, direct=direct(stores))) as backlog:
        assert backlog.owed() == ["engine holds 2 for ehr"]
        assert "engine holds 2 for ehr" in backlog.drain(0.3)
        stores["engine"].queues = {}
        stores["analysers"].records.append(record("specimen", "S2", "running"))
        assert backlog.owed() == ["analysers: 1 tubes running"]
        stores["analysers"].records.pop()
        stores["lis"].records.append(record("report", "S1", "preliminary"))
        assert backlog.owed() == ["lis: 1 reports are preliminary"]
        stores["lis"].records.pop()
        assert backlog.drain(5) == ""


def test_a_backlog_that_does_not_move_is_given_up(
    stores: dict[str, Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before its bound the auditor says that nothing moves any more."""
    monkeypatch.setattr(b, "STALL_S", 0.5)
    monkeypatch.setattr(b, "STALL_MIN", -1e9)
    stores["engine"].queues = {"ehr": {"depth": 5}}
    began = time.monotonic()
    with Backlog(Config("audit", speed=600, direct=direct(stores))) as backlog:
        assert backlog.drain(30).startswith("no progress")
    assert time.monotonic() - began < 5


def test_queues_are_found_however_they_are_nested() -> None:
    """Every service shows its queues a little differently."""
    assert dict(depths({"engine": {"depth": 3, "parked": 1}})) == {"engine": 3}
    assert dict(depths({"destinations": {"ehr": {"depth": 1}, "lis": {"depth": 0}}})) == {
        "ehr": 1, "lis": 0,
    }  # fmt: skip
    assert dict(depths({"depth": 4})) == {"queue": 4}
    assert dict(depths([1, 2])) == {}


def test_images_and_notices_are_owed_until_they_are_where_they_belong() -> None:
    """Held, sent but not committed, queued at the router, a text message not yet tried."""
    made = {
        "modalities": Archive(), "dicom-router": Archive(), "sms": Archive(),
        "scheduling": Archive(),
    }  # fmt: skip
    made["modalities"].buffer = {"held": 2, "sent": 3, "committed": 4, "deleted": 4}
    made["dicom-router"].queues = {"destinations": {"pacs-a": {"depth": 1, "oldest_s": 2.0}}}
    made["sms"].records = [record("notice", "A1", "pending"), record("notice", "A2", "delivered")]
    noted: dict[str, float] = {}
    with Backlog(Config("audit", speed=6_000, direct=direct(made)), noted.__setitem__) as backlog:
        assert sorted(backlog.owed()) == [
            "dicom-router holds 1 for pacs-a", "modalities: 2 images held",
            "modalities: 3 images sent", "sms: 1 notices are pending",
        ]  # fmt: skip
        assert noted["modalities:buffer"] == 5
        made["modalities"].buffer, made["dicom-router"].queues = {}, {}
        made["sms"].records.pop(0)
        assert backlog.drain(10) == ""
    for each in made.values():
        each.service.close()


def test_quiet_outlasts_an_examination_between_two_images() -> None:
    """A scanner that has just begun owes nothing yet: one more look is not enough."""
    config = Config("audit", speed=60, direct={"modalities.http": nobody()})
    assert b.QUIET_LOOKS * b.EVERY_S < 3.0 <= Backlog(config)._quiet_looks() * b.EVERY_S
    assert Backlog(Config("audit", speed=60))._quiet_looks() == b.QUIET_LOOKS


def test_archives_are_read_over_dicomweb_and_said_when_they_are_gone(tmp_path: Path) -> None:
    """An archive that does not answer is an incomplete store with a reason."""
    events = audit(tmp_path, {"pacs-a.http": nobody()}, drain_s=0.5)
    (read,) = of(events, StoreRead)
    assert (read.store, read.complete, read.records) == ("pacs-a", False, 0)
    assert read.reason


def test_an_archives_images_are_records_by_their_own_pixels(tmp_path: Path) -> None:
    """Key is the instance, subject whoever the archive files it under, digest that of the bytes."""
    one = instances.Examination("X1", "CR", "M1", accession="A1")
    dataset = instances.instance(one, 1)
    file = instances.part10(instances.encode(dataset))

    def behave(_: str, path: str, *__: Any) -> Reply:
        if path.startswith("/dicom-web/studies?"):
            study = {"0020000D": {"vr": "UI", "Value": [one.study_uid]},
                     "00100020": {"vr": "LO", "Value": ["M1"]}}  # fmt: skip
            return 200, {}, [study] if "offset=0" in path else []
        kind = "multipart/related; boundary=b"
        part = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--b--\r\n"
        return 200, {"Content-Type": kind}, part

    archive = FakeService(behave)
    events = audit(tmp_path, {"pacs-a.http": archive.address}, drain_s=0.5)
    archive.close()
    (found,) = of(events, Record)
    assert (found.store, found.kind, found.key) == ("pacs-a", "instance", dataset.SOPInstanceUID)
    assert (found.subject, found.digest) == ("M1", instances.pixel_digest(dataset))
    assert of(events, StoreRead)[0].complete
