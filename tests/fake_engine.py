"""A container engine as a reaper meets it: HTTP on a Unix socket, with a script of answers.

It keeps no containers; what it was asked lies in `asked`.
"""

from __future__ import annotations

import json
import os
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Answer = tuple[int, Any]  # status, and what becomes JSON (bytes stay as they are)
Script = Callable[[str, str, Any], Answer]  # (method, path without version, body) → answer


class FakeEngine:
    """Listens at `path` while started; `answer` may be changed at any time."""

    def __init__(self, folder: Path, answer: Script) -> None:
        self.path = str(folder / "engine.sock")
        self.answer = answer
        self.hangs_s = 0.0
        self.asked: list[tuple[str, str, Any]] = []
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    def start(self) -> FakeEngine:
        """Listen."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                time.sleep(fake.hangs_s)
                path = unquote(self.path)
                fake.asked.append((self.command, path, body))
                status, said = fake.answer(self.command, path, body)
                content = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.end_headers()
                if status not in (204, 304):
                    self.wfile.write(content)

            do_GET = do_POST = do_DELETE = serve

            def log_message(self, *_: object) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A caller that has gone is no trouble."""

        self._server = Server(self.path, Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Nobody listens any more; the socket's file goes, as dockerd's does."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            os.unlink(self.path)
            self._server = None

    def verbs(self) -> list[str]:
        """Everything asked so far, without bodies and without looks."""
        return [f"{method} {path}" for method, path, _ in self.asked if method != "GET"]
