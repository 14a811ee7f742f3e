"""The stock client toxiproxy-python drives this server unchanged."""

from __future__ import annotations

import time

import pytest

toxiproxy = pytest.importorskip("toxiproxy", reason="toxiproxy-python is not installed")
from toxiproxy.api import APIConsumer  # noqa: E402
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists  # noqa: E402


@pytest.fixture
def stock(api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(APIConsumer, "host", api.host)
    monkeypatch.setattr(APIConsumer, "port", api.port)
    return toxiproxy.Toxiproxy()


def test_proxies(stock, peers) -> None:
    """Version, create, list, populate, get, destroy, and its three kinds of error."""
    upstream = peers.upstream(echo=True)
    assert stock.running()
    assert stock.version() == b'{"version": "2.12.0"}\n'
    stock.create(upstream=upstream.address, name="a")
    with pytest.raises(ProxyExists):
        stock.create(upstream=upstream.address, name="a")
    made = stock.populate([{"name": "b", "upstream": upstream.address, "listen": "127.0.0.1:0"}])
    assert [proxy.name for proxy in made] == ["b"]
    assert sorted(stock.proxies()) == ["a", "b"]
    assert stock.destroy(stock.get_proxy("b")) is True
    with pytest.raises(NotFound):
        APIConsumer.get("/proxies/b")
    with pytest.raises(InvalidToxic):
        stock.get_proxy("a").add_toxic(type="bogus")


def test_toxics(stock, peers, exactly, ending) -> None:
    """Its toxics do what they say: latency, timeout, limit_data; destroy and reset undo them."""
    upstream = peers.upstream(echo=True)
    proxy = stock.create(upstream=upstream.address, name="a")
    port = int(proxy.listen.rsplit(":", 1)[1])

    def round_trip_ms() -> float:
        client, began = peers.dial(port), time.monotonic()
        client.sendall(b"x")
        assert exactly(client, 1) == b"x"
        return (time.monotonic() - began) * 1000

    proxy.add_toxic(name="slow", type="latency", attributes={"latency": 100, "jitter": 0})
    assert proxy.get_toxic("slow").attributes == {"latency": 100, "jitter": 0}
    assert 100 <= min(round_trip_ms() for _ in range(5)) < 160
    assert proxy.destroy_toxic("slow") is True
    proxy.add_toxic(type="limit_data", attributes={"bytes": 10})
    client = peers.dial(port)
    client.sendall(b"x" * 30)
    assert ending(client)[:2] == ("EOF", b"x" * 10)
    stock.reset()
    assert proxy.toxics() == {}
    assert min(round_trip_ms() for _ in range(5)) < 60


def test_down(stock, peers, ending) -> None:
    """`with proxy.down()` ends open connections, refuses new ones, and works again after."""
    upstream = peers.upstream(echo=True)
    proxy = stock.create(upstream=upstream.address, name="a")
    port = int(proxy.listen.rsplit(":", 1)[1])
    client = peers.dial(port)
    upstream.peer()
    with proxy.down():
        assert ending(client)[0] == "EOF"
        with pytest.raises(ConnectionRefusedError):
            peers.dial(port)
    peers.dial(port)
