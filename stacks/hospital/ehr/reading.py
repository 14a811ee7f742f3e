"""Reading over HTTP: resources, the chart, the feed, the critical inbox, queues and the export.

It refuses search parameters that it does not know, and says when an answer is the standby's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, TypeVar

import psycopg
from starlette.responses import StreamingResponse

from stacks.hospital import fhir, records
from stacks.hospital.bugs import planted
from stacks.hospital.ehr import asked, reports, store
from stacks.hospital.ehr.node import Connection
from stacks.hospital.ehr.outbox import Outbox
from stacks.hospital.ehr.pair import Pair, Unavailable, Work
from stacks.hospital.log import describe
from stacks.hospital.web import JSON, NDJSON, Refusal, Request, Response, Route, answer

SEARCH_LIMIT, SEARCH_MOST = 200, 1_000
EXPORT_PAGE = 500
PARAMETERS = ("identifier", "patient", "subject", "status", "_count")
T = TypeVar("T")


class Reading:
    """The handlers that change nothing."""

    def __init__(self, pair: Pair, outbox: Outbox) -> None:
        self._pair, self._outbox = pair, outbox
        self._charts: dict[str, bytes] = {}

    def routes(self) -> list[Route]:
        """What can be read where."""
        return [
            Route("/fhir/Patient/{key}/$everything", self.everything),
            Route("/fhir/{type}", self.search),
            Route("/fhir/{type}/{key}", self.read),
            Route("/feed/reports", self.feed),
            Route("/criticals", self.criticals),
            Route("/queues", self.queues),
            Route("/pending", self.pending),
            Route("/export", self.export),
        ]

    async def _read(self, work: Work[T]) -> tuple[T, str]:
        try:
            return await self._pair.read(work)
        except Unavailable as error:
            raise Refusal(503, "transient", str(error), {"Retry-After": "1"}) from None
        except psycopg.DataError as error:
            raise Refusal(400, "value", f"cannot be asked for: {describe(error)}") from None

    async def read(self, request: Request) -> Response:
        """GET /fhir/{type}/{key}"""
        type_, key = asked.type_of(request), request.path_params["key"]
        found, source = await self._read(lambda c: store.find(c, type_, key))
        if not found:
            raise Refusal(404, "not-found", f"there is no {type_} {key[:80]!r}")
        return asked.resource_answer(found[0], 200, asked.served_by(source))

    async def search(self, request: Request) -> Response:
        """GET /fhir/{type}?identifier=&patient=&status=&_count="""
        type_, given = asked.type_of(request), request.query_params
        for name in given:
            if name not in PARAMETERS:
                raise Refusal(
                    400,
                    "not-supported",
                    f"search parameter {name[:40]!r} is unknown; known: {', '.join(PARAMETERS)}",
                )
        identifier = given.get("identifier")
        key = asked.identifier(identifier, type_, "identifier") if identifier else None
        patient = given.get("patient") or given.get("subject")
        if patient is not None:
            patient = patient.removeprefix("Patient/").removeprefix(f"{fhir.MRN}|")
        limit = asked.number(given.get("_count"), "_count", SEARCH_LIMIT, SEARCH_MOST)
        status = given.get("status")
        found, source = await self._read(
            lambda c: store.search(c, type_, patient, key, status, limit)
        )
        tags = ["READ-FROM-STANDBY"] if source == "standby" else []
        return answer(store.bundle("searchset", found, tags), 200, asked.served_by(source))

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
        return answer(chart, 200, asked.served_by(source))

    async def feed(self, request: Request) -> Response:
        """GET /feed/reports?after=&limit="""
        after = asked.number(request.query_params.get("after"), "after", 0, 2**62)
        limit = asked.number(request.query_params.get("limit"), "limit", 100, reports.FEED_LIMIT)
        found, source = await self._read(lambda c: reports.feed(c, after, limit))
        last = found[-1].seq if found else after
        return answer({"reports": found, "last": last}, 200, asked.served_by(source), JSON)

    async def criticals(self, request: Request) -> Response:
        """GET /criticals?open=1"""
        only_open = request.query_params.get("open", "0") not in ("0", "", "false")
        found, source = await self._read(lambda c: reports.criticals(c, only_open, SEARCH_MOST))
        return answer({"criticals": found}, 200, asked.served_by(source), JSON)

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
            "depth": depth,
            "oldest_s": round(oldest_s, 3),
            "parked": parked,
            "sending": self._outbox.leading,
            "trouble": self._outbox.trouble,
        }
        return answer({"engine": engine}, 200, asked.served_by(source), JSON)

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
        return answer({"pending": found}, 200, asked.served_by(source), JSON)

    async def export(self, _: Request) -> Response:
        """GET /export: every stored record as NDJSON, as it lies."""
        page, source = await self._read(partial(export_page, after=0))

        async def pages() -> AsyncIterator[bytes]:
            rows = page
            while rows:
                yield records.ndjson([records.of_row(row) for row in rows])
                rows, _ = await self._pair.read(partial(export_page, after=rows[-1][0]))

        return StreamingResponse(pages(), headers=asked.served_by(source), media_type=NDJSON)


async def export_page(connection: Connection, after: int) -> list[tuple[Any, ...]]:
    """One page of `records.export_sql`."""
    cursor = await connection.execute(records.export_sql().encode(), (after, EXPORT_PAGE))
    return list(await cursor.fetchall())
