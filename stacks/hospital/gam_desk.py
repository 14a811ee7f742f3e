"""The HTTP face of patient administration: FHIR patients and visits, merges, census, export.

It refuses what it does not understand with a reason, and to answer before the change is on disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from stacks.hospital import fhir
from stacks.hospital.bugs import planted
from stacks.hospital.courier import Courier
from stacks.hospital.gam_request import addressed, decoded, merge_source, same_key
from stacks.hospital.gam_request import encounter as asked_encounter
from stacks.hospital.gam_wait import Wait
from stacks.hospital.health import Degraded
from stacks.hospital.pages import Page, export
from stacks.hospital.queue import DurableQueue
from stacks.hospital.records import Record, of_resource
from stacks.hospital.register_rows import (
    ENGINE,
    Conflict,
    Entry,
    Stale,
    Unknown,
)
from stacks.hospital.registry import Registry
from stacks.hospital.snapshot import snapshot_route
from stacks.hospital.store import Store, StoreError
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body

STORE_S = 3.0
"""A disk that takes longer to store a change hangs: the caller is told that it is not known."""


class Administration:
    """The HTTP face over one register."""

    def __init__(self, store: Store, queue: DurableQueue, courier: Courier | None, wait: Wait):
        self.registry = Registry(store)
        self._store, self._queue, self._courier, self._wait = store, queue, courier, wait

    # -- patients -----------------------------------------------------------------------------

    async def register(self, request: Request) -> Response:
        data = await body(request)
        patient = decoded(data, "Patient")
        assert isinstance(patient, fhir.Patient)
        same_key(request, fhir.MRN, fhir.key_of(patient))
        await self._before_writing()
        async with _honest():
            entry = await self.registry.register(patient, data)
        return await self._written(request, "Patient", entry)

    async def patient(self, request: Request) -> Response:
        async with _honest():
            return _shown("Patient", self.registry.patient(request.path_params["key"]))

    async def amend(self, request: Request) -> Response:
        data = await body(request)
        mrn, version = addressed(request, decoded(data, "Patient"))
        await self._before_writing()
        async with _honest():
            entry = await self.registry.amend(mrn, data, version)
        return await self._written(request, "Patient", entry)

    async def merge(self, request: Request) -> Response:
        source = merge_source(await body(request))
        await self._before_writing()
        async with _honest():
            entry = await self.registry.merge(request.path_params["key"], source)
        return await self._written(request, "Patient", entry)

    # -- visits -------------------------------------------------------------------------------

    async def admit(self, request: Request) -> Response:
        data = await body(request)
        encounter = asked_encounter(data)
        same_key(request, fhir.VISIT, fhir.key_of(encounter))
        await self._before_writing()
        async with _honest(unknown_status=422):
            entry = await self.registry.admit(encounter, data)
        return await self._written(request, "Encounter", entry)

    async def visit(self, request: Request) -> Response:
        async with _honest():
            return _shown("Encounter", self.registry.visit(request.path_params["key"]))

    async def change_visit(self, request: Request) -> Response:
        data = await body(request)
        encounter = asked_encounter(data)
        _, version = addressed(request, encounter)
        await self._before_writing()
        async with _honest():
            entry = await self.registry.change_visit(encounter, data, version)
        return await self._written(request, "Encounter", entry)

    async def census(self, _: Request) -> Response:
        async with _honest():
            present = self.registry.census()
        lines = [
            {"mrn": one.mrn, "visit": one.visit, "ward": one.ward, "class": one.class_,
             "admitted_at": one.admitted_at}
            for one in present
        ]  # fmt: skip
        return answer({"as_of": time.time(), "patients": lines}, media_type=JSON)

    # -- what people and the auditor look at ---------------------------------------------------

    async def queues(self, _: Request) -> Response:
        depth, tasks = self._queue.depth(ENGINE), self._queue.tasks()
        trip = self._courier.trip if self._courier else None
        line = {
            "depth": depth.waiting, "oldest_s": round(depth.oldest_s, 3), "parked": len(tasks),
            "in_flight": (trip.in_flight or None) if trip else None,
            "trouble": (trip.trouble or None) if trip else "no link to the engine",
        }  # fmt: skip
        return answer({"destinations": {ENGINE: line}}, media_type=JSON)

    async def tasks(self, _: Request) -> Response:
        return answer({"tasks": self._queue.tasks()}, media_type=JSON)

    async def everything(self, _: Request) -> Response:
        return export(*pages(self._store))

    async def ready(self) -> None:
        """Health of the way out: an engine that is away is a declared degraded mode."""
        trip = self._courier.trip if self._courier else None
        if trip is not None and trip.trouble:
            waiting = self._queue.depth(ENGINE).waiting
            raise Degraded(f"{ENGINE}: {trip.trouble}; {waiting} messages wait")

    async def _before_writing(self) -> None:
        if planted("gam-needs-ehr"):
            await self._wait.for_record()

    async def _written(self, request: Request, type_: str, entry: Entry) -> Response:
        if entry.announced:
            self._queue.notify(ENGINE)
        where = f"{request.url.scheme}://{request.url.netloc}/fhir/{type_}/{entry.key}"
        return _shown(type_, entry, {"Location": where}, 201 if entry.new else 200)

    def routes(self) -> list[Route]:
        """All routes of this face."""
        return [
            Route("/fhir/Patient", self.register, methods=["POST"]),
            Route("/fhir/Patient/{key}", self.patient),
            Route("/fhir/Patient/{key}", self.amend, methods=["PUT"]),
            Route("/fhir/Patient/{key}/$merge", self.merge, methods=["POST"]),
            Route("/fhir/Encounter", self.admit, methods=["POST"]),
            Route("/fhir/Encounter/{key}", self.visit),
            Route("/fhir/Encounter/{key}", self.change_visit, methods=["PUT"]),
            Route("/census", self.census),
            Route("/queues", self.queues),
            Route("/tasks", self.tasks),
            Route("/export", self.everything),
            snapshot_route(self._store),
        ]


def pages(store: Store) -> tuple[Page, ...]:
    """The export of a register: patients and visits. Raises StoreError, fhir.Invalid."""
    registry = Registry(store)
    return _page(registry, "person", "Patient"), _page(registry, "visit", "Encounter")


def _page(registry: Registry, table: str, type_: str) -> Page:
    def page(after: int, limit: int) -> tuple[list[Record], int]:
        rows = registry.page(table, after, limit)
        found = []
        for _, stored_at, entry in rows:
            resource = fhir.decode(entry.body.encode(), type_)
            record = of_resource(resource, entry.patient, entry.version)
            found.append(msgspec.structs.replace(record, stored_at=stored_at))
        return found, rows[-1][0] if rows else after

    return page


@asynccontextmanager
async def _honest(unknown_status: int = 404) -> AsyncIterator[None]:
    """The register's refusals as HTTP answers; a hanging disk is bounded and not called a no."""
    try:
        async with asyncio.timeout(STORE_S):
            yield
    except Unknown as error:
        raise Refusal(unknown_status, "not-found", str(error)) from None
    except Conflict as error:
        raise Refusal(409, "conflict", str(error)) from None
    except Stale as error:
        raise Refusal(412, "conflict", str(error)) from None
    except StoreError as error:
        raise Refusal(503, "transient", str(error), {"Retry-After": "2"}) from None
    except TimeoutError:
        raise Refusal(
            500, "timeout", f"the disk did not confirm within {STORE_S} s: it may have happened or"
            " not; repeat the same request", {"X-Outcome": "unknown"},
        ) from None  # fmt: skip


def _shown(
    type_: str, entry: Entry, headers: dict[str, str] | None = None, status: int = 200
) -> Response:
    shown = {"ETag": f'W/"{entry.version}"', **(headers or {})}
    if type_ == "Patient" and entry.patient != entry.key:
        shown["Link"] = f'</fhir/Patient/{entry.patient}>; rel="replaced-by"'
    return answer(entry.body.encode(), status, shown)
