"""The incident system with administration, engine and billing as real processes."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hospital.programs import Program, until
from tests.ports import free_port

SPEED = 600.0  # a hospital hour is six seconds
ESTIMATES = 200.0  # an estimate holds for 9 s, a round of looks takes up to three
OPEN_S = 30.0


class Stand:
    """Four services, each with the links that the topology gives it."""

    def __init__(self, folder: Path, defect: str = "", speed: float = SPEED) -> None:
        self.incident = Program("recovery.incident", folder / "incident", {})
        self.gam = Program("gam", folder / "gam", {})
        self.engine = Program("engine", folder / "engine", {})
        self.billing = Program("recovery.billing", folder / "billing", {})
        named = {"incident": self.incident, "gam": self.gam, "engine": self.engine,
                 "billing": self.billing}  # fmt: skip
        mllp = {"engine": free_port(), "billing": free_port()}
        self.all = tuple(named.values())
        for name, one in named.items():
            env = {"SERVICE_NAME": name, "HOSPITAL_SPEED": str(speed), "HOSPITAL_BUG": defect}
            if name in mllp:
                env["BIND_MLLP"] = f"127.0.0.1:{mllp[name]}"
            if name == "incident":
                for other in ("gam", "engine", "billing"):
                    env[f"LINK_{other.upper()}_HTTP"] = f"127.0.0.1:{named[other].port}"
            else:
                env["LINK_INCIDENT_HTTP"] = f"127.0.0.1:{self.incident.port}"
            if name == "gam":
                env["LINK_ENGINE_MLLP"] = f"127.0.0.1:{mllp['engine']}"
            if name == "engine":
                env["LINK_BILLING_MLLP"] = f"127.0.0.1:{mllp['billing']}"
            one.environment |= env

    def start(self) -> Stand:
        for one in self.all:
            one.start(ready=False)
        for one in self.all:
            until(f"{one.module} ready", OPEN_S, lambda one=one: one.health()[0] == 200)  # type: ignore[misc]
        return self

    def end(self) -> None:
        for one in self.all:
            one.http.close()
            if one.process is not None and one.process.poll() is None:
                one.end()

    # -- what people do ---------------------------------------------------------------------------

    def declare(self, **more: Any) -> httpx.Response:
        body = {"by": "crisis cell", "reason": "a drill", **more}
        return self.incident.http.post("/incidents", json=body)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.incident.http.get("/incident").json()
        return found

    def log(self, what: str = "") -> list[dict[str, Any]]:
        entries = self.incident.http.get("/log").json()["entries"]
        return [one for one in entries if what in ("", one["what"])]

    def admit(self, number: int) -> int:
        mrn, visit = f"M{number}", f"V{number}"
        patient = {
            "resourceType": "Patient", "birthDate": "1970-01-01",
            "identifier": [{"system": "urn:hospital:mrn", "value": mrn}],
            "name": [{"family": "Doe", "given": ["Jo"]}],
        }  # fmt: skip
        encounter = {
            "resourceType": "Encounter", "status": "in-progress", "class": {"code": "IMP"},
            "identifier": [{"system": "urn:hospital:visit", "value": visit}],
            "subject": {"reference": f"Patient/{mrn}"},
        }  # fmt: skip
        self.gam.http.post("/fhir/Patient", json=patient)
        return self.gam.http.post("/fhir/Encounter", json=encounter).status_code

    def charges(self) -> int:
        return len(self.billing.http.get("/export").content.splitlines())


@pytest.fixture
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """At SPEED, or at the one that the test names."""
    made = Stand(tmp_path, speed=getattr(request, "param", SPEED))
    try:
        yield made.start()
    finally:
        made.end()


def seen_healthy(stand: Stand) -> None:
    """A round of looks that began when all were ready is over: before that, a service that ends is
    one that never came, which nobody declares for a minute."""
    rounds: set[str] = set()

    def three() -> bool:
        if as_of := stand.status()["as_of"]:
            rounds.add(as_of)
        return len(rounds) >= 3  # the first is old, the second may have begun before

    until("two more rounds of looks", OPEN_S, three)


def test_services_return_in_their_turn_and_the_queues_wait(stand: Stand) -> None:
    """Engine and administration die; the engine comes first, and waits, its queues held, until
    administration is open; then everything is replayed, and only then normal."""
    seen_healthy(stand)
    assert stand.declare().status_code == 201
    assert stand.declare().status_code == 200
    assert stand.admit(1) == 201
    until("the first charge", OPEN_S, lambda: stand.charges() == 1)
    stand.gam.end()
    stand.engine.end()
    until("both closed", OPEN_S, lambda: set(stand.status()["closed"]) == {"gam", "engine"})
    stand.engine.start()
    refused = stand.engine.http.post("/tasks/1/retry")
    assert refused.status_code == 503
    assert "waits for patient administration" in refused.text
    assert stand.engine.health()[1]["status"] == "ready"
    assert "DFT" in stand.engine.http.get("/holds").json()["held"]
    not_yet = stand.incident.http.post("/normal", json={"by": "a director"})
    assert not_yet.status_code == 409
    assert "classes: closed" in not_yet.text
    stand.gam.start()
    until("open", OPEN_S, lambda: not stand.status()["closed"])
    until("writes again", OPEN_S, lambda: stand.admit(2) == 201)
    until("replayed", OPEN_S, lambda: stand.charges() == 2)
    until("normal", OPEN_S, lambda: stand.status()["state"] == "normal")
    opened = [one["services"][0] for one in stand.log("opened")]
    released = [one["kinds"][0] for one in stand.log("released")]
    assert opened == ["gam", "engine"]
    assert released == ["ADT", "OML", "ORU", "SIU", "DFT"]
    assert stand.log("released")[0]["seq"] > stand.log("opened")[-1]["seq"]
    assert stand.log()[-1]["what"] == "normal"


def test_a_planned_stop_is_announced_and_its_messages_wait(stand: Stand) -> None:
    """Billing is stopped, charges wait in the engine, and come when it is back: none lost."""
    seen_healthy(stand)
    answer = stand.declare(kind="planned", services=["billing"], minutes=60)
    assert answer.json()["state"] == "planned"
    assert "Planned stop: billing" in answer.json()["notice"]
    assert stand.billing.end(signal.SIGTERM) == 0
    for number in range(5):
        assert stand.admit(number) == 201
    until("held", OPEN_S, lambda: stand.engine.http.get("/holds").json()["held"] == ["DFT"])
    stand.billing.start()
    until("all charges", OPEN_S, lambda: stand.charges() == 5)
    until("normal", OPEN_S, lambda: stand.status()["state"] == "normal")
    assert [one["kinds"] for one in stand.log("released")] == [["DFT"]]


@pytest.mark.parametrize("stand", [ESTIMATES], indirect=True)
def test_a_downtime_that_nobody_declares_is_declared(stand: Stand) -> None:
    """By monitoring, with the services' names and a reason; updates follow, estimates are given
    anew before they pass."""
    seen_healthy(stand)
    stand.gam.end()
    until("declared", OPEN_S, lambda: stand.log("declared"))
    (entry,) = stand.log("declared")
    assert (entry["by"], entry["services"]) == ("monitoring", ["gam"])
    until("three notices", OPEN_S, lambda: len(stand.log("notice")) >= 3)
    notices = stand.log("notice")
    for one, after in pairwise(notices):
        assert one["at"] < after["at"] < one["eta"]
    stand.gam.start()
    until("normal", OPEN_S, lambda: stand.status()["state"] == "normal")


def test_a_killed_incident_system_comes_back_knowing_all(stand: Stand) -> None:
    """Who was closed stays closed; what was held stays held."""
    seen_healthy(stand)
    stand.declare()
    stand.gam.end()
    until("closed and held", OPEN_S, lambda: stand.status()["held"] and stand.status()["closed"])
    before = stand.log()
    stand.incident.end()
    stand.incident.start()
    assert stand.log()[: len(before)] == before
    assert list(stand.status()["closed"]) == ["gam"]
    assert "ADT" in stand.status()["held"]
    stand.gam.start()
    until("normal", OPEN_S, lambda: stand.status()["state"] == "normal")


def test_without_the_incident_system_services_open_by_themselves(stand: Stand) -> None:
    """It must not keep the hospital closed when it is away."""
    stand.incident.end()
    stand.gam.end()
    stand.gam.start()
    assert stand.admit(1) == 201
    until("charged", OPEN_S, lambda: stand.charges() == 1)


def test_planted_the_queues_are_replayed_backwards(tmp_path: Path) -> None:
    """`charges-first`: what RE-1 must find."""
    stand = Stand(tmp_path, "charges-first")
    try:
        seen_healthy(stand.start())
        stand.declare()
        stand.gam.end()
        until("held", OPEN_S, lambda: stand.status()["held"])
        stand.gam.start()
        until("normal", OPEN_S, lambda: stand.status()["state"] == "normal")
        assert [one["kinds"][0] for one in stand.log("released")] == [
            "DFT", "SIU", "ORU", "OML", "ADT",
        ]  # fmt: skip
    finally:
        stand.end()


def test_planted_the_estimate_passes_in_silence(tmp_path: Path) -> None:
    """`eta-expires`: what RE-2 must find. Updates go on; the time given stays the same."""
    stand = Stand(tmp_path, "eta-expires")
    try:
        seen_healthy(stand.start())
        stand.declare()
        stand.gam.end()
        until("two notices", OPEN_S, lambda: len(stand.log("notice")) >= 2)
        first, second = stand.log("notice")[:2]
        assert first["eta"] == second["eta"]
        assert second["at"] > first["eta"]
    finally:
        stand.end()


def test_an_incident_system_that_hangs_holds_nobody_back(tmp_path: Path) -> None:
    """It takes the connection and says nothing: the service opens within its own bound."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = f"127.0.0.1:{silent.getsockname()[1]}"
        gam = Program("gam", tmp_path / "gam", {"LINK_INCIDENT_HTTP": link})
        with gam:
            assert gam.health()[1]["status"] == "ready"
            assert gam.http.put("/fhir/Patient/M1", content=b"{}").status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/incidents", b"nonsense"),
        ("/incidents", b'{"by": "me"}'),
        ("/incidents", b'{"by": "", "reason": "x"}'),
        ("/incidents", b'{"by": "me", "reason": "x", "kind": "holiday"}'),
        ("/incidents", b'{"by": "me", "reason": "x", "kind": "planned"}'),
        ("/incidents", b'{"by": "me", "reason": "x", "services": ["coffee"]}'),
        ("/incidents", b'{"by": "me", "reason": "x", "minutes": -1}'),
        ("/incidents", b'{"by": "me", "reason": "x", "more": 1}'),
        ("/notices", b'{"by": "me", "text": "x", "minutes": 0}'),
        ("/normal", b"{}"),
    ],
)
def test_wrong_orders_are_refused_with_a_reason(tmp_path: Path, path: str, body: bytes) -> None:
    """400 and an OperationOutcome; nothing is declared."""
    alone = Program("recovery.incident", tmp_path / "incident", {})
    with alone:
        answer = alone.http.post(path, content=body)
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["diagnostics"]
        assert alone.http.get("/log").json()["entries"] == []
        assert "Hospital systems: normal" in alone.http.get("/").text
        assert alone.http.post("/notices", json={"by": "a", "text": "b", "minutes": 5}
                               ).status_code == 409  # fmt: skip
        assert alone.http.get("/gate/coffee").json()["open"] is True
