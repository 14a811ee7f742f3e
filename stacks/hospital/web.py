"""The chassis of every service: HTTP face, health, admission, errors, background work, drain.

It refuses to decide anything clinical, and to stop without finishing what was accepted.

    @asynccontextmanager
    async def lis(settings: Settings, log: Log) -> AsyncIterator[Face]:
        store = open_store(settings.data_dir)
        yield Face(routes=[Route("/export", export)], checks={"store": store.check},
                   background=[sender.run])           # async def run(stop: asyncio.Event)
        store.close()                                 # after the drain

    if __name__ == "__main__":
        run(lis)
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import NoReturn

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stacks.hospital import bugs, settings
from stacks.hospital.admission import Admission
from stacks.hospital.answers import (
    FHIR,
    JSON,
    MAX_BODY_BYTES,
    NDJSON,
    Refusal,
    answer,
    body,
    outcome,
    priority_of,
)
from stacks.hospital.door import Background, Door, Face
from stacks.hospital.gate import Gate
from stacks.hospital.health import Health
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Settings

ANNOUNCE_S = 0.3
"""How long a stopping service goes on listening, so that its health can be seen as `stopping`."""
KEEP_ALIVE_S = 120
RESTART_S = 0.5
"""Pause before background work that died is started again."""
BACKLOG = 512

Service = Callable[[Settings, Log], AbstractAsyncContextManager[Face]]


class _Server(uvicorn.Server):
    """uvicorn without its own signals: a deliberate stop is announced first (see `_serve`)."""

    capture_signals = nullcontext  # type: ignore[assignment]


def run(service: Service) -> NoReturn:
    """Run a service until SIGTERM or SIGINT, then drain; ends the process with its status."""
    chosen = settings.read_or_exit()
    log = Log(chosen.name)
    bug = bugs.active()
    if bug:
        log.warn("defect_planted", bug=bug)
    try:
        bound = _listen(chosen)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            status = runner.run(_serve(service, chosen, log, bound))
    except settings.SettingsError as error:
        settings.usage_exit(str(error))
    except OSError as error:
        print(f"{chosen.name}: cannot start: {describe(error)}", file=sys.stderr, flush=True)
        status = 1
    raise SystemExit(status)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _listen(chosen: Settings) -> socket.socket:
    host, port = chosen.bind("http")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(
            f"{host}:{port} cannot be listened on ({error.strerror}); is another instance running?"
        ) from None
    return bound


async def _serve(service: Service, chosen: Settings, log: Log, bound: socket.socket) -> int:
    door = Door(chosen.name, log)
    server = _Server(
        uvicorn.Config(
            door,
            log_config=None,
            access_log=False,
            lifespan="off",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            server_header=False,
            date_header=False,
            ws="none",
            timeout_graceful_shutdown=max(1, round(chosen.stop_s)),
        )
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve([bound]))
    try:
        async with service(chosen, log) as face:
            face = await _gated(face, door, chosen, log)
            door.open(face)
            log.info("service_ready", http=str(chosen.bind("http")))
            await _until_stopped(face, door, log, stop, chosen.stop_s)
    finally:
        door.health.phase = "stopping"
        server.should_exit = True
        await asyncio.wait([serving], timeout=chosen.stop_s)
    log.info("service_stopped")
    return 0


async def _gated(face: Face, door: Door, chosen: Settings, log: Log) -> Face:
    """During an incident a service that starts is closed for writes until it is opened."""
    link = chosen.optional_link("incident", "http")
    if link is None:
        return face
    door.gate = gate = Gate(chosen.name, link, log)
    await gate.arrive()
    return replace(
        face,
        checks={**face.checks, "incident": gate.check},
        background=[*face.background, gate.follow],
    )


async def _until_stopped(
    face: Face, door: Door, log: Log, stop: asyncio.Event, stop_s: float
) -> None:
    """Run the background work; when told to stop, finish requests, then the background work."""
    winding_up = asyncio.Event()
    duties = [
        asyncio.create_task(_duty(work, winding_up, door.health, log)) for work in face.background
    ]
    await stop.wait()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + stop_s * 0.8
    door.health.phase = "stopping"
    log.info("service_stopping", in_progress=door.in_progress)
    announced = loop.time() + min(ANNOUNCE_S, stop_s / 4)
    while loop.time() < deadline and (door.in_progress or loop.time() < announced):
        await asyncio.sleep(0.02)
    winding_up.set()
    if duties:
        _, late = await asyncio.wait(duties, timeout=max(0.1, deadline - loop.time()))
        for duty in late:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)


async def _duty(work: Background, stop: asyncio.Event, health: Health, log: Log) -> None:
    """Background work must not die silently: it is logged, shown in health and started again."""
    name = getattr(work, "__qualname__", repr(work))
    while not stop.is_set():
        try:
            await work(stop)
            return
        except Exception as error:
            log.defect("background_died", error, work=name)
            health.trouble[name] = describe(error)
        try:
            async with asyncio.timeout(RESTART_S):
                await stop.wait()
        except TimeoutError:
            health.trouble.pop(name, None)


__all__ = [
    "FHIR",
    "JSON",
    "MAX_BODY_BYTES",
    "NDJSON",
    "Admission",
    "Background",
    "Face",
    "Log",
    "Refusal",
    "Request",
    "Response",
    "Route",
    "Settings",
    "answer",
    "body",
    "outcome",
    "priority_of",
    "run",
]
