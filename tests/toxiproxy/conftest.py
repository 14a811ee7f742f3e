"""A running embedded proxy server, and peers to put on both sides of a proxy."""

from __future__ import annotations

import http.client
import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from tests.ports import free_port

START_S = 10.0
STOP_S = 5.0
CALL_S = 5.0
PEER_S = 5.0


@dataclass
class ProxyServer:
    """The server as a child process, and its API."""

    process: subprocess.Popen[str]
    host: str
    port: int

    def raw(
        self, method: str, path: str, body: str | bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=CALL_S)
        try:
            sent = body.encode() if isinstance(body, str) else body
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        status, _, data = self.raw(method, path, text)
        return status, json.loads(data) if data else None

    def clean(self) -> None:
        for name in self("GET", "/proxies")[1]:
            if "/" not in name:
                self("DELETE", "/proxies/" + quote(name, safe=""))

    def proxy(self, upstream: str, name: str = "p", **more: Any) -> int:
        """Create a proxy; its port."""
        spec = {"name": name, "listen": f"127.0.0.1:{free_port()}", "upstream": upstream, **more}
        status, proxy = self("POST", "/proxies", spec)
        assert status == 201, proxy
        return int(proxy["listen"].rsplit(":", 1)[1])

    def toxic(self, kind: str, stream: str = "downstream", name: str = "t", **more: Any) -> None:
        """Add a toxic to proxy `p`; attributes are keyword arguments."""
        extra = {key: more.pop(key) for key in ("toxicity", "expires_in_ms") if key in more}
        spec = {"type": kind, "stream": stream, "name": name, "attributes": more, **extra}
        status, toxic = self("POST", "/proxies/p/toxics", spec)
        assert status == 200, toxic


def start_server(*arguments: str) -> ProxyServer:
    """Run the server on a free port and wait for its line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos.toxiproxy", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], START_S)[0], "no line within the bound"
    ready = json.loads(process.stdout.readline())
    host, port = ready["api"].rsplit(":", 1)
    return ProxyServer(process, host, int(port))


def stop_server(server: ProxyServer) -> str:
    """End the server; what it wrote to stderr."""
    server.process.terminate()
    return server.process.communicate(timeout=STOP_S)[1]


@pytest.fixture(scope="module")
def module_server() -> Iterator[ProxyServer]:
    server = start_server("--proxy-metrics", "--runtime-metrics", "--seed", "7")
    yield server
    assert server.process.poll() is None, "the server stopped by itself"
    assert stop_server(server) == "", "the server reported an internal error"


@pytest.fixture
def api(module_server: ProxyServer) -> Iterator[ProxyServer]:
    module_server.clean()
    yield module_server
    module_server.clean()


@pytest.fixture
def fresh_server() -> Iterator[Callable[..., ProxyServer]]:
    """Starts servers with arguments of the test's own."""
    started: list[ProxyServer] = []

    def start(*arguments: str) -> ProxyServer:
        started.append(start_server(*arguments))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            stop_server(server)


@dataclass
class Upstream:
    """A listener on a free port that keeps or echoes what it accepts."""

    echo: bool = False
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    accepted: list[socket.socket] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:  # until the listener is closed
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.settimeout(PEER_S)
            with self.changed:
                self.accepted.append(peer)
                self.changed.notify_all()
            if self.echo:
                threading.Thread(target=self._echo, args=(peer,), daemon=True).start()

    def _echo(self, peer: socket.socket) -> None:
        try:
            while data := peer.recv(65536):
                peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def peer(self, index: int = 0) -> socket.socket:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.accepted) > index, PEER_S)
            return self.accepted[index]

    def close(self) -> None:
        self.listener.close()
        for peer in self.accepted:
            peer.close()


@dataclass
class Peers:
    """Makes upstreams and clients; all are closed after the test."""

    api: ProxyServer
    upstreams: list[Upstream] = field(default_factory=list)
    clients: list[socket.socket] = field(default_factory=list)

    def upstream(self, *, echo: bool = False) -> Upstream:
        self.upstreams.append(Upstream(echo))
        return self.upstreams[-1]

    def dial(self, port: int) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), timeout=PEER_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clients.append(client)
        return client

    def pair(self, *, echo: bool = False) -> tuple[socket.socket, socket.socket]:
        """A client and its upstream peer, connected through proxy `p`, one byte exchanged."""
        upstream = self.upstream(echo=echo)
        client = self.dial(self.api.proxy(upstream.address))
        client.sendall(b"?")
        peer = upstream.peer()
        if not echo:
            assert peer.recv(1) == b"?"
            peer.sendall(b"!")
        assert client.recv(1) in (b"!", b"?")
        return client, peer


@pytest.fixture
def peers(api: ProxyServer) -> Iterator[Peers]:
    peers = Peers(api)
    yield peers
    for client in peers.clients:
        client.close()
    for upstream in peers.upstreams:
        upstream.close()


def _ending(sock: socket.socket, within_s: float = PEER_S) -> tuple[str, bytes, float]:
    """How the read side ends: EOF, RST or open; the bytes before; milliseconds taken."""
    began, data, how = time.monotonic(), bytearray(), "open"
    while how == "open" and (left_s := within_s - (time.monotonic() - began)) > 0:
        try:
            sock.settimeout(left_s)
            chunk = sock.recv(1 << 20)
        except TimeoutError:
            break
        except ConnectionResetError:
            how = "RST"
        else:
            data += chunk
            how = "open" if chunk else "EOF"
    return how, bytes(data), (time.monotonic() - began) * 1000


@pytest.fixture
def ending() -> Callable[..., tuple[str, bytes, float]]:
    return _ending


def _exactly(sock: socket.socket, size: int, within_s: float = PEER_S) -> bytes:
    """`size` bytes, or fewer at the end of the stream or of the bound."""
    data, deadline = bytearray(), time.monotonic() + within_s
    while len(data) < size and (left_s := deadline - time.monotonic()) > 0:
        sock.settimeout(left_s)
        try:
            chunk = sock.recv(size - len(data))
        except (TimeoutError, ConnectionError):
            break
        if not chunk:
            break
        data += chunk
    return bytes(data)


@pytest.fixture
def exactly() -> Callable[..., bytes]:
    return _exactly
