"""The HTTP face of scheduling: appointments, slots, decisions, rebooking, backup and restore.

It refuses with an OperationOutcome whatever it cannot do, and then nothing has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stacks.hospital.appointments import scheduling_recovery as recovery
from stacks.hospital.appointments.decisions import decide
from stacks.hospital.appointments.scheduling_agenda import Agenda
from stacks.hospital.appointments.scheduling_fhir import (
    APPOINTMENT,
    appointment_resource,
    asked_of,
    decision_of,
    decoded,
    key,
    task_resource,
)
from stacks.hospital.appointments.scheduling_request import honest, wish_of
from stacks.hospital.appointments.scheduling_rows import ENGINE, Booked
from stacks.hospital.appointments.scheduling_search import Search
from stacks.hospital.courier import Courier
from stacks.hospital.gam_request import same_key
from stacks.hospital.health import Degraded
from stacks.hospital.pages import export, instant
from stacks.hospital.snapshot import snapshot_route
from stacks.hospital.web import JSON, Refusal, Request, Response, Route, answer, body

DECISION_S = 20.0  # thousands of appointments in one transaction
RESTORE_S = 120.0
MODES = ("open", "read-only")
T = TypeVar("T")


class _Mode(msgspec.Struct):
    mode: str


class _Done(msgspec.Struct):
    appointment: str


class Desk:
    """The HTTP face over one agenda; `target` is where its backup lies."""

    def __init__(self, agenda: Agenda, courier: Courier | None, target: Path) -> None:
        self._agenda, self._courier, self._target = agenda, courier, target
        self._search = Search(agenda.store)
        self._turn = asyncio.Lock()  # one backup or restore at a time

    # -- appointments -----------------------------------------------------------------------------

    async def book(self, request: Request) -> Response:
        asked = asked_of(await body(request))
        same_key(request, APPOINTMENT, asked.id)
        if asked.status != "booked":
            raise Refusal(422, "business-rule", f"a new appointment is booked, not {asked.status}")
        async with honest():
            one, new = await self._agenda.book(asked)
        where = f"{request.url.scheme}://{request.url.netloc}/fhir/Appointment/{one.id}"
        return _shown(one, 201 if new else 200, {"Location": where})

    async def change(self, request: Request) -> Response:
        asked = asked_of(await body(request))
        name = request.path_params["id"]
        if name != asked.id:
            raise Refusal(400, "invalid", f"the address says {name[:64]!r}, the body {asked.id!r}")
        version, named = wish_of(request)
        async with honest():
            return _shown(await self._agenda.change(asked, version, named))

    async def appointment(self, request: Request) -> Response:
        async with honest():
            return _shown(self._agenda.appointment(request.path_params["id"]))

    async def appointments(self, request: Request) -> Response:
        async with honest():
            return answer(self._search.appointments(request))

    async def slots(self, request: Request) -> Response:
        async with honest():
            return answer(self._search.slots(request))

    async def slot(self, request: Request) -> Response:
        async with honest():
            return answer(self._search.slot(request.path_params["id"]))

    async def schedules(self, request: Request) -> Response:
        async with honest():
            return answer(self._search.schedules(request))

    # -- the crisis cell --------------------------------------------------------------------------

    async def decide(self, request: Request) -> Response:
        decision = decision_of(await body(request))
        async with honest(DECISION_S):
            made, new = await decide(self._agenda, decision)
        told = {
            "decision": made.id, "decided_at": instant(made.decided_at),
            "cancelled": msgspec.Raw(made.cancelled.encode()),
        }  # fmt: skip
        return answer(told, 201 if new else 200, media_type=JSON)

    async def tasks(self, request: Request) -> Response:
        async with honest():
            return answer(self._search.tasks(request))

    async def done(self, request: Request) -> Response:
        new = key(decoded(await body(request), _Done).appointment, "$.appointment")
        async with honest():
            return answer(
                task_resource(await self._agenda.rebooked(request.path_params["id"], new))
            )

    async def mode(self, _: Request) -> Response:
        async with honest():
            return answer({"mode": self._agenda.mode()}, media_type=JSON)

    async def set_mode(self, request: Request) -> Response:
        wish = decoded(await body(request), _Mode).mode
        if wish not in MODES:
            raise Refusal(400, "value", f"$.mode: {wish[:20]!r} is not one of {', '.join(MODES)}")
        async with honest():
            await self._agenda.set_mode(wish)
            return answer({"mode": self._agenda.mode()}, media_type=JSON)

    # -- backup -----------------------------------------------------------------------------------

    async def backup(self, _: Request) -> Response:
        path = self._agenda.store.path

        async def work() -> recovery.Backup:
            return await asyncio.to_thread(recovery.backup, path, self._target)

        made = await self._alone(work())
        return answer({"seq": made.seq, "at": instant(made.at)}, 201, media_type=JSON)

    async def restore(self, _: Request) -> Response:
        return answer(
            await self._alone(recovery.restore(self._agenda, self._target)), media_type=JSON
        )

    async def _alone(self, work: Coroutine[Any, Any, T]) -> T:
        """Backup and restore one after the other; a caller that goes away interrupts neither."""

        async def turn() -> T:
            async with self._turn:
                return await work

        async with honest(RESTORE_S):
            return await asyncio.shield(asyncio.create_task(turn()))

    # -- what people and the auditor look at ------------------------------------------------------

    async def queues(self, _: Request) -> Response:
        queue, trip = self._agenda.queue, self._courier.trip if self._courier else None
        async with honest():
            depth, parked = queue.depth(ENGINE), queue.tasks()
        line = {
            "depth": depth.waiting, "oldest_s": round(depth.oldest_s, 3), "parked": len(parked),
            "in_flight": (trip.in_flight or None) if trip else None,
            "trouble": (trip.trouble or None) if trip else "no link to the engine",
        }  # fmt: skip
        return answer({"destinations": {ENGINE: line}, "parked": parked}, media_type=JSON)

    async def everything(self, _: Request) -> Response:
        return export(*self._search.pages())

    async def ready(self) -> None:
        """Health of the way out: an engine that is away is a declared degraded mode."""
        trip = self._courier.trip if self._courier else None
        if trip is not None and trip.trouble:
            waiting = self._agenda.queue.depth(ENGINE).waiting
            raise Degraded(f"{ENGINE}: {trip.trouble}; {waiting} notices wait")

    async def bookable(self) -> None:
        """Health of the agenda itself: read-only is a declared degraded mode."""
        mode = self._agenda.mode()
        if mode != "open":
            raise Degraded(f"the agenda is {mode}: no bookings and no moves")

    def routes(self) -> list[Route]:
        """All routes of this face."""
        return [
            Route("/fhir/Appointment", self.book, methods=["POST"]),
            Route("/fhir/Appointment", self.appointments),
            Route("/fhir/Appointment/{id}", self.appointment),
            Route("/fhir/Appointment/{id}", self.change, methods=["PUT"]),
            Route("/fhir/Slot", self.slots),
            Route("/fhir/Slot/{id}", self.slot),
            Route("/fhir/Schedule", self.schedules),
            Route("/decisions", self.decide, methods=["POST"]),
            Route("/tasks", self.tasks),
            Route("/tasks/{id}/done", self.done, methods=["POST"]),
            Route("/mode", self.mode),
            Route("/mode", self.set_mode, methods=["POST"]),
            Route("/backup", self.backup, methods=["POST"]),
            Route("/restore", self.restore, methods=["POST"]),
            Route("/queues", self.queues),
            Route("/export", self.everything),
            snapshot_route(self._agenda.store),
        ]


def _shown(one: Booked, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return answer(
        appointment_resource(one), status, {"ETag": f'W/"{one.version}"', **(headers or {})}
    )
