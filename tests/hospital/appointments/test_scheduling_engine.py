"""Scheduling, the true engine and one true channel: what is decided here is said there."""

from __future__ import annotations

from pathlib import Path

from stacks.hospital.wire.hl7 import Adt
from tests.ports import free_port

from ..programs import Engine, Program, until
from .scheduling_stand import Clinic


def test_a_decision_reaches_the_website_once(tmp_path: Path) -> None:
    """Booked, called off, restored and told again: the website says cancelled, and hears each
    notice once, because the engine knows the repeated ones by their MSH-10."""
    place = Engine()  # never opened: the true one listens there
    clinic = Clinic(tmp_path, place)
    website_in = free_port()
    engine = Program("engine", tmp_path / "engine", {
        "BIND_MLLP": f"127.0.0.1:{place.port}",
        "LINK_SCHEDULING_MLLP": f"127.0.0.1:{clinic.mllp}",
        "LINK_WEBSITE_MLLP": f"127.0.0.1:{website_in}",
    })  # fmt: skip
    website = Program("appointments.website", tmp_path / "website", {
        "BIND_MLLP": f"127.0.0.1:{website_in}", "SERVICE_NAME": "website",
    })  # fmt: skip
    with clinic, website, engine:
        for number in range(10):
            clinic.book(f"A{number}", f"consultation-heart-{number}", f"M{number}")
        clinic.http.post("/backup")
        assert len(clinic.decide("D1", "consultation").json()["cancelled"]) == 10
        clinic.book("A10", "dialysis-kidney-1", "M1")

        def words() -> list[str]:
            rows = website.http.get("/export").text
            return [row for row in rows.splitlines() if '"status":"cancelled"' in row]

        until("the website says so", 10, lambda: len(words()) == 10)
        assert clinic.http.post("/restore").json()["replayed"] == 2
        clinic.book("A11", "dialysis-kidney-2", "M2")
        until("the last is known", 10, lambda: '"A11"' in website.http.get("/export").text)
        assert len(words()) == 10
        feed = website.http.get("/feed").json()
        assert (feed["messages"], feed["repeats"], feed["contradictions"]) == (22, 0, 0)
        assert clinic.tell(Adt("A40", "M2", prior_mrn="M1")).accepted
        until(
            "the survivor is told", 10, lambda: website.http.get("/feed").json()["messages"] == 24
        )
    place.end()
