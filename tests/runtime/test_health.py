"""Health: what a service says is taken as it says it; anything else is never `ready`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from chaos.runtime import Address
from chaos.runtime.health import ask_health
from tests.ports import free_port


@contextmanager
def answering(status: int, body: str) -> Iterator[Address]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield Address("127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (200, '{"status": "ready"}', "ready"),
        (200, '{"status": "degraded"}', "degraded"),
        (200, '{"state": "running"}', "ready"),
        (200, "OK", "ready"),
        (200, "[1]", "ready"),
        (503, '{"status": "degraded"}', "degraded"),
        (503, '{"status": "stopping"}', "stopping"),
        (503, '{"status": "ready"}', "starting"),
        (503, "", "starting"),
        (404, "", "starting"),
        (500, "{", "starting"),
    ],
)
def test_what_is_said_is_taken_and_an_error_is_never_ready(
    status: int, body: str, word: str
) -> None:
    """Status 200 without a known word is ready; any other status never is."""
    with answering(status, body) as address:
        assert ask_health(address, "/health").status == word


def test_the_failing_check_is_the_reason() -> None:
    """Only checks that are not ok are told."""
    checks = {"db": {"ok": False, "reason": "no primary"}, "disk": {"ok": True}}
    with answering(503, json.dumps({"status": "starting", "checks": checks})) as address:
        assert ask_health(address, "/health").reason == "db: no primary"


def test_nobody_there_is_silent() -> None:
    """A closed port is silent, with the reason."""
    health = ask_health(Address("127.0.0.1", free_port()), "/health")
    assert health.status == "silent"
    assert "nothing listens" in health.reason


def test_without_a_path_accepting_a_connection_is_all_that_is_asked() -> None:
    """A server that speaks no HTTP is ready while it accepts, and silent when it does not."""
    with answering(500, "") as address:
        assert ask_health(address, "").status == "ready"
    assert ask_health(address, "", 0.5).status == "silent"
