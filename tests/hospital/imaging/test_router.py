"""The router: acknowledges after its own commit, gives to every archive, promises what is kept."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stacks.hospital.imaging import commitment
from stacks.hospital.imaging.association import AssociationError
from stacks.hospital.imaging.buffer import BOUNDS
from stacks.hospital.imaging.instances import Encoded
from stacks.hospital.imaging.router_recent import too_old
from stacks.hospital.settings import Address

from ..programs import until
from .router_stand import HOST, Archive, Requester, ask, images, keep, router, rows, send

WITHIN_S = 15.0


class Ward:
    """A router between two archives, an emergency viewer and a requester."""

    def __init__(self, folder: Path, bug: str = "", **extra: str) -> None:
        self.a, self.b, self.viewer = (
            Archive(title) for title in ("PACS_A", "PACS_B", "EMERGENCY_VIEWER")
        )
        self.ear = Requester()
        links = {
            "PACS_A": self.a.port, "PACS_B": self.b.port, "EMERGENCY_VIEWER": self.viewer.port,
            "MODALITIES": self.ear.port,
        }  # fmt: skip
        self.router, self.port = router(folder, links, bug, BYPASS_AFTER_S="0.5", **extra)
        self.a.report_to = self.b.report_to = Address(HOST, self.port)

    def open(self, *which: Archive) -> None:
        for one in which or (self.a, self.b, self.viewer):
            one.open()
        self.ear.open()
        self.router.start()

    def close(self) -> None:
        self.router.__exit__(None, None, None)
        for one in (self.a, self.b, self.viewer, self.ear):
            one.close()

    def queue(self, name: str) -> dict[str, object]:
        found: dict[str, object] = self.router.http.get("/queues").json()["destinations"][name]
        return found

    def settled(self) -> bool:
        found = self.router.http.get("/queues").json()["destinations"].values()
        return not any(one["depth"] or one["uncommitted"] for one in found)


@pytest.fixture
def wards() -> Iterator[list[Ward]]:
    """Wards to be closed at the end."""
    found: list[Ward] = []
    yield found
    for one in found:
        one.close()


@pytest.fixture
def ward(tmp_path: Path, wards: list[Ward]) -> Ward:
    wards.append(Ward(tmp_path))
    return wards[0]


def _bytes(found: list[Encoded]) -> dict[str, bytes]:
    return {one.sop_uid: one.data for one in found}


def test_every_archive_gets_the_same_bytes_in_order_on_one_association(ward: Ward) -> None:
    """Both archives hold every image once, byte for byte, in order; the association is reused."""
    ward.open()
    found = images("e1", 40)
    assert send(ward.port, found) == [0] * 40
    until("both archives", WITHIN_S, lambda: len(ward.a.kept) == len(ward.b.kept) == 40)
    for archive in (ward.a, ward.b):
        assert archive.kept == _bytes(found)
        assert archive.order == [one.sop_uid for one in found]
        assert set(archive.seen.values()) == {1}
    until("committed", WITHIN_S, ward.settled)
    assert ward.queue("pacs-a")["associations"] == 1
    assert not ward.viewer.kept
    assert not rows(ward.router)


def test_an_archive_that_is_down_holds_nobody_up_and_gets_all_later(ward: Ward) -> None:
    """Archive B away: A has everything at once; B everything after its return."""
    ward.open(ward.a, ward.viewer)
    found = images("e1", 10)
    assert send(ward.port, found) == [0] * 10
    until("A has all", WITHIN_S, lambda: len(ward.a.kept) == 10)
    assert ward.queue("pacs-b")["depth"] == 10
    assert {row["status"] for row in rows(ward.router)} == {"owed"}
    status, health = ward.router.health()
    assert (status, health["status"]) == (200, "degraded")
    ward.b.open()
    until("B has all", WITHIN_S, lambda: len(ward.b.kept) == 10)
    until("settled", WITHIN_S, ward.settled)


def test_out_of_resources_is_retried_and_a_refusal_for_good_is_a_task(ward: Ward) -> None:
    """A700 → the same image again; C000 → parked with a task, the others go on; retry sends it."""
    found = images("e1", 5)
    bad = found[2].sop_uid
    ward.a.decide = lambda image, times: 0xA700 if times <= 2 and image.sop_uid != bad else None
    ward.b.decide = lambda image, _: 0xC000 if image.sop_uid == bad else None
    ward.open()
    send(ward.port, found)
    until("A has all", WITHIN_S, lambda: len(ward.a.kept) == 5)
    until("B has the others", WITHIN_S, lambda: len(ward.b.kept) == 4)
    tasks = until("a task", WITHIN_S, lambda: ward.router.http.get("/tasks").json())
    assert [(one["destination"], one["image"]) for one in tasks] == [("PACS_B", bad)]
    assert "C000" in tasks[0]["reason"]
    ward.b.decide = keep
    assert ward.router.http.post(f"/tasks/{tasks[0]['id']}/retry").status_code == 200
    until("B has all", WITHIN_S, lambda: len(ward.b.kept) == 5)
    assert ward.router.http.post("/tasks/999/retry").status_code == 404


def test_commitment_is_reported_when_one_archive_has_committed(ward: Ward) -> None:
    """B away: the requester hears success once A has committed, and of unknown images the truth."""
    ward.open(ward.a, ward.viewer)
    found, never = images("e1", 6), images("e2", 1)
    send(ward.port, found)
    ask(ward.port, "2.25.77", found + never)
    report = until("a report", WITHIN_S, lambda: ward.ear.reports)[0]
    assert report.transaction == "2.25.77"
    assert {one.sop_uid for one in report.kept} == {one.sop_uid for one in found}
    assert [one.sop_uid for one in report.missing] == [never[0].sop_uid]


def test_nothing_is_promised_while_no_archive_vouches(ward: Ward) -> None:
    """A C-STORE success of the archives is no commitment: no report before they vouch."""
    ward.a.vouches = ward.b.vouches = False
    ward.open()
    found = images("e1", 3)
    send(ward.port, found)
    ask(ward.port, "2.25.78", found)
    until("stored", WITHIN_S, lambda: len(ward.a.kept) == len(ward.b.kept) == 3)
    until("asked", WITHIN_S, lambda: ward.queue("pacs-a")["uncommitted"] == 3)
    assert not ward.ear.reports
    ward.a.vouches = True
    until("a report", WITHIN_S, lambda: ward.ear.reports)


def test_an_image_that_an_archive_lost_is_sent_again(ward: Ward) -> None:
    """The archive says success and keeps nothing: its report says missing, the image goes again."""
    ward.open()
    found = images("e1", 3)
    lost = found[1].sop_uid
    ward.a.decide = lambda image, times: 0 if image.sop_uid == lost and times == 1 else None
    send(ward.port, found)
    until("A has all", WITHIN_S, lambda: len(ward.a.kept) == 3)
    assert ward.a.seen[lost] == 2


def test_bypass_takes_urgent_images_to_the_viewer_and_ends_by_itself(ward: Ward) -> None:
    """Both archives away: STAT and HIGH reach the viewer, ROUTINE does not; later all archives."""
    ward.open(ward.viewer)
    stat, high = images("s", 3, priority="STAT"), images("h", 2, priority="HIGH")
    send(ward.port, [*stat, *images("r", 2), *high])
    until("viewer", WITHIN_S, lambda: len(ward.viewer.kept) == 5)
    assert ward.viewer.kept == _bytes([*stat, *high])
    assert ward.router.http.get("/bypass").json()["by"] == "router"
    ward.a.open()
    ward.b.open()
    until("archives", WITHIN_S, lambda: len(ward.a.kept) == len(ward.b.kept) == 7)
    until("bypass off", WITHIN_S, lambda: not ward.router.http.get("/bypass").json()["on"])
    late = images("s2", 1, priority="STAT")
    send(ward.port, late)
    until("archive", WITHIN_S, lambda: late[0].sop_uid in ward.a.kept)
    assert late[0].sop_uid not in ward.viewer.kept


def test_bypass_shows_urgent_studies_whole_though_archives_had_some_images(ward: Ward) -> None:
    """Images that archives committed, or only took, before they went: the viewer has them, too."""
    ward.open()
    done, half = images("done", 3, priority="HIGH"), images("half", 6, priority="STAT")
    calm, calm_half = images("calm", 2), images("calm2", 4)
    send(ward.port, [*done, *calm, *calm_half[:2], *half[:4]])
    until("archives", WITHIN_S, lambda: len(ward.a.kept) == 11 and ward.settled())
    assert not ward.viewer.kept
    ward.a.close()
    ward.b.close()
    send(ward.port, [*half[4:], *calm_half[2:]])
    until("viewer", WITHIN_S, lambda: len(ward.viewer.kept) >= 9)
    assert ward.viewer.kept == _bytes([*half, *done])


def test_recent_studies_are_kept_for_hours_only(tmp_path: Path, wards: list[Ward]) -> None:
    """An urgent study that was delivered long ago is not kept, and does not go to the viewer."""
    ward = Ward(tmp_path, HOSPITAL_SPEED="7200")  # four hours take two seconds
    wards.append(ward)
    ward.open()
    old = images("old", 2, priority="STAT")
    send(ward.port, old)
    until("archives", WITHIN_S, lambda: len(ward.a.kept) == 2 and ward.settled())
    book = tmp_path / "router" / "router.db"
    until("forgotten", WITHIN_S, lambda: not _here(book))
    ward.a.close()
    ward.b.close()
    late = images("late", 1, priority="STAT")
    send(ward.port, late)
    until("viewer", WITHIN_S, lambda: late[0].sop_uid in ward.viewer.kept)
    assert ward.viewer.kept == _bytes(late)


def _here(book: Path) -> int:
    """Images of which the router holds the bytes."""
    with closing(sqlite3.connect(book)) as connection:
        (found,) = connection.execute("SELECT count(data) FROM instance").fetchone()
    return int(found)


def test_recent_studies_are_kept_within_a_bound() -> None:
    """Latest first up to the bytes; what is older than the hours goes in any case."""
    settled = [("c", 30.0, 40), ("b", 20.0, 40), ("a", 10.0, 40)]
    assert too_old(settled, before=0.0, bytes_max=80) == ["a"]
    assert too_old(settled, before=0.0, bytes_max=79) == ["b", "a"]
    assert too_old(settled, before=15.0, bytes_max=1_000) == ["a"]
    assert too_old([], before=15.0, bytes_max=0) == []


def test_a_doctor_holds_the_bypass_on_across_a_kill(ward: Ward) -> None:
    """POST /bypass is durable: after SIGKILL urgent images still go to the viewer as well."""
    ward.open()
    assert ward.router.http.post("/bypass", json={"on": True}).json()["by"] == "doctor"
    ward.router.end()
    ward.router.start()
    found = images("s", 2, priority="STAT")
    send(ward.port, found)
    until("viewer", WITHIN_S, lambda: len(ward.viewer.kept) == 2)
    assert ward.router.http.post("/bypass", json={"on": "x"}).status_code == 400
    assert not ward.router.http.post("/bypass", json={"on": False}).json()["on"]


def test_the_same_image_again_is_acknowledged_and_not_sent_again(ward: Ward) -> None:
    """A resend before and after delivery: success, and each archive sees it once."""
    ward.open()
    found = images("e1", 3)
    assert send(ward.port, found + found) == [0] * 6
    until("settled", WITHIN_S, lambda: len(ward.a.kept) == 3 and ward.settled())
    assert send(ward.port, found) == [0] * 3
    until("settled", WITHIN_S, ward.settled)
    assert set(ward.a.seen.values()) == set(ward.b.seen.values()) == {1}


def test_bad_input_is_refused_in_dicom_terms(ward: Ward) -> None:
    """Nonsense, another image under a known UID, unknown titles: statuses, never a silence."""
    ward.open()
    good, other = images("e1", 1)[0], images("e2", 1)[0]
    nonsense = good._replace(data=b"\xff" * 200)
    named_wrong = good._replace(data=other.data)
    changed = good._replace(data=good.data[:-2] + b"\1\1")
    assert send(ward.port, [nonsense, named_wrong, good, changed]) == [0xC000, 0xC000, 0, 0xC110]
    with pytest.raises(AssociationError) as refused:
        send(ward.port, [good], caller="STRANGER")
    assert refused.value.refused
    with pytest.raises(AssociationError):
        commitment.deliver(
            Address(HOST, ward.port), "DICOM_ROUTER", "CT1", commitment.Report("2.25.1", (
                commitment.Item(good.sop_class, good.sop_uid),)), BOUNDS,
        )  # fmt: skip
    until("A has it", WITHIN_S, lambda: good.sop_uid in ward.a.kept)
    assert ward.a.kept[good.sop_uid] == good.data


@pytest.mark.parametrize("bug", ["", "router-acks-before-disk"])
def test_sigkill_loses_nothing_that_was_acknowledged(
    tmp_path: Path, wards: list[Ward], bug: str
) -> None:
    """Killed right after the last success: all reach both archives (not so under the defect)."""
    ward = Ward(tmp_path, bug)
    wards.append(ward)
    ward.open(ward.viewer)
    found = images("e1", 20)
    assert send(ward.port, found) == [0] * 20
    ward.router.end(signal.SIGKILL)
    ward.router.start()
    ward.a.open()
    ward.b.open()
    if bug:
        mark = images("e2", 1)
        send(ward.port, mark)
        until("a later one", WITHIN_S, lambda: mark[0].sop_uid in ward.a.kept)
        assert not set(_bytes(found)) & set(ward.a.kept)
        return
    until("archives", WITHIN_S, lambda: len(ward.a.kept) == len(ward.b.kept) == 20)
    assert ward.a.kept == ward.b.kept == _bytes(found)


def test_no_bypass_leaves_the_viewer_empty(tmp_path: Path, wards: list[Ward]) -> None:
    """Planted: archives away, the router keeps failing, and the viewer gets nothing."""
    ward = Ward(tmp_path, "no-bypass")
    wards.append(ward)
    ward.open(ward.viewer)
    send(ward.port, images("s", 2, priority="STAT"))
    until("failures", WITHIN_S, lambda: int(str(ward.queue("pacs-a")["failures"])) >= 4)
    assert ward.queue("emergency-viewer")["depth"] == 0
    assert not ward.viewer.kept


def test_a_deliberate_stop_ends_in_time_with_status_0(ward: Ward) -> None:
    """SIGTERM while a destination is away: status 0 within the stop bound."""
    ward.open(ward.viewer)
    send(ward.port, images("e1", 3))
    assert ward.router.end(signal.SIGTERM) == 0
