"""The record's integrity check, over a real database pair, with damage planted by the superuser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .cluster import Cluster
from .people import Ehr, order, until

pytestmark = pytest.mark.slow

ORDERS = 30


def checked(node: Ehr) -> dict[str, Any]:
    answer = node.client.post("/integrity", timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def filled(cluster: Cluster, raised: Callable[..., Ehr]) -> Ehr:
    node = raised(cluster)
    for number in range(ORDERS):
        assert node.post(order(f"P-{number}", "M-1")).status_code == 201
    return node


def test_a_sound_record_passes_and_says_what_was_read(
    cluster: Cluster, raised: Callable[..., Ehr]
) -> None:
    """Every row; before the first check there is no finding; the last one is kept."""
    node = filled(cluster, raised)
    assert node.client.get("/integrity").status_code == 404
    found = checked(node)
    assert (found["ok"], found["rows"], found["troubles"]) == (True, ORDERS, [])
    assert node.client.get("/integrity").json() == found


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("body = jsonb_set(body, '{identifier,0,value}', '\"P-9999\"')", "holds P-9999"),
        ("body = jsonb_set(body, '{meta,versionId}', '\"7\"')", "says 7"),
        ('body = \'{"resourceType": "ServiceRequest"}\'', "is not readable"),
    ],
    ids=["another key", "another version", "half a resource"],
)
def test_damaged_rows_are_found(
    cluster: Cluster, raised: Callable[..., Ehr], damage: str, words: str
) -> None:
    """Each by its row, whatever the damage is; all others are still read."""
    node = filled(cluster, raised)
    cluster.primary.query(f"UPDATE resource SET {damage} WHERE key = 'P-7'")
    found = checked(node)
    assert found["ok"] is False
    assert found["rows"] == ORDERS
    assert any("P-7" in one and words in one for one in found["troubles"]), found["troubles"]


def test_a_node_that_cannot_be_read_is_not_passed(
    cluster: Cluster, raised: Callable[..., Ehr]
) -> None:
    """A standby that is away may hold anything."""
    cluster.add_standby()
    node = filled(cluster, raised)
    both = until("both read", lambda: (found := checked(node))["ok"] and found)
    assert len(both["nodes"]) == 2
    assert cluster.standby is not None
    cluster.standby.kill()
    found = checked(node)
    assert found["ok"] is False
    assert "not read to its end" in found["troubles"][0]
