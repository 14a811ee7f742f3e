"""What a person sees of the router: queues, the bypass switch, parked images as tasks, export.

It refuses to drop an image; a person may only let a parked one go again.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

import msgspec

from stacks.hospital.imaging.instances import Encoded, decode, pixel_digest
from stacks.hospital.pages import export, instant
from stacks.hospital.records import Record
from stacks.hospital.store import StoreError
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from stacks.hospital.imaging.router import Router

_DEPTHS = """
SELECT destination, state, count(*), min(since) FROM delivery
WHERE state = ? GROUP BY destination
"""
_TASKS = """
SELECT d.id, d.destination, i.sop_uid, i.study, i.patient, d.reason, d.since
FROM delivery AS d JOIN instance AS i ON i.id = d.instance
WHERE d.state = 'parked' ORDER BY d.id LIMIT 1000
"""
_EXPORT = """
SELECT i.id, i.sop_uid, i.patient, i.sop_class, i.transfer_syntax, i.received_at, i.data,
  max(d.state = 'owed'), max(d.state = 'parked')
FROM instance AS i JOIN delivery AS d ON d.instance = i.id
WHERE i.id > ? AND i.data IS NOT NULL AND d.state IN ('owed', 'parked')
GROUP BY i.id ORDER BY i.id LIMIT ?
"""


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a doctor asks of the bypass."""

    on: bool


def routes(works: Router) -> list[BaseRoute]:
    """The HTTP routes over one router."""

    async def queues(_: Request) -> Response:
        found: dict[str, Any] = {_name(title): _queue(works, title) for title in works.carriers}
        for state, word in (("owed", "depth"), ("sent", "uncommitted"), ("parked", "parked")):
            for destination, _state, count, since in works.store.read(
                lambda c, state=state: c.execute(_DEPTHS, (state,)).fetchall()  # type: ignore[misc]
            ):
                if (queue := found.get(_name(destination))) is None:
                    continue
                queue[word] = count
                if state == "owed":
                    queue["oldest_s"] = round(max(0.0, time.time() - since), 3)
        return answer({"destinations": found, "bypass": _bypass(works)}, media_type=JSON)

    async def switch(request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await body(request), type=Switch)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, "invalid", f'send {{"on": true}} or false: {error}') from None
        try:
            await works.bypass.hold(asked.on)
        except StoreError as error:
            raise Refusal(503, "transient", f"{error}; ask again") from None
        return answer(_bypass(works), media_type=JSON)

    async def shown(_: Request) -> Response:
        return answer(_bypass(works), media_type=JSON)

    async def tasks(_: Request) -> Response:
        rows = works.store.read(lambda c: c.execute(_TASKS).fetchall())
        names = ("id", "destination", "image", "study", "patient", "reason", "parked_at")
        return answer([dict(zip(names, row, strict=True)) for row in rows], media_type=JSON)

    async def retry(request: Request) -> Response:
        text = request.path_params["id"]
        known = text.isascii() and text.isdecimal() and len(text) <= 16
        if not known or not await _retry(works, int(text)):
            raise Refusal(404, "not-found", f"no task {text[:20]!r}; see GET /tasks")
        for carrier in works.carriers.values():
            carrier.duty.ring()
        return answer({"id": int(text), "decision": "retry"}, media_type=JSON)

    async def everything(_: Request) -> Response:
        return export(lambda after, limit: _records(works, after, limit))

    return [
        Route("/queues", queues),
        Route("/bypass", switch, methods=["POST"]),
        Route("/bypass", shown),
        Route("/tasks", tasks),
        Route("/tasks/{id}/retry", retry, methods=["POST"]),
        Route("/export", everything),
    ]


def _name(title: str) -> str:
    return title.lower().replace("_", "-")


def _queue(works: Router, title: str) -> dict[str, Any]:
    trip = works.carriers[title].trip
    return {
        "depth": 0,
        "oldest_s": 0.0,
        "uncommitted": 0,
        "parked": 0,
        "delivered": trip.delivered,
        "failures": trip.failures,
        "associations": trip.associations,
        "trouble": trip.trouble or None,
    }


def _bypass(works: Router) -> dict[str, Any]:
    one = works.bypass
    by = None if not one.on else "doctor" if one.held else "router"
    return {"on": one.on, "by": by, "since": instant(one.since) if one.since else None}


async def _retry(works: Router, delivery: int) -> bool:
    return await works.store.write(
        lambda c: c.execute(
            "UPDATE delivery SET state = 'owed', reason = NULL, since = ?"
            " WHERE id = ? AND state = 'parked'", (time.time(), delivery),
        ).rowcount > 0
    )  # fmt: skip


def _records(works: Router, after: int, limit: int) -> tuple[list[Record], int]:
    def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return connection.execute(_EXPORT, (after, min(limit, 100))).fetchall()

    rows = works.store.read(work)
    records = []
    for _, sop_uid, patient, sop_class, syntax, at, data, owed, _parked in rows:
        digest = pixel_digest(decode(Encoded(sop_class, sop_uid, syntax, data)))
        status = "owed" if owed else "parked"
        records.append(Record("instance", sop_uid, patient, status, 0, digest, stored_at=at))
    return records, rows[-1][0] if rows else after
