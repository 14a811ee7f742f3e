"""Writing over HTTP: create once per business key, replace a known version, take a critical result.

It says `unknown` where a write may or may not have happened, and never calls that a refusal.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
import psycopg

from stacks.hospital import fhir
from stacks.hospital.bugs import planted
from stacks.hospital.ehr import asked, orders, reports, store
from stacks.hospital.ehr.node import Connection
from stacks.hospital.ehr.outbox import Outbox
from stacks.hospital.ehr.pair import Pair, Unavailable, Unknown, Work
from stacks.hospital.ehr.schema import Schema
from stacks.hospital.ehr.store import Draft, Stored
from stacks.hospital.log import Log, describe
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body
from stacks.hospital.wire.mllp import MllpClient

T = TypeVar("T")


class Carer(msgspec.Struct):
    """Who acknowledges a critical result."""

    carer: str


class Writing:
    """The handlers that change the record."""

    def __init__(
        self, pair: Pair, schema: Schema, outbox: Outbox, engine: MllpClient, log: Log
    ) -> None:
        self._pair, self._schema, self._outbox = pair, schema, outbox
        self._engine, self._log = engine, log
        self._late: set[asyncio.Task[Stored]] = set()

    def routes(self) -> list[Route]:
        """What can be written where."""
        return [
            Route("/fhir/{type}", self.create, methods=["POST"]),
            Route("/fhir/{type}/{key}", self.replace, methods=["PUT"]),
            Route("/criticals/{id}/ack", self.acknowledge, methods=["POST"]),
        ]

    async def _write(self, work: Work[T]) -> T:
        if not self._schema.ready:
            raise Refusal(
                503, "transient", "the record's tables are not there yet", {"Retry-After": "1"}
            )
        try:
            return await self._pair.write(work)
        except Unavailable as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
        except Unknown as error:
            raise Refusal(
                500,
                "timeout",
                f"unknown: {error}; it may have been stored: ask again with the same identifier",
                {"X-Outcome": "unknown"},
            ) from None
        except psycopg.DataError as error:
            raise Refusal(400, "value", f"the database refuses it: {describe(error)}") from None

    async def create(self, request: Request) -> Response:
        """POST /fhir/{type}: once per business key."""
        type_ = asked.type_of(request)
        condition = request.headers.get("if-none-exist")
        if planted("duplicate-on-retry"):
            condition = None
        try:
            wanted = asked.if_none_exist(condition, type_)
            data = await body(request)
            resource = fhir.decode(data, type_)
            new = store.draft(data, resource)
        except fhir.Invalid as error:
            raise Refusal(400, "structure", str(error)) from None
        if wanted is not None and wanted != new.key:
            raise Refusal(
                400, "value", f"If-None-Exist asks for {wanted}, the resource is {new.key}"
            )
        new = await self._with_message(new, resource, request.headers.get("x-ward", ""))
        if planted("ack-before-commit"):
            return self._before_commit(new, resource)
        stored, fresh = await self._write(lambda c: create_or_find(c, new, resource))
        if new.payload is not None and fresh:
            self._outbox.ring()
        if fresh:
            return asked.resource_answer(stored[0], 201)
        if wanted is None:
            raise Refusal(
                409,
                "duplicate",
                f"{type_} {new.key} is there already; to repeat a "
                "request safely send If-None-Exist",
            )
        if len(stored) > 1:
            raise Refusal(412, "multiple-matches", f"{len(stored)} {type_} have this identifier")
        return asked.resource_answer(stored[0], 200)

    async def _with_message(self, new: Draft, resource: fhir.Resource, ward: str) -> Draft:
        """An order for laboratory or radiology goes into the store together with its message."""
        if not isinstance(resource, fhir.ServiceRequest):
            return new
        message = orders.order_message(resource, ward)
        try:
            message = await orders.for_outbox(message, self._engine, self._log)
        except Unavailable as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
        if message is None:
            return new
        return msgspec.structs.replace(new, control_id=message.control_id, payload=message.payload)

    def _before_commit(self, new: Draft, resource: fhir.Resource) -> Response:
        async def later() -> Stored:
            stored, _ = await self._write(lambda c: create_or_find(c, new, resource))
            return stored[0]

        task = asyncio.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._came_late)
        promised = Stored(new.type, new.key, new.patient, 1, store.stamped(new.body, new.key, 1))
        return asked.resource_answer(promised, 201)

    def _came_late(self, task: asyncio.Task[Stored]) -> None:
        self._late.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.warn("promise_broken", reason=str(task.exception()))

    async def replace(self, request: Request) -> Response:
        """PUT /fhir/{type}/{key} with If-Match."""
        type_, key = asked.type_of(request), request.path_params["key"]
        version = asked.if_match(request.headers.get("if-match"))
        data = await body(request)
        try:
            resource = fhir.decode(data, type_)
            new = store.draft(data, resource)
        except fhir.Invalid as error:
            raise Refusal(400, "structure", str(error)) from None
        if new.key != key:
            raise Refusal(400, "value", f"the resource is {new.key}, the address says {key[:80]}")
        stored, now = await self._write(lambda c: replace_or_find(c, new, resource, version))
        if stored is not None:
            return asked.resource_answer(stored, 200)
        if not now:
            raise Refusal(404, "not-found", f"there is no {type_} {key}")
        if now[0].version == version:
            raise Refusal(409, "conflict", f"{type_} {key}: the stored report outranks this one")
        raise Refusal(
            412,
            "conflict",
            f"{type_} {key} is at version {now[0].version}, not {version}; read it again",
            {"ETag": f'W/"{now[0].version}"'},
        )

    async def acknowledge(self, request: Request) -> Response:
        """POST /criticals/{id}/ack {"carer": name}"""
        try:
            carer = msgspec.json.decode(await body(request), type=Carer).carer.strip()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, "structure", f'expected {{"carer": name}}: {error}') from None
        if not 1 <= len(carer) <= 100 or "\x00" in carer:
            raise Refusal(400, "value", "$.carer: a name of 1 to 100 characters is needed")
        id_ = request.path_params["id"]
        critical = await self._write(lambda c: reports.acknowledge(c, id_, carer))
        if critical is None:
            raise Refusal(404, "not-found", f"there is no critical result {id_[:80]!r}")
        return answer(critical, 200, None, JSON)


async def create_or_find(
    connection: Connection, new: Draft, resource: fhir.Resource
) -> tuple[list[Stored], bool]:
    """The stored resource and whether it is new; else those that have its key already."""
    if isinstance(resource, fhir.DiagnosticReport):
        async with connection.transaction():
            found = await store.find(connection, new.type, new.key, lock=True)
            fresh = None if found else await reports.take(connection, new, resource)
    else:
        fresh = await store.create(connection, new)
        found = [] if fresh else await store.find(connection, new.type, new.key)
    return ([fresh], True) if fresh else (found, False)


async def replace_or_find(
    connection: Connection, new: Draft, resource: fhir.Resource, version: int
) -> tuple[Stored | None, list[Stored]]:
    """The next version, or None and what is stored now."""
    if not isinstance(resource, fhir.DiagnosticReport):
        stored = await store.update(connection, new, version)
        return stored, [] if stored else await store.find(connection, new.type, new.key)
    async with connection.transaction():
        found = await store.find(connection, new.type, new.key, lock=True)
        if not found or found[0].version != version:
            return None, found
        return await reports.take(connection, new, resource), found
