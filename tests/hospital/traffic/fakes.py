"""Tiny servers that behave like the hospital's services, or as badly as they can.

They decide nothing about traffic: a test says what each path answers.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from chaos.journal import events as ev
from tests.ports import free_port

Reply = tuple[int, dict[str, str], Any]
Behaviour = Callable[[str, str, bytes, dict[str, str]], Reply | None]


class FakeService:
    """An HTTP server on a free port; `behave(method, path, body, headers)` gives the answer.

    None as answer closes the connection without a word.
    """

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {k.lower(): v for k, v in self.headers.items()}
                outer.asked.append((self.command, self.path, body, headers))
                reply = outer.behave(self.command, self.path, body, headers)
                if reply is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, more, content = reply
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """Clients that hang up are no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def nobody() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


class Silence:
    """Accepts connections and never answers (a frozen process)."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(64)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class Pages:
    """A journal in memory."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []

    def append(self, event: ev.Event) -> None:
        """Keep it."""
        self.events.append(event)

    def close(self) -> None:
        """Nothing to do."""

    def of(self, type_: type[Any]) -> list[Any]:
        """Events of one type."""
        return [event for event in self.events if isinstance(event, type_)]


def chart_of(mrn: str, *others: str) -> dict[str, Any]:
    """A chart as the record answers it; `others` are patients who do not belong into it."""
    patient = {
        "resourceType": "Patient", "identifier": [{"system": "urn:hospital:mrn", "value": mrn}],
    }  # fmt: skip
    strange = [
        {"resourceType": "Observation", "subject": {"reference": f"Patient/{other}"}}
        for other in (mrn, *others)
    ]
    return {
        "resourceType": "Bundle", "type": "searchset",
        "entry": [{"resource": each} for each in (patient, *strange)],
    }  # fmt: skip


def outcome(code: str, text: str) -> dict[str, Any]:
    """An OperationOutcome."""
    issue = {"severity": "error", "code": code, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def until(condition: Callable[[], bool], within_s: float = 5.0) -> bool:
    """Wait for a condition, `within_s` at most."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
