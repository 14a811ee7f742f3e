"""One small real service that speaks HTTP, MLLP and DICOM, and lists what it got: `GET /got`.

It acknowledges every message and stores every image, in memory; it knows nothing of the harness.
"""

from __future__ import annotations

import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

GOT: dict[str, list[str]] = {"http": [], "mllp": [], "dicom": []}
END = b"\x1c\r"


def bind(port: str) -> tuple[str, int]:
    host, _, number = os.environ[f"BIND_{port}"].rpartition(":")
    return host, int(number)


class Face(BaseHTTPRequestHandler):
    """PUT anything; GET /health and /got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(GOT if self.path == "/got" else {"status": "ready"})

    def do_PUT(self) -> None:
        GOT["http"].append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.answer({})

    def answer(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Receiver(socketserver.BaseRequestHandler):
    """Acknowledges every whole frame."""

    def handle(self) -> None:
        buffer = b""
        while piece := self.request.recv(4096):
            buffer += piece
            while END in buffer:
                frame, _, buffer = buffer.partition(END)
                control_id = frame.split(b"\r")[0].split(b"|")[9]
                GOT["mllp"].append(control_id.decode())
                self.request.sendall(
                    b"\x0bMSH|^~\\&|HALL||WARD||1||ACK|A|P|2.5\rMSA|AA|" + control_id + b"\r" + END
                )


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


class MllpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def keep(event: evt.Event) -> int:
    GOT["dicom"].append(str(event.request.AffectedSOPInstanceUID))
    return 0


def main() -> None:
    archive = AE("HALL")
    archive.maximum_associations = 200  # faults leave some behind that nobody closes
    archive.network_timeout = 5
    archive.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    archive.start_server(bind("DICOM"), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    mllp = MllpServer(bind("MLLP"), Receiver)
    threading.Thread(target=mllp.serve_forever, daemon=True).start()
    HttpServer(bind("HTTP"), Face).serve_forever(0.02)


if __name__ == "__main__":
    main()
