"""The undo steps of an adopted container, on an engine that follows a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos import reaper
from tests.fake_engine import Answer, FakeEngine

ID = "c0ffee" + "0" * 58
NO_SUBNET = "user specified IP address is supported only when ... user configured subnets"


class Network:
    """One container on one network of an engine that gives the lowest free address."""

    def __init__(self) -> None:
        self.gone = False
        self.own_subnet = False
        self.taken: set[int] = set()  # last bytes that others have
        self.now: tuple[int, list[str]] | None = (2, ["api"])
        self.deaf = False

    def answer(self, method: str, path: str, body: Any) -> Answer:
        """As the engine's API does."""
        if self.gone:
            return 404, {"message": "no such container"}
        if path.endswith("/disconnect"):
            if self.now is None:
                return 403, {"message": f"container {ID} is not connected to network n"}
            self.now = None
            return 200, {}
        if path.endswith("/connect"):
            return self.connect(body["EndpointConfig"])
        assert method == "GET"
        networks = {}
        if self.now is not None:
            aliases = [*self.now[1], ID[:12]]
            networks["net"] = {"IPAddress": f"172.20.0.{self.now[0]}", "Aliases": aliases}
        return 200, {"Id": ID, "NetworkSettings": {"Networks": networks}}

    def connect(self, config: dict[str, Any]) -> Answer:
        """At the address that is asked for, or the lowest that is free."""
        wanted = (config.get("IPAMConfig") or {}).get("IPv4Address", "")
        if wanted and not self.own_subnet:
            return 400, {"message": NO_SUBNET}
        free = min(set(range(2, 20)) - self.taken)
        names = ["other"] if self.deaf else config["Aliases"]
        self.now = (int(wanted.rpartition(".")[2]) if wanted else free, names)
        return 200, {}


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def engine(tmp_path: Path, network: Network) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path, network.answer).start()
    yield fake
    fake.stop()


def step(engine: FakeEngine, do: str = "restore_endpoint", ip: int = 2) -> dict[str, Any]:
    return {
        "do": do, "engine": engine.path, "service": "api", "container": ID, "name": "shop_api_1",
        "network": "n", "network_name": "net", "ip": f"172.20.0.{ip}", "fixed": False,
        "aliases": ["api", ID[:12]], "ipam": {}, "links": None, "driver_opts": None,
    }  # fmt: skip


def changes(engine: FakeEngine) -> list[str]:
    return [path.rpartition("/")[2] for method, path, _ in engine.asked if method != "GET"]


def test_what_is_as_it_was_is_not_touched(engine: FakeEngine) -> None:
    """Playing an undo twice breaks no connection."""
    assert reaper.play_step(step(engine)) == "as it was"
    assert reaper.play_step(step(engine, "leave_endpoint")) == "there is nothing to leave"
    assert changes(engine) == []


def test_names_that_were_moved_come_back(engine: FakeEngine, network: Network) -> None:
    """At the same address, which is the lowest that is free."""
    network.now = (2, ["hospital-chaos-1-api"])
    assert reaper.play_step(step(engine)) == "its own names and address again"
    assert network.now == (2, ["api", ID[:12]])
    assert reaper.play_step(step(engine)) == "as it was"


def test_a_harness_killed_between_detaching_and_attaching(
    engine: FakeEngine, network: Network
) -> None:
    """The container is on no network at all: it is attached."""
    network.now = None
    assert "again" in reaper.play_step(step(engine))
    assert network.now == (2, ["api", ID[:12]])


def test_its_address_is_asked_for_where_the_engine_allows_it(
    engine: FakeEngine, network: Network
) -> None:
    """A free address below must not become its own."""
    network.own_subnet, network.now = True, None
    assert "names and address again" in reaper.play_step(step(engine, ip=7))
    assert network.now == (7, ["api", ID[:12]])


def test_an_address_that_the_engine_chose_anew_is_told(
    engine: FakeEngine, network: Network
) -> None:
    """The names are what callers use; the step succeeds and says what differs."""
    network.taken, network.now = {2}, None
    said = reaper.play_step(step(engine))
    assert "at 172.20.0.3 instead of 172.20.0.2" in said
    assert network.now == (3, ["api", ID[:12]])


def test_what_is_gone_needs_no_undo(engine: FakeEngine, network: Network) -> None:
    """A container that its owner has removed is not missed."""
    network.gone = True
    assert "gone" in reaper.play_step(step(engine))


def test_names_that_do_not_come_back_are_a_failure_with_the_way_by_hand(
    engine: FakeEngine, network: Network
) -> None:
    """The lease stays, and an administrator reads what to type."""
    network.now, network.deaf = None, True
    with pytest.raises(reaper.StepFailed, match="docker network connect --alias api"):
        reaper.play_step(step(engine))
