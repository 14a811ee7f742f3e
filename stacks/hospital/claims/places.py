"""Where every kind of write must lie in the end, as the hospital's systems hand it on.

It judges nothing; claims read it. A service that the topology of the run does not have is no
place; one that was there and could not be read is.
"""

from __future__ import annotations

from collections.abc import Mapping

from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.systems import Home

DATABASES = ("ehr-db-a", "ehr-db-b")
ARCHIVES = ("pacs-a", "pacs-b")
MODALITIES, ROUTER, RIS = "modalities", "dicom-router", "ris"
SCHEDULING, INCIDENT = "scheduling", "incident"
CHANNELS: Mapping[str, str] = {
    "website": "the website",
    "callcentre": "the call centre",
    "sms": "the text messages",
    "clinic-lists": "the printed clinic lists",
}
"""Service → what patients and clinics call the channel."""
ENGINE = ("engine",)
"""The store that shows what is still on its way between systems (images: the router)."""
STORES = (
    *DATABASES, "lis", "analysers", "gam", *ARCHIVES, MODALITIES, RIS, SCHEDULING, *CHANNELS,
    "billing",
)  # fmt: skip
LABELS = ("analysers", MODALITIES, *ARCHIVES, "emergency-viewer", ROUTER, *CHANNELS, "billing")
"""Stores that keep the patient as he was called then, and never hear of a merge."""
CALLED_OFF, CANCELLED = "appointment.calledoff", "cancelled"
FINAL = ("final", "corrected")
RANKS = {"preliminary": 1, "final": 2, "corrected": 3}
RESULT_AFTER_S = 40 * 60.0
"""Human seconds after which a loaded tube's final result must be everywhere: 18 min on the line,
then validation and corrections."""


def _record(kind: str) -> tuple[Home, ...]:
    return tuple(Home(node, kind) for node in DATABASES)


def _told(
    kind: str, *stores: str, statuses: tuple[str, ...] = (), announced_by: str = ""
) -> tuple[Home, ...]:  # fmt: skip
    """Places that hear of it over the engine."""
    return tuple(
        Home(store, kind, backlog=True, statuses=statuses, same_value=False,
             announced_by=announced_by)
        for store in stores
    )  # fmt: skip


def _appointment(*statuses: str, same_value: bool = False) -> tuple[Home, ...]:
    """Scheduling, and every channel that tells patients."""
    return (
        Home(SCHEDULING, "appointment", statuses=statuses, same_value=same_value),
        *_told("appointment", *CHANNELS, statuses=statuses),
    )


HOMES: Mapping[str, tuple[Home, ...]] = {
    "order.create": (*_record("order"), Home("lis", "order", backlog=True)),
    "medication.create": _record("medication"),
    "administration.create": _record("administration"),
    "observation.create": _record("observation"),
    "patient.create": (
        Home("gam", "patient"),
        # Administration tells others of a patient when a visit is opened.
        *_told("patient", *DATABASES, "lis", announced_by="encounter.create"),
    ),
    "encounter.create": (
        Home("gam", "encounter", same_value=False),
        *_told("encounter", *DATABASES),
        *_told("charge", "billing"),
    ),
    "encounter.finish": (
        Home("gam", "encounter", statuses=("finished",), same_value=False),
        *_told("encounter", *DATABASES, statuses=("finished",)),
        *_told("stay", "billing"),
    ),
    "specimen.load": (
        Home("analysers", "specimen", same_value=False),
        *(
            Home(store, "report", backlog=True, statuses=FINAL, same_value=False,
                 after_s=RESULT_AFTER_S)
            for store in ("lis", *DATABASES)
        ),
    ),
    "imaging.order": (*_record("order"), Home(RIS, "order", backlog=True)),
    "appointment.book": _appointment(same_value=True),
    "appointment.move": _appointment(),
    "appointment.cancel": _appointment("cancelled"),
    "appointment.calledoff": _appointment("cancelled"),
}  # fmt: skip
"""Operation kind → every place where an acknowledged write must be found."""
UPDATES: Mapping[str, str] = {
    "patient.create": "patient.update",
    "appointment.book": "appointment.move",
}
CHANGES = frozenset(
    {"encounter.finish", "appointment.move", "appointment.cancel", "appointment.calledoff"}
)
"""Operation kinds that change what is there already."""
FILED: Mapping[str, tuple[str, ...]] = {
    "order.create": ("order",),
    "medication.create": ("medication",),
    "administration.create": ("administration",),
    "observation.create": ("observation",),
    "encounter.create": ("encounter", "charge", "stay"),
    "specimen.load": ("specimen", "report"),
    "imaging.order": ("order",),
    "study.view": ("study", "match"),
    "appointment.book": ("appointment", "notice"),
    "appointment.calledoff": ("rebooking",),
}
"""Operation kind → kinds of records with the same key and the same patient."""
ANSWERED: Mapping[str, tuple[str, ...]] = {"examination.done": ("study", "match")}
"""The same for operations whose answer's value is the record's key."""


def stands(history: History, service: str) -> bool:
    """Whether this run's topology has the service; a run that does not say has them all."""
    known = history.run.services if history.run else {}
    return not known or service in known


def there(history: History, services: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the services that this run's topology has."""
    return tuple(name for name in services if stands(history, name))


def homes(history: History) -> Mapping[str, tuple[Home, ...]]:
    """HOMES as far as this run's topology has them; kinds without any home are left out."""
    found = {
        kind: tuple(home for home in places if stands(history, home.store))
        for kind, places in HOMES.items()
    }
    return {kind: places for kind, places in found.items() if places}


def called_off(history: History) -> Mapping[str, Op]:
    """Appointment → the first operation that told of its calling off by a decision."""
    found: dict[str, Op] = {}
    for op in history.ops(CALLED_OFF):
        if op.ok and op.key:
            found.setdefault(op.key, op)
    return found
