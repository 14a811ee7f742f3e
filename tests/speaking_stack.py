"""The light stack with a hall that speaks MLLP and DICOM as well, and callers that use it.

outside `ward` ──http, mllp, dicom──▶ hall (room B)
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from chaos.runtime import Runtime
from chaos.stack import Link, Port, Readiness, Service, Stack
from tests.light_stack import HTTP, light_stack

PROGRAM = str(Path(__file__).resolve().parent / "speaking_service.py")
MLLP, DICOM, WEB = "ward>hall.mllp", "ward>hall.dicom", "ward>hall.http"
PATIENCE_S = 0.3  # of a sender that waits for an answer
PAUSE_S = 0.02
JOIN_S = 5.0


def speaking_stack() -> Stack:
    """The light stack and the hall."""
    stack = light_stack()
    hall = Service(
        name="hall",
        room="B",
        command=("{python}", "-I", PROGRAM),
        ports=(HTTP, Port("mllp", "mllp"), Port("dicom", "dicom")),
        ready=Readiness(within_s=20.0),
        stop_s=1.0,
    )
    links = tuple(Link("ward", "hall", port) for port in ("http", "mllp", "dicom"))
    return replace(stack, services=(*stack.services, hall), links=(*stack.links, *links))


def got(runtime: Runtime, what: str) -> list[str]:
    """What the hall says it got, asked directly."""
    address = runtime.address("hall", "http")
    connection = http.client.HTTPConnection(address.host, address.port, timeout=2)
    connection.request("GET", "/got")
    try:
        return list(json.loads(connection.getresponse().read())[what])
    finally:
        connection.close()


class Callers:
    """Three senders, one message at a time each; what is not answered is sent again."""

    def __init__(self, runtime: Runtime, patience_s: float = PATIENCE_S) -> None:
        self._runtime, self._patience_s = runtime, patience_s
        self._over = threading.Event()
        self.numbers = {name: itertools.count(1) for name in ("mllp", "dicom", "http")}
        self.refused: list[str] = []  # what an answer refused: AE, AR, A700, 503
        self._threads = [
            threading.Thread(target=self._call, args=(name, once), daemon=True)
            for name, once in (
                ("mllp", self._message), ("dicom", self._image), ("http", self._request),
            )
        ]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(JOIN_S)

    def _call(self, name: str, once: Callable[[str], bool]) -> None:
        for number in self.numbers[name]:
            while not self._over.wait(PAUSE_S):
                try:
                    if once(f"{number}"):
                        break
                except (OSError, http.client.HTTPException, ValueError, RuntimeError):
                    pass  # sent again (RuntimeError: the association has ended meanwhile)
            if self._over.is_set():
                return

    def _message(self, number: str) -> bool:
        address = self._runtime.link_address(MLLP)
        with socket.create_connection((address.host, address.port), self._patience_s) as wire:
            wire.sendall(f"\x0bMSH|^~\\&|W||H||1||ADT|M{number}|P|2.5\r\x1c\r".encode())
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                piece = wire.recv(4096)
                if not piece:
                    return False
                answer += piece
        code = answer.split(b"MSA|")[1][:2].decode()
        return self._taken(code, code == "AA")

    def _request(self, number: str) -> bool:
        address = self._runtime.link_address(WEB)
        connection = http.client.HTTPConnection(
            address.host, address.port, timeout=self._patience_s
        )
        try:
            connection.request("PUT", "/put", f"R{number}")
            answer = connection.getresponse()
            answer.read()
            return self._taken(str(answer.status), answer.status == 200)
        finally:
            connection.close()

    def _image(self, number: str) -> bool:
        address = self._runtime.link_address(DICOM)
        ae = AE("WARD")
        ae.dimse_timeout = ae.acse_timeout = ae.network_timeout = self._patience_s
        ae.connection_timeout = self._patience_s
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = ae.associate(address.host, address.port, ae_title="HALL")
        if not association.is_established:
            return False
        try:
            answer = association.send_c_store(_image_of(f"1.2.{number}"))
            status = f"{answer.Status:04X}" if "Status" in answer else ""
            return self._taken(status, status == "0000")
        finally:
            if association.is_established:
                association.release()

    def _taken(self, word: str, taken: bool) -> bool:
        if not taken and word:
            self.refused.append(word)
        return taken


def _image_of(uid: str) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid
    image.PixelData = bytes(64 * 64 * 2)
    image["PixelData"].VR = "OW"
    return image
