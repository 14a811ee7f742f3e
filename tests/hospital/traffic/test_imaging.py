"""Radiology's people: orders before examinations, pictures only where they are shown whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.hospital.traffic import reading_room
from stacks.hospital.traffic.imaging import Imaging, WaitingRoom, Wish
from stacks.hospital.traffic.people import Dice
from stacks.hospital.traffic.reading_room import patient_in
from stacks.hospital.traffic.schedule import Arrival
from tests.hospital.traffic.departments import Town, somebody
from tests.hospital.traffic.fakes import FakeService, Reply, outcome


class Scanners:
    """A console: whatever lies on the table is finished when the test says so."""

    def __init__(self) -> None:
        self.tables: list[dict[str, Any]] = []
        self.finished: list[dict[str, Any]] = []
        self.service = FakeService(self._behave)

    def finish(self, study: str = "2.25.1") -> None:
        """The first table is finished."""
        table = self.tables[len(self.finished)]
        self.finished.append({
            "seq": len(self.finished) + 1, "exam": table["exam"], "study": study,
            "patient": table["patient"], "instances": table["instances"],
            "finished_at": time.time(),
        })  # fmt: skip

    def _behave(self, method: str, path: str, body: bytes, _: dict[str, str]) -> Reply:
        if method == "POST":
            self.tables.append(json.loads(body))
            return 201, {}, {"exam": self.tables[-1]["exam"], "new": True}
        after = int(path.split("after=")[1].split("&")[0])
        return 200, {}, [row for row in self.finished if row["seq"] > after]


class Archive:
    """DICOMweb of one study; `shown` of its instances have arrived."""

    def __init__(self, patient: str = "M1") -> None:
        self.patient, self.shown, self.broken = patient, 0, False
        self.service = FakeService(self._behave)

    def _behave(self, _: str, path: str, *__: Any) -> Reply:
        if self.broken:
            return 503, {}, outcome("transient", "down")
        if path.startswith("/dicom-web/studies?"):
            study = {
                "00100020": {"vr": "LO", "Value": [self.patient]},
                "00201208": {"vr": "IS", "Value": [self.shown]},
            }
            return 200, {}, [study] if self.shown else []
        if path.endswith("/instances?limit=1"):
            image = {"0020000E": {"Value": ["2.25.2"]}, "00080018": {"Value": ["2.25.3"]}}
            return 200, {}, [image]
        return 200, {}, picture(self.patient)


def picture(patient: str) -> bytes:
    """A DICOM file as far as a reader looks at it."""
    name = patient.encode() + b" " * (len(patient) % 2)
    tag = b"\x10\x00\x20\x00LO" + len(name).to_bytes(2, "little")
    return b"\0" * 128 + b"DICM" + b"2.25.3" + tag + name + b"\x10\x00\x30\x00DA\x00\x00"


@pytest.fixture
def floor() -> Iterator[Any]:
    class Floor:
        scanners, a, b, viewer = Scanners(), Archive(), Archive(), Archive()
        desk = FakeService(lambda _, __, body, ___: (201, {}, body))
        town = Town({
            "modalities": scanners.service, "pacs-a": a.service, "pacs-b": b.service,
            "emergency-viewer": viewer.service, "ris": desk,
        })  # fmt: skip

    floor = Floor()
    floor.hospital = floor.town.hospital()
    floor.imaging = Imaging(floor.hospital, 0)
    yield floor
    floor.town.close()


def until(condition: Any, within_s: float = 5.0) -> bool:
    """Wait for a condition while green threads run."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        gevent.sleep(0.01)
    return True


def examined(floor: Any, klass: str = "P1", instances: int = 3) -> None:
    """An order, an examination, and its end on the console."""
    wish = Wish("O1", somebody(klass=klass), "CT", klass, instances)
    assert floor.imaging.order_for(wish, time.monotonic(), 0.0)
    taken = floor.imaging.waiting.take(klass, time.monotonic())
    assert floor.imaging.examine(taken, "X1", time.monotonic())
    floor.scanners.finish()
    floor.imaging.room.look_at_console()


def test_where_no_record_stands_radiologys_desk_takes_the_order(floor: Any) -> None:
    """The order's digest is that of every store; the patient waits only once it is acknowledged."""
    wish = Wish("O1", somebody(), "CT", "P0", 3)
    assert floor.imaging.order_for(wish, time.monotonic(), 0.0)
    ((invoked, end),) = floor.town.ops("imaging.order")
    assert (invoked.key, invoked.subject, invoked.target, len(invoked.value)) == \
        ("O1", "M1", "ris", 16)  # fmt: skip
    assert (end.strength, end.via, end.subject) == ("201", "ris", "M1")
    (asked,) = floor.desk.asked
    assert json.loads(asked[2])["code"] == {"coding": [{"code": "CT"}]}
    assert asked[3]["if-none-exist"] == "identifier=urn:hospital:placer|O1"
    assert len(floor.imaging.waiting) == 1


def test_a_refused_order_is_never_examined(floor: Any) -> None:
    """No acknowledgement, no patient on the table."""
    floor.desk.behave = lambda *_: (400, {}, outcome("invalid", "no"))
    assert not floor.imaging.order_for(Wish("O1", somebody(), "CT", "P1", 3), time.monotonic(), 0)
    floor.imaging.examine_next(Arrival(0, 0, 0, "examination", "P1", 1), time.monotonic(), Dice(1))
    assert not floor.scanners.tables


def test_a_study_is_readable_when_one_place_shows_all_of_it(floor: Any) -> None:
    """Two of three instances are no study; the place that has all three is named."""
    floor.a.shown, floor.b.shown = 2, 3
    examined(floor)
    assert until(lambda: floor.town.ended("study.view"))
    ((invoked, end),) = floor.town.ops("study.view")
    assert (invoked.key, invoked.value, invoked.klass) == ("2.25.1", "3", "P1")
    assert (end.via, end.subject, end.strength) == ("pacs-b", "M1", "seen")
    (_, done), *_ = floor.town.ops("examination.done")
    assert (done.value, done.via) == ("2.25.1", "modalities")


def test_emergencies_are_looked_for_in_the_viewer_when_archives_are_away(floor: Any) -> None:
    """The viewer is the last place for P0 and P1, and no place for elective studies."""
    floor.a.broken = floor.b.broken = True
    floor.viewer.shown = 3
    examined(floor, "P0")
    assert until(lambda: floor.town.ended("study.view"))
    assert floor.town.ops("study.view")[0][1].via == "emergency-viewer"
    assert floor.imaging.room._places("P3") == ("pacs-a", "pacs-b")


def test_elective_studies_are_awaited_without_a_record_of_it(floor: Any) -> None:
    """IM-2 is about emergencies: of P3 only the later opening is an operation."""
    floor.a.shown = 3
    examined(floor, "P3")
    assert until(lambda: len(floor.imaging.room._readable) == 1)
    assert floor.town.ops("study.view") == []


def test_a_study_that_nobody_shows_is_given_up_as_unknown(
    floor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After five times its bound the reader has a last word."""
    monkeypatch.setattr(reading_room, "VIEW_BOUND_MIN", 1.0)
    examined(floor)
    assert until(lambda: floor.town.ended("study.view"))
    assert floor.town.ops("study.view")[0][1].reason.startswith("nothing within")


@pytest.mark.parametrize("patient", ["M1", "M2"])
def test_a_picture_says_whose_it_is(floor: Any, patient: str) -> None:
    """The name in the bytes goes into the ledger, also when it is the wrong one."""
    floor.a.shown = 3
    examined(floor)
    assert until(lambda: len(floor.imaging.room._readable) == 1)
    floor.a.patient = patient
    arrival = Arrival(0, 0, 0, "image.read", "P1", 1)
    floor.imaging.room.read(arrival, time.monotonic(), Dice(1))
    ((invoked, end),) = floor.town.ops("image.read")
    assert (invoked.subject, end.subject, end.via) == ("M1", patient, "pacs-a")


@given(st.text("AB0-.", min_size=1, max_size=20))
def test_patient_ids_are_read_with_and_without_padding(patient: str) -> None:
    """DICOM pads to even lengths."""
    assert patient_in(picture(patient)) == patient


def test_bytes_without_a_patient_name_nobody() -> None:
    """Noise is no patient."""
    assert patient_in(b"DICM and nothing else") == ""


def test_nobody_leaves_off_a_number_that_is_needed() -> None:
    """A verbal examination's patient never has another order of the same kind, before or after."""
    room, one = WaitingRoom(), somebody()
    wishes = [room.wish(f"O{n}", one, "P1", Dice(n * 7919 + 3), 0.5) for n in range(200)]
    made = [wish for wish in wishes if wish]
    verbal = [wish.modality for wish in made if wish.verbal]
    assert verbal
    for kind in verbal:
        assert sum(wish.modality == kind for wish in made) == 1


def test_the_latest_order_is_examined_first_and_the_stock_lasts() -> None:
    """Own class before others, newest before the stock, and nobody before they are due."""
    room = WaitingRoom()
    for placer, klass, due in (("old", "P1", 1.0), ("new", "P1", 2.0), ("late", "P1", 9.0),
                               ("other", "P3", 1.0)):  # fmt: skip
        room.add(Wish(placer, somebody(), "CT", klass, 1, due=due))
    taken = [room.take("P1", 5.0) for _ in range(4)]
    assert [wish.placer if wish else None for wish in taken] == ["new", "old", "other", None]
