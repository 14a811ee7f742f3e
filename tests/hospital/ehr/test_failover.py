"""The record over a real pair: the primary is killed or frozen, the standby hangs or takes over."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from .cluster import Cluster
from .people import Ehr, Engine, order, patient, until

pytestmark = pytest.mark.slow
ANSWER_S = 5.0
"""No request may take longer, whatever the databases do."""
RECOVER_S = 3.0
"""From a new primary's first word to the first accepted order; 0.1 to 0.4 s on an idle machine."""


def _timed(call: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    answer = call()
    return answer, time.monotonic() - began


def test_charts_survive_the_primary_and_orders_come_back_with_a_new_one(
    cluster: Cluster, raised: Callable[..., Ehr], engine: Engine
) -> None:
    """Killed primary: reads from the standby and say so, writes 503 at once; then promotion."""
    standby = cluster.add_standby()
    ehr = raised(cluster)
    ehr.post(patient("M-1"))
    ehr.post(order("P-1", "M-1"))
    chart = ehr.client.get("/fhir/Patient/M-1/$everything")
    assert chart.headers["X-Served-By"] == "primary"
    cluster.primary.kill()
    chart, took_s = _timed(lambda: ehr.client.get("/fhir/Patient/M-1/$everything"))
    assert (chart.status_code, chart.headers["X-Served-By"]) == (200, "standby")
    assert chart.headers["Warning"].startswith("110")
    assert chart.json()["meta"]["tag"][0]["code"] == "READ-FROM-STANDBY"
    assert took_s < ANSWER_S
    refused, took_s = _timed(lambda: ehr.post(order("P-2", "M-1")))
    assert refused.status_code == 503
    assert "no writable primary" in refused.text
    assert took_s < ANSWER_S
    health = ehr.health()
    assert (health["code"], health["status"]) == (200, "degraded")
    assert "written" in health["checks"]["database"]["reason"]
    cluster.promote()
    until("a primary", lambda: standby.query("SELECT pg_is_in_recovery()") == [(False,)])
    began = time.monotonic()
    until("an accepted order", lambda: ehr.post(order("P-3", "M-1")).status_code == 201)
    assert time.monotonic() - began < RECOVER_S
    until("ready", lambda: ehr.health()["status"] == "ready")
    until("the order at the engine", lambda: "P-3" in engine.orders())
    assert {one["id"] for one in ehr.chart("M-1")} == {"M-1", "P-1", "P-3"}


def test_a_frozen_primary_delays_nobody_for_long(
    cluster: Cluster, raised: Callable[..., Ehr]
) -> None:
    """SIGSTOP on the primary: every read answers from the standby, every write ends in time."""
    cluster.add_standby()
    ehr = raised(cluster)
    ehr.post(patient("M-1"))
    cluster.primary.signal(signal.SIGSTOP)
    try:
        answers: list[tuple[httpx.Response, float]] = []

        def ask(number: int) -> None:
            with httpx.Client(base_url=ehr.client.base_url, timeout=10) as client:
                headers = {"X-Priority": "P1"}
                if number % 3:
                    path = "/fhir/Patient/M-1/$everything"
                    answers.append(_timed(lambda: client.get(path, headers=headers)))
                else:
                    data = order(f"P-{number}", "M-1")
                    answers.append(
                        _timed(
                            lambda: client.post("/fhir/ServiceRequest", json=data, headers=headers)
                        )
                    )

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(15)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(answers) == 15
        for answer, took_s in answers:
            assert took_s < ANSWER_S
            if answer.request.method == "GET":
                assert answer.status_code == 200, answer.text
                assert answer.headers["X-Served-By"] == "standby"
            else:
                assert answer.status_code in (500, 503)
                assert (answer.status_code == 500) == (answer.headers.get("X-Outcome") == "unknown")
        health, took_s = _timed(lambda: ehr.client.get("/health"))
        assert health.json()["status"] == "degraded"
        assert took_s < ANSWER_S
    finally:
        cluster.primary.signal(signal.SIGCONT)
    until("ready again", lambda: ehr.health()["status"] == "ready")
    assert ehr.post(order("P-after", "M-1")).status_code == 201


def test_a_commit_that_its_standby_does_not_confirm_is_unknown(
    cluster: Cluster, raised: Callable[..., Ehr]
) -> None:
    """A frozen standby: writes are never called done (nor refused), reads go on meanwhile."""
    standby = cluster.add_standby()
    ehr = raised(cluster)
    ehr.post(patient("M-1"))
    standby.signal(signal.SIGSTOP)
    try:
        answer, took_s = _timed(lambda: ehr.post(order("P-1", "M-1")))
        assert answer.status_code == 500
        assert answer.headers["X-Outcome"] == "unknown"
        assert "unknown" in answer.json()["issue"][0]["diagnostics"]
        assert took_s < ANSWER_S
        assert ehr.client.get("/fhir/Patient/M-1/$everything").status_code == 200
        ack = ehr.tell_bytes(_admission())
        assert (ack.code, ack.transient) == ("CE", True)
    finally:
        standby.signal(signal.SIGCONT)
    until("ready again", lambda: ehr.health()["status"] == "ready")
    again = ehr.post(order("P-1", "M-1"))
    assert again.status_code in (200, 201)
    assert sum(one["key"] == "P-1" for one in ehr.export()) == 1
    assert ehr.tell_bytes(_admission()).accepted


def _admission() -> bytes:
    from stacks.hospital.wire import hl7

    from .people import admission

    header = hl7.Header("ID-1", sender="ENGINE", receiver="EHR", at=1.0)
    return hl7.build(header, admission("M-2", "V-2"))


def test_the_other_node_sends_when_the_sender_freezes(
    shared_cluster: Cluster, raised: Callable[..., Ehr], engine: Engine
) -> None:
    """A frozen node loses the outbox to its twin; nothing waits for ever."""
    first = raised(shared_cluster)
    until("the first leads", lambda: "outbox_leads" in first.log())
    second = raised(shared_cluster)
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    try:
        assert second.post(order("P-1", "M-1")).status_code == 201
        until("the order at the engine", lambda: "P-1" in engine.orders(), 20)
    finally:
        first.process.send_signal(signal.SIGCONT)
    second.post(order("P-2", "M-1"))
    until("the next order", lambda: "P-2" in engine.orders())
    assert engine.orders().count("P-2") == 1


def test_no_database_at_all(cluster: Cluster, raised: Callable[..., Ehr]) -> None:
    """Without any node: 503 with a reason for everybody, quickly; well again by itself."""
    cluster.primary.kill()
    ehr = raised(cluster, ready=False)
    until("it says so", lambda: ehr.health().get("code") == 503)
    until("it listens", lambda: "service_ready" in ehr.log())
    for call in (
        lambda: ehr.client.get("/fhir/Patient/M-1/$everything"),
        lambda: ehr.post(patient("M-1")),
    ):
        answer, took_s = _timed(call)
        assert answer.status_code == 503
        assert took_s < ANSWER_S
    (cluster.primary.data / "postmaster.pid").unlink(missing_ok=True)
    cluster.primary.start()
    until("ready", lambda: ehr.health()["status"] == "ready")
    assert ehr.post(patient("M-1")).status_code == 201
