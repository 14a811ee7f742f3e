"""The radiology of the hand-written day: examinations, their images everywhere, some without the
worklist."""

from __future__ import annotations

from dataclasses import replace

from tests.claims.day import BACK, FAULT, Day, Entry, Row

INSTANCES = 3  # of each examination
SCAN_S = 3.0  # three hospital minutes
KLASSES = ("P0", "P1", "P1", "P3")


def study_of(number: int) -> str:
    return f"2.25.{number:05}"


def add_imaging(day: Day) -> None:
    """250 examinations, five a second; every second one of the fault without the worklist."""
    for i in range(250):
        at = 20.0 + i / 5
        klass, mrn, placer = KLASSES[i % 4], f"M{i % 40:03}", f"I{i:04}"
        _order(day, i, at - 1.0, klass, mrn, placer)
        downtime = FAULT[0] <= at < FAULT[1] and i % 2 == 0
        _examination(day, i, at, klass, mrn, placer)
        _stored(day, i, at, mrn, placer, downtime)


def _order(day: Day, i: int, at: float, klass: str, mrn: str, placer: str) -> None:
    took = BACK - at + 0.1 if FAULT[0] <= at < BACK else 0.1
    day.ops.append(Entry("imaging.order", klass, at, took, key=placer, subject=mrn, found=mrn,
                         value=f"i{i:04}", via="ehr-a"))  # fmt: skip
    for store in ("ehr-db-a", "ehr-db-b", "ris"):
        day.rows.append(Row(store, "order", placer, mrn, digest=f"i{i:04}"))


def _examination(day: Day, i: int, at: float, klass: str, mrn: str, placer: str) -> None:
    exam, study = f"E{i:04}", study_of(i)
    common = {"subject": mrn, "via": "modalities"}
    day.ops += [
        Entry("examination.start", klass, at, 0.05, key=exam, value=placer, **common),
        Entry("examination.done", klass, at, SCAN_S + 0.1, key=exam, answer=study, found=mrn,
              strength="seen", **common),
        Entry("image.read", klass, at + SCAN_S + 1, key=study, subject=mrn, found=mrn,
              via="pacs-a", strength="200"),
    ]  # fmt: skip
    if klass != "P3":
        day.ops.append(Entry(
            "study.view", klass, at + SCAN_S, 0.6, key=study, subject=mrn, found=mrn,
            value=str(INSTANCES), via="pacs-a", strength="seen",
        ))  # fmt: skip


def _stored(day: Day, i: int, at: float, mrn: str, placer: str, downtime: bool) -> None:
    study, status = study_of(i), "downtime" if downtime else "scheduled"
    done = at + SCAN_S
    day.rows += [
        Row("modalities", "study", study, mrn, status, digest=placer, at=done),
        Row("ris", "match", study, mrn, "matched" if downtime else "scheduled", digest=placer,
            at=done + 0.5),
    ]  # fmt: skip
    for number in range(INSTANCES):
        row = Row("", "instance", f"{study}.{number}", mrn, "stored", 0,
                  digest=f"px{i:04}{number}", at=done + 0.4)  # fmt: skip
        day.rows += [replace(row, store=name) for name in ("pacs-a", "pacs-b")]
        day.rows.append(replace(row, store="modalities", status="deleted", at=done + 1.0))
