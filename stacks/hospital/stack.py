"""The mock hospital's topology: rooms and departments put together as one stack.

It starts nothing and decides nothing; four planted defects (`standby-gone`, and those of
departments.CARE_MISPLACED) are here because they are mistakes of the plan itself.

    room A               room B                    floors and outside
    ehr-db-a  ⇐ sync ⇒   ehr-db-b                  ehr-db-witness (a cupboard)
    ehr-a                ehr-b, lis, ro-copy       analysers (laboratory)
    engine               gam
    pacs-a    ⇐ mirror ⇒ pacs-b, ris               modalities, dicom-router, emergency-viewer
    scheduling           callcentre, clinic-lists  website, sms (outside)
"""

from __future__ import annotations

import os
from pathlib import Path

from chaos.stack import Room, Stack, TopologyError
from stacks.hospital import departments as plan
from stacks.hospital.bugs import BUGS, VARIABLE
from stacks.hospital.departments import Department
from stacks.hospital.programs import PROGRAMS
from stacks.hospital.systems import SYSTEMS
from stacks.hospital.terms import HOSPITAL as WORDS

DEFAULT_SPEED = 60.0
ROOMS = (
    Room("A", "server room A, main building"),
    Room("B", "server room B, across the street"),
    Room("lab", "the laboratory floor"),
    Room("imaging", "the radiology floor"),
    Room("C", "a cupboard with the database witness"),
    Room("outside", "hosted outside the hospital"),
    Room("vault", "a strongroom of its own, for the backups"),
    Room("apart", "a host of its own with its own line, for the incident system"),
)
DEPARTMENTS = ("care", "imaging", "appointments")
"""What stands where nobody says otherwise."""
ON_REQUEST = ("recovery", "backups")
AUDIT = ("{python}", "-m", "stacks.hospital.audit")
IMAGE = ("{python}", "-m", "stacks.hospital.image")
LOAD_UI = ("{python}", "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")))


def hospital(
    speed: float = DEFAULT_SPEED,
    defect: str | None = None,
    departments: tuple[str, ...] = DEPARTMENTS,
) -> Stack:
    """The mock hospital at `speed` hospital seconds per real second.

    `defect` names one planted defect (stacks/hospital/bugs.py); None takes it from the environment
    variable HOSPITAL_BUG. Patient administration and the interface engine always stand;
    `departments` (of DEPARTMENTS and ON_REQUEST) stand around them. Raises
    TopologyError for an unknown name.
    """
    planted = os.environ.get(VARIABLE, "") if defect is None else defect
    if planted and planted not in BUGS:
        known = ", ".join(sorted(BUGS))
        raise TopologyError(f"{VARIABLE}={planted!r} is no planted defect (known: {known})")
    chosen = _chosen(departments, planted)
    services = tuple(service for one in chosen for service in one.services)
    links = plan.links(chosen)
    if planted == "standby-gone":
        services = tuple(s for s in services if s.name != "ehr-db-b")
        links = tuple(k for k in links if "ehr-db-b" not in (k.source, k.target))
    rooms = {service.room for service in services}
    return Stack(
        name="hospital",
        rooms=tuple(room for room in ROOMS if room.name in rooms),
        services=services,
        links=links,
        outside=tuple(dict.fromkeys(caller for one in chosen for caller in one.outside)),
        audit=AUDIT,
        load=LOAD_UI,
        image=IMAGE,
        terms=WORDS,
        systems=SYSTEMS,
        programs=PROGRAMS,
        env={"HOSPITAL_SPEED": f"{speed:g}", VARIABLE: planted},
        speed=speed,
        defect=planted,
    )


def _chosen(names: tuple[str, ...], planted: str) -> tuple[Department, ...]:
    care = plan.CARE_MISPLACED.get(planted, plan.CARE)
    known = {
        "care": care, "imaging": plan.IMAGING, "appointments": plan.APPOINTMENTS,
        "recovery": plan.RECOVERY, "backups": plan.BACKUPS,
    }  # fmt: skip
    for name in names:
        if name not in known:
            raise TopologyError(f"no department {name!r} (known: {', '.join(known)})")
    return (plan.CORE, *(one for name, one in known.items() if name in names))
