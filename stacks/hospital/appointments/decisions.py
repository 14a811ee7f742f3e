"""The crisis cell cancels by class: one decision, one transaction, however many appointments.

It refuses to touch a protected service (P0 to P2), whatever is asked, and to leave a cancelled
patient without a notice and a rebooking task.
"""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec.structs import replace

from stacks.hospital.appointments import scheduling_rows as rows
from stacks.hospital.appointments.scheduling_agenda import Agenda
from stacks.hospital.appointments.scheduling_rows import Booked, Decided, Rebooking
from stacks.hospital.appointments.scheduling_rules import Conflict
from stacks.hospital.bugs import planted
from stacks.hospital.pages import instant

FORGETS_EVERY = 7  # planted defect only


class Decision(msgspec.Struct, frozen=True):
    """What the crisis cell decides: services off from `start` until before `end` (Unix seconds)."""

    id: str
    services: tuple[str, ...]
    start: float
    end: float
    reason: str = ""


async def decide(agenda: Agenda, decision: Decision) -> tuple[Decided, bool]:
    """Cancel all booked appointments of the services in the span; True = decided just now.

    The same decision again gives the same answer. Raises: Conflict (its key was used for another
    one), StoreError, LogError.
    """
    asked = msgspec.json.encode(decision).decode()

    def work(connection: sqlite3.Connection) -> tuple[Decided, bool]:
        row = connection.execute(
            "SELECT id, asked, decided_at, cancelled FROM decision WHERE id = ?", (decision.id,)
        ).fetchone()
        if row is not None:
            if row[1] != asked:
                raise Conflict(f"decision {decision.id} was another one; give it a new name")
            return Decided(*row), False
        change = rows.next_change(connection)
        off = [_called_off(one, decision, change.at) for one in _concerned(connection, decision)]
        made = Decided(decision.id, asked, change.at, msgspec.json.encode(_told(off)).decode())
        rows.record(
            connection,
            replace(
                change, appointments=off, decision=made, tasks=_tasks(off, change.at),
                notices=[rows.notice("S15", one) for one in off],
            ),
        )  # fmt: skip
        return made, True

    return await agenda.write(work)


def _concerned(connection: sqlite3.Connection, decision: Decision) -> list[Booked]:
    services = decision.services
    if planted("cancels-dialysis"):
        services = (*services, "dialysis")
    marks = ", ".join("?" * len(services))
    where = f"status = 'booked' AND at >= ? AND at < ? AND service IN ({marks}) ORDER BY at, row"
    return list(rows.select(connection, where, (decision.start, decision.end, *services)))


def _called_off(one: Booked, decision: Decision, at: float) -> Booked:
    return replace(
        one, status="cancelled", version=one.version + 1, decision=decision.id,
        request=f"decision {decision.id}", stored_at=at,
    )  # fmt: skip


def _tasks(off: list[Booked], at: float) -> list[Rebooking]:
    tasks = [Rebooking(one.id, one.patient, one.decision, "requested", "", at, at) for one in off]
    if planted("rebooking-forgotten"):
        return [task for number, task in enumerate(tasks, 1) if number % FORGETS_EVERY]
    return tasks


def _told(off: list[Booked]) -> list[dict[str, str]]:
    return [
        {"appointment": one.id, "patient": one.patient, "slot": one.slot, "at": instant(one.at)}
        for one in off
    ]
