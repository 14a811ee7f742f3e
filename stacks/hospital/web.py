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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stacks.hospital import bugs, settings
from stacks.hospital.admission import DEFAULT_PRIORITY, PRIORITIES, Admission, Shed
from stacks.hospital.health import Check, Health
from stacks.hospital.log import Log, describe
from stacks.hospital.settings import Settings

MAX_BODY_BYTES = 1024 * 1024
BODY_S = 5.0
"""How long a client may take to send its body."""
ANNOUNCE_S = 0.3
"""How long a stopping service goes on listening, so that its health can be seen as `stopping`."""
KEEP_ALIVE_S = 120
RESTART_S = 0.5
"""Pause before background work that died is started again."""
BACKLOG = 512
FHIR = "application/fhir+json"
JSON = "application/json"
NDJSON = "application/x-ndjson"


class Refusal(Exception):
    """The request is refused: becomes `status` with an OperationOutcome that says why.

    `code` is a FHIR issue type: invalid, not-found, conflict, transient, throttled, timeout, ...
    """

    def __init__(
        self, status: int, code: str, diagnostics: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(diagnostics)
        self.status, self.code, self.diagnostics = status, code, diagnostics
        self.headers = dict(headers or {})


Background = Callable[[asyncio.Event], Awaitable[None]]
"""Work that runs until the event is set, then finishes what it holds and returns."""


@dataclass(frozen=True)
class Face:
    """What a service shows and does: its routes, health checks and background work."""

    routes: Sequence[BaseRoute] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    background: Sequence[Background] = ()
    admission: Admission = field(default_factory=Admission)


Service = Callable[[Settings, Log], AbstractAsyncContextManager[Face]]


def answer(
    content: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = FHIR,
) -> Response:
    """A JSON answer of anything msgspec can encode (bytes are taken as JSON already)."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(body, status, headers, media_type)


def outcome(
    status: int, code: str, diagnostics: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An OperationOutcome with one issue."""
    issue = {"severity": "error", "code": code, "diagnostics": diagnostics}
    content = {"resourceType": "OperationOutcome", "issue": [issue]}
    return answer(content, status, headers)


async def body(request: Request, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The request's body; Refusal 413 above the limit, 408 when it does not arrive in BODY_S."""
    too_large = Refusal(413, "too-long", f"the body exceeds {limit_bytes} bytes; send less",
                        {"Connection": "close"})
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > limit_bytes:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise Refusal(408, "timeout", f"the body did not arrive within {BODY_S} s",
                      {"Connection": "close"}) from None
    return b"".join(parts)


def priority_of(request: Request) -> int:
    """0 to 4 from X-Priority (absent = 3); Refusal 400 for anything else."""
    return _priority(request.headers.get("x-priority"))


def _priority(text: str | None) -> int:
    if text is None:
        return DEFAULT_PRIORITY
    if text not in PRIORITIES:
        raise Refusal(400, "value", f"X-Priority is {text[:20]!r}; one of {', '.join(PRIORITIES)}")
    return PRIORITIES.index(text)


class _Door:
    """ASGI: health always, nothing else while starting or stopping, then admission."""

    def __init__(self, name: str, log: Log) -> None:
        self.health = Health(name)
        self.log = log
        self.face: Face | None = None
        self.app: ASGIApp | None = None
        self.in_progress = 0

    def open(self, face: Face) -> None:
        """Serve this face from now on."""
        self.health.checks.update(face.checks)
        self.face = face
        self.app = Starlette(
            routes=list(face.routes),
            exception_handlers={
                Refusal: _refused, HTTPException: _http_refused, Exception: _failed,
            },
        )
        self.health.phase = "ready"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/health":
            status, report = await self.health.report()
            await answer(report, status, media_type=JSON)(scope, receive, send)
            return
        self.in_progress += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self.in_progress -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.face is None or self.app is None or self.health.phase != "ready":
            refused = outcome(503, "transient", f"{self.health.service} is {self.health.phase}",
                              {"Retry-After": "1", "Connection": "close"})
            await refused(scope, receive, send)
            return
        began = False

        async def watched(message: Any) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            given = next((v for k, v in scope["headers"] if k == b"x-priority"), None)
            priority = _priority(given.decode("latin-1") if given is not None else None)
            async with self.face.admission.slot(priority):
                await self.app(scope, receive, watched)
            return
        except Shed as shed:
            response = outcome(503, "throttled", str(shed),
                               {"Retry-After": str(shed.retry_after_s)})
        except Refusal as refusal:
            response = outcome(refusal.status, refusal.code, refusal.diagnostics, refusal.headers)
        except ClientDisconnect:
            return
        except Exception as error:
            self.log.defect("request_failed", error, path=scope["path"], method=scope["method"])
            response = outcome(500, "exception", _FAILED)
        if not began:
            await response(scope, receive, send)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return outcome(error.status, error.code, error.diagnostics, error.headers)


_FAILED = "an unexpected error; see this service's log for the event request_failed"


async def _failed(_: Request, __: Exception) -> Response:
    return outcome(500, "exception", _FAILED)


_HTTP_CODES = {404: "not-found", 405: "not-supported"}


async def _http_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "invalid")
    text = f"{request.method} {request.url.path}: {error.detail}"
    return outcome(error.status_code, code, text, error.headers)


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
        raise OSError(f"{host}:{port} cannot be listened on ({error.strerror}); "
                      "is another instance running?") from None
    return bound


async def _serve(service: Service, chosen: Settings, log: Log, bound: socket.socket) -> int:
    door = _Door(chosen.name, log)
    server = _Server(uvicorn.Config(
        door, log_config=None, access_log=False, lifespan="off", backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S, server_header=False, date_header=False, ws="none",
        timeout_graceful_shutdown=max(1, round(chosen.stop_s)),
    ))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve([bound]))
    try:
        async with service(chosen, log) as face:
            door.open(face)
            log.info("service_ready", http=str(chosen.bind("http")))
            await _until_stopped(face, door, log, stop, chosen.stop_s)
    finally:
        door.health.phase = "stopping"
        server.should_exit = True
        await asyncio.wait([serving], timeout=chosen.stop_s)
    log.info("service_stopped")
    return 0


async def _until_stopped(
    face: Face, door: _Door, log: Log, stop: asyncio.Event, stop_s: float
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
    "FHIR", "JSON", "MAX_BODY_BYTES", "NDJSON", "Admission", "Background", "Face", "Log",
    "Refusal", "Request", "Response", "Route", "Settings", "answer", "body", "outcome",
    "priority_of", "run",
]
