"""The door: health, refusals, body limits, and errors that are never a traceback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from stacks.hospital import health
from stacks.hospital.door import Door
from stacks.hospital.log import Log
from stacks.hospital.store import Unwritable
from stacks.hospital.web import Face, Refusal, Request, Response, Route, answer, body


async def _echo(request: Request) -> Response:
    return answer({"bytes": len(await body(request))})


async def _refuse(_: Request) -> Response:
    raise Refusal(409, "conflict", "no", {"X-Why": "because"})


async def _fail(_: Request) -> Response:
    raise RuntimeError("secret detail")


async def _full(_: Request) -> Response:
    raise Unwritable("toy.db: database or disk is full; nothing was stored")


def face(**checks: health.Check) -> Face:
    return Face(
        routes=[
            Route("/echo", _echo, methods=["POST"]),
            Route("/refuse", _refuse),
            Route("/fail", _fail),
            Route("/full", _full),
        ],
        checks=checks,
    )


def through(door: Door, work: Callable[[httpx.AsyncClient], Any]) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(app=door, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            await work(client)

    asyncio.run(run())


def opened(**checks: health.Check) -> Door:
    door = Door("toy", Log("toy"))
    door.open(face(**checks))
    return door


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/refuse", {}, 409, "conflict"),
        ("GET", "/fail", {}, 500, "exception"),
        ("GET", "/full", {}, 503, "transient"),
        ("GET", "/nowhere", {}, 404, "not-found"),
        ("GET", "/echo", {}, 405, "not-supported"),
        ("POST", "/echo", {"X-Priority": "P9"}, 400, "value"),
        ("POST", "/echo", {"Content-Length": "2000000"}, 413, "too-long"),
    ],
)
def test_every_refusal_is_an_operation_outcome(
    method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    """Status, issue code and diagnostics; an unexpected error tells its log, not the caller."""

    async def work(client: httpx.AsyncClient) -> None:
        got = await client.request(method, path, headers=headers)
        assert got.status_code == status
        assert got.headers["content-type"] == "application/fhir+json"
        issue = got.json()["issue"][0]
        assert issue["code"] == code
        assert issue["diagnostics"]
        assert "secret" not in got.text

    through(opened(), work)


def test_a_body_without_length_is_bounded_too() -> None:
    """A streamed body is cut off at the limit; one below it passes."""

    async def parts(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 100_000

    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post("/echo", content=parts(11))).status_code == 413
        assert (await client.post("/echo", content=parts(10))).json() == {"bytes": 1_000_000}

    through(opened(), work)


def test_health_runs_its_checks() -> None:
    """ready; degraded with 200 where that is declared; 503 with the reason when a check fails."""
    state: dict[str, Exception | None] = {"error": None}

    async def check() -> None:
        if state["error"] is not None:
            raise state["error"]

    async def work(client: httpx.AsyncClient) -> None:
        got = await client.get("/health")
        assert (got.status_code, got.json()["status"]) == (200, "ready")
        state["error"] = health.Degraded("standby only")
        got = await client.get("/health")
        assert (got.status_code, got.json()["status"]) == (200, "degraded")
        for error in (health.Unready("disk full"), ValueError("disk full")):
            state["error"] = error
            got = await client.get("/health")
            assert (got.status_code, got.json()["status"]) == (503, "degraded")
            assert "disk full" in got.json()["checks"]["disk"]["reason"]

    through(opened(disk=check), work)


def test_health_does_not_hang_with_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check without answer counts as failed after CHECK_S."""
    monkeypatch.setattr(health, "CHECK_S", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def work(client: httpx.AsyncClient) -> None:
        got = await client.get("/health")
        assert got.status_code == 503
        assert "no answer within" in got.json()["checks"]["disk"]["reason"]

    through(opened(disk=hang), work)


@pytest.mark.parametrize("phase", ["starting", "stopping"])
def test_nothing_is_served_while_starting_or_stopping(phase: str) -> None:
    """503 with the phase, and health says the same."""
    door = opened()
    door.health.phase = phase

    async def work(client: httpx.AsyncClient) -> None:
        got = await client.get("/refuse")
        assert got.status_code == 503
        assert phase in got.json()["issue"][0]["diagnostics"]
        assert got.headers["Retry-After"] == "1"
        assert (await client.get("/health")).json()["status"] == phase

    through(door, work)
