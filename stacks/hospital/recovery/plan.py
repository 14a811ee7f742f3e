"""The planned return: systems, what each must find healthy, who goes first, how queues replay.

    storage and database → administration → engine, its queues held → record → laboratory,
    radiology → scheduling → replay: movements → orders → results → appointments → charges
    → billing → copy → normal

A value that others follow (the common recovery order of hospitals that came back from an outage).
It refuses to know how anything is probed.
"""

from __future__ import annotations

from dataclasses import dataclass

ESSENTIAL = ("P0", "P1")
"""Classes whose services return before all others."""


@dataclass(frozen=True, slots=True)
class System:
    """Services that stand in for each other: the system is up when one of them is."""

    name: str
    words: str
    services: tuple[str, ...]
    klass: str
    needs: tuple[str, ...] = ()
    """Systems that must be healthy, and open where they can be closed, before this one opens."""
    gated: bool = True
    """Whether it asks before it takes writes; a database and a copy do not."""


SYSTEMS = (
    System("database", "the record's database", ("ehr-db-a", "ehr-db-b"), "P0", gated=False),
    System("gam", "patient administration", ("gam",), "P0"),
    System("engine", "interface engine", ("engine",), "P0", ("gam",)),
    System("ehr", "record", ("ehr-a", "ehr-b"), "P0", ("database", "gam", "engine")),
    System("lis", "laboratory", ("lis",), "P1", ("gam", "engine")),
    System("ris", "radiology", ("ris",), "P1", ("gam", "engine")),
    System("ro-copy", "read-only copy", ("ro-copy",), "P1", ("database",), gated=False),
    System("scheduling", "scheduling", ("scheduling",), "P3", ("gam", "engine")),
    System("billing", "billing", ("billing",), "P4", ("gam", "engine")),
)
"""In the planned order; a topology may lack some."""
BY_NAME = {system.name: system for system in SYSTEMS}
OF_SERVICE = {service: system for system in SYSTEMS for service in system.services}
HOLD_UNTIL = ("gam", "engine", "ehr")
"""While one of these is closed, the engine keeps everything in its queues."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the replay: kinds of messages, and who may still owe some."""

    words: str
    kinds: tuple[str, ...]
    producers: tuple[str, ...]
    """Whose own queue to the engine must have been seen empty before."""


REPLAY = (
    Stage("movements", ("ADT",), ("gam",)),
    Stage("orders", ("OML", "OMI"), ("ehr-a", "ehr-b")),
    Stage("results", ("ORU",), ()),
    Stage("appointments", ("SIU",), ("scheduling",)),
    Stage("charges", ("DFT",), ("gam",)),
)
ALL_KINDS = tuple(kind for stage in REPLAY for kind in stage.kinds)
CHARGES = ("DFT",)
QUEUES = ("gam", "engine", "ehr-a", "ehr-b", "scheduling")
"""Services whose queues must be empty before anything is normal."""
