"""Searches and exports of scheduling: appointments, slots, schedules, tasks, page by page.

It refuses a search parameter that it would have to ignore.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from stacks.hospital.appointments import scheduling_rows as rows
from stacks.hospital.appointments.scheduling_fhir import (
    APPOINTMENT,
    STATUSES,
    appointment_resource,
    day_after,
    key,
    task_resource,
    when,
)
from stacks.hospital.appointments.scheduling_rows import Booked, Rebooking
from stacks.hospital.appointments.slots import (
    appointment_digest,
    schedule_resource,
    slot_of,
    slot_resource,
)
from stacks.hospital.pages import LIMIT_MAX, Page, number
from stacks.hospital.records import Record
from stacks.hospital.store import Store
from stacks.hospital.web import Refusal, Request

COUNT = 100
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "eq": "="}
_TAKEN = "EXISTS (SELECT 1 FROM appointment AS a WHERE a.slot = slot.id AND {taking})"
_TAKING = "a.status IN ('booked', 'fulfilled')"
_SLOTS = f"""
SELECT slot.row, slot.id,
  (SELECT count(*) FROM appointment AS a WHERE a.slot = slot.id AND {_TAKING}),
  coalesce((SELECT max(stored_at) FROM appointment AS a WHERE a.slot = slot.id), 0)
FROM slot WHERE slot.row > ? ORDER BY slot.row LIMIT ?
"""


class Search:
    """Reads for the HTTP face; all of them short and on the committed state."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def appointments(self, request: Request) -> dict[str, Any]:
        """GET /fhir/Appointment. Raises: Refusal, StoreError."""
        known = ("date", "actor", "status", "service-type", "identifier", "_count", "_after")
        where, values = ["1"], []
        for name, text in _asked(request, known):
            condition, more = _condition(name, text)
            where.append(condition)
            values += more
        columns = ", ".join(Booked.__struct_fields__)
        query = f"SELECT row, {columns} FROM appointment WHERE {' AND '.join(where)}"
        found, last, total = self._page(request, query, values, "row")
        return _bundle(
            request, [appointment_resource(Booked(*row[1:])) for row in found], last, total
        )

    def tasks(self, request: Request) -> dict[str, Any]:
        """GET /tasks. Raises: Refusal, StoreError."""
        where, values = "1", []
        for name, text in _asked(request, ("status", "_count", "_after")):
            if name == "status":
                where, values = "status = ?", [text]
        columns = ", ".join(Rebooking.__struct_fields__)
        query = f"SELECT row, {columns} FROM task WHERE {where}"
        found, last, total = self._page(request, query, values, "row")
        return _bundle(request, [task_resource(Rebooking(*row[1:])) for row in found], last, total)

    def slots(self, request: Request) -> dict[str, Any]:
        """GET /fhir/Slot. Raises: Refusal, StoreError."""
        where, values = ["1"], []
        for name, text in _asked(request, ("schedule", "status", "_count", "_after")):
            if name == "schedule":
                where.append("service || '-' || clinic = ?")
                values.append(text.removeprefix("Schedule/"))
            elif name == "status":
                if text not in ("free", "busy"):
                    raise Refusal(400, "value", f"status={text[:20]!r} is not free or busy")
                taken = _TAKEN.format(taking=_TAKING)
                where.append(taken if text == "busy" else f"NOT {taken}")
        taken = _TAKEN.format(taking=_TAKING)
        query = f"SELECT row, id, {taken} FROM slot WHERE {' AND '.join(where)}"
        found, last, total = self._page(request, query, values, "row")
        slots = ((slot_of(name), taken) for _, name, taken in found)
        return _bundle(
            request, [slot_resource(one, taken=bool(taken)) for one, taken in slots if one],
            last, total,
        )  # fmt: skip

    def slot(self, name: str) -> dict[str, Any]:
        """GET /fhir/Slot/{id}: any well-formed name is a slot. Raises: Refusal, StoreError."""
        slot = slot_of(name)
        if slot is None:
            raise Refusal(404, "not-found", f"{name[:80]!r} is not <service>-<clinic>-<minute>")
        holder = self._store.read(lambda connection: rows.holder(connection, name))
        return slot_resource(slot, taken=holder is not None)

    def schedules(self, request: Request) -> dict[str, Any]:
        """GET /fhir/Schedule: those in which there was an appointment."""
        _asked(request, ())
        found = self._store.read(
            lambda connection: connection.execute(
                "SELECT DISTINCT service, clinic FROM slot ORDER BY 1, 2 LIMIT ?", (LIMIT_MAX,)
            ).fetchall()
        )
        return _bundle(request, [schedule_resource(*row) for row in found], 0, len(found))

    def _page(
        self, request: Request, query: str, values: Sequence[object], row: str
    ) -> tuple[list[Any], int, int]:
        """The rows of one page, the last row's number when there are more, and how many in all."""
        count, after = number(request, "_count", COUNT, LIMIT_MAX), number(request, "_after", 0)

        def read(connection: sqlite3.Connection) -> tuple[list[Any], int]:
            total = connection.execute(f"SELECT count(*) FROM ({query})", values).fetchone()[0]
            page = f"{query} AND {row} > ? ORDER BY {row} LIMIT ?"
            return connection.execute(page, (*values, after, count + 1)).fetchall(), total

        found, total = self._store.read(read)
        return found[:count], found[count - 1][0] if len(found) > count > 0 else 0, total

    # -- export -----------------------------------------------------------------------------------

    def pages(self) -> tuple[Page, ...]:
        """The export: appointments, slots, rebooking tasks. Raises: StoreError."""
        return self.appointment_records, self.slot_records, self.task_records

    def appointment_records(self, after: int, limit: int) -> tuple[list[Record], int]:
        """Kind `appointment`, with its status, version and digest."""
        columns = ", ".join(Booked.__struct_fields__)
        found = self._after(f"SELECT row, {columns} FROM appointment", after, limit)
        return [
            Record("appointment", one.id, one.patient, one.status, one.version,
                   appointment_digest(one.id, one.patient, one.service, one.slot),
                   stored_at=one.stored_at)
            for one in (Booked(*row[1:]) for row in found)
        ], found[-1][0] if found else after  # fmt: skip

    def slot_records(self, after: int, limit: int) -> tuple[list[Record], int]:
        """Kind `slot`; `count` = how many appointments hold it."""
        found = self._store.read(
            lambda connection: connection.execute(_SLOTS, (after, limit)).fetchall()
        )
        return [
            Record("slot", name, "", "busy" if taken else "free", 0, "", taken, stored_at)
            for _, name, taken, stored_at in found
        ], found[-1][0] if found else after

    def task_records(self, after: int, limit: int) -> tuple[list[Record], int]:
        """Kind `rebooking`: one per cancelled appointment that has a task, since it has it."""
        columns = ", ".join(Rebooking.__struct_fields__)
        found = self._after(f"SELECT row, {columns} FROM task", after, limit)
        return [
            Record("rebooking", one.appointment, one.patient, one.status,
                   2 if one.rebooked else 1, one.rebooked, stored_at=one.authored_at)
            for one in (Rebooking(*row[1:]) for row in found)
        ], found[-1][0] if found else after  # fmt: skip

    def _after(self, query: str, after: int, limit: int) -> list[Any]:
        page = f"{query} WHERE row > ? ORDER BY row LIMIT ?"
        return self._store.read(
            lambda connection: connection.execute(page, (after, limit)).fetchall()
        )


def _asked(request: Request, known: Sequence[str]) -> list[tuple[str, str]]:
    asked = request.query_params.multi_items()
    for name, _ in asked:
        if name not in known:
            raise Refusal(
                400, "not-supported", f"{name[:40]!r} cannot be asked for; {', '.join(known)} can"
            )
    return asked


def _condition(name: str, text: str) -> tuple[str, list[object]]:
    """One search parameter as SQL. Raises: Refusal 400."""
    if name in ("_count", "_after"):
        return "1", []
    if name == "identifier":
        return "id = ?", [key(text.removeprefix(f"{APPOINTMENT}|"), "identifier")]
    if name == "service-type":
        return "service = ?", [text]
    if name == "status":
        words = text.split(",")
        if not set(words) <= set(STATUSES):
            raise Refusal(400, "value", f"status={text[:40]!r}: {', '.join(STATUSES)} are known")
        return f"status IN ({', '.join('?' * len(words))})", list(words)
    if name == "actor":
        type_, _, actor = text.rpartition("/")
        if type_ not in ("", "Patient", "Location"):
            raise Refusal(400, "value", "actor is Patient/<mrn> or Location/<clinic>")
        if type_ == "Location":
            return "clinic = ?", [actor]
        return "patient = coalesce((SELECT survivor FROM merge WHERE prior = ?), ?)", [actor] * 2
    sign = SIGNS.get(text[:2])
    if sign is None and (day := day_after(text)) is not None:
        return "at >= ? AND at < ?", list(day)
    moment = text[2:] if sign else text
    day = day_after(moment)
    instant = day[0] if day else when(moment.replace(" ", "+"), "date")
    return f"at {sign or '='} ?", [instant]


def _bundle(
    request: Request, resources: Sequence[dict[str, Any]], last: int, total: int
) -> dict[str, Any]:
    link = {}
    if last:
        more = request.url.include_query_params(_after=last)
        link = {"link": [{"relation": "next", "url": str(more)}]}
    return {
        "resourceType": "Bundle", "type": "searchset", "total": total, **link,
        "entry": [{"resource": one} for one in resources],
    }  # fmt: skip
