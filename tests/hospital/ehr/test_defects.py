"""Every planted defect of the record can be seen from outside: none is a name only."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stacks.hospital.ehr.service import admission

from .cluster import Cluster
from .people import Ehr, Engine, order, patient, until


@pytest.mark.parametrize(
    ("bug", "lane_of"),
    [("", (0, 1, 2, 3, 4)), ("shed-fifo", (2,) * 5), ("shed-urgent-first", (4, 3, 2, 1, 0))],
)
def test_lanes(bug: str, lane_of: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a planted defect gives a class the lane of another."""
    monkeypatch.setenv("HOSPITAL_BUG", bug)
    assert admission().lane_of == lane_of


@pytest.mark.slow
def test_defects_at_order_entry(
    cluster: Cluster, raised: Callable[..., Ehr], engine: Engine
) -> None:
    """duplicate-on-retry stores twice; order-needs-engine refuses; order-not-sent forgets."""
    # the store of a hospital with this defect has no unique key: its node comes first
    careless = raised(cluster, "duplicate-on-retry")
    assert [careless.post(order("P-1", "M-1")).status_code for _ in range(2)] == [201, 201]
    assert sum(one["key"] == "P-1" for one in careless.export()) == 2
    assert careless.stop() == 0
    engine.stop()
    needy, forgetful = raised(cluster, "order-needs-engine"), raised(cluster, "order-not-sent")
    refused = needy.post(order("P-2", "M-1"))
    assert refused.status_code == 503
    assert "engine" in refused.text
    assert forgetful.post(order("P-3", "M-1")).status_code == 201
    engine.start()
    assert needy.post(order("P-4", "M-1")).status_code == 201
    until("the later order", lambda: "P-4" in engine.orders())
    until("an empty outbox", lambda: needy.client.get("/queues").json()["engine"]["depth"] == 0)
    assert forgetful.post(order("P-5", "M-1")).status_code == 201
    until("the order of a good hour", lambda: "P-5" in engine.orders())
    assert "P-3" not in engine.orders()


@pytest.mark.slow
def test_defects_when_the_primary_dies(cluster: Cluster, raised: Callable[..., Ehr]) -> None:
    """No fallback, wrong charts, false promises, no failover: each as named."""
    standby = cluster.add_standby()
    names = (
        "reads-need-primary",
        "cache-wrong-patient",
        "ack-before-commit",
        "one-node-only",
    )
    nodes = {name: raised(cluster, name) for name in names}
    for mrn in ("M-1", "M-11"):
        assert nodes["one-node-only"].post(patient(mrn)).status_code == 201
    assert nodes["ack-before-commit"].post(order("P-1", "M-1")).status_code == 201
    until("P-1 stored", lambda: any(one["id"] == "P-1" for one in nodes[names[0]].chart("M-1")))
    cluster.primary.kill()
    until(
        "all know",
        lambda: all(
            node.post(patient("M-2")).status_code == 503
            for name, node in nodes.items()
            if name != "ack-before-commit"
        ),
    )
    chart = nodes["reads-need-primary"].client.get("/fhir/Patient/M-1/$everything")
    assert chart.status_code == 503
    mixed = nodes["cache-wrong-patient"]
    assert {one["id"] for one in mixed.chart("M-1")} == {"M-1", "P-1"}
    assert {one["id"] for one in mixed.chart("M-11")} == {"M-1", "P-1"}, "another patient's"
    promised = nodes["ack-before-commit"].post(order("P-2", "M-1"))
    assert promised.status_code == 201
    until("the broken promise", lambda: "promise_broken" in nodes["ack-before-commit"].log())
    cluster.promote()
    until("a primary", lambda: standby.query("SELECT pg_is_in_recovery()") == [(False,)])
    until("recovered", lambda: nodes["reads-need-primary"].post(patient("M-3")).status_code == 201)
    assert nodes["one-node-only"].post(patient("M-4")).status_code == 503
    assert "P-2" not in {one["key"] for one in nodes["cache-wrong-patient"].export()}
