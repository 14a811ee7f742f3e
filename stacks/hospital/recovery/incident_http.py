"""The faces of the incident system: the status page for all, the log, the gate for services.

It refuses to name a patient, and to let anybody declare `normal` against its own criteria.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from html import escape
from typing import Any, TypeVar

import msgspec

from stacks.hospital.pages import instant, number
from stacks.hospital.recovery.decisions import criteria
from stacks.hospital.recovery.duty import Duty
from stacks.hospital.recovery.handover import Answer, Handover
from stacks.hospital.recovery.journal import (
    DOWNTIME,
    FAILBACK,
    LOSS,
    NOTICE,
    PLANNED,
    REBUILD,
    Entry,
)
from stacks.hospital.recovery.plan import OF_SERVICE
from stacks.hospital.store import StoreError
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body

STORE_S = 3.0
TEXT_MAX, LOG_MAX = 400, 500
MINUTES_MAX = 7 * 24 * 60
HTML = "text/html; charset=utf-8"
T = TypeVar("T")


class Declaration(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /incidents; `minutes` of hospital time until the return."""

    by: str
    reason: str
    kind: str = DOWNTIME
    services: tuple[str, ...] = ()
    minutes: float = 0.0


class Notice(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /notices; `minutes` of hospital time until the return."""

    by: str
    text: str
    minutes: float


class AllClear(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /normal."""

    by: str


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /failback and POST /rebuild: who says so, and which node."""

    by: str
    node: str


class Desk:
    """The HTTP face over one duty; `minute_s`: real seconds of a hospital minute."""

    def __init__(self, duty: Duty, handover: Handover, minute_s: float) -> None:
        self._duty, self._handover, self._minute_s = duty, handover, minute_s

    # -- people -----------------------------------------------------------------------------------

    async def declare(self, request: Request) -> Response:
        """POST /incidents: 201 declared, 200 when an incident goes on already (a planned stop is
        announced in it)."""
        asked = _decoded(await body(request), Declaration)
        if asked.kind not in (DOWNTIME, PLANNED):
            raise Refusal(400, "value", f"$.kind: {DOWNTIME} or {PLANNED}")
        unknown = [name for name in asked.services if name not in OF_SERVICE]
        if unknown or (asked.kind == PLANNED and not asked.services):
            known = ", ".join(OF_SERVICE)
            raise Refusal(400, "value", f"$.services: name some of {known}")
        _said(asked.by, asked.reason)
        _minutes(asked.minutes, 0.0)
        async with _kept():
            new = await self._duty.declare(
                asked.kind, asked.by, asked.reason, asked.services, asked.minutes * 60.0
            )
        return answer(self._status(), 201 if new else 200, media_type=JSON)

    async def notice(self, request: Request) -> Response:
        """POST /notices: a person's own words and estimate."""
        asked = _decoded(await body(request), Notice)
        _said(asked.by, asked.text)
        _minutes(asked.minutes, 1.0)
        if not self._duty.book.state.incident:
            raise Refusal(409, "conflict", "no incident goes on; declare one first")
        async with _kept():
            eta = self._duty.world.at + asked.minutes * self._minute_s
            await self._duty.notice(asked.by, asked.text, eta)
        return answer(self._status(), 201, media_type=JSON)

    async def all_clear(self, request: Request) -> Response:
        """POST /normal: a person asks for the all-clear; 409 with all that speaks against it."""
        _said(_decoded(await body(request), AllClear).by)
        if self._duty.book.state.incident:
            unmet = "; ".join(f"{one.name}: {one.text}" for one in self._duty.unmet())
            raise Refusal(
                409, "conflict", f"not yet: {unmet or 'all is met, it is declared in a moment'}"
            )
        return answer(self._status(), media_type=JSON)

    async def failback(self, request: Request) -> Response:
        """POST /failback: the record's database back to a node; 409 while that one is behind."""
        return await self._ordered(request, FAILBACK, self._handover.back)

    async def rebuild(self, request: Request) -> Response:
        """POST /rebuild: a standby thrown away and copied from the primary."""
        return await self._ordered(request, REBUILD, self._handover.anew)

    async def _ordered(
        self, request: Request, what: str, order: Callable[[str], Awaitable[Answer]]
    ) -> Response:
        asked = _decoded(await body(request), Order)
        _said(asked.by)
        if asked.node not in self._handover.nodes:
            known = ", ".join(self._handover.nodes) or "none"
            raise Refusal(400, "value", f"$.node: a database node (there are: {known})")
        found = await order(asked.node)
        async with _kept():
            await self._duty.did(what, asked.by, asked.node, found.text)
        if not found.done:
            raise Refusal(409, "conflict", found.text)
        return answer({"done": found.text}, media_type=JSON)

    # -- services ---------------------------------------------------------------------------------

    async def arrive(self, request: Request) -> Response:
        """POST /gate/{service}: it has started and asks whether it may take writes."""
        service = request.path_params["service"]
        async with _kept():
            return _gate(await self._duty.arrived(service))

    async def gate(self, request: Request) -> Response:
        """GET /gate/{service}"""
        return _gate(self._duty.waits(request.path_params["service"]))

    async def holds(self, _: Request) -> Response:
        """GET /holds: kinds of messages that the engine must keep."""
        return answer({"held": list(self._duty.book.state.held)}, media_type=JSON)

    # -- everybody --------------------------------------------------------------------------------

    async def status(self, _: Request) -> Response:
        """GET /incident"""
        return answer(self._status(), 200, {"Cache-Control": "no-store"}, JSON)

    async def log(self, request: Request) -> Response:
        """GET /log?after=: entries behind a number, oldest first."""
        found = self._duty.book.after(number(request, "after", 0), LOG_MAX)
        return answer({"entries": [_line(one) for one in found]}, media_type=JSON)

    async def page(self, _: Request) -> Response:
        """GET /: the status page."""
        return Response(_html(self._status()), 200, {"Cache-Control": "no-store"}, HTML)

    def _status(self) -> dict[str, Any]:
        state, world = self._duty.book.state, self._duty.world
        going_on = bool(state.incident)
        last = [one for one in self._duty.book.entries if one.what == NOTICE][-1:]
        return {
            "state": state.kind if going_on else "normal",
            "incident": state.incident or None,
            "declared_at": instant(state.declared_at) if going_on else None,
            "by": state.by, "reason": state.reason, "services": list(state.named),
            "announced_stops": list(state.announced),
            "eta": instant(state.eta) if going_on and state.eta else None,
            "notice": last[0].text if going_on and last else "",
            "closed": {name: self._duty.waits(name) for name in sorted(state.closed)},
            "held": list(state.held),
            "data_loss": [
                {"at": instant(one.at), "node": " ".join(one.services), "text": one.text}
                for one in self._duty.book.entries[-LOG_MAX:] if one.what == LOSS
            ],
            "criteria": [
                {"name": one.name, "ok": one.ok, "text": one.text}
                for one in (criteria(state, world) if going_on else ())
            ],
            "normal_since": instant(state.normal_at) if state.normal_at and not going_on else None,
            "as_of": instant(world.at) if world.at else None,
        }  # fmt: skip

    def routes(self) -> list[Route]:
        """All routes of this face."""
        return [
            Route("/", self.page),
            Route("/incident", self.status),
            Route("/incidents", self.declare, methods=["POST"]),
            Route("/notices", self.notice, methods=["POST"]),
            Route("/normal", self.all_clear, methods=["POST"]),
            Route("/failback", self.failback, methods=["POST"]),
            Route("/rebuild", self.rebuild, methods=["POST"]),
            Route("/gate/{service}", self.gate),
            Route("/gate/{service}", self.arrive, methods=["POST"]),
            Route("/holds", self.holds),
            Route("/log", self.log),
        ]


def _line(one: Entry) -> dict[str, Any]:
    return {
        "seq": one.seq, "at": instant(one.at), "what": one.what, "incident": one.incident,
        "by": one.by, "text": one.text, "services": list(one.services), "kinds": list(one.kinds),
        "because": list(one.because), "eta": instant(one.eta) if one.eta else None,
    }  # fmt: skip


def _gate(reason: str) -> Response:
    return answer({"open": not reason, "reason": reason}, media_type=JSON)


def _decoded(data: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.DecodeError as error:
        raise Refusal(400, "invalid", f"not a {type_.__name__}: {error}") from None


def _said(*texts: str) -> None:
    for text in texts:
        if not 0 < len(text.strip()) <= TEXT_MAX or not text.isprintable():
            raise Refusal(400, "value", f"say who and why in 1 to {TEXT_MAX} printable characters")


def _minutes(minutes: float, least: float) -> None:
    if not least <= minutes <= MINUTES_MAX:
        raise Refusal(400, "value", f"$.minutes: {least:g} to {MINUTES_MAX}")


@asynccontextmanager
async def _kept() -> AsyncIterator[None]:
    """The disk's troubles as HTTP answers."""
    try:
        async with asyncio.timeout(STORE_S):
            yield
    except StoreError as error:
        raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
    except TimeoutError:
        raise Refusal(
            500, "timeout", f"the disk did not confirm within {STORE_S:g} s; ask again",
            {"X-Outcome": "unknown"},
        ) from None  # fmt: skip


def _html(status: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one['name'])}<td>{'met' if one['ok'] else 'open'}"
        f"<td>{escape(one['text'])}"
        for one in status["criteria"]
    )
    closed = "".join(f"<li>{escape(name)}: {escape(why)}" for name, why in status["closed"].items())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Hospital systems</title>"
        f"<h1>Hospital systems: {escape(status['state'])}</h1>"
        f"<p>{escape(status['notice'])}<p>Expected return: {escape(status['eta'] or 'now')}"
        f"<p>Closed: <ul>{closed or '<li>nothing'}</ul>"
        f"<table><tr><th>before normal<th><th>{rows}</table>"
        f"<p>As of {escape(status['as_of'] or 'never')}</html>"
    )
