"""The door of a service: health always; nothing else while starting or stopping; then admission.

It refuses to let an error out in any other shape than an OperationOutcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from stacks.hospital.admission import Admission, Shed
from stacks.hospital.answers import JSON, Refusal, answer, outcome, priority
from stacks.hospital.gate import Gate
from stacks.hospital.health import Check, Health
from stacks.hospital.log import Log
from stacks.hospital.store import StoreError

Background = Callable[[asyncio.Event], Awaitable[None]]
"""Work that runs until the event is set, then finishes what it holds and returns."""


@dataclass(frozen=True)
class Face:
    """What a service shows and does: its routes, health checks and background work."""

    routes: Sequence[BaseRoute] = ()
    checks: Mapping[str, Check] = field(default_factory=dict)
    background: Sequence[Background] = ()
    admission: Admission = field(default_factory=Admission)


class Door:
    """ASGI: health always, nothing else while starting or stopping, then admission."""

    def __init__(self, name: str, log: Log) -> None:
        self.health = Health(name)
        self.log = log
        self.face: Face | None = None
        self.app: ASGIApp | None = None
        self.gate: Gate | None = None
        self.in_progress = 0

    def open(self, face: Face) -> None:
        """Serve this face from now on."""
        self.health.checks.update(face.checks)
        self.face = face
        self.app = Starlette(
            routes=list(face.routes),
            exception_handlers={
                Refusal: _refused,
                HTTPException: _http_refused,
                StoreError: _not_stored,
                Exception: _failed,
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
            refused = outcome(
                503,
                "transient",
                f"{self.health.service} is {self.health.phase}",
                {"Retry-After": "1", "Connection": "close"},
            )
            await refused(scope, receive, send)
            return
        if self.gate is not None and not self.gate.lets(scope["method"], scope["path"]):
            reason = f"{self.health.service} is not open for writes yet: {self.gate.closed}"
            await outcome(503, "transient", reason, {"Retry-After": "1"})(scope, receive, send)
            return
        began = False

        async def watched(message: Any) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            given = next((v for k, v in scope["headers"] if k == b"x-priority"), None)
            urgency = priority(given.decode("latin-1") if given is not None else None)
            async with self.face.admission.slot(urgency):
                await self.app(scope, receive, watched)
            return
        except Shed as shed:
            response = outcome(
                503, "throttled", str(shed), {"Retry-After": str(shed.retry_after_s)}
            )
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


async def _not_stored(_: Request, error: Exception) -> Response:
    """A store says for certain that nothing of it is kept: that is a refusal, and for now."""
    return outcome(503, "transient", str(error), {"Retry-After": "2"})


_FAILED = "an unexpected error; see this service's log for the event request_failed"


async def _failed(_: Request, __: Exception) -> Response:
    return outcome(500, "exception", _FAILED)


_HTTP_CODES = {404: "not-found", 405: "not-supported"}


async def _http_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "invalid")
    text = f"{request.method} {request.url.path}: {error.detail}"
    return outcome(error.status_code, code, text, error.headers)
