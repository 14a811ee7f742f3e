"""The control socket of an array: orders come in as lines of JSON, answers go out the same way.

    {"do": "arm", "fault": {"name": "n1", "kind": "slow", "latency_ms": 50, "expires_s": 30}}
    {"do": "clear", "names": ["n1"]}      no names: all
    {"do": "records"}                     every fault, also those that are over
    {"do": "power_cut", "name": "n1"}
    {"do": "who"}                         pid, backing, mount

Answers: {"ok": true, …} or {"ok": false, "error": "…"}. It ends the process for nobody.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from chaos.storage import spec
from chaos.storage.session import Session

MOST_LINE = 1 << 16
MOST_TALKS = 32  # connections at a time
AGAIN_S = 0.1  # after a connection that could not be taken
TALK_S = 30.0  # a connection that is silent so long is closed


class Control:
    """Listens on the socket while the session serves."""

    def __init__(self, path: Path, session: Session, who: dict[str, Any]) -> None:
        """OSError when the socket cannot be made; a socket that is left over is replaced."""
        self._session = session
        self._who = who
        self._room = threading.Semaphore(MOST_TALKS)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(old)
        self._listener.listen(MOST_TALKS)

    def run(self) -> None:
        """Take connections until the process ends."""
        while True:
            try:
                wire, _ = self._listener.accept()
            except OSError as error:  # too many open files, say: those who talk will close some
                print(f"storage: cannot take an order: {error}", file=sys.stderr, flush=True)
                time.sleep(AGAIN_S)
                continue
            with self._room:
                pass  # as many talk at a time as there is room
            threading.Thread(target=self._talk, args=(wire,), daemon=True).start()

    def _talk(self, wire: socket.socket) -> None:
        with self._room, wire, contextlib.suppress(OSError):
            wire.settimeout(TALK_S)
            rest = b""
            while piece := wire.recv(MOST_LINE):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    wire.sendall(msgspec.json.encode(self._answer(line)) + b"\n")
                if len(rest) > MOST_LINE:
                    return

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            order = msgspec.json.decode(line, type=dict[str, Any])
            return {"ok": True, **self._do(order)}
        except (msgspec.MsgspecError, spec.SpecError, OSError, KeyError, TypeError) as error:
            text = str(error) if not isinstance(error, KeyError) else f"the order lacks {error}"
            return {"ok": False, "error": " ".join(text.split())}

    def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        faults, waiting = self._session.faults, self._session.waiting
        do = order["do"]
        if do == "arm":
            return {"record": faults.arm(spec.read(order["fault"])).record()}
        if do == "clear":
            names = order.get("names")
            if names is not None and not isinstance(names, list):
                raise spec.SpecError("names must be a list")
            return {"cleared": faults.clear(names), "armed": [f.spec.name for f in faults.armed]}
        if do == "records":
            return {"records": [f.record(waiting.count(f)) for f in faults.records()]}
        if do == "power_cut":
            return {"record": faults.power_cut(str(order["name"])).record()}
        if do == "who":
            return {**self._who, "armed": [f.spec.name for f in faults.armed]}
        raise spec.SpecError(f"unknown order {do!r} (known: arm, clear, records, power_cut, who)")
