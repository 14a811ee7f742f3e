"""Two database nodes against each other: what is a difference, and what work under way."""

from __future__ import annotations

from stacks.hospital.ehr.integrity import _differences

ONE, TWO = b"1" * 16, b"2" * 16


def test_the_same_version_with_other_contents_is_a_difference() -> None:
    """Named by its row and both nodes."""
    held = {"ehr-db-a": {1: (1, ONE), 2: (3, ONE)}, "ehr-db-b": {1: (1, ONE), 2: (3, TWO)}}
    assert _differences(held) == ["ehr-db-a and ehr-db-b differ in row 2"]


def test_what_is_on_its_way_is_none() -> None:
    """A newer version, or a row that the other has not yet: nodes are read one after the other."""
    held = {"ehr-db-a": {1: (1, ONE)}, "ehr-db-b": {1: (2, TWO), 2: (1, ONE)}}
    assert _differences(held) == []


def test_one_node_has_nobody_to_differ_from() -> None:
    """A hospital with one database node is read, and not compared."""
    assert _differences({"ehr-db-a": {1: (1, ONE)}}) == []
    assert _differences({}) == []
