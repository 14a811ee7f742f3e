"""Starts one service of the hospital as its own process, and plays the engine for it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx

from stacks.hospital.wire import hl7
from stacks.hospital.wire.intake import Intake
from stacks.hospital.wire.mllp import MllpServer
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
START_S = 15.0
POLL_S = 0.03
Found = TypeVar("Found")


def until(what: str, within_s: float, ask: Callable[[], Found | None]) -> Found:
    """Poll `ask` until it answers something true, and fail with `what` after `within_s`."""
    deadline = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(POLL_S)
    return answer


class Program:
    """One service process; a context manager that ends it."""

    def __init__(self, module: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.module, self.folder, self.port = module, folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ, "SERVICE_NAME": module.replace("_", "-"), "SERVICE_ROOM": "B",
            "DATA_DIR": str(folder), "BIND_HTTP": f"127.0.0.1:{self.port}",
            "PYTHONPATH": str(ROOT), **environment,
        }  # fmt: skip
        self.http = httpx.Client(base_url=self.url, timeout=10)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ready: bool = True) -> Program:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f"{self.module}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"stacks.hospital.{self.module}"],
                cwd=self.folder,
                env=self.environment,
                stderr=log,
                stdout=log,
                stdin=subprocess.DEVNULL,
            )
        if ready:
            until(f"{self.module} ready", START_S, lambda: self.health()[0] == 200)
        return self

    def health(self) -> tuple[int, dict[str, object]]:
        try:
            answer = self.http.get("/health")
            return answer.status_code, answer.json()
        except httpx.HTTPError:
            return 0, {}

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(10)

    def __enter__(self) -> Program:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.end()


class Engine:
    """A listening engine that keeps what it acknowledged, in order."""

    def __init__(self) -> None:
        self.messages: list[hl7.Message] = []
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._server: MllpServer | None = None
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    async def _receive(self, _: hl7.Header, payload: bytes) -> None:
        self.messages.append(hl7.parse(payload))

    def open(self) -> Engine:
        async def begin() -> None:
            intake = Intake("ENGINE", self._receive, application=False)
            self._server = MllpServer(intake.answer)
            await self._server.start("127.0.0.1", self.port)

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(5)
        return self

    def close(self) -> None:
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(0.1), self._loop).result(5)
            self._server = None

    def end(self) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def movements(self) -> list[hl7.Adt]:
        return [one.body for one in self.messages if isinstance(one.body, hl7.Adt)]
