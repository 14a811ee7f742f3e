"""The mock hospital's topology: rooms, services, who calls whom, and where data lies.

It starts nothing and decides nothing; the two planted defects of a hospital's plan itself
(`standby-gone`, `copy-in-room-a`) are here because they are mistakes of this plan.

    room A               room B                  laboratory     room C
    ehr-db-a  ⇐ sync ⇒   ehr-db-b                               ehr-db-witness
    ehr-a                ehr-b
    engine               gam, lis, ro-copy       analysers
"""

from __future__ import annotations

import os
from pathlib import Path

from chaos.stack import Link, Port, Readiness, Room, Service, Stack, TopologyError, Volume
from stacks.hospital.bugs import BUGS, VARIABLE

DEFAULT_SPEED = 60.0
HTTP, MLLP, POSTGRES, RAFT = (
    Port("http", "http"), Port("mllp", "mllp"), Port("postgres", "postgres"), Port("raft", "tcp"),
)  # fmt: skip
REST = Port("rest", "http")
ROOMS = (
    Room("A", "server room A, main building"),
    Room("B", "server room B, across the street"),
    Room("lab", "the laboratory floor"),
    Room("C", "a cupboard with the database witness"),
)
OUTSIDE = ("wards", "admissions", "laboratory")
AUDIT = ("{python}", "-m", "stacks.hospital.audit")
LOAD_UI = ("{python}", "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")))


def hospital(speed: float = DEFAULT_SPEED, defect: str | None = None) -> Stack:
    """The whole mock hospital at `speed` hospital seconds per real second.

    `defect` names one planted defect (stacks/hospital/bugs.py); None takes it from the environment
    variable HOSPITAL_BUG. Raises TopologyError for an unknown one.
    """
    planted = os.environ.get(VARIABLE, "") if defect is None else defect
    if planted and planted not in BUGS:
        known = ", ".join(sorted(BUGS))
        raise TopologyError(f"{VARIABLE}={planted!r} is no planted defect (known: {known})")
    services = _services("A" if planted == "copy-in-room-a" else "B")
    links = _links()
    if planted == "standby-gone":
        services = tuple(s for s in services if s.name != "ehr-db-b")
        links = tuple(k for k in links if "ehr-db-b" not in (k.source, k.target))
    env = {"HOSPITAL_SPEED": f"{speed:g}", VARIABLE: planted}
    return Stack(
        name="hospital", rooms=ROOMS, services=services, links=links, outside=OUTSIDE,
        audit=AUDIT, load=LOAD_UI, env=env, speed=speed, defect=planted,
    )  # fmt: skip


def _services(copy_room: str) -> tuple[Service, ...]:
    copy_array = f"array-{copy_room.lower()}"
    return (
        _database("ehr-db-a", "A", "array-a"),
        _database("ehr-db-b", "B", "array-b"),
        Service(
            "ehr-db-witness", "C", _command("witness"), (RAFT, HTTP), role="ehr-db-witness",
            volume=Volume("ehr-db-witness", "disk-c"),
        ),
        _service("ehr-a", "A", "ehr", (HTTP, MLLP), "array-a"),
        _service("ehr-b", "B", "ehr", (HTTP, MLLP), "array-b"),
        _service("ro-copy", copy_room, "ro_copy", (HTTP,), copy_array),
        _service("gam", "B", "gam", (HTTP,), "array-b"),
        _service("engine", "A", "engine", (HTTP, MLLP), "array-a"),
        _service("lis", "B", "lis", (HTTP, MLLP), "array-b"),
        _service("analysers", "lab", "analysers", (HTTP,), "disk-lab"),
    )  # fmt: skip


def _service(name: str, room: str, module: str, ports: tuple[Port, ...], array: str) -> Service:
    role = module.replace("_", "-")
    return Service(name, room, _command(module), ports, role=role, volume=Volume(name, array))


def _database(name: str, room: str, array: str) -> Service:
    return Service(
        name, room, _command("database"), (POSTGRES, REST, RAFT), role="ehr-db",
        volume=Volume(name, array), ready=Readiness(port="rest", path="/health", within_s=60.0),
        stop_s=10.0,
    )  # fmt: skip


def _command(module: str) -> tuple[str, ...]:
    return ("{python}", "-m", f"stacks.hospital.{module}")


def _links() -> tuple[Link, ...]:
    pair, nodes = ("ehr-db-a", "ehr-db-b"), ("ehr-a", "ehr-b")
    calls: list[tuple[str, str, str]] = []
    for one, other in (pair, pair[::-1]):
        calls += [(one, other, port) for port in ("postgres", "rest", "raft")]
        calls += [(one, "ehr-db-witness", "raft"), ("ehr-db-witness", one, "raft")]
    for reader in (*nodes, "ro-copy"):
        calls += [(reader, database, "postgres") for database in pair]
    calls += [(node, "engine", "mllp") for node in nodes]
    calls += [("engine", node, "mllp") for node in nodes]
    calls += [
        ("engine", "lis", "mllp"),
        ("lis", "engine", "mllp"),
        ("gam", "engine", "mllp"),
        ("analysers", "lis", "mllp"),
        ("wards", "ehr-a", "http"),
        ("wards", "ehr-b", "http"),
        ("wards", "ro-copy", "http"),
        ("admissions", "gam", "http"),
        ("laboratory", "analysers", "http"),
        ("laboratory", "lis", "http"),
    ]
    return tuple(Link(*call) for call in calls)
