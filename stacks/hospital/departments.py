"""The departments of the mock hospital: the services of each, whom they call, who calls them.

It starts nothing and knows no run: stack.py puts departments together. A link to a service of a
department that was not raised is left out; services cope with its absence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chaos.stack import Link, Port, Readiness, Service, Volume

HTTP, MLLP, DICOM = Port("http", "http"), Port("mllp", "mllp"), Port("dicom", "dicom")
POSTGRES, RAFT, REST = Port("postgres", "postgres"), Port("raft", "tcp"), Port("rest", "http")
ARCHIVE_READY = "/dicom-web/studies?limit=1"
"""Asks the archive's index; the one question that Orthanc and our own archive both answer."""

Call = tuple[str, str, str]
"""(source, target, port): who calls which port of whom."""


@dataclass(frozen=True, slots=True)
class Department:
    """Services that belong together, and every call that one of them makes or gets."""

    name: str
    services: tuple[Service, ...]
    calls: tuple[Call, ...]
    outside: tuple[str, ...] = ()


def _service(
    name: str, room: str, module: str, ports: tuple[Port, ...], array: str, ready: str = "/health"
) -> Service:
    role = module.rpartition(".")[2].replace("_", "-")
    return Service(
        name, room, ("{python}", "-m", f"stacks.hospital.{module}"), ports, role=role,
        volume=Volume(name, array), ready=Readiness(path=ready),
    )  # fmt: skip


def _database(name: str, room: str, array: str) -> Service:
    return Service(
        name, room, ("{python}", "-m", "stacks.hospital.database"), (POSTGRES, REST, RAFT),
        role="ehr-db", volume=Volume(name, array),
        ready=Readiness(port="rest", path="/health", within_s=60.0), stop_s=10.0,
    )  # fmt: skip


def _both_ways(one: str, other: str, port: str) -> tuple[Call, ...]:
    return (one, other, port), (other, one, port)


CORE = Department(
    "core",
    (
        _service("gam", "B", "gam", (HTTP,), "array-b"),
        _service("engine", "A", "engine", (HTTP, MLLP), "array-a"),
    ),
    (("gam", "engine", "mllp"), ("admissions", "gam", "http")),
    outside=("admissions",),
)
"""Patient administration and the interface engine: every department needs them."""

_NODES, _PAIR = ("ehr-a", "ehr-b"), ("ehr-db-a", "ehr-db-b")


def _care(
    copy_room: str = "B", copy_array: str = "array-b", lab_disk: str = "disk-lab"
) -> Department:
    return Department(
        "care",
        (
            _database("ehr-db-a", "A", "array-a"),
            _database("ehr-db-b", "B", "array-b"),
            _service("ehr-db-witness", "C", "witness", (RAFT, HTTP), "disk-c"),
            _service("ehr-a", "A", "ehr", (HTTP, MLLP), "array-a"),
            _service("ehr-b", "B", "ehr", (HTTP, MLLP), "array-b"),
            _service("ro-copy", copy_room, "ro_copy", (HTTP,), copy_array),
            _service("lis", "B", "lis", (HTTP, MLLP), "array-b"),
            _service("analysers", "lab", "analysers", (HTTP,), lab_disk),
        ),
        (
            *(call for port in ("postgres", "rest", "raft") for call in _both_ways(*_PAIR, port)),
            *(call for one in _PAIR for call in _both_ways(one, "ehr-db-witness", "raft")),
            *((reader, node, "postgres") for reader in (*_NODES, "ro-copy") for node in _PAIR),
            *(call for node in _NODES for call in _both_ways(node, "engine", "mllp")),
            *_both_ways("engine", "lis", "mllp"),
            ("analysers", "lis", "mllp"),
            *(("wards", reader, "http") for reader in (*_NODES, "ro-copy")),
            ("laboratory", "analysers", "http"),
            ("laboratory", "lis", "http"),
            ("partner", "engine", "mllp"),
        ),
        outside=("wards", "laboratory", "partner"),
    )


CARE = _care()
"""The record (two nodes, a database pair, a read-only copy), order entry and the laboratory."""
CARE_MISPLACED = {
    "copy-in-room-a": _care(copy_room="A", copy_array="array-a"),
    "copy-on-array-a": _care(copy_array="array-a"),
    "analysers-on-array-a": _care(lab_disk="array-a"),
}
"""Planted defects of the plan itself: something stands, or lies, on what it must outlive."""

_ARCHIVES = ("pacs-a", "pacs-b")
IMAGING = Department(
    "imaging",
    (
        _service("pacs-a", "A", "imaging.pacs", (HTTP, DICOM), "array-a", ARCHIVE_READY),
        _service("pacs-b", "B", "imaging.pacs", (HTTP, DICOM), "array-b", ARCHIVE_READY),
        _service("ris", "B", "imaging.ris", (HTTP, MLLP, DICOM), "array-b"),
        _service("dicom-router", "imaging", "imaging.router", (HTTP, DICOM), "disk-router"),
        _service("modalities", "imaging", "imaging.modalities", (HTTP, DICOM), "disk-modalities"),
        _service("emergency-viewer", "imaging", "imaging.viewer", (HTTP, DICOM), "disk-viewer"),
    ),
    (
        ("engine", "ris", "mllp"),
        ("modalities", "ris", "dicom"),
        *_both_ways("modalities", "dicom-router", "dicom"),
        *(call for pacs in _ARCHIVES for call in _both_ways("dicom-router", pacs, "dicom")),
        ("dicom-router", "emergency-viewer", "dicom"),
        *(("wards", archive, "http") for archive in (*_ARCHIVES, "emergency-viewer")),
        ("radiology", "modalities", "http"),
        ("radiology", "ris", "http"),
    ),
    outside=("wards", "radiology"),
)
"""Scanners, their worklist, the router, the archive and its mirror, and the emergency viewer."""

_CHANNELS = (
    _service("website", "outside", "appointments.website", (HTTP, MLLP), "disk-website"),
    _service("callcentre", "B", "appointments.callcentre", (HTTP, MLLP), "array-b"),
    _service("sms", "outside", "appointments.sms", (HTTP, MLLP), "disk-sms"),
    _service("clinic-lists", "B", "appointments.clinic_lists", (HTTP, MLLP), "array-b"),
)
APPOINTMENTS = Department(
    "appointments",
    (
        _service("scheduling", "A", "appointments.scheduling", (HTTP, MLLP), "array-a"),
        *_CHANNELS,
    ),
    (
        *_both_ways("scheduling", "engine", "mllp"),
        *(("engine", channel.name, "mllp") for channel in _CHANNELS),
        ("clinics", "scheduling", "http"),
        ("clinics", "clinic-lists", "http"),
        *(("patients", name, "http") for name in ("website", "callcentre", "sms")),
    ),
    outside=("clinics", "patients"),
)
"""Scheduling, and the channels that tell patients: each has its own feed and can disagree."""


_GATED = ("gam", "engine", "ehr-a", "ehr-b", "lis", "ris", "scheduling", "billing")
"""Who asks the incident system whether it may take writes; analysers and scanners never do."""
_WATCHED = (*_GATED, "ro-copy", "analysers")
RECOVERY = Department(
    "recovery",
    (
        _service("billing", "B", "recovery.billing", (HTTP, MLLP), "array-b"),
        _service("incident", "apart", "recovery.incident", (HTTP,), "disk-incident"),
    ),
    (
        ("engine", "billing", "mllp"),
        *((name, "incident", "http") for name in _GATED),
        *(("incident", name, "http") for name in _WATCHED),
        *(("incident", node, "rest") for node in _PAIR),
        ("staff", "incident", "http"),
        ("staff", "billing", "http"),
    ),
    outside=("staff",),
)
"""The incident system, on a host apart, and billing, which may be stopped on purpose. Not raised
unless asked for by name: it decides when services that come back take writes again."""

_HAND_OUT = ("engine", "gam", "lis", "scheduling", "billing")
"""Who hands out a consistent snapshot of its own queue and book."""
BACKUPS = Department(
    "backups",
    (
        replace(
            _service("backup", "vault", "recovery.backup", (HTTP,), "disk-vault"),
            ready=Readiness(path="/health", within_s=90.0), stop_s=10.0,
        ),
    ),
    (
        *(("backup", node, "postgres") for node in _PAIR),
        *(("backup", name, "http") for name in (*_HAND_OUT, "ro-copy", *_ARCHIVES)),
        *(("backup", archive, "dicom") for archive in _ARCHIVES),
        ("incident", "backup", "http"),
    ),
)  # fmt: skip
"""The vault: it calls everybody and nobody of them calls it. Not raised unless asked for by name:
it is ready only when the first base backup lies there."""


def links(departments: tuple[Department, ...]) -> tuple[Link, ...]:
    """Every call between services and callers that stand, each once, in the order of the plan."""
    stand = {service.name for one in departments for service in one.services}
    stand |= {caller for one in departments for caller in one.outside}
    calls = dict.fromkeys(call for one in departments for call in one.calls)
    return tuple(Link(*call) for call in calls if {call[0], call[1]} <= stand)
