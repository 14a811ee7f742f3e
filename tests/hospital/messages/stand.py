"""A test stand: runs async tests, plays MLLP peers, starts and kills one service as a process."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx
from starlette.routing import BaseRoute

from stacks.hospital.admission import Admission
from stacks.hospital.door import Door, Face
from stacks.hospital.log import Log
from stacks.hospital.wire.hl7 import Hl7Error, parse_header, replies
from stacks.hospital.wire.mllp import Frame, MllpServer
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
TEST_S = 30.0
POLL_S = 0.01


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in its own loop, at most TEST_S."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(TEST_S):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


async def until(what: str, within_s: float, condition: Callable[[], object]) -> None:
    """Wait for a condition; fails with `what` when it does not come true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(POLL_S)


def browser(routes: Sequence[BaseRoute], admission: Admission | None = None) -> httpx.AsyncClient:
    """An HTTP client of a service's face, without network."""
    door = Door("service", Log("test"))
    door.open(Face(routes=routes, admission=admission or Admission()))
    return httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://service")


class Peer:
    """A destination that keeps what it accepts; `decide` may refuse, stall or hang up."""

    def __init__(
        self, decide: Callable[[str, int], Hl7Error | Awaitable[None] | None] | None = None
    ) -> None:
        self.seen: list[str] = []  # MSH-10 of every frame, as it came
        self.kept: list[bytes] = []
        self.port = 0
        self._decide = decide
        self._server: MllpServer | None = None

    async def start(self, port: int = 0) -> Peer:
        self._server = MllpServer(self._answer)
        self.port = await self._server.start("127.0.0.1", port)
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0.1)

    @property
    def kept_ids(self) -> list[str]:
        return [parse_header(payload).control_id for payload in self.kept]

    async def _answer(self, frame: Frame) -> Sequence[bytes]:
        header = parse_header(frame.payload)
        self.seen.append(header.control_id)
        refusal = None
        if self._decide is not None:
            decision = self._decide(header.control_id, self.seen.count(header.control_id))
            if isinstance(decision, Awaitable):
                await decision
            else:
                refusal = decision
        if refusal is None:
            self.kept.append(frame.payload)
        return replies(header, refusal, "PEER")


class Process:
    """One service as its own process, as the runtime starts it."""

    def __init__(self, module: str, folder: Path, links: dict[str, int], bug: str = "") -> None:
        self.module = module
        self.folder = folder / module
        self.folder.mkdir(exist_ok=True)
        self.http, self.mllp = free_port(), free_port()
        self._links = links
        self._bug = bug
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, speed: float = 3600.0) -> None:
        """Start it and wait until /health answers 200. Hospital time runs at `speed`."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "SERVICE_NAME": self.module,
            "SERVICE_ROOM": "A",
            "DATA_DIR": str(self.folder),
            "HOSPITAL_SPEED": str(speed),
            "HOSPITAL_BUG": self._bug,
            "BIND_HTTP": f"127.0.0.1:{self.http}",
            "BIND_MLLP": f"127.0.0.1:{self.mllp}",
        }
        for name, port in self._links.items():
            environment[f"LINK_{name}_MLLP"] = f"127.0.0.1:{port}"
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", f"stacks.hospital.{self.module}"],
                cwd=self.folder, env=environment, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            try:
                self.get("/health")
                return
            except OSError:
                assert self._child.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(POLL_S)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._child is None:
            return 0
        self._child.send_signal(number)
        status = self._child.wait(10)
        self._child = None
        return status

    def get(self, path: str) -> Any:
        address = f"http://127.0.0.1:{self.http}{path}"
        with urllib.request.urlopen(address, timeout=5) as response:
            text = response.read()
        if path.startswith("/export"):
            return [json.loads(line) for line in text.splitlines()]
        return json.loads(text)

    def post(self, path: str, content: object) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", json.dumps(content).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def log(self) -> str:
        return (self.folder / "log").read_text()
