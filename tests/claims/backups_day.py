"""The vault of the hand-written day: a restore drill, twenty bits that flip, a check; and the six
cases of both claims."""

from __future__ import annotations

from dataclasses import replace

from chaos.journal import events as ev
from tests.claims.day import FAULT, T0, WARM, Day, Look, Row
from tests.claims.spoils import (
    HELD,
    Cases,
    Spoil,
    change,
    during,
    looks,
    lose,
    thin,
)

DRILL, ASKED, REPORTED = "drill-1", 60.5, 64.0
ROT, ROTTEN, CHECKED, FOUND = "2-bit-rot-ehr-db-b", 58.0, 58.5, 61.0
FLIPS = 20
FILE = "pgdata/base/5/2619"
INTRUDED = "DELETE /backups was answered 405"
TRIED, COPIED = 70.0, 62.0
SYSTEMS = ("engine", "gam", "lis", "scheduling", "billing", "images")
WRITES = ("order.create", "medication.create", "imaging.order")


def add_backups(day: Day) -> None:
    """The record is restored for trial when the fault is over; then the standby's disk rots."""
    numbers = {"files": 1_303.0, "rows": 900.0, "read": 950.0, "rto_s": 3.2}
    instants = {"asked": ASKED, "to": ASKED, "reached": ASKED - 0.4, "base": 15.0}
    for what, value in numbers.items():
        day.looks.append(Look(f"drill.{what}", DRILL, REPORTED - 0.1, value))
    for what, at in instants.items():
        day.looks.append(Look(f"drill.{what}", DRILL, REPORTED - 0.1, T0 + at))
    day.looks.append(Look("drill", DRILL, REPORTED))
    for second in range(int(WARM[0]), 60, 4):
        day.looks.append(Look("backup.intruder", "backup", float(second), 405.0, INTRUDED))
    day.read["backup"] = True
    written = {op.key for op in day.of(*WRITES) if op.at + op.took <= ASKED}
    day.rows += [
        replace(row, store="backup") for row in day.stored("ehr-db-a")
        if row.kind not in ("order", "medication") or row.key in written
    ]  # fmt: skip
    _systems(day)
    _rot(day)


def _systems(day: Day) -> None:
    """Every other system is restored from a copy that was made eight seconds before."""
    day.rows += [
        Row("engine.received", "kept.message", f"C{number:04}", f"M{number % 40:03}", "delivered",
            digest=f"m{number:04}", at=WARM[0] + number / 10)
        for number in range(400)
    ]  # fmt: skip
    day.read["engine.received"] = True
    opened = {op.key: op.at + op.took for op in day.of("encounter.create") if op.at < FAULT[0]}
    for row in day.stored("billing", "charge"):  # it hears of them from the engine
        row.at = opened[row.key] + 0.2 if row.key in opened else row.at
    for system in SYSTEMS:
        subject, numbers = f"{system} 1", {"files": 1.0, "rows": 400.0, "read": 390.0, "rto_s": 0.2}
        instants = {"asked": TRIED, "copy": COPIED, "newest": COPIED - 0.2}
        for what, value in numbers.items():
            day.looks.append(Look(f"trial.{what}", subject, TRIED + 1, value))
        for what, at in instants.items():
            day.looks.append(Look(f"trial.{what}", subject, TRIED + 1, T0 + at))
        source = "pacs-a" if system == "images" else "17.db"
        day.looks.append(Look("trial", subject, TRIED + 1, text=f"from {source}"))
        day.read[f"backup.{system}"] = True
        day.rows += _copied(day, system)


def _copied(day: Day, system: str) -> list[Row]:
    """What that system held by then: written by a client, or taken from another system."""
    name = f"backup.{system}"
    if system == "images":
        pixels = {row.key: row.digest for row in day.stored("modalities", "instance")}
        found = [
            replace(row, store=name, kind="kept.instance", digest=pixels[row.key])
            for row in day.stored("pacs-a", "instance")
        ]  # fmt: skip
        views = {op.key: op for op in day.of("study.view")}.values()
        return found + [
            Row(name, "kept.study", op.key, op.subject, version=int(op.value or 1)) for op in views
        ]
    if system == "engine":
        return [
            replace(row, store=name) for row in day.stored("engine.received") if row.at < COPIED
        ]  # fmt: skip
    known = {op.key for op in day.ops if op.outcome == "ok" and op.at + op.took <= COPIED}
    return [
        replace(row, store=name, kind=f"kept.{row.kind}") for row in day.stored(system)
        if row.key in known or 0 < row.at < COPIED
    ]  # fmt: skip


def _rot(day: Day) -> None:
    flipped = ", ".join(f"ehr-db-b/{FILE} at {page * 8192 + 77}" for page in range(FLIPS))
    seen = f"array-b: {FLIPS} bits flipped in {flipped}"
    day.extra += [
        ev.FaultBegan(t=T0 + ROTTEN, fault=ROT, kind="bit-rot", targets=("ehr-db-b",),
                      story="20 bits flip in pgdata/base/* of ehr-db-b"),
        ev.FaultSeen(t=T0 + ROTTEN + 0.01, fault=ROT, observation=seen),
        ev.FaultEnded(t=T0 + ROTTEN + 0.2, fault=ROT),
        ev.FaultGone(t=T0 + ROTTEN + 0.3, fault=ROT, observation="clean"),
    ]  # fmt: skip
    for page in range(FLIPS):
        told = f"ehr-db-b: ./base/5/2619 page {page} on its disk has a wrong checksum"
        day.looks.append(Look("damage", "backup", FOUND - 0.1, T0 + CHECKED, told, ok=False))
    day.looks.append(Look("integrity", "backup", FOUND, T0 + CHECKED, "damaged", ok=False))


def unreported(day: Day) -> None:
    """One damage is not in the report."""
    day.looks.remove(day.sampled("damage")[7])


def too_early(day: Day) -> None:
    """The all-clear comes while the check still runs."""
    (normal,) = day.sampled("incident.normal")
    normal.at, normal.value = FOUND - 2.0, T0 + FOUND - 2.0


def said_sound(day: Day) -> None:
    """The check asks the database, which answers from memory."""
    day.looks = [look for look in day.looks if look.what != "damage"]
    for look in day.sampled("integrity"):
        look.ok = True


def fewer_flips(day: Day) -> None:
    """Only five bits flipped."""
    for number, event in enumerate(day.extra):
        if isinstance(event, ev.FaultSeen) and event.fault == ROT:
            day.extra[number] = ev.FaultSeen(
                t=event.t, fault=ROT, observation=", ".join(event.observation.split(", ")[:5])
            )


def drill(what: str, value: float) -> Spoil:
    """The report says something else."""
    return looks(f"drill.{what}", lambda _: True, value=value)


def trial(system: str, what: str, value: float) -> Spoil:
    """The report of one system's restore says something else."""
    return looks(f"trial.{what}", lambda look: look.subject == f"{system} 1", value=value)


BACKUPS: dict[str, Cases] = {
    "BK-1": Cases(
        {
            "the restore failed": looks("drill", lambda _: True, ok=False, text="1 row is missing"),
            "nothing was hashed": drill("files", 0.0),
            "nothing was compared": drill("rows", 0.0),
            "nothing was read": drill("read", 0.0),
            "restored too late": drill("rto_s", 400.0),
            "an old base": drill("base", T0 - 1_500.0),
            "acknowledged orders missing": lose("backup", "order"),
            "acknowledged prescriptions missing": lose("backup", "medication"),
            "another content": change("backup", "order", digest="another"),
            "a system's restore failed": looks(
                "trial", lambda look: look.subject == "gam 1", ok=False, text="no sound copy"
            ),
            "a system's file not hashed": trial("engine", "files", 0.0),
            "a system restored too late": trial("lis", "rto_s", 400.0),
            "a system's copy too old": trial("billing", "copy", T0 - 200.0),
            "messages not in the engine's copy": lose("backup.engine", "kept.message", 50),
            "admissions not in the copy": lose("backup.gam", "kept.patient", 50),
            "appointments not in the copy": lose("backup.scheduling", "kept.appointment", 50),
            "charges not in the copy": lose("backup.billing", "kept.charge", 50),
            "orders not in the laboratory's": lose("backup.lis", "kept.order", 50),
            "images not in the copy": lose("backup.images", "kept.instance", 50),
            "a study not in the copy": lose("backup.images", "kept.study", 50),
            "another message restored": change("backup.engine", "kept.message", digest="another"),
            "other pixels restored": change("backup.images", "kept.instance", digest="another"),
            "obeys an intruder": looks(
                "backup.intruder", lambda look: look.at == 40, ok=False,
                text="DELETE /backups/base-1 was answered 200",
            ),
        },
        (during(WRITES, 0.1, outcome="unknown"), HELD),
        thin(*WRITES, keep=12),
    ),
    "IN-5": Cases(
        {
            "one not reported": unreported,
            "normal before the report": too_early,
            "all sound, from memory": said_sound,
        },
        (during(WRITES, 0.1, outcome="unknown"), HELD),
        fewer_flips,
        HELD,
    ),
}  # fmt: skip
assert FAULT[0] < ROTTEN < FAULT[1]
