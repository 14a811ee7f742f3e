"""Patient administration (GAM) with the master patient index: admissions, discharges, merges.

    admissions ──HTTP──▶ register + outbox (one commit) ──▶ courier ──MLLP──▶ engine

It refuses to answer before the change and its movement message are on disk, and to wait for
anybody: whether engine or record are up never decides whether a patient is admitted.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import msgspec

from stacks.hospital import fhir
from stacks.hospital.bugs import planted
from stacks.hospital.courier import Courier
from stacks.hospital.gam_wait import Wait
from stacks.hospital.health import Degraded
from stacks.hospital.log import Log
from stacks.hospital.pages import export
from stacks.hospital.queue import DurableQueue
from stacks.hospital.records import Record, of_resource
from stacks.hospital.registry import (
    ENCOUNTER_EVENTS,
    ENGINE,
    REGISTRY_SCHEMA,
    Conflict,
    Entry,
    Registry,
    Stale,
    Unknown,
)
from stacks.hospital.settings import Settings
from stacks.hospital.store import Store, StoreError
from stacks.hospital.web import JSON, Face, Refusal, Request, Response, Route, answer, body, run
from stacks.hospital.wire.mllp import MllpClient

STORE_S = 3.0
"""A disk that takes longer to store a change hangs: the caller is told that it is not known."""
_VERSION = re.compile(r'W/"(\d{1,9})"')


class Administration:
    """The HTTP face over one register."""

    def __init__(self, store: Store, queue: DurableQueue, courier: Courier | None, wait: Wait):
        self.registry = Registry(store)
        self._store, self._queue, self._courier, self._wait = store, queue, courier, wait

    # -- patients -----------------------------------------------------------------------------

    async def register(self, request: Request) -> Response:
        data = await body(request)
        patient = _decoded(data, "Patient")
        assert isinstance(patient, fhir.Patient)
        _same_key(request, fhir.MRN, fhir.key_of(patient))
        await self._before_writing()
        async with _honest():
            entry = await self.registry.register(patient, data)
        return await self._written(request, "Patient", entry)

    async def patient(self, request: Request) -> Response:
        async with _honest():
            return _shown("Patient", self.registry.patient(request.path_params["key"]))

    async def amend(self, request: Request) -> Response:
        data = await body(request)
        mrn, version = _addressed(request, _decoded(data, "Patient"))
        await self._before_writing()
        async with _honest():
            entry = await self.registry.amend(mrn, data, version)
        return await self._written(request, "Patient", entry)

    async def merge(self, request: Request) -> Response:
        source = _merge_source(await body(request))
        await self._before_writing()
        async with _honest():
            entry = await self.registry.merge(request.path_params["key"], source)
        return await self._written(request, "Patient", entry)

    # -- visits -------------------------------------------------------------------------------

    async def admit(self, request: Request) -> Response:
        data = await body(request)
        encounter = _encounter(data)
        _same_key(request, fhir.VISIT, fhir.key_of(encounter))
        await self._before_writing()
        async with _honest(unknown_status=422):
            entry = await self.registry.admit(encounter, data)
        return await self._written(request, "Encounter", entry)

    async def visit(self, request: Request) -> Response:
        async with _honest():
            return _shown("Encounter", self.registry.visit(request.path_params["key"]))

    async def change_visit(self, request: Request) -> Response:
        data = await body(request)
        encounter = _encounter(data)
        _, version = _addressed(request, encounter)
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
        return export(self._page("person", "Patient"), self._page("visit", "Encounter"))

    def _page(self, table: str, type_: str) -> Callable[[int, int], tuple[list[Record], int]]:
        def page(after: int, limit: int) -> tuple[list[Record], int]:
            rows = self.registry.page(table, after, limit)
            found = []
            for _, stored_at, entry in rows:
                resource = fhir.decode(entry.body.encode(), type_)
                record = of_resource(resource, entry.patient, entry.version)
                found.append(msgspec.structs.replace(record, stored_at=stored_at))
            return found, rows[-1][0] if rows else after

        return page

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
        ]


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
            " not; repeat the same request",
        ) from None  # fmt: skip


def _decoded(data: bytes, type_: str) -> fhir.Resource:
    try:
        return fhir.decode(data, type_)
    except fhir.Invalid as error:
        raise Refusal(400, "invalid", str(error)) from None


def _encounter(data: bytes) -> fhir.Encounter:
    encounter = _decoded(data, "Encounter")
    assert isinstance(encounter, fhir.Encounter)
    if encounter.class_.code not in ENCOUNTER_EVENTS:
        given, known = encounter.class_.code, ", ".join(ENCOUNTER_EVENTS)
        raise Refusal(400, "value", f"$.class.code: {given!r} is not one of {known}")
    return encounter


def _same_key(request: Request, system: str, key: str) -> None:
    """If-None-Exist must ask for the identifier that the resource itself has."""
    wish = request.headers.get("if-none-exist")
    if wish is None:
        return
    given = parse_qs(wish.lstrip("?"))
    if given != {"identifier": [f"{system}|{key}"]}:
        raise Refusal(
            400, "value", f"If-None-Exist is {wish[:200]!r}; give identifier={system}|{key}"
        )


def _addressed(request: Request, resource: fhir.Resource) -> tuple[str, int]:
    """The key in the path, equal to the body's, and the version that If-Match names."""
    key, own = request.path_params["key"], fhir.key_of(resource)
    if key != own:
        raise Refusal(400, "invalid", f"the address says {key[:64]!r}, the resource {own!r}")
    wish = request.headers.get("if-match")
    if wish is None:
        raise Refusal(428, "required", 'If-Match: W/"<version>" is required; read it first')
    match = _VERSION.fullmatch(wish.strip())
    if match is None:
        raise Refusal(400, "value", f'If-Match is {wish[:40]!r}; give W/"<version>"')
    return key, int(match.group(1))


class _Parameter(msgspec.Struct):
    name: str
    valueString: str | None = None


class _Parameters(msgspec.Struct, tag_field="resourceType", tag="Parameters"):
    parameter: list[_Parameter]


def _merge_source(data: bytes) -> str:
    try:
        given = msgspec.json.decode(data, type=_Parameters).parameter
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "invalid", f"not a Parameters resource: {error}") from None
    sources = [one.valueString for one in given if one.name == "source" and one.valueString]
    if len(sources) != 1:
        raise Refusal(400, "invalid", "$.parameter: exactly one `source` with a valueString")
    return sources[0]


def _shown(
    type_: str, entry: Entry, headers: dict[str, str] | None = None, status: int = 200
) -> Response:
    shown = {"ETag": f'W/"{entry.version}"', **(headers or {})}
    if type_ == "Patient" and entry.patient != entry.key:
        shown["Link"] = f'</fhir/Patient/{entry.patient}>; rel="replaced-by"'
    return answer(entry.body.encode(), status, shown)


@asynccontextmanager
async def gam(settings: Settings, log: Log) -> AsyncIterator[Face]:
    """The service: one file in the data folder, HTTP in, one courier to the engine."""
    store = Store(settings.data_dir / "gam.db", REGISTRY_SCHEMA)
    queue = DurableQueue(store)
    link = settings.optional_link("engine", "mllp")
    courier = Courier(queue, ENGINE, [MllpClient(link)], log) if link else None
    desk = Administration(store, queue, courier, Wait(settings, courier))
    yield Face(
        routes=desk.routes(),
        checks={"store": store.check, "engine": desk.ready},
        background=[courier.run] if courier else [],
    )
    await store.close()


if __name__ == "__main__":
    run(gam)
