"""A hospital day written by hand: a short run in which everything held, to be spoiled by tests.

Times are seconds of the run (0 = run.started); one hospital minute is one real second. The
primary database ehr-db-a is killed from 40 to 60, ehr-db-b takes over at 45.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import msgspec

from chaos.journal import events as ev
from chaos.journal.history import History, no_collections

T0 = 1_000.0
WARM, FAULT, TRAFFIC_END, DRAINED, READ = (20.0, 39.0), (40.0, 60.0), 90.0, 145.0, 146.0
BACK = 45.0  # ehr-db-b takes over
RUN_S = {True: 8.0, False: 15.0}  # an analyser's run, by STAT
STORES = (
    "ehr-db-a", "ehr-db-b", "lis", "analysers", "gam", "ro-copy", "engine",
    "pacs-a", "pacs-b", "modalities", "dicom-router", "ris",
    "scheduling", "website", "callcentre", "sms", "clinic-lists", "billing",
)  # fmt: skip
SERVICES = (*STORES, "ehr-a", "ehr-b", "emergency-viewer", "incident")
UTC = "2026-01-20T15:00:00+00:00"


@dataclass
class Entry:
    """One operation; `outcome` is ok, refused, unknown or pending."""

    kind: str
    klass: str
    at: float
    took: float = 0.1
    outcome: str = "ok"
    key: str = ""
    subject: str = ""
    ward: str = ""
    value: str = ""
    via: str = ""
    found: str = ""
    answer: str = ""
    reason: str = ""
    strength: str = "201"
    shed: str = ""  # reason of an attempt that was refused for overload


@dataclass
class Row:
    """One stored record."""

    store: str
    kind: str
    key: str
    subject: str = ""
    status: str = "active"
    version: int = 1
    digest: str = ""
    count: int = 1
    at: float = 0.0


@dataclass
class Look:
    """One sample."""

    what: str
    subject: str
    at: float
    value: float = 0.0
    text: str = ""
    ok: bool = True


@dataclass
class Day:
    """A run as lists that a test may spoil before `history()` reads it."""

    ops: list[Entry] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    read: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(STORES, True))
    drained: tuple[bool, str] | None = (True, "")
    harness: list[ev.Event] = field(default_factory=list)
    extra: list[ev.Event] = field(default_factory=list)
    workload_ended: bool = True
    late_p99_ms: float = 5.0

    def of(self, *kinds: str, during: bool = False) -> list[Entry]:
        """Operations of these kinds, only those intended during the fault if asked."""
        start, end = FAULT if during else (0.0, 1e9)
        return [o for o in self.ops if o.kind in kinds and start <= o.at < end]

    def stored(self, store: str, kind: str = "") -> list[Row]:
        """Records of a store."""
        return [r for r in self.rows if r.store == store and kind in ("", r.kind)]

    def forget(self, keep: Callable[[Row], bool]) -> None:
        """Remove records."""
        self.rows = [r for r in self.rows if keep(r)]

    def sampled(self, what: str) -> list[Look]:
        """Samples of one kind."""
        return [s for s in self.looks if s.what == what]

    # ------------------------------------------------------------ rendering

    def files(self) -> dict[str, bytes]:
        """The journal's files."""
        started = ev.WorkloadStarted(t=T0 + WARM[0] - 1, workload="day", planned_per_s=50)
        traffic: list[ev.Event] = [started]
        for number, op in enumerate(sorted(self.ops, key=lambda o: o.at)):
            traffic += _events(f"day-{number}", op)
        traffic.sort(key=lambda e: e.t)
        if self.workload_ended:
            n = len(self.ops)
            traffic.append(ev.WorkloadEnded(
                t=max(T0 + TRAFFIC_END + 5, traffic[-1].t), workload="day", planned=n, started=n,
                late_p99_ms=self.late_p99_ms, late_max_ms=20.0,
            ))  # fmt: skip
        watch = [
            ev.Sample(t=T0 + s.at, what=s.what, subject=s.subject, value=s.value, text=s.text,
                      ok=s.ok)
            for s in sorted(self.looks, key=lambda s: s.at)
        ]  # fmt: skip
        return {
            "harness.jsonl": _lines(sorted([*self.harness, *self.extra], key=lambda e: e.t)),
            "traffic.jsonl": _lines(traffic),
            "watch.jsonl": _lines(watch),
            "audit.jsonl": _lines(self._audit()),
        }

    def _audit(self) -> list[ev.Event]:
        events: list[ev.Event] = []
        if self.drained is not None:
            ok, reason = self.drained
            events.append(ev.Drained(t=T0 + DRAINED, ok=ok, reason=reason))
        shelves = defaultdict[str, list[Row]](list)
        for row in self.rows:
            shelves[row.store].append(row)
        for store, complete in self.read.items():
            rows = shelves[store]
            events += [
                ev.Record(
                    t=T0 + READ, store=store, kind=r.kind, key=r.key, subject=r.subject,
                    status=r.status, version=r.version, digest=r.digest, count=r.count,
                    at=T0 + r.at if r.at else 0.0,
                )
                for r in rows
            ]  # fmt: skip
            events.append(ev.StoreRead(
                t=T0 + READ + 1, store=store, complete=complete, records=len(rows),
                reason="" if complete else "connection refused",
            ))  # fmt: skip
        return events

    def history(self) -> History:
        """What the judge sees."""
        return History.of(self.files())


def _lines(events: list[ev.Event]) -> bytes:
    return msgspec.json.Encoder().encode_lines(events)


def _events(name: str, op: Entry) -> list[ev.Event]:
    t = T0 + op.at
    done = t + op.took
    events: list[ev.Event] = [
        ev.OpInvoked(t=t, op=name, kind=op.kind, klass=op.klass, intended=t, key=op.key,
                     subject=op.subject, ward=op.ward, target=op.via, value=op.value)
    ]  # fmt: skip
    if op.shed:
        events.append(ev.Shed(t=t + op.took / 2, op=name, klass=op.klass, via=op.via,
                              retry_after_s=1, reason=op.shed))  # fmt: skip
    if op.outcome == "ok":
        events.append(ev.OpOk(t=done, op=name, strength=op.strength, via=op.via,
                              subject=op.found, value=op.answer))  # fmt: skip
    elif op.outcome == "refused":
        events.append(ev.OpRefused(t=done, op=name, reason=op.reason, via=op.via))
    elif op.outcome == "unknown":
        events.append(ev.OpUnknown(t=done, op=name, reason=op.reason or "time-out", via=op.via))
    return events


# ---------------------------------------------------------------- the day on which all held


def good_day() -> Day:
    """Every claim has its full minimum evidence and holds. A new one each time, to be spoiled."""
    with no_collections():
        day: Day = pickle.loads(_good_day())
    return day


@cache
def _good_day() -> bytes:
    """Written once: hundreds of tests begin with it."""
    from tests.claims.appointments_day import add_appointments  # they build on this module
    from tests.claims.backups_day import add_backups
    from tests.claims.bad_input_day import add_bad_input
    from tests.claims.imaging_day import add_imaging
    from tests.claims.recovery_day import add_recovery

    day = Day()
    _harness(day)
    _reads(day)
    _writes(day)
    _laboratory(day)
    _administration(day)
    _overload(day)
    _watch(day)
    add_imaging(day)
    add_appointments(day)
    add_bad_input(day)
    add_recovery(day)
    add_backups(day)
    return pickle.dumps(day)


def _harness(day: Day) -> None:
    fault, story = "1-kill-ehr-db-a", "ehr-db-a is killed"
    day.harness = [
        ev.RunStarted(t=T0, name="test", seed=7, runtime="fake", utc=UTC,
                      preset="ci", speed=60.0, stack="hospital",
                      services=dict.fromkeys(SERVICES, "A")),
        ev.WindowOpened(t=T0 + WARM[0], window="warmup"),
        ev.WindowClosed(t=T0 + WARM[1], window="warmup"),
        ev.WindowOpened(t=T0 + FAULT[0], window="fault"),
        ev.FaultBegan(t=T0 + FAULT[0], fault=fault, kind="kill", targets=("ehr-db-a",),
                      story=story),
        ev.FaultSeen(t=T0 + FAULT[0] + 0.05, fault=fault, observation="process gone", ms=50),
        ev.WindowClosed(t=T0 + FAULT[1], window="fault"),
        ev.FaultEnded(t=T0 + FAULT[1] + 0.1, fault=fault),
        ev.FaultGone(t=T0 + FAULT[1] + 2.0, fault=fault, observation="ready"),
        ev.WindowOpened(t=T0 + TRAFFIC_END + 5, window="settle"),
        ev.WindowClosed(t=T0 + READ + 2, window="settle"),
        ev.RunEnded(t=T0 + READ + 3, outcome="completed"),
    ]  # fmt: skip


def _every(step_s: float) -> list[float]:
    start, end = WARM[0], TRAFFIC_END - 20
    return [start + i * step_s for i in range(int((end - start) / step_s))]


def _often(step_s: float) -> list[float]:
    """Every `step_s` during the fault, of which the claims want evidence, and a third as often
    before and after it: what is not there need not be judged hundreds of times."""
    return [at for i, at in enumerate(_every(step_s)) if FAULT[0] <= at < FAULT[1] or i % 3 == 0]


def _reads(day: Day) -> None:
    for klass in ("P0", "P1"):
        for i, at in enumerate(_often(1 / 18)):
            mrn = f"M{i % 40:03}"
            day.ops.append(Entry("chart.read", klass, at, key=mrn, subject=mrn, found=mrn,
                                 ward=f"W{i % 4}", via="ehr-a", strength="200"))  # fmt: skip


def _replicated(day: Day, row: Row) -> None:
    day.rows += [replace(row, store=node) for node in ("ehr-db-a", "ehr-db-b")]


def _writes(day: Day) -> None:
    for i, at in enumerate(_every(1 / 18)):
        mrn, key = f"M{i % 40:03}", f"O{i:05}"
        # Nobody can write while the primary fails over: those wait and are acknowledged after.
        took = 0.1 if not FAULT[0] <= at < BACK else BACK - at + 0.1
        kind = "order.create" if i % 3 else "medication.create"
        day.ops.append(Entry(kind, "P1" if i % 2 else "P0", at, took, key=key, subject=mrn,
                             found=mrn, ward=f"W{i % 4}", value=f"d{i:05}",
                             via="ehr-a"))  # fmt: skip
        record = "order" if i % 3 else "medication"
        _replicated(day, Row("", record, key, mrn, digest=f"d{i:05}"))
        if record == "order":
            day.rows.append(Row("lis", "order", key, mrn, digest=f"d{i:05}", at=at + took + 0.2))
            if i % 3 == 1:
                day.ops.append(Entry("stat.turnaround", "P0", at, took=14.0, key=key, subject=mrn,
                                     found=mrn, via="ehr-a", strength="seen"))  # fmt: skip


def _laboratory(day: Day) -> None:
    for i, at in enumerate(_often(1 / 25)):
        mrn, key, stat = f"M{i % 40:03}", f"S{i:05}", i % 4 == 0
        run = RUN_S[stat] + 0.5
        common = {"key": key, "subject": mrn, "via": "analysers"}
        day.ops.append(Entry("specimen.load", "P1", at, value=f"O{i:05}", **common))
        day.ops.append(Entry("specimen.result", "P1", at, run, found=mrn, strength="seen",
                             **common))  # fmt: skip
        if i % 10 == 0:
            day.ops.append(Entry("critical.ack", "P0", at + run, 2.0, key=key, subject=mrn,
                                 found=mrn, via="ehr-a", answer="nurse Garcia"))  # fmt: skip
        digest = f"r{i:05}"
        day.rows.append(Row("analysers", "specimen", key, mrn, "done", digest=digest))
        day.rows.append(Row("lis", "report", key, mrn, "final", 2, digest))
        _replicated(day, Row("", "report", key, mrn, "final", 2, digest))


def _administration(day: Day) -> None:
    for i, at in enumerate(_often(1 / 8)):
        mrn, visit = f"A{i:04}", f"A{i:04}-V"
        day.ops.append(Entry("patient.create", "P1", at, key=mrn, subject=mrn, value=f"p{i:04}",
                             via="gam"))  # fmt: skip
        day.ops.append(Entry("encounter.create", "P1", at, key=visit, subject=mrn, via="gam"))
        for store in ("gam", "ehr-db-a", "ehr-db-b", "lis"):
            day.rows.append(Row(store, "patient", mrn, mrn, digest=f"p{i:04}"))
        for store in ("gam", "ehr-db-a", "ehr-db-b"):
            day.rows.append(Row(store, "encounter", visit, mrn, "in-progress"))
        day.rows.append(Row("ro-copy", "patient", mrn, mrn, digest=f"p{i:04}"))


def _overload(day: Day) -> None:
    for i, at in enumerate(_every(1 / 2)):
        shed = FAULT[0] <= at < FAULT[1]
        day.ops.append(Entry(
            "back.office", "P4", at, key=f"B{i}", via="ehr-b",
            outcome="refused" if shed else "ok", shed="overloaded: P4 is shed" if shed else "",
            reason="ehr-b: 503 overloaded: P4 is shed",
        ))  # fmt: skip
        day.ops.append(Entry("chart.read", "P3", at, key="M001", subject="M001", found="M001",
                             ward="W1", via="ehr-b", strength="200"))  # fmt: skip
        day.ops.append(Entry("copy.write", "P3", at, outcome="refused", key=f"X{i}",
                             via="ro-copy", reason="a read-only copy as of 15:00"))  # fmt: skip


def _watch(day: Day) -> None:
    for at in _every(0.25):
        a, b = at < FAULT[0], at >= BACK
        day.looks.append(Look("db.writable", "ehr-db-a", at, T0 + at - 0.01, "1", ok=a))
        day.looks.append(Look("db.writable", "ehr-db-b", at, T0 + at - 0.01, "2", ok=b))
    for at in _every(1.0):
        day.looks.append(Look("copy.asof", "ro-copy", at, T0 + at - 3.0))
        day.looks.append(Look("copy.marker", "ro-copy", at, text="READ-ONLY"))
        depth = 30.0 if FAULT[0] <= at < FAULT[1] + 1 else 1.0
        day.looks.append(Look("queue.depth", "engine:lis", at, depth))
    for at in _every(5.0):
        day.looks.append(Look("copy.census", "ro-copy", at, 1.0, "40 of 40"))
