"""SIGKILL at any moment, restores included: nothing acknowledged is lost, no slot is given twice.

Four clinics fight for few slots, each knows its own appointments' true state; meanwhile the service
is backed up, restored and killed again and again.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..programs import Engine, until
from .scheduling_stand import Clinic, notices

CLINICS = 4
KILLS = 6
SLOTS = 60
ANSWER_S = 20.0


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine().open()
    yield engine
    engine.end()


class Patient:
    """One clinic's desk: books, moves and cancels, each request until it has a clear answer."""

    def __init__(self, clinic: Clinic, number: int, stop: threading.Event) -> None:
        self.known: dict[str, tuple[int, str, str]] = {}  # name → version, status, slot
        self.trouble: list[str] = []
        self._clinic, self._number, self._stop = clinic, number, stop
        self._chance = random.Random(number)

    def work(self) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            booked = [name for name, one in self.known.items() if one[1] == "booked"]
            if len(booked) < 8:
                name, slot = f"A{self._number}-{count}", self._slot()
                self._ask(name, slot, lambda n=name, s=slot: self._clinic.book(n, s, self._mrn))
                continue
            name = self._chance.choice(booked)
            version, _, old = self.known[name]
            status = self._chance.choice(["booked", "booked", "cancelled"])
            slot = self._slot() if status == "booked" else old
            self._ask(name, slot, lambda n=name, s=slot, v=version, w=status: self._clinic.change(
                n, s, v, self._mrn, status=w))  # fmt: skip

    @property
    def _mrn(self) -> str:
        return f"M{self._number}"

    def _slot(self) -> str:
        return f"consultation-heart-{self._chance.randrange(SLOTS)}"

    def _ask(self, name: str, slot: str, ask: Callable[[], Any]) -> None:
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            try:
                answer = ask()
            except httpx.HTTPError:
                time.sleep(0.01)
                continue  # unknown: the same request again
            if answer.status_code in (200, 201):
                one = answer.json()
                version = int(one["meta"]["versionId"])
                self.known[name] = (version, one["status"], one["slot"][0]["reference"][5:])
                return
            if answer.status_code == 409:
                return  # a clear no: nothing of ours has changed
            if answer.status_code not in (500, 503):
                self.trouble.append(f"{name} {slot}: {answer.status_code} {answer.text}")
                return
            time.sleep(0.01)
        self.trouble.append(f"{name}: no clear answer within {ANSWER_S} s")


def backups(clinic: Clinic, stop: threading.Event, restores: list[int]) -> None:
    """Backups and restores in turn; what a kill interrupts is simply asked for again."""
    chance = random.Random(99)
    while not stop.is_set():
        try:
            if chance.random() < 0.2:
                clinic.http.post("/backup")
            restores.append(clinic.http.post("/restore").status_code)
        except httpx.HTTPError:
            restores.append(0)
        time.sleep(0.02)


def test_kills_and_restores_lose_nothing_and_give_no_slot_twice(
    tmp_path: Path, engine: Engine
) -> None:
    """Every appointment is as its clinic was told last; a slot has at most one; every version that
    was acknowledged was told to the engine, older ones before newer ones."""
    with Clinic(tmp_path, engine) as clinic:
        stop, restores = threading.Event(), []
        desks = [Patient(clinic, number, stop) for number in range(CLINICS)]
        threads = [threading.Thread(target=desk.work) for desk in desks]
        threads.append(threading.Thread(target=backups, args=(clinic, stop, restores)))
        for thread in threads:
            thread.start()
        chance = random.Random(7)
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.1, 0.6))
            clinic.end()
            clinic.start()
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join(ANSWER_S)
        assert [line for desk in desks for line in desk.trouble] == []
        assert restores.count(200) >= KILLS, "some restores must have gone through"
        known = {name: one for desk in desks for name, one in desk.known.items()}
        assert len(known) > 20, "the day must be busy enough to mean something"
        stored, slots = clinic.export("appointment"), clinic.export("slot")
        assert {n: (stored[n]["version"], stored[n]["status"]) for n in known} == {
            n: one[:2] for n, one in known.items()
        }
        assert set(stored) == set(known)
        assert max(one["count"] for one in slots.values()) == 1
        busy = {name for name, one in slots.items() if one["status"] == "busy"}
        assert busy == {one[2] for one in known.values() if one[1] == "booked"}
        _all_told(clinic, engine, {name: one[0] for name, one in known.items()})


def _all_told(clinic: Clinic, engine: Engine, versions: dict[str, int]) -> None:
    def depth() -> int:
        return int(clinic.http.get("/queues").json()["destinations"]["engine"]["depth"])

    until("the queue is empty", 30, lambda: depth() == 0)
    told: dict[str, list[int]] = defaultdict(list)
    for one in notices(engine):
        told[one.appointment].append(one.version)
    assert {name: max(found) for name, found in told.items()} == versions
    for name, found in told.items():
        assert found == list(range(1, versions[name] + 1)), name


def test_a_decision_under_kills_is_whole(tmp_path: Path, engine: Engine) -> None:
    """Asked again and again while the service is killed: at the end all of its appointments are
    cancelled, each once, with a task each, and the answer is the first one's."""
    with Clinic(tmp_path, engine) as clinic:
        for number in range(40):
            clinic.book(f"A{number}", f"endoscopy-e-{number}")
        chance, answers, stop = random.Random(3), [], threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    answer = clinic.decide("D1", "endoscopy")
                except httpx.HTTPError:
                    time.sleep(0.01)
                    continue
                if answer.status_code in (200, 201):
                    answers.append(answer.json())

        thread = threading.Thread(target=ask)
        thread.start()
        for _ in range(3):
            time.sleep(chance.uniform(0.0, 0.1))
            clinic.end()
            clinic.start()
        until("it was answered", 10, lambda: answers)
        stop.set()
        thread.join(10)
        assert all(answer == answers[0] for answer in answers)
        assert len(answers[0]["cancelled"]) == 40
        rows = clinic.export("appointment")
        assert {(row["status"], row["version"]) for row in rows.values()} == {("cancelled", 2)}
        assert len(clinic.export("rebooking")) == 40
        _all_told(clinic, engine, dict.fromkeys(rows, 2))
