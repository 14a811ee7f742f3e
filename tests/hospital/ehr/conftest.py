"""Raises a real database for the record's slow tests, and takes everything down again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .cluster import Cluster
from .people import Ehr, Engine


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("postgres-template")


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Cluster]:
    """One primary without standby for all tests of a module that break nothing."""
    cluster = Cluster(tmp_path_factory.mktemp("db"), template)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(tmp_path: Path, template: Path) -> Iterator[Cluster]:
    """A primary of one's own, to be broken."""
    found = Cluster(tmp_path, template)
    yield found
    found.stop()


@pytest.fixture
def engine() -> Iterator[Engine]:
    found = Engine()
    found.start()
    yield found
    found.stop()


@pytest.fixture
def raised(tmp_path: Path, engine: Engine) -> Iterator[Callable[..., Ehr]]:
    """A function that starts ehr nodes over a cluster."""
    nodes: list[Ehr] = []
    number = itertools.count(1)

    def start(cluster: Cluster, bug: str = "", ready: bool = True) -> Ehr:
        servers = (cluster.primary, cluster.standby)
        ports = [server.port for server in servers if server is not None]
        node = Ehr(f"ehr-{next(number)}", tmp_path / "ehr", ports, engine.port, bug)
        nodes.append(node)
        node.start(ready)
        return node

    yield start
    for node in nodes:
        if node.process is not None and node.process.poll() is None:
            node.process.kill()
            node.process.wait(10)
        node.client.close()
