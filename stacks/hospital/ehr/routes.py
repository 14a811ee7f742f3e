"""The record's HTTP face: FHIR resources, the chart, the feed, the critical inbox, the export.

It refuses what it does not understand (search parameters, conditions, versions) instead of
ignoring it, and says `unknown` where a write may or may not have happened.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec
import psycopg
from starlette.responses import StreamingResponse

from stacks.hospital import fhir, records
from stacks.hospital.bugs import planted
from stacks.hospital.ehr import orders, reports, store
from stacks.hospital.ehr.node import Connection
from stacks.hospital.ehr.outbox import Outbox
from stacks.hospital.ehr.pair import Pair, Unavailable, Unknown, Work
from stacks.hospital.ehr.schema import Schema
from stacks.hospital.ehr.store import Draft, Stored
from stacks.hospital.log import Log, describe
from stacks.hospital.web import JSON, NDJSON, Refusal, Request, Response, Route, answer, body
from stacks.hospital.wire.mllp import MllpClient

SEARCH_LIMIT, SEARCH_MOST = 200, 1_000
EXPORT_PAGE = 500
PARAMETERS = ("identifier", "patient", "subject", "status", "_count")
STALE = '110 - "read from standby: it may lag the primary by moments"'
T = TypeVar("T")


class Carer(msgspec.Struct):
    """Who acknowledges a critical result."""

    carer: str


def if_none_exist(header: str | None, type_: str) -> str | None:
    """The key of `If-None-Exist: identifier=<system>|<value>`, or None without the header."""
    if header is None:
        return None
    return _identifier(header.removeprefix("identifier="), type_, "If-None-Exist",
                       header.startswith("identifier="))


def _identifier(text: str, type_: str, where: str, known: bool = True) -> str:
    system, bar, value = text.partition("|")
    if not known or not bar or system != fhir.KEY_SYSTEMS[type_]:
        raise Refusal(400, "value", f"{where}: of {type_} only identifier="
                      f"{fhir.KEY_SYSTEMS[type_]}|<value> can be asked for")
    return fhir.key(value, where)


def if_match(header: str | None) -> int:
    """The version of `If-Match: W/"n"`; 428 without it, 400 if it is malformed."""
    if header is None:
        raise Refusal(428, "required", 'If-Match is missing; send If-Match: W/"<version read>"')
    found = re.fullmatch(r'W/"(\d{1,9})"', header.strip())
    if found is None:
        raise Refusal(400, "value", f'If-Match: {header[:40]!r} is not W/"<version>"')
    return int(found[1])


def _number(text: str | None, name: str, default: int, most: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise Refusal(400, "value", f"{name}={text[:40]!r} is not a number")
    return min(int(text), most)


def _resource_answer(
    stored: Stored, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    marks = {
        "ETag": f'W/"{stored.version}"',
        "Location": f"/fhir/{stored.type}/{stored.key}",
    }
    return answer(stored.body.encode(), status, marks | dict(headers or {}))


def _served_by(source: str) -> dict[str, str]:
    marks = {"X-Served-By": source}
    return marks | {"Warning": STALE} if source == "standby" else marks


class Routes:
    """The handlers of one ehr node."""

    def __init__(
        self, pair: Pair, schema: Schema, outbox: Outbox, engine: MllpClient, log: Log
    ) -> None:
        self._pair, self._schema, self._outbox = pair, schema, outbox
        self._engine, self._log = engine, log
        self._charts: dict[str, bytes] = {}
        self._late: set[asyncio.Task[Stored]] = set()

    def list(self) -> list[Route]:
        """All routes."""
        return [
            Route("/fhir/Patient/{key}/$everything", self.everything),
            Route("/fhir/{type}", self.create, methods=["POST"]),
            Route("/fhir/{type}", self.search),
            Route("/fhir/{type}/{key}", self.replace, methods=["PUT"]),
            Route("/fhir/{type}/{key}", self.read),
            Route("/feed/reports", self.feed),
            Route("/criticals", self.criticals),
            Route("/criticals/{id}/ack", self.acknowledge, methods=["POST"]),
            Route("/queues", self.queues),
            Route("/pending", self.pending),
            Route("/export", self.export),
        ]

    # -- reading ------------------------------------------------------------------------------

    async def _read(self, work: Work[T]) -> tuple[T, str]:
        try:
            return await self._pair.read(work)
        except Unavailable as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "1"}) from None

    async def read(self, request: Request) -> Response:
        """GET /fhir/{type}/{key}"""
        type_, key = _type(request), request.path_params["key"]
        found, source = await self._read(lambda c: store.find(c, type_, key))
        if not found:
            raise Refusal(404, "not-found", f"there is no {type_} {key[:80]!r}")
        return _resource_answer(found[0], 200, _served_by(source))

    async def search(self, request: Request) -> Response:
        """GET /fhir/{type}?identifier=&patient=&status=&_count="""
        type_, asked = _type(request), request.query_params
        for name in asked:
            if name not in PARAMETERS:
                raise Refusal(400, "not-supported", f"search parameter {name[:40]!r} is unknown; "
                              f"known: {', '.join(PARAMETERS)}")
        identifier = asked.get("identifier")
        key = _identifier(identifier, type_, "identifier") if identifier else None
        patient = asked.get("patient") or asked.get("subject")
        if patient is not None:
            patient = patient.removeprefix("Patient/").removeprefix(f"{fhir.MRN}|")
        limit = _number(asked.get("_count"), "_count", SEARCH_LIMIT, SEARCH_MOST)
        status = asked.get("status")
        found, source = await self._read(
            lambda c: store.search(c, type_, patient, key, status, limit)
        )
        tags = ["READ-FROM-STANDBY"] if source == "standby" else []
        return answer(store.bundle("searchset", found, tags), 200, _served_by(source))

    async def everything(self, request: Request) -> Response:
        """GET /fhir/Patient/{mrn}/$everything: the chart."""
        mrn = request.path_params["key"]
        rows, source = await self._read(lambda c: store.chart(c, mrn))
        if not rows:
            raise Refusal(404, "not-found", f"there is no patient {mrn[:80]!r}")
        tags = ["READ-FROM-STANDBY"] if source == "standby" else []
        if not any(row.type == "Patient" for row in rows):
            tags.append("PENDING-PATIENT")
        if len(rows) >= store.CHART_ROWS - 1:
            tags.append("TRUNCATED")
        chart = store.bundle("searchset", rows, tags)
        if source == "standby" and planted("cache-wrong-patient"):
            chart = self._charts.setdefault(mrn[-1:], chart)
        return answer(chart, 200, _served_by(source))

    async def feed(self, request: Request) -> Response:
        """GET /feed/reports?after=&limit="""
        after = _number(request.query_params.get("after"), "after", 0, 2**62)
        limit = _number(request.query_params.get("limit"), "limit", 100, reports.FEED_LIMIT)
        found, source = await self._read(lambda c: reports.feed(c, after, limit))
        last = found[-1].seq if found else after
        return answer({"reports": found, "last": last}, 200, _served_by(source), JSON)

    async def criticals(self, request: Request) -> Response:
        """GET /criticals?open=1"""
        only_open = request.query_params.get("open", "0") not in ("0", "", "false")
        found, source = await self._read(
            lambda c: reports.criticals(c, only_open, SEARCH_MOST)
        )
        return answer({"criticals": found}, 200, _served_by(source), JSON)

    async def queues(self, _: Request) -> Response:
        """GET /queues: what waits for the engine."""
        async def work(connection: Connection) -> tuple[int, float, int]:
            cursor = await connection.execute(
                "SELECT count(*) FILTER (WHERE parked IS NULL), coalesce(extract(epoch FROM "
                "now() - min(stored_at) FILTER (WHERE parked IS NULL)), 0)::float8, "
                "count(parked) FROM outbox"
            )
            row = await cursor.fetchone()
            assert row is not None
            return row[0], row[1], row[2]

        (depth, oldest_s, parked), source = await self._read(work)
        engine = {
            "depth": depth, "oldest_s": round(oldest_s, 3), "parked": parked,
            "sending": self._outbox.leading, "trouble": self._outbox.trouble,
        }
        return answer({"engine": engine}, 200, _served_by(source), JSON)

    async def pending(self, _: Request) -> Response:
        """GET /pending: what is stored for patients whom administration has not announced."""
        async def work(connection: Connection) -> list[dict[str, str]]:
            cursor = await connection.execute(
                "SELECT type, key, patient FROM resource WHERE pending ORDER BY row LIMIT %s",
                (SEARCH_MOST,),
            )
            rows = await cursor.fetchall()
            return [{"type": row[0], "key": row[1], "patient": row[2]} for row in rows]

        found, source = await self._read(work)
        return answer({"pending": found}, 200, _served_by(source), JSON)

    async def export(self, _: Request) -> Response:
        """GET /export: every stored record as NDJSON, as it lies."""
        page, source = await self._read(partial(export_page, after=0))

        async def pages() -> AsyncIterator[bytes]:
            rows = page
            while rows:
                yield records.ndjson([records.of_row(row) for row in rows])
                rows, _ = await self._pair.read(partial(export_page, after=rows[-1][0]))

        return StreamingResponse(pages(), headers=_served_by(source), media_type=NDJSON)

    # -- writing ------------------------------------------------------------------------------

    async def _write(self, work: Work[T]) -> T:
        if not self._schema.ready:
            raise Refusal(503, "transient", "the record's tables are not there yet",
                          {"Retry-After": "1"})
        try:
            return await self._pair.write(work)
        except Unavailable as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
        except Unknown as error:
            raise Refusal(500, "timeout", f"unknown: {error}; it may have been stored: ask again "
                          "with the same identifier", {"X-Outcome": "unknown"}) from None
        except psycopg.DataError as error:
            raise Refusal(400, "value", f"the database refuses it: {describe(error)}") from None

    async def create(self, request: Request) -> Response:
        """POST /fhir/{type}: once per business key."""
        type_ = _type(request)
        condition = request.headers.get("if-none-exist")
        if planted("duplicate-on-retry"):
            condition = None
        try:
            wanted = if_none_exist(condition, type_)
            data = await body(request)
            resource = fhir.decode(data, type_)
        except fhir.Invalid as error:
            raise Refusal(400, "structure", str(error)) from None
        if wanted is not None and wanted != fhir.key_of(resource):
            raise Refusal(400, "value", f"If-None-Exist asks for {wanted}, the resource is "
                          f"{fhir.key_of(resource)}")
        new = await self._draft(data, resource, request.headers.get("x-ward", ""))
        if planted("ack-before-commit"):
            return self._before_commit(new, resource)
        stored, fresh = await self._write(lambda c: create_or_find(c, new, resource))
        if new.payload is not None and fresh:
            self._outbox.ring()
        if fresh:
            return _resource_answer(stored[0], 201)
        if wanted is None:
            raise Refusal(409, "duplicate", f"{type_} {new.key} is there already; to repeat a "
                          "request safely send If-None-Exist")
        if len(stored) > 1:
            raise Refusal(412, "multiple-matches", f"{len(stored)} {type_} have this identifier")
        return _resource_answer(stored[0], 200)

    async def _draft(self, data: bytes, resource: fhir.Resource, ward: str) -> Draft:
        message = None
        if isinstance(resource, fhir.ServiceRequest):
            message = orders.order_message(resource, ward)
            try:
                message = await orders.sent_directly(message, self._engine, self._log)
            except Unavailable as error:
                raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
        return store.draft(data, resource, message)

    def _before_commit(self, new: Draft, resource: fhir.Resource) -> Response:
        async def later() -> Stored:
            stored, _ = await self._write(lambda c: create_or_find(c, new, resource))
            return stored[0]

        task = asyncio.create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        promised = Stored(new.type, new.key, new.patient, 1, store.stamped(new.body, new.key, 1))
        return _resource_answer(promised, 201)

    async def replace(self, request: Request) -> Response:
        """PUT /fhir/{type}/{key} with If-Match."""
        type_, key = _type(request), request.path_params["key"]
        version = if_match(request.headers.get("if-match"))
        data = await body(request)
        try:
            resource = fhir.decode(data, type_)
        except fhir.Invalid as error:
            raise Refusal(400, "structure", str(error)) from None
        new = store.draft(data, resource)
        if new.key != key:
            raise Refusal(400, "value", f"the resource is {new.key}, the address says {key[:80]}")
        stored, now = await self._write(lambda c: replace_or_find(c, new, resource, version))
        if stored is not None:
            return _resource_answer(stored, 200)
        if not now:
            raise Refusal(404, "not-found", f"there is no {type_} {key}")
        if now[0].version == version:
            raise Refusal(409, "conflict", f"{type_} {key}: the stored report outranks this one")
        raise Refusal(412, "conflict", f"{type_} {key} is at version {now[0].version}, not "
                      f"{version}; read it again", {"ETag": f'W/"{now[0].version}"'})

    async def acknowledge(self, request: Request) -> Response:
        """POST /criticals/{id}/ack {"carer": name}"""
        try:
            carer = msgspec.json.decode(await body(request), type=Carer).carer.strip()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(400, "structure", f"expected {{\"carer\": name}}: {error}") from None
        if not 1 <= len(carer) <= 100 or "\x00" in carer:
            raise Refusal(400, "value", "$.carer: a name of 1 to 100 characters is needed")
        id_ = request.path_params["id"]
        critical = await self._write(lambda c: reports.acknowledge(c, id_, carer))
        if critical is None:
            raise Refusal(404, "not-found", f"there is no critical result {id_[:80]!r}")
        return answer(critical, 200, None, JSON)


def _type(request: Request) -> str:
    type_: str = request.path_params["type"]
    if type_ not in fhir.TYPES:
        raise Refusal(404, "not-supported", f"the record holds no {type_[:40]!r}; it holds "
                      f"{', '.join(fhir.TYPES)}")
    return type_


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


async def export_page(connection: Connection, after: int) -> list[tuple[Any, ...]]:
    """One page of `records.export_sql`."""
    cursor = await connection.execute(records.export_sql().encode(), (after, EXPORT_PAGE))
    return list(await cursor.fetchall())
