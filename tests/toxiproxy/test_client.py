"""The bounded client: what it did not see done it raises; nothing holds it beyond its bound."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chaos import reaper
from chaos.runtime.ports import HOST, reserve
from chaos.toxiproxy.client import ProxyValue, ToxicValue, Toxiproxy, ToxiproxyError
from tests.conditions import until


class Memory:
    """A server in memory: one `ask` that answers by a table, or by a function."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, object]] = []
        self.answers: dict[tuple[str, str], tuple[int, object]] = {}

    def __call__(
        self, host: str, port: int, method: str, path: str, body: object, bound_s: float
    ) -> tuple[int, bytes]:
        del host, port, bound_s
        self.calls.append((method, path, body))
        status, content = self.answers.get((method, path), (204, None))
        return status, b"" if content is None else json.dumps(content).encode()


def shown(**more: object) -> dict[str, object]:
    return {
        "name": "a>b.http", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2", "enabled": True,
        "toxics": [], **more,
    }  # fmt: skip


PATH = "/proxies/a%3Eb.http"
WANTED = ProxyValue("a>b.http", "127.0.0.1:1", "127.0.0.1:2")
SLOW = ToxicValue("slow", "latency", {"latency": 100})


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def client(memory: Memory) -> Toxiproxy:
    return Toxiproxy("127.0.0.1", 8474, memory)


@pytest.mark.parametrize(
    ("status", "refusal"),
    [(409, "exists"), (404, "not found"), (400, "invalid"), (500, "failed"), (503, "failed")],
)
def test_every_refusal_is_raised_and_told_apart(
    memory: Memory, client: Toxiproxy, status: int, refusal: str
) -> None:
    """No status but the wanted one passes; the error names the call, the place and a next step."""
    memory.answers["POST", "/proxies"] = (status, {"error": "because"})
    with pytest.raises(ToxiproxyError, match=r"127.0.0.1:8474.*because.*curl") as caught:
        client.create(WANTED)
    assert caught.value.refusal == refusal


def test_a_toxic_that_came_out_different_is_raised(memory: Memory, client: Toxiproxy) -> None:
    """A 200 whose body shows another toxic is no success."""
    memory.answers["POST", f"{PATH}/toxics"] = (
        200,
        {"name": "slow", "type": "latency", "attributes": {"latency": 1}},
    )
    with pytest.raises(ToxiproxyError, match="became"):
        client.add_toxic("a>b.http", SLOW)


def test_an_expiry_is_sent_in_milliseconds(memory: Memory, client: Toxiproxy) -> None:
    """On a toxic, and on a closed proxy; never on an opened one."""
    memory.answers["POST", f"{PATH}/toxics"] = (
        200,
        {"name": "slow", "type": "latency", "attributes": {"latency": 100, "jitter": 0}},
    )
    client.add_toxic("a>b.http", SLOW, expires_s=1.5)
    memory.answers["POST", PATH] = (200, shown(enabled=False))
    client.set_enabled("a>b.http", False, expires_s=2)
    memory.answers["POST", PATH] = (200, shown())
    client.set_enabled("a>b.http", True, expires_s=2)
    bodies = [body for _, _, body in memory.calls if isinstance(body, dict)]
    assert [body.get("expires_in_ms") for body in bodies] == [1500, 2000, None]


def test_a_proxy_that_did_not_close_is_raised(memory: Memory, client: Toxiproxy) -> None:
    """200 and still enabled is no success."""
    memory.answers["POST", PATH] = (200, shown())
    with pytest.raises(ToxiproxyError, match="did not change"):
        client.set_enabled("a>b.http", False)


def test_populate_reads_back_every_proxy(memory: Memory, client: Toxiproxy) -> None:
    """201, but the list does not show it: raised."""
    memory.answers["POST", "/populate"] = (201, {"proxies": []})
    memory.answers["GET", "/proxies"] = (200, {})
    with pytest.raises(ToxiproxyError, match="not as asked"):
        client.populate([WANTED])


def test_what_is_not_there_is_removed(memory: Memory, client: Toxiproxy) -> None:
    """404 on a removal is what was wanted."""
    memory.answers["DELETE", PATH] = (404, {"error": "proxy not found"})
    memory.answers["DELETE", f"{PATH}/toxics/slow"] = (404, {"error": "toxic not found"})
    client.delete("a>b.http")
    client.remove_toxic("a>b.http", "slow")


def test_an_answer_that_is_not_json_is_raised(client: Toxiproxy, memory: Memory) -> None:
    """Go's stock time-out page, say."""
    broken = Toxiproxy("h", 1, lambda *_: (200, b"<html>Timeout"))  # type: ignore[arg-type]
    with pytest.raises(ToxiproxyError, match="no JSON"):
        broken.proxies()
    del client, memory


def test_heal_never_uses_reset_and_escalates_when_a_toxic_stays(
    memory: Memory, client: Toxiproxy
) -> None:
    """204 on the removal, but the toxic is still shown: delete and recreate; still: raise."""
    toxic = {"name": "slow", "type": "latency", "attributes": {"latency": 1}}
    memory.answers["GET", f"{PATH}/toxics"] = (200, [toxic])
    memory.answers["GET", PATH] = (200, shown(toxics=[toxic]))
    memory.answers["POST", PATH] = (200, shown())
    memory.answers["POST", "/proxies"] = (201, shown())
    with pytest.raises(ToxiproxyError, match="not clean after its recreation"):
        client.heal(WANTED)
    verbs = [(method, path) for method, path, _ in memory.calls]
    assert ("DELETE", PATH) in verbs
    assert ("POST", "/proxies") in verbs
    assert all(path != "/reset" for _, path in verbs)


def test_a_wedged_server_holds_nobody_beyond_the_bound() -> None:
    """It accepts and never answers: an error after the bound, with what and where."""
    with socket.create_server((HOST, 0)) as server:
        client = Toxiproxy(HOST, server.getsockname()[1], reaper.ask, bound_s=0.3)
        began = time.monotonic()
        with pytest.raises(ToxiproxyError, match="did not do GET /proxies") as caught:
            client.proxies()
        assert caught.value.refusal == "silent"
        assert time.monotonic() - began < 1


@pytest.fixture(scope="module")
def server() -> Iterator[Callable[[], Toxiproxy]]:
    """Real embedded servers, as many as a test asks for."""
    running: list[subprocess.Popen[bytes]] = []

    def start() -> Toxiproxy:
        block = reserve(1)
        port = block.port(0)
        block.let_go(port)
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "chaos.toxiproxy", "--host", HOST, "--port", str(port)],
                stdout=subprocess.DEVNULL,
            )
        )
        client = Toxiproxy(HOST, port, reaper.ask)
        assert until(lambda: _answers(client), 10)
        block.release()
        return client

    yield start
    for child in running:
        child.kill()
        child.wait()


def _answers(client: Toxiproxy) -> bool:
    try:
        return bool(client.version())
    except ToxiproxyError:
        return False


@pytest.fixture
def upstream() -> Iterator[int]:
    """A server that sends back what it gets."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    wire, _ = server.accept()
                except OSError:
                    return
                with wire:
                    while piece := wire.recv(4096):
                        wire.sendall(piece)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_two_servers_side_by_side(server: Callable[[], Toxiproxy], upstream: int) -> None:
    """What is done on one does not show on the other."""
    one, two = server(), server()
    one.create(ProxyValue("p", f"{HOST}:0", f"{HOST}:{upstream}"))
    one.add_toxic("p", SLOW)
    assert [t.name for t in one.toxics("p")] == ["slow"]
    assert two.proxies() == {}


def test_heal_makes_a_proxy_clean_and_open(
    server: Callable[[], Toxiproxy], upstream: int
) -> None:  # fmt: skip
    """Toxics and closure are undone and read back; a lost proxy is created anew."""
    client = server()
    block = reserve(1)
    wanted = ProxyValue("a>b.http", f"{HOST}:{block.port(0)}", f"{HOST}:{upstream}")
    block.let_go(block.port(0))
    client.populate([wanted])
    client.add_toxic(wanted.name, SLOW)
    client.set_enabled(wanted.name, False)
    assert client.heal(wanted) == "removed its toxics"
    assert client.proxy(wanted.name) == wanted
    client.delete(wanted.name)
    assert client.heal(wanted) == "deleted and recreated it"
    assert client.proxy(wanted.name) == wanted
    block.release()


def test_the_stock_client_sees_what_ours_did(
    server: Callable[[], Toxiproxy], upstream: int
) -> None:  # fmt: skip
    """Same endpoints, same JSON: toxiproxy-python reads our proxy and our toxic."""
    from toxiproxy.api import APIConsumer
    from toxiproxy.server import Toxiproxy as Stock

    client = server()
    client.create(ProxyValue("p", f"{HOST}:0", f"{HOST}:{upstream}"))
    client.add_toxic("p", ToxicValue("slow", "latency", {"latency": 7}))
    APIConsumer.host, APIConsumer.port = client.host, client.port
    proxy = Stock().get_proxy("p")
    assert proxy is not None
    assert proxy.get_toxic("slow").attributes["latency"] == 7
    proxy.destroy_toxic("slow")
    assert client.toxics("p") == ()
