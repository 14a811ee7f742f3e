"""What a person sees of the engine: queues, parked messages as tasks, export.

It refuses to change a message; a person may retry or discard a parked one, and the vault may bring
back what was lost with the disk.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stacks.hospital import engine_restore
from stacks.hospital.log import describe
from stacks.hospital.pages import Page, export
from stacks.hospital.records import Record
from stacks.hospital.snapshot import snapshot_route
from stacks.hospital.store import Store, StoreError
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from stacks.hospital.engine import Engine

COPY_BYTES_MAX = 1 << 30
_EXPORT = """
SELECT m.id, m.control_id, m.patient, m.digest, m.received_at,
  (SELECT count(*) FROM message AS same WHERE same.digest = m.digest),
  (SELECT count(*) FROM queue WHERE queue.control_id = m.control_id AND parked_at IS NULL),
  (SELECT count(*) FROM queue WHERE queue.control_id = m.control_id AND parked_at IS NOT NULL)
FROM message AS m WHERE m.id > ? ORDER BY m.id LIMIT ?
"""


def routes(works: Engine) -> list[BaseRoute]:
    """The HTTP routes over one engine."""

    async def queues(_: Request) -> Response:
        tasks = works.queue.tasks()
        destinations = {}
        for name, courier in works.couriers.items():
            depth, trip = works.queue.depth(name), courier.trip
            destinations[name] = {
                "depth": depth.waiting,
                "oldest_s": round(depth.oldest_s, 3),
                "in_flight": trip.in_flight or None,
                "delivered": trip.delivered,
                "failures": trip.failures,
                "trouble": trip.trouble or None,
                "parked": sum(task.destination == name for task in tasks),
                "kinds": works.queue.kinds(name),
            }
        return answer(destinations, media_type=JSON)

    async def holds(_: Request) -> Response:
        return answer({"held": list(works.held())}, media_type=JSON)

    async def refusals(_: Request) -> Response:
        intake = works.intake
        latest = [asdict(refusal) for refusal in intake.refusals]
        seen = {"accepted": intake.accepted, "refused": intake.refused, "latest": latest}
        return answer(seen, media_type=JSON)

    async def tasks(_: Request) -> Response:
        return answer([asdict(task) for task in works.queue.tasks()], media_type=JSON)

    async def decide(request: Request) -> Response:
        text, decision = request.path_params["id"], request.path_params["decision"]
        if decision not in ("retry", "discard"):
            raise Refusal(404, "not-found", "a task can be retried or discarded")
        if not text.isdecimal() or len(text) > 16:
            raise Refusal(404, "not-found", f"no task {text[:20]!r}; see GET /tasks")
        act = works.queue.retry if decision == "retry" else works.queue.discard
        if not await act(int(text)):
            raise Refusal(404, "not-found", f"no task {text}; see GET /tasks")
        works.log.info("task_decided", task=int(text), decision=decision)
        return answer({"id": int(text), "decision": decision}, media_type=JSON)

    async def back(request: Request) -> Response:
        content = await body(request, COPY_BYTES_MAX)
        if hashlib.sha256(content).hexdigest() != request.headers.get("x-sha256", ""):
            raise Refusal(400, "invalid", "X-SHA256 is not the hash of this body")
        try:
            made = await engine_restore.restore(works.store, content)
        except engine_restore.NoCopy as error:
            raise Refusal(422, "invalid", f"no sound copy of an engine: {error}") from None
        except (StoreError, OSError) as error:
            raise Refusal(503, "transient", f"nothing was restored: {describe(error)}") from None
        for destination in works.couriers:
            works.queue.notify(destination)
        works.log.info("queue_restored", messages=made.messages, waiting=made.waiting)
        return answer(made, 200, media_type=JSON)

    async def everything(_: Request) -> Response:
        return export(*pages(works.store))

    return [
        Route("/queues", queues),
        Route("/holds", holds),
        Route("/refusals", refusals),
        Route("/tasks", tasks),
        Route("/tasks/{id}/{decision}", decide, methods=["POST"]),
        Route("/export", everything),
        Route("/restore", back, methods=["POST"]),
        snapshot_route(works.store),
    ]


def pages(store: Store) -> tuple[Page, ...]:
    """The export of an engine's store: every message that it knows. Raises StoreError."""
    return (lambda after, limit: _records(store, after, limit),)


def _records(store: Store, after: int, limit: int) -> tuple[list[Record], int]:
    def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return connection.execute(_EXPORT, (after, limit)).fetchall()

    rows = store.read(work)
    records = []
    for _, control_id, patient, digest, at, copies, waiting, parked in rows:
        status = "waiting" if waiting else "parked" if parked else "delivered"
        records.append(Record("message", control_id, patient, status, 1, digest, copies, at))
    return records, rows[-1][0] if rows else after
