"""Bytes through a proxy: both ends, every kind of ending, toxics on open connections, expiry."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from tests.conditions import until

RESET = struct.pack("ii", 1, 0)
API_BOUND_S = 1.0
SOON_S = 0.15


def flood(sock: socket.socket, quiet_s: float = 0.3) -> int:
    """Send until nothing more is taken for `quiet_s`; bytes sent."""
    sock.setblocking(False)
    sent, last = 0, time.monotonic()
    while time.monotonic() - last < quiet_s:
        try:
            sent += sock.send(bytes(65536))
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    return sent


@pytest.mark.parametrize("toxic", [None, "noop", "latency", "slicer"])
def test_bytes_arrive_whole_both_ways(api, peers, exactly, toxic: str | None) -> None:
    """4 MiB come back from an echo unchanged, with and without toxics."""
    client, _ = peers.pair(echo=True)
    if toxic:
        size = {"average_size": 1000, "size_variation": 500} if toxic == "slicer" else {}
        api.toxic(toxic, "downstream", name="d", **size)
        api.toxic(toxic, "upstream", name="u", **size)
    data = bytes(range(256)) * 16384
    threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
    assert exactly(client, len(data), 20) == data


@pytest.mark.parametrize("toxic", [None, "latency"])
def test_half_close_is_kept(api, peers, ending, toxic: str | None) -> None:
    """A side that has said all it has to say still hears the answer, either way round."""
    for first, second in ((0, 1), (1, 0)):
        api.clean()
        pair = peers.pair()
        if toxic:
            api.toxic(toxic, name="d", latency=20)
            api.toxic(toxic, "upstream", name="u", latency=20)
        pair[first].sendall(b"question")
        pair[first].shutdown(socket.SHUT_WR)
        assert ending(pair[second])[:2] == ("EOF", b"question")
        pair[second].sendall(b"answer")
        pair[second].close()
        assert ending(pair[first])[:2] == ("EOF", b"answer")


def test_a_reset_reaches_the_other_side_as_an_end(peers, ending) -> None:
    """RST from one side is FIN for the other, after the bytes before it."""
    client, peer = peers.pair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()
    assert ending(client)[0] == "EOF"


def test_upstream_that_does_not_listen_closes_the_client(api, peers, ending) -> None:
    """The connection is accepted, then ended; it works once the upstream is there."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = api.proxy(f"127.0.0.1:{unused.getsockname()[1]}")
        assert ending(peers.dial(port))[0] == "EOF"


def test_upstream_by_name(api, peers, exactly) -> None:
    """A host name is looked up for each connection; an unknown one ends the connection."""
    upstream = peers.upstream(echo=True)
    client = peers.dial(api.proxy("localhost:" + upstream.address.rsplit(":", 1)[1]))
    client.sendall(b"x")
    assert exactly(client, 1) == b"x"
    assert peers.dial(api.proxy("no.such.host.invalid:80", name="q")).recv(1) == b""


def test_disable_and_enable(api, peers, ending) -> None:
    """Disabling ends open connections and refuses new ones; enabling takes the same port."""
    client, peer = peers.pair()
    port = int(api("GET", "/proxies/p")[1]["listen"].rsplit(":", 1)[1])
    api("PATCH", "/proxies/p", {"enabled": False})
    assert (ending(client)[0], ending(peer)[0]) == ("EOF", "EOF")
    with pytest.raises(ConnectionRefusedError):
        peers.dial(port)
    assert api("POST", "/proxies/p", {"enabled": True})[1]["listen"].endswith(f":{port}")
    peers.dial(port)


def test_latency_comes_and_goes_on_an_open_connection(api, peers, exactly) -> None:
    """Added, changed and removed, it applies to the next byte."""
    client, _ = peers.pair(echo=True)

    def round_trip_ms() -> float:
        began = time.monotonic()
        client.sendall(b"x")
        assert exactly(client, 1) == b"x"
        return (time.monotonic() - began) * 1000

    def fastest_ms() -> float:
        return min(round_trip_ms() for _ in range(5))  # a busy machine only adds to it

    api.toxic("latency", latency=100)
    assert 100 <= fastest_ms() < 150
    api("PATCH", "/proxies/p/toxics/t", {"attributes": {"latency": 200}})
    assert 200 <= fastest_ms() < 250
    api("DELETE", "/proxies/p/toxics/t")
    assert fastest_ms() < 50


FLUSHES = {
    "deleted": ("DELETE", "/proxies/p/toxics/t", None),
    "changed": ("PATCH", "/proxies/p/toxics/t", {"attributes": {"latency": 3000}}),
    "followed": ("POST", "/proxies/p/toxics", {"type": "noop"}),
    "reset": ("POST", "/reset", None),
}


@pytest.mark.parametrize("how", FLUSHES)
def test_a_change_lets_go_of_what_is_held(api, peers, exactly, how: str) -> None:
    """A byte held by 3 s of latency arrives at once when the toxic is touched."""
    client, peer = peers.pair()
    api.toxic("latency", latency=3000)
    peer.sendall(b"x")
    assert exactly(client, 1, SOON_S) == b""
    assert api(*FLUSHES[how])[0] < 300
    assert exactly(client, 1, 1) == b"x"


def test_bandwidth_holds_its_rate(api, peers, exactly) -> None:
    """50 kB at 100 kB/s take half a second, never less."""
    client, peer = peers.pair()
    api.toxic("bandwidth", rate=100)
    took = []
    for _ in range(3):
        began = time.monotonic()
        peer.sendall(bytes(50_000))
        assert len(exactly(client, 50_000)) == 50_000
        took.append(time.monotonic() - began)
    assert 0.5 <= min(took) < 0.7  # a busy machine only adds to it


def test_timeout_closes_and_its_removal_closes(api, peers, ending) -> None:
    """Both sides see the end, `timeout` after it was added or when it is removed."""
    client, peer = peers.pair()
    api.toxic("timeout", timeout=200)
    how, data, took_ms = ending(client)
    assert (how, data, took_ms >= 150, ending(peer)[0]) == ("EOF", b"", True, "EOF")
    api.clean()
    client, peer = peers.pair()
    api.toxic("timeout", "upstream", timeout=0)
    client.sendall(b"lost")
    assert ending(peer, SOON_S)[:2] == ("open", b"")
    api("DELETE", "/proxies/p/toxics/t")
    assert (ending(client)[0], ending(peer)[:2]) == ("EOF", ("EOF", b""))


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_reset_peer_resets_new_connections_on_both_sides(api, peers, ending, stream: str) -> None:
    """An idle connection is spared; the first data resets it, and is lost."""
    upstream = peers.upstream()
    port = api.proxy(upstream.address)
    api.toxic("reset_peer", stream)
    client = peers.dial(port)
    peer = upstream.peer()
    assert ending(client, SOON_S)[0] == "open"
    (client if stream == "upstream" else peer).sendall(b"x")
    assert (ending(client)[:2], ending(peer)[:2]) == (("RST", b""), ("RST", b""))


def test_limit_data_counts_per_connection_and_in_chain_order(api, peers, ending) -> None:
    """10 bytes pass, then the end, delayed with them by the latency behind it."""
    client, peer = peers.pair()
    api.toxic("limit_data", name="l", bytes=10)
    api.toxic("latency", name="d", latency=150)
    began = time.monotonic()
    peer.sendall(bytes(30))
    how, data, _ = ending(client)
    assert (how, len(data)) == ("EOF", 10)
    assert time.monotonic() - began >= 0.15
    assert ending(peer)[0] == "EOF"


def test_toxicity_is_rolled_once_per_connection(api, peers, exactly) -> None:
    """About half of 60 connections are slow, each of them always or never."""
    upstream = peers.upstream(echo=True)
    port = api.proxy(upstream.address)
    api.toxic("latency", latency=20, toxicity=0.5)
    slow = 0
    for _ in range(60):
        client, took = peers.dial(port), []
        for _ in range(4):
            began = time.monotonic()
            client.sendall(b"x")
            assert exactly(client, 1) == b"x"
            took.append(time.monotonic() - began)
        slow += min(took) >= 0.02  # all four: rolled per byte, that would be one of sixteen
        client.close()
    assert 12 <= slow <= 48


@pytest.mark.parametrize("toxic", [None, "noop", "latency", "slow_close", "bandwidth"])
@pytest.mark.parametrize("stuck", ["client", "upstream"])
def test_a_stuck_peer_never_blocks_the_api(api, peers, toxic: str | None, stuck: str) -> None:
    """With megabytes stuck behind a peer that does not read, every call answers within a second
    and other proxies are healed too."""
    client, peer = peers.pair()
    stream = "downstream" if stuck == "client" else "upstream"
    if toxic:
        api.toxic(toxic, stream, **({"rate": 1_000_000} if toxic == "bandwidth" else {}))
    flood(peer if stuck == "client" else client)
    api.proxy("127.0.0.1:9", name="other")
    api("POST", "/proxies/other/toxics", {"type": "latency"})
    calls: list[tuple[str, str, object]] = [
        ("POST", "/proxies/p/toxics", {"type": "latency", "stream": stream, "name": "new"}),
        ("PATCH", "/proxies/p/toxics/new", {"attributes": {"latency": 5}}),
        ("GET", "/proxies", None),
        ("DELETE", "/proxies/p/toxics/new", None),
        ("POST", "/reset", None),
        ("PATCH", "/proxies/p", {"enabled": False}),
        ("PATCH", "/proxies/p", {"enabled": True}),
        ("DELETE", "/proxies/p", None),
    ]
    for call in calls:
        began = time.monotonic()
        status, _ = api(*call)
        assert status < 300, call
        assert time.monotonic() - began < API_BOUND_S, call
    assert api("GET", "/proxies/other/toxics") == (200, [])
    assert b"\ntoxiproxy_held_bytes 0\n" in api.raw("GET", "/metrics")[2]


def test_a_stuck_reader_gets_everything_once_it_reads(peers, exactly) -> None:
    """Waiting loses nothing: bytes and end arrive in order."""
    client, peer = peers.pair()
    sent = flood(peer)
    peer.close()
    assert len(exactly(client, sent + 1, 20)) == sent


def test_a_toxic_expires_by_itself(api, peers, exactly) -> None:
    """With nobody clearing it, it is gone after `expires_in_ms`; the answer shows no extra key."""
    client, peer = peers.pair()
    began = time.monotonic()
    api.toxic("latency", latency=20_000, expires_in_ms=2000)
    shown = api("GET", "/proxies/p/toxics/t")[1]
    assert sorted(shown) == ["attributes", "name", "stream", "toxicity", "type"]
    peer.sendall(b"x")
    assert exactly(client, 1, 10) == b"x"
    assert 2 <= time.monotonic() - began < 3
    assert api("GET", "/proxies/p/toxics") == (200, [])


def test_an_expiry_can_be_renewed_and_dies_with_its_toxic(api) -> None:
    """PATCH moves the expiry; a new toxic of the same name does not inherit an old one's."""
    api.proxy("127.0.0.1:9")
    api.toxic("noop", expires_in_ms=1000)
    api("PATCH", "/proxies/p/toxics/t", {"expires_in_ms": 60_000})
    api.toxic("noop", name="short", expires_in_ms=2000)
    api.toxic("noop", name="same", expires_in_ms=2000)
    api("DELETE", "/proxies/p/toxics/same")
    api.toxic("noop", name="same")
    assert until(lambda: api("GET", "/proxies/p/toxics/short")[0] == 404, 10)
    names = [toxic["name"] for toxic in api("GET", "/proxies/p/toxics")[1]]
    assert names == ["t", "same"]


def test_a_disable_expires_by_itself(api, peers, exactly) -> None:
    """Disabled with an expiry, the proxy listens on its port again with nobody enabling it."""
    upstream = peers.upstream(echo=True)
    port = api.proxy(upstream.address)
    status, shown = api("PATCH", "/proxies/p", {"enabled": False, "expires_in_ms": 2000})
    assert (status, shown["enabled"], len(shown)) == (200, False, 5)
    with pytest.raises(ConnectionRefusedError):
        peers.dial(port)
    assert until(lambda: api("GET", "/proxies/p")[1]["enabled"])
    client = peers.dial(port)
    client.sendall(b"x")
    assert exactly(client, 1) == b"x"


def test_a_disable_that_is_taken_over_does_not_expire(api) -> None:
    """Enabled and disabled again by hand, the old expiry is void."""
    api.proxy("127.0.0.1:9")
    api("PATCH", "/proxies/p", {"enabled": False, "expires_in_ms": 200})
    api("PATCH", "/proxies/p", {"enabled": True})
    api("PATCH", "/proxies/p", {"enabled": False})
    api.proxy("127.0.0.1:9", name="later", enabled=False, expires_in_ms=400)
    assert until(lambda: api("GET", "/proxies/later")[1]["enabled"])
    assert api("GET", "/proxies/p")[1]["enabled"] is False


CHURN = [
    {"type": "latency", "attributes": {"latency": 5, "jitter": 5}},
    {"type": "slicer", "attributes": {"average_size": 3000, "size_variation": 2000}},
    {"type": "bandwidth", "attributes": {"rate": 20_000}},
    {"type": "noop"},
    {"type": "slow_close", "attributes": {"delay": 5}},
]


def test_toxics_that_come_and_go_lose_nothing(api, peers, ending) -> None:
    """Under load, lossless toxics are added, changed and removed on both streams all the time;
    every byte still arrives, in order, and so does the end."""
    client, _ = peers.pair(echo=True)
    block = bytes(range(256)) * 256
    enough = threading.Event()
    blocks_sent: list[int] = []
    received: list[tuple[str, bytes, float]] = []

    def send() -> None:
        sent = 0
        while not enough.is_set():
            client.sendall(block)
            sent += 1
        blocks_sent.append(sent)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    reader = threading.Thread(target=lambda: received.append(ending(client, 60)))
    sender.start()
    reader.start()
    for step in range(6):
        for stream in ("upstream", "downstream"):
            for toxic in CHURN:
                name = f"{toxic['type']}_{stream}"
                path = f"/proxies/p/toxics/{name}"
                if (step + len(name)) % 3 == 0:
                    api("DELETE", path)
                elif api("POST", "/proxies/p/toxics", {**toxic, "stream": stream})[0] == 409:
                    api("PATCH", path, {"toxicity": step % 2})
    enough.set()
    sender.join(60)
    reader.join(60)
    how, data, _ = received[0]
    assert (how, len(data)) == ("EOF", blocks_sent[0] * len(block))
    assert data == block * blocks_sent[0]


def test_a_proxy_that_dials_itself_does_not_stop_the_server(api, peers) -> None:
    """An upstream that is the proxy's own address grows to a bound; the API still answers."""
    port = api.proxy("127.0.0.1:9")
    api("PATCH", "/proxies/p", {"upstream": f"127.0.0.1:{port}"})
    peers.dial(port)
    for _ in range(20):
        began = time.monotonic()
        assert api("GET", "/version")[0] == 200
        assert time.monotonic() - began < API_BOUND_S
    assert api("DELETE", "/proxies/p")[0] == 204
