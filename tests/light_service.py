"""One tiny real service for tests: an HTTP store on its own disk, which may call a peer.

It knows nothing of the harness; everything it needs stands in its environment.
`GET /health`, `GET /get`, `PUT /put` (body is appended to DATA_DIR/data, fsynced), `GET /peer`.
A service with BIND_ECHO answers every byte there. With LIGHT_FAMILY=1 it keeps a child process in a
session of its own. LIGHT_BROKEN=exit|silent makes it fail to start.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME = os.environ["SERVICE_NAME"]
DATA = Path(os.environ["DATA_DIR"]) / "data"
PEERS = {name: value for name, value in os.environ.items() if name.startswith("LINK_")}
PEER_S = 1.0
STOPPING = threading.Event()


def ask_peer() -> str:
    """What the peer holds, asked through the link."""
    (address,) = PEERS.values()
    with urllib.request.urlopen(f"http://{address}/get", timeout=PEER_S) as answer:
        return str(answer.read().decode())


def health() -> tuple[int, dict[str, object]]:
    """Tests the real dependency on every call."""
    if STOPPING.is_set():
        return 503, {"status": "stopping"}
    try:
        if PEERS:
            ask_peer()
    except OSError as error:
        check = {"peer": {"ok": False, "reason": str(error)}}
        return 503, {"status": "degraded", "checks": check}
    return 200, {"status": "ready", "service": NAME}


class Handler(BaseHTTPRequestHandler):
    """The HTTP face."""

    def do_GET(self) -> None:
        if self.path == "/health":
            status, said = health()
            self.answer(status, json.dumps(said))
        elif self.path == "/get":
            self.answer(200, DATA.read_text() if DATA.exists() else "")
        elif self.path == "/environ":
            self.answer(200, json.dumps(dict(os.environ)))
        elif self.path == "/peer":
            try:
                self.answer(200, ask_peer())
            except OSError as error:
                self.answer(503, str(error))
        else:
            self.answer(404, "")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(DATA, "ab") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        self.answer(201, "")

    def answer(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Echo(socketserver.BaseRequestHandler):
    """Every byte comes back."""

    def handle(self) -> None:
        while piece := self.request.recv(4096):
            self.request.sendall(piece)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def bind(port: str) -> tuple[str, int]:
    host, _, number = os.environ[f"BIND_{port}"].rpartition(":")
    return host, int(number)


def child() -> None:
    """A member of the family in its own session."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)


def main() -> None:
    broken = os.environ.get("LIGHT_BROKEN", "")
    if broken == "exit":
        print("no licence for this bed", file=sys.stderr)
        sys.exit(3)
    if broken == "silent":
        time.sleep(600)
    if os.environ.get("LIGHT_FAMILY"):
        child()
    server = Server(bind("HTTP"), Handler)

    def stop(*_: object) -> None:
        STOPPING.set()
        DATA.with_name("drained").write_text("yes")
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    if "BIND_ECHO" in os.environ:
        echo = EchoServer(bind("ECHO"), Echo)
        threading.Thread(target=echo.serve_forever, daemon=True).start()
    print(f"{NAME} serves", flush=True)
    server.serve_forever(0.02)


if __name__ == "__main__":
    main()
