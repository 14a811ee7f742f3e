"""Where every kind of write must lie in the end, as the hospital's systems hand it on.

It judges nothing; claims read it. A standby that the topology of the run does not have is no
place; one that was there and could not be read is.
"""

from __future__ import annotations

from collections.abc import Mapping

from chaos.claims.kept import Home
from chaos.journal.history import History

DATABASES = ("ehr-db-a", "ehr-db-b")
ENGINE = ("engine",)
"""The store that shows what is still on its way between systems."""
STORES = (*DATABASES, "lis", "analysers", "gam")
FINAL = ("final", "corrected")
RANKS = {"preliminary": 1, "final": 2, "corrected": 3}
RESULT_AFTER_S = 40 * 60.0
"""Human seconds after which a loaded tube's final result must be everywhere: 18 min on the line,
then validation and corrections."""


def _record(kind: str) -> tuple[Home, ...]:
    return tuple(Home(node, kind) for node in DATABASES)


def _told(kind: str, *stores: str, statuses: tuple[str, ...] = ()) -> tuple[Home, ...]:
    """Places that hear of it over the engine."""
    return tuple(Home(s, kind, backlog=True, statuses=statuses, same_value=False) for s in stores)


HOMES: Mapping[str, tuple[Home, ...]] = {
    "order.create": (*_record("order"), Home("lis", "order", backlog=True)),
    "medication.create": _record("medication"),
    "administration.create": _record("administration"),
    "observation.create": _record("observation"),
    "patient.create": (Home("gam", "patient"), *_told("patient", *DATABASES, "lis")),
    "encounter.create": (
        Home("gam", "encounter", same_value=False),
        *_told("encounter", *DATABASES),
    ),
    "encounter.finish": (
        Home("gam", "encounter", statuses=("finished",), same_value=False),
        *_told("encounter", *DATABASES, statuses=("finished",)),
    ),
    "specimen.load": (
        Home("analysers", "specimen", same_value=False),
        *(
            Home(store, "report", backlog=True, statuses=FINAL, same_value=False,
                 after_s=RESULT_AFTER_S)
            for store in ("lis", *DATABASES)
        ),
    ),
}  # fmt: skip
"""Operation kind → every place where an acknowledged write must be found."""
UPDATES: Mapping[str, str] = {"patient.create": "patient.update"}
FILED: Mapping[str, tuple[str, ...]] = {
    "order.create": ("order",),
    "medication.create": ("medication",),
    "administration.create": ("administration",),
    "observation.create": ("observation",),
    "encounter.create": ("encounter",),
    "specimen.load": ("specimen", "report"),
}
"""Operation kind → kinds of records with the same key and the same patient."""


def there(history: History, stores: tuple[str, ...]) -> tuple[str, ...]:
    """The stores without a database node that this run's topology does not have."""
    known = history.run.services if history.run else {}
    nodes = [name for name in DATABASES if name in known] or list(DATABASES)
    return tuple(name for name in stores if name not in DATABASES or name in nodes)


def homes(history: History) -> Mapping[str, tuple[Home, ...]]:
    """HOMES as far as this run's topology has them."""
    return {
        kind: tuple(home for home in places if there(history, (home.store,)))
        for kind, places in HOMES.items()
    }
