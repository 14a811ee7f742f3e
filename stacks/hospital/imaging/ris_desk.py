"""Radiology's desk over HTTP: orders, the worklist, open tasks and who matched what, export.

It refuses orders that are not for imaging, and to match a study to another patient's order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from stacks.hospital import fhir
from stacks.hospital.gam_request import decoded, same_key
from stacks.hospital.imaging import ris_book as book
from stacks.hospital.imaging import ris_matching as matching
from stacks.hospital.imaging.ris_pages import examinations, exported, line_of, resource_of
from stacks.hospital.pages import LIMIT_MAX, instant, number
from stacks.hospital.store import StoreError
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body
from stacks.hospital.wire.hl7 import ImagingOrder

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from stacks.hospital.imaging.ris import Ris

STORE_S = 3.0
_SETTLING = (
    "SELECT count(*), min(reported_at) FROM examination"
    " WHERE match = 'unmatched' AND settles_at IS NOT NULL AND placer = ''"
)


class Choice(msgspec.Struct):
    """Which order a person found for a study."""

    placer: str


class Desk:
    """The HTTP face over one radiology system."""

    def __init__(self, radiology: Ris) -> None:
        self._store, self._log = radiology.store, radiology.log

    # -- orders -----------------------------------------------------------------------------------

    async def order(self, request: Request) -> Response:
        """POST /fhir/ServiceRequest: an order taken at the desk, once per placer number."""
        resource = decoded(await body(request), "ServiceRequest")
        assert isinstance(resource, fhir.ServiceRequest)
        order = _imaging_order(resource, request.headers.get("x-ward", ""))
        same_key(request, fhir.PLACER, order.placer)
        async with _honest():
            fresh = await self._store.write(
                lambda connection: matching.enter(connection, order, time.time(), count=False)
            )
        if not fresh and "if-none-exist" not in request.headers:
            raise Refusal(
                409, "duplicate", f"ServiceRequest {order.placer} is there already; to repeat a"
                " request safely send If-None-Exist",
            )  # fmt: skip
        return self._shown(order.placer, 201 if fresh else 200)

    async def one_order(self, request: Request) -> Response:
        return self._shown(request.path_params["placer"], 200)

    def _shown(self, placer: str, status: int) -> Response:
        one = self._store.read(lambda connection: book.entry(connection, placer))
        if one is None:
            raise Refusal(404, "not-found", f"there is no ServiceRequest {placer[:64]!r}")
        marks = {"ETag": 'W/"1"', "Location": f"/fhir/ServiceRequest/{placer}"}
        return answer(resource_of(one), status, marks)

    async def worklist(self, request: Request) -> Response:
        """GET /worklist: the open orders, oldest first."""
        limit = number(request, "limit", LIMIT_MAX, LIMIT_MAX)
        query = request.query_params
        entries = self._store.read(
            lambda connection: book.open_entries(
                connection, limit, query.get("patient", ""), query.get("modality", "")
            )
        )
        lines = [
            {"placer": one.placer, "patient": one.patient, "modality": one.modality,
             "priority": one.priority, "accession": one.accession, "study": one.study,
             "received_at": instant(one.received_at)}
            for one in entries
        ]  # fmt: skip
        return answer(lines, media_type=JSON)

    # -- studies and their orders -----------------------------------------------------------------

    async def matches(self, request: Request) -> Response:
        """GET /matches: every study that a scanner reported, and its order."""
        after, limit = number(request, "after", 0), number(request, "limit", 200, LIMIT_MAX)
        rows = examinations(self._store, "e.id > ?", after, limit)
        return answer([line_of(row) for row in rows], media_type=JSON)

    async def tasks(self, request: Request) -> Response:
        """GET /tasks: studies without an order, for a person to look at."""
        after, limit = number(request, "after", 0), number(request, "limit", LIMIT_MAX, LIMIT_MAX)
        rows = examinations(self._store, "e.match = 'unmatched' AND e.id > ?", after, limit)
        return answer([line_of(row) for row in rows], media_type=JSON)

    async def match(self, request: Request) -> Response:
        """POST /tasks/{study}/match: a person says which order it is."""
        study = request.path_params["study"]
        try:
            placer = msgspec.json.decode(await body(request), type=Choice).placer
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal(400, "invalid", f'send {{"placer": "<number>"}}: {error}') from None
        async with _honest():
            await self._store.write(
                lambda connection: matching.decide(connection, study, placer, time.time())
            )
        self._log.info("study_matched_by_person", study=study, placer=placer)
        (row,) = examinations(self._store, "e.study = ?", study, 1)
        return answer(line_of(row), media_type=JSON)

    async def queues(self, _: Request) -> Response:
        """GET /queues: downtime studies that wait a moment for their order; not the tasks."""
        depth, since = self._store.read(lambda c: c.execute(_SETTLING).fetchone())
        oldest_s = round(time.time() - since, 3) if since else 0.0
        line = {"depth": depth, "oldest_s": oldest_s}
        return answer({"destinations": {"reconciliation": line}}, media_type=JSON)

    async def everything(self, _: Request) -> Response:
        """GET /export: orders and matches."""
        return exported(self._store)


def routes(radiology: Ris) -> list[BaseRoute]:
    """The HTTP routes over one radiology system."""
    desk = Desk(radiology)
    return [
        Route("/fhir/ServiceRequest", desk.order, methods=["POST"]),
        Route("/fhir/ServiceRequest/{placer}", desk.one_order),
        Route("/worklist", desk.worklist),
        Route("/matches", desk.matches),
        Route("/tasks", desk.tasks),
        Route("/tasks/{study}/match", desk.match, methods=["POST"]),
        Route("/queues", desk.queues),
        Route("/export", desk.everything),
    ]


def _imaging_order(resource: fhir.ServiceRequest, ward: str) -> ImagingOrder:
    if not fhir.is_imaging(resource):
        raise Refusal(
            400, "value", f"$.category: radiology takes orders of category {fhir.IMAGING} only"
        )
    if resource.status != "active":
        raise Refusal(400, "value", f"$.status: {resource.status[:20]!r} is not active")
    return ImagingOrder(
        fhir.key_of(resource), fhir.mrn_of(resource), fhir.modality_of(resource),
        tuple(fhir.tests_of(resource)), fhir.imaging_priority(resource),
        fhir.visit_of(resource), ward,
    )  # fmt: skip


@asynccontextmanager
async def _honest() -> AsyncIterator[None]:
    """The book's refusals as HTTP answers; a hanging disk is bounded and not called a no."""
    try:
        async with asyncio.timeout(STORE_S):
            yield
    except matching.Unknown as error:
        raise Refusal(404, "not-found", str(error)) from None
    except book.Conflict as error:
        raise Refusal(409, "conflict", str(error)) from None
    except StoreError as error:
        raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
    except TimeoutError:
        raise Refusal(
            500, "timeout", f"the disk did not confirm within {STORE_S} s: it may have happened or"
            " not; repeat the same request", {"X-Outcome": "unknown"},
        ) from None  # fmt: skip
