"""Fixtures that raise the real database pair and take it down again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .pair import A, B, Pair, until

UP_S = 60.0  # the template included, which each test process builds once


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template")


@pytest.fixture
def raised(tmp_path: Path, template: Path) -> Iterator[Callable[..., Pair]]:
    """A function that raises a pair (with a planted defect, if named) and waits until it is up."""
    pairs: list[Pair] = []

    def raise_pair(
        bug: str = "", synchronous: bool = True, proxied: bool = False, votes: str = "raft"
    ) -> Pair:
        pair = Pair(tmp_path / "p", template, bug, proxied, votes)
        pairs.append(pair)
        pair.start()
        if synchronous:
            until("primary and synchronous standby", UP_S, pair.synchronous)
        else:
            until(
                "primary and standby",
                UP_S,
                lambda: pair.is_primary(A) and pair.rest(B, "/replica")[0] == 200,
            )
        with pair.connect() as connection:
            connection.execute("CREATE TABLE ledger (key text PRIMARY KEY)")
        return pair

    yield raise_pair
    for pair in pairs:
        pair.down()
