"""Whom a fault on "the primary" hits: the one node that says so, asked with patience."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import pytest

from chaos.runtime import Runtime
from stacks.hospital import primary


class Nodes:
    """Database nodes that answer /primary with 200 when `leads` names them."""

    def __init__(self) -> None:
        self.leads: set[str] = set()
        self._servers: dict[str, ThreadingHTTPServer] = {}
        for name in primary.NODES:
            self._servers[name] = self._server(name)

    def _server(self, name: str) -> ThreadingHTTPServer:
        nodes = self

        class Face(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if name in nodes.leads else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Face)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def address(self, service: str, port: str) -> str:
        """As a runtime tells it."""
        assert port == "rest"
        return f"127.0.0.1:{self._servers[service].server_port}"

    def stop(self) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setattr(primary, "AGREED_S", 1.0)
    monkeypatch.setattr(primary, "AGAIN_S", 0.02)
    made = Nodes()
    yield made
    made.stop()


def asked(nodes: Nodes) -> str:
    return primary._primary(cast(Runtime, nodes), primary.NODES)


def test_a_vote_that_goes_on_is_waited_for(nodes: Nodes) -> None:
    """Nobody leads at first: the one who does soon after is meant."""
    threading.Timer(0.2, nodes.leads.add, ["ehr-db-b"]).start()
    assert asked(nodes) == "ehr-db-b"


@pytest.mark.parametrize("leads", [set(), set(primary.NODES)])
def test_nobody_is_chosen_while_nodes_do_not_agree(nodes: Nodes, leads: set[str]) -> None:
    """None or both say so: no fault is laid on a node by chance."""
    nodes.leads = leads
    with pytest.raises(LookupError, match=f"{len(leads)} nodes say"):
        asked(nodes)
