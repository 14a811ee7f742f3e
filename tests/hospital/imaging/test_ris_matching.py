"""Which order a study belongs to: the rules over a book in memory, in whatever order news come."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest

from stacks.hospital import heard
from stacks.hospital.bugs import VARIABLE
from stacks.hospital.imaging import ris_book as book
from stacks.hospital.imaging import ris_matching as matching
from stacks.hospital.imaging.ris_book import Conflict
from stacks.hospital.imaging.ris_matching import Step
from stacks.hospital.wire.hl7 import Adt, Hl7Error, ImagingOrder

NOW = 1_000.0


@pytest.fixture
def pages() -> Iterator[sqlite3.Connection]:
    connection = empty()
    yield connection
    connection.close()


def empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(book.RIS_SCHEMA)
    return connection


def order(pages: sqlite3.Connection, placer: str, mrn: str, modality: str = "CT") -> book.Entry:
    matching.enter(pages, ImagingOrder(placer, mrn, modality, (modality,)), NOW)
    found = book.entry(pages, placer)
    assert found is not None
    return found


def movement(pages: sqlite3.Connection, adt: Adt) -> None:
    matching.reconcile_all(pages, NOW, book.take_adt(pages, adt))


def merge(pages: sqlite3.Connection, survivor: str, prior: str) -> None:
    movement(pages, Adt("A40", survivor, prior_mrn=prior))


def admit(pages: sqlite3.Connection, mrn: str, family: str) -> None:
    movement(pages, Adt("A01", mrn, family, "Ana", "19600229", "F", f"V{mrn}"))


def downtime(
    pages: sqlite3.Connection, exam: str, mrn: str, placer: str = "", modality: str = "CT",
    family: str = "Dubois", settle_s: float = 0.0,
) -> str:  # fmt: skip
    """An examination made without the worklist; returns its study."""
    study = f"2.25.{exam}"
    step = Step(f"2.25.9.{exam}", study, f"DT{modality}-{exam}", placer, mrn, family, modality, "X")
    matching.begin(pages, step, NOW, settle_s)
    return study


def seen(pages: sqlite3.Connection, study: str) -> tuple[str | None, str, str]:
    """(order, scheduled|matched|unmatched, how)."""
    row: tuple[str | None, str, str] = pages.execute(
        "SELECT order_placer, match, how FROM examination WHERE study = ?", (study,)
    ).fetchone()
    return row


def status(pages: sqlite3.Connection, placer: str) -> str:
    found = book.entry(pages, placer)
    assert found is not None
    return found.status


def test_each_order_has_an_accession_and_a_study_of_its_own(pages: sqlite3.Connection) -> None:
    """A hundred orders: no accession and no study twice; the same order again keeps its own."""
    entries = [order(pages, f"P{number}", "M1") for number in range(100)]
    assert len({one.accession for one in entries}) == 100
    assert len({one.study for one in entries}) == 100
    assert order(pages, "P7", "M1") == entries[7]
    assert all(one.accession.startswith("A") and len(one.accession) <= 16 for one in entries)


def test_another_order_under_a_known_placer_is_refused(pages: sqlite3.Connection) -> None:
    """A placer number that is in use is never overwritten by other content."""
    order(pages, "P1", "M1")
    for other in (ImagingOrder("P1", "M2", "CT", ("CT",)), ImagingOrder("P1", "M1", "MR", ("MR",))):
        with pytest.raises(Conflict):
            matching.enter(pages, other, NOW)
    assert order(pages, "P1", "M1").patient == "M1"


def test_an_examination_from_the_worklist_is_scheduled(pages: sqlite3.Connection) -> None:
    """Begun: off the worklist; completed: the order is completed; broken off: on it again."""
    one = order(pages, "P1", "M1")
    step = Step("2.25.1", one.study, one.accession, "", "M1", "Dubois", "CT", "CT1")
    matching.begin(pages, step, NOW)
    assert seen(pages, one.study) == ("P1", "scheduled", "scheduled")
    assert book.open_entries(pages, 10) == []
    assert status(pages, "P1") == "active"
    matching.end(pages, "2.25.1", "discontinued", NOW)
    assert [entry.placer for entry in book.open_entries(pages, 10)] == ["P1"]
    matching.begin(pages, replace(step, uid="2.25.2"), NOW)
    matching.end(pages, "2.25.2", "completed", NOW)
    assert status(pages, "P1") == "completed"
    assert book.open_entries(pages, 10) == []


def test_a_downtime_study_finds_the_order_written_down(pages: sqlite3.Connection) -> None:
    """Among several open orders of the patient the placer decides."""
    for placer in ("P1", "P2", "P3"):
        order(pages, placer, "M1")
    study = downtime(pages, "1", "M1", "P2")
    assert seen(pages, study) == ("P2", "matched", "placer")


def test_a_downtime_study_finds_the_only_order_it_can_be(pages: sqlite3.Connection) -> None:
    """Same patient and modality, one open order: matched; its order is completed with it."""
    order(pages, "P1", "M1")
    order(pages, "P2", "M1", "MR")
    order(pages, "P3", "M2")
    study = downtime(pages, "1", "M1")
    assert seen(pages, study) == ("P1", "matched", "patient and modality")
    matching.end(pages, "2.25.9.1", "completed", NOW)
    assert (status(pages, "P1"), status(pages, "P2")) == ("completed", "active")


def test_two_possible_orders_are_for_a_person(pages: sqlite3.Connection) -> None:
    """It is not guessed; the person's choice counts, once, and the rest then follows."""
    order(pages, "P1", "M1")
    order(pages, "P2", "M1")
    first, second = downtime(pages, "1", "M1"), downtime(pages, "2", "M1")
    assert seen(pages, first) == (None, "unmatched", "")
    matching.decide(pages, first, "P2", NOW)
    matching.decide(pages, first, "P2", NOW)
    assert seen(pages, first) == ("P2", "matched", "human")
    for study, placer, error in (
        (first, "P1", Conflict), (second, "P2", Conflict), (second, "P9", matching.Unknown),
        ("2.25.404", "P1", matching.Unknown),
    ):  # fmt: skip
        with pytest.raises(error):
            matching.decide(pages, study, placer, NOW)
    matching.decide(pages, second, "P1", NOW)
    assert seen(pages, second) == ("P1", "matched", "human")


def test_nobody_is_matched_by_a_name(pages: sqlite3.Connection) -> None:
    """Two patients of one name: the study of the one never goes to the order of the other."""
    admit(pages, "M1", "Dubois")
    admit(pages, "M2", "Dubois")
    order(pages, "P1", "M1")
    study = downtime(pages, "1", "M2")
    assert seen(pages, study) == (None, "unmatched", "")
    with pytest.raises(Conflict):
        matching.decide(pages, study, "P1", NOW)
    order(pages, "P2", "M2")
    assert seen(pages, study)[0] == "P2"


@pytest.mark.parametrize("placer", ["P1", ""])
def test_a_study_waits_for_its_order(pages: sqlite3.Connection, placer: str) -> None:
    """The report came before the order: open until the order comes, then matched."""
    study = downtime(pages, "1", "M1", placer)
    assert seen(pages, study)[1] == "unmatched"
    matching.end(pages, "2.25.9.1", "completed", NOW)
    order(pages, "P1", "M1")
    assert seen(pages, study)[:2] == ("P1", "matched")
    assert status(pages, "P1") == "completed"


def test_an_order_on_its_way_is_waited_for(pages: sqlite3.Connection) -> None:
    """Without a placer nothing is decided at once: the other order could still come."""
    order(pages, "P1", "M1")
    study = downtime(pages, "1", "M1", settle_s=5.0)
    assert seen(pages, study)[1] == "unmatched"
    assert matching.settle(pages, NOW + 4.9, 10) == 0
    order(pages, "P2", "M1")
    assert matching.settle(pages, NOW + 5.0, 10) == 1
    assert matching.settle(pages, NOW + 6.0, 10) == 0, "looked at once"
    assert seen(pages, study)[1] == "unmatched", "two orders now: a person must say"
    other = downtime(pages, "2", "M2", settle_s=5.0)
    order(pages, "P3", "M2")
    assert seen(pages, other)[1] == "unmatched"
    matching.settle(pages, NOW + 5.0, 10)
    assert seen(pages, other)[0] == "P3"


@pytest.mark.parametrize("steps", list(itertools.permutations(["order", "merge", "study"])))
@pytest.mark.parametrize("placer", ["P1", ""])
def test_a_merge_at_any_moment_keeps_the_study_with_its_patient(
    pages: sqlite3.Connection, steps: tuple[str, ...], placer: str
) -> None:
    """Order under the old number, study under the new one: merged before or after, they meet; a
    study under the old number of somebody merged twice, too."""
    study = ""
    for step in steps:
        if step == "order":
            order(pages, "P1", "M1")
        elif step == "merge":
            merge(pages, "M2", "M1")
        else:
            study = downtime(pages, "1", "M2", placer)
    assert seen(pages, study)[:2] == ("P1", "matched")
    merge(pages, "M3", "M2")
    entry = book.entry(pages, "P1")
    assert entry is not None
    assert entry.patient == "M3"
    order(pages, "P2", "M3", "MR")
    late = downtime(pages, "2", "M1", modality="MR")
    assert seen(pages, late)[0] == "P2"


def test_a_merge_backwards_is_refused(pages: sqlite3.Connection) -> None:
    """Into a patient who was merged away into oneself: no circle arises."""
    merge(pages, "M2", "M1")
    with pytest.raises(Hl7Error):
        merge(pages, "M1", "M2")
    assert heard.current(pages, "M1") == "M2"


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step("2.25.5", "2.25.6", "A0000001", "", "M2", "X", "CT", "CT1"), "of patient M1"),
        (Step("2.25.5", "2.25.6", "A0000001", "P2", "M1", "X", "CT", "CT1"), "the scanner says"),
        (Step("2.25.5", "2.25.6", "", "P1", "M2", "X", "CT", "CT1"), "of patient M1"),
        (Step("2.25.5", "2.25.6", "", "P1", "M1", "X", "MR", "MR1"), "asks for CT"),
        (Step("2.25.5", "2.25.6", "", "P9", "M1", "X", "CT", "CT1"), "not here yet"),
        (Step("2.25.5", "2.25.6", "", "", "", "X", "CT", "CT1"), "which patient"),
    ],
)
def test_what_contradicts_itself_is_a_task(
    pages: sqlite3.Connection, step: Step, reason: str
) -> None:
    """Accession, placer, patient and modality must agree: else the study is kept, with a reason."""
    order(pages, "P1", "M1")
    matching.begin(pages, step, NOW)
    assert seen(pages, step.study) == (None, "unmatched", "")
    (told,) = pages.execute("SELECT reason FROM examination").fetchone()
    assert reason in told
    assert status(pages, "P1") == "active"


def test_one_order_has_one_examination(pages: sqlite3.Connection) -> None:
    """A second study under the same placer is a task, not a second match."""
    order(pages, "P1", "M1")
    first, second = downtime(pages, "1", "M1", "P1"), downtime(pages, "2", "M1", "P1")
    assert seen(pages, first)[0] == "P1"
    assert seen(pages, second) == (None, "unmatched", "")


def test_reports_are_taken_once_and_end_once(pages: sqlite3.Connection) -> None:
    """A repeated begin is known, a repeated end changes nothing, another end is refused."""
    order(pages, "P1", "M1")
    study = downtime(pages, "1", "M1")
    with pytest.raises(matching.Repeated):
        downtime(pages, "1", "M1")
    matching.end(pages, "2.25.9.1", "completed", NOW)
    matching.end(pages, "2.25.9.1", "completed", NOW)
    with pytest.raises(matching.Ended):
        matching.end(pages, "2.25.9.1", "discontinued", NOW)
    with pytest.raises(matching.Unknown):
        matching.end(pages, "2.25.404", "completed", NOW)
    with pytest.raises(Conflict):
        matching.begin(pages, Step("2.25.8", study, "DTCT-1", "", "M2", "", "CT", ""), NOW)


@pytest.mark.parametrize("seed", range(40))
def test_in_any_order_of_news_no_study_is_lost_or_misplaced(seed: int) -> None:
    """Patients of one name, merges, orders and downtime studies shuffled: in the end each study
    whose placer was written down has its order, and each other one has its own or a task."""
    chance, pages = random.Random(seed), empty()
    news: list[tuple[str, ...]] = []
    truth: dict[str, str] = {}
    for number in range(12):
        mrn, placer, exam = f"M{number}", f"P{number}", str(100 + number)
        modality = chance.choice(["CT", "MR", "CR", "US"])
        said = chance.choice([placer, ""])
        news.append(("admit", mrn))
        news.append(("order", placer, mrn, modality))
        who = mrn
        if chance.random() < 0.4:
            who = chance.choice([mrn, f"N{number}"])
            news.append(("merge", f"N{number}", mrn))
        news.append(("study", exam, who, said, modality))
        truth[f"2.25.{exam}"] = placer
    chance.shuffle(news)
    for what, *rest in news:
        if what == "admit":
            admit(pages, rest[0], "Dubois")
        elif what == "order":
            order(pages, *rest)
        elif what == "merge":
            merge(pages, *rest)
        else:
            downtime(pages, *rest)
    rows = dict(pages.execute("SELECT study, order_placer FROM examination").fetchall())
    assert rows == truth
    pages.close()


@pytest.mark.parametrize("bug", ["downtime-studies-forgotten", "matched-by-name"])
def test_the_planted_defects_lose_or_misplace_a_study(
    pages: sqlite3.Connection, bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With either defect a downtime study ends nowhere or with the order of a namesake; one from
    the worklist is as it should be."""
    monkeypatch.setenv(VARIABLE, bug)
    admit(pages, "M1", "Dubois")
    admit(pages, "M2", "Dubois")
    order(pages, "P1", "M1")
    order(pages, "P2", "M2")
    study = downtime(pages, "1", "M2", "P2")
    rows = pages.execute("SELECT study, order_placer FROM examination").fetchall()
    assert rows == ([] if bug == "downtime-studies-forgotten" else [(study, "P1")])
    one = order(pages, "P3", "M1", "MR")
    matching.begin(
        pages, Step("2.25.3", one.study, one.accession, "", "M1", "Dubois", "MR", "MR1"), NOW
    )
    assert seen(pages, one.study) == ("P3", "scheduled", "scheduled")
