"""What the hospital calls its systems: what people use each for, and what claims promise of it.

It judges nothing; thresholds and places are those of the claims. Chart reads count whoever
answers, because a copy is a sanctioned way; that the copy is recent is RA-2's.
"""

from __future__ import annotations

from dataclasses import replace

from chaos.systems import Arrival, Drills, Face, Home, Made, Promise, System
from stacks.hospital.claims.backup_systems import BESIDE, COPY_FLOOR_S, COPY_S
from stacks.hospital.claims.backups import (
    FULL_S,
    LOST_FLOOR_S,
    LOST_S,
    RESTORED_FLOOR_S,
    VAULT,
)
from stacks.hospital.claims.continuity import NODES, REST, SLOT_GONE, SpareTakesOver
from stacks.hospital.claims.places import (
    ARCHIVES,
    CHANNELS,
    DATABASES,
    ENGINE,
    HOMES,
    MODALITIES,
    RIS,
    ROUTER,
    SCHEDULING,
    UPDATES,
)
from stacks.hospital.claims.record import CHART_GAP_S, ORDER_GAP_S

RECORD = (*NODES, *DATABASES)
NOTHING_LOST, STAGED = Promise("IN-1", rpo=True, rpo_s=0.0), Promise("RE-1", rto=True)
SPARE_S = SpareTakesOver.within_s
READING, CHARTING, ORDERING = "charts can be read", "nursing is charted", "orders are taken"
IMAGES, BILLING = "images can be opened", "billing"


RESTORED = Promise(
    "BK-1", rto=True, rpo=True, rto_s=FULL_S, rpo_s=LOST_S, human=True,
    rto_floor_s=RESTORED_FLOOR_S, rpo_floor_s=LOST_FLOOR_S, backup=True,
)  # fmt: skip
TRIED = replace(RESTORED, rpo_s=COPY_S, rpo_floor_s=COPY_FLOOR_S)
"""Copies of other systems than the record may be as old as that."""
WRITTEN = tuple(
    (kind, home.kind)
    for kind, homes in HOMES.items()
    for home in homes
    if home.store == DATABASES[0] and home.same_value and not home.backlog
)
"""What clients write into the record's database itself."""


def _trials(
    system: str, *kinds: tuple[str, str], taken: tuple[str, ...] = ()
) -> Drills:  # fmt: skip
    """Trials of that system's newest copy: (operation, record) that clients wrote into it, and
    kinds of records that it took from others."""
    return Drills(
        "trial", f"{VAULT}.{system}", tuple((kind, f"{BESIDE}{what}") for kind, what in kinds),
        tuple((system, kind, f"{BESIDE}{kind}") for kind in taken), "asked", system,
    )  # fmt: skip


def _homes(*kinds: str, of: tuple[str, ...] = ()) -> dict[str, tuple[Home, ...]]:
    """Where those kinds of writes must lie: charges are billing's loss, all else not."""
    found = {
        kind: tuple(
            home for home in HOMES[kind]
            if (home.store in of if of else home.store != BILLING)
        ) for kind in kinds
    }  # fmt: skip
    return {kind: homes for kind, homes in found.items() if homes}


SYSTEMS = (
    System(
        "record",
        "patient record",
        (
            Face(READING, (*RECORD, "ro-copy"), ("chart.read",)),
            Face(CHARTING, RECORD, ("administration.create", "observation.create")),
        ),
        _homes("administration.create", "observation.create"),
        drills=Drills("drill", VAULT, WRITTEN, same_value=True),
        promises=(
            Promise("RA-1", rto=True, rto_s=CHART_GAP_S, face=READING),
            Promise("FO-1", rto=True, rto_s=SPARE_S, face=CHARTING),
            NOTHING_LOST,
            STAGED,
            RESTORED,
        ),
    ),
    System(
        "orders",
        "orders and prescriptions",
        (Face(ORDERING, RECORD, ("order.create", "medication.create")),),
        _homes("order.create", "medication.create"),
        queues=ENGINE,
        promises=(
            Promise("OR-1", rto=True, rto_s=ORDER_GAP_S),
            Promise("OR-2", rpo=True),
            Promise("FO-1", rto=True, rto_s=SPARE_S),
            NOTHING_LOST,
            STAGED,
        ),
    ),
    System(
        "admissions",
        "patient administration",
        (Face("patients are registered and admitted", ("gam",), REST["gam"]),),
        _homes("patient.create", "encounter.create", "encounter.finish"),
        UPDATES,
        queues=ENGINE,
        drills=_trials("gam", ("patient.create", "patient"), ("encounter.create", "encounter")),
        promises=(NOTHING_LOST, STAGED, TRIED),
    ),
    System(
        "laboratory",
        "laboratory",
        (
            Face("analysers take tubes", ("analysers",), ("specimen.load",)),
            Face("orders reach the laboratory", ("lis", *ENGINE),
                 arrivals=(Arrival("order.create", "lis", "order"),)),
            Face("urgent results reach the ward", ("lis", "analysers", *ENGINE),
                 ("stat.turnaround",)),
        ),
        _homes("specimen.load"),
        queues=ENGINE,
        drills=_trials("lis", taken=("order",)),
        promises=(
            Promise("RS-1", rto=True, rpo=True, rpo_s=0.0, face="analysers take tubes"),
            Promise("OR-2", rto=True, face="orders reach the laboratory"),
            Promise("RS-3", rto=True, face="urgent results reach the ward"),
            NOTHING_LOST,
            STAGED,
            TRIED,
        ),
    ),
    System(
        "imaging",
        "imaging",
        (
            Face(IMAGES, ARCHIVES, ("image.read",)),
            Face("new studies can be viewed", (*ARCHIVES, ROUTER), ("study.view",)),
            Face("patients are examined", (MODALITIES, RIS), ("examination.start",)),
        ),
        _homes("imaging.order"),
        queues=ENGINE,
        made=Made(MODALITIES, "instance", ARCHIVES, (ROUTER,), ("held",)),
        drills=_trials("images"),
        promises=(
            Promise("FO-1", rto=True, rto_s=SPARE_S, face=IMAGES),
            Promise("IM-1", rpo=True, rpo_s=0.0),
            Promise("IM-2", rto=True, face="new studies can be viewed"),
            NOTHING_LOST,
            STAGED,
            TRIED,
        ),
    ),
    System(
        "appointments",
        "appointments",
        (
            Face("appointments are booked and moved", (SCHEDULING,), REST["scheduling"],
                 lawful=SLOT_GONE),
            Face("patients are told", (*CHANNELS,), ("appointment.ask",)),
        ),
        _homes("appointment.book", "appointment.move", "appointment.cancel",
               "appointment.calledoff"),
        UPDATES,
        queues=ENGINE,
        drills=_trials("scheduling", ("appointment.book", "appointment")),
        promises=(
            Promise("SC-1", rto=True, face="patients are told"),
            Promise("SC-3", rpo=True),
            NOTHING_LOST,
            STAGED,
            TRIED,
        ),
    ),
    System(
        "billing",
        "billing",
        (
            Face("charges arrive", ("billing", *ENGINE),
                 arrivals=(Arrival("encounter.create", "billing", "charge"),)),
        ),
        _homes("encounter.create", "encounter.finish", of=(BILLING,)),
        queues=ENGINE,
        drills=_trials("billing", taken=("charge", "stay")),
        promises=(NOTHING_LOST, STAGED, TRIED),
    ),
)  # fmt: skip
