"""A seeded, synthetic day at Saint-Luc: journal files as bytes, rich enough to draw everything.

Nothing here was measured; the numbers are made up so that every lane of a report has something.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from chaos.journal import events as e
from chaos.objective import Bound, Figure, Objective
from chaos.verdict import Finding, Judgement, Verdict

ROOMS = {
    "ehr-a": "A", "ehr-db-a": "A", "engine": "A",
    "ehr-b": "B", "ehr-db-b": "B", "ro-copy": "B", "gam": "B", "lis": "B",
    "analysers": "lab", "ehr-db-witness": "C",
}  # fmt: skip
SPEED = 60.0
T0 = 5_000.0
END_S = 142.0
COMMAND = "hospital-chaos run saint-luc --runtime process --preset ci --seed 7"

_encode = msgspec.json.Encoder().encode


def lines(events: Sequence[e.Event]) -> bytes:
    """Events as journal lines."""
    return b"".join(_encode(event) + b"\n" for event in events)


def run_started(**change: object) -> e.RunStarted:
    """The first line of a run at second 0."""
    began = e.RunStarted(
        T0, "saint-luc", 7, "process", "2026-11-22T15:00:00+00:00", "ci", SPEED, "hospital", ROOMS
    )
    return msgspec.structs.replace(began, **change)


def harness() -> list[e.Event]:
    """What the harness saw: three faults, one of them of the database's primary node."""
    at = lambda s: T0 + s  # noqa: E731
    events: list[e.Event] = [run_started()]
    events += [e.ServiceSeen(at(0.2 + i / 50), s, "starting") for i, s in enumerate(ROOMS)]
    events += [e.ServiceSeen(at(5 + i / 9), s, "ready") for i, s in enumerate(ROOMS)]
    events += [
        e.WorkloadStarted(at(7), "hospital-day", 48.0),
        e.WindowOpened(at(8), "warmup"),
        e.WindowClosed(at(28), "warmup"),
        e.WindowOpened(at(28.2), "fault"),
        e.FaultBegan(at(28.3), "1-kill-ehr-a", "kill", ("ehr-a",),
                     "ehr-a crashes (SIGKILL) and is not restarted", ("A",)),
        e.FaultSeen(at(28.35), "1-kill-ehr-a", "the process is gone and refuses connections", 46.0),
        e.ServiceSeen(at(28.4), "ehr-a", "gone", "process ended"),
        e.FaultBegan(at(30.3), "2-kill-ehr-db-a", "kill", ("ehr-db-a",),
                     "the database's primary node ehr-db-a is lost", ("A",)),
        e.FaultSeen(at(30.4), "2-kill-ehr-db-a", "port 5432 refuses connections", 88.0),
        e.ServiceSeen(at(30.5), "ehr-db-a", "gone", "process ended"),
        e.ServiceSeen(at(31.2), "ehr-b", "degraded", "reads from the standby, no writable primary"),
        e.ServiceSeen(at(39.8), "ehr-b", "ready"),
        e.FaultBegan(at(55), "3-latency-engine-lis", "latency", ("engine>lis.mllp",),
                     "the link from the interface engine to the laboratory slows down ×10",
                     ("A", "B")),
        e.FaultSeen(at(55.4), "3-latency-engine-lis", "round trip 412 ms, 40 ms before", 391.0),
        e.ServiceSeen(at(58), "lis", "degraded", "results are late"),
        e.FaultEnded(at(80), "3-latency-engine-lis"),
        e.FaultGone(at(80.2), "3-latency-engine-lis", "round trip 41 ms", 210.0),
        e.ServiceSeen(at(81), "lis", "ready"),
        e.FaultEnded(at(88.4), "2-kill-ehr-db-a"),
        e.ServiceSeen(at(88.6), "ehr-db-a", "starting"),
        e.FaultEnded(at(88.9), "1-kill-ehr-a"),
        e.ServiceSeen(at(89), "ehr-a", "starting"),
        e.ServiceSeen(at(92), "ehr-a", "ready"),
        e.FaultGone(at(92.1), "1-kill-ehr-a", "ehr-a runs and is ready", 3_200.0),
        e.ServiceSeen(at(95), "ehr-db-a", "ready"),
        e.FaultGone(at(95.1), "2-kill-ehr-db-a", "ehr-db-a runs as standby", 6_700.0),
        e.WindowClosed(at(95.2), "fault"),
        e.WindowOpened(at(95.3), "settle"),
        e.WorkloadEnded(at(100), "hospital-day", 4_486, 4_486, 3.1, 18.7),
        e.Drained(at(118.4), True),
        e.WindowClosed(at(120), "settle"),
        e.RunEnded(at(141.9), "completed"),
    ]  # fmt: skip
    return events


def traffic(seed: int = 7, per_s: float = 48.0) -> list[e.Event]:
    """Open-model arrivals from second 7 to 100; the time between 31 s and 39 s hurts writes."""
    dice = random.Random(seed)
    mix = [
        ("chart.read", "P0", 6), ("chart.read", "P1", 8), ("chart.read", "P3", 3),
        ("order.create", "P0", 3), ("order.create", "P1", 4), ("order.create", "P3", 1),
        ("medication.create", "P1", 2), ("administration.create", "P1", 2),
        ("observation.create", "P1", 2), ("patient.create", "P2", 1),
        ("encounter.create", "P2", 1), ("specimen.load", "P1", 8), ("specimen.result", "P1", 2),
        ("stat.turnaround", "P0", 2), ("critical.ack", "P0", 0.7), ("copy.write", "P3", 1.2),
        ("back.office", "P4", 1.5),
    ]  # fmt: skip
    weights = [w for *_, w in mix]
    events: list[e.Event] = []
    s, n = 7.0, 0
    while True:
        s += dice.expovariate(per_s)
        if s >= 100:
            break
        n += 1
        kind, klass, _ = dice.choices(mix, weights)[0]
        events += _operation(dice, f"w{n}", kind, klass, s)
    return sorted(events, key=lambda event: event.t)


def _operation(dice: random.Random, op: str, kind: str, klass: str, s: float) -> list[e.Event]:
    t = T0 + s
    mrn = f"{dice.randrange(10**6):06d}"
    invoked = e.OpInvoked(t + 0.001, op, kind, klass, t, f"K{op}", mrn, "ward 31", "ehr-a")
    no_primary, slow = 30.4 < s < 38.9, 55 < s < 80
    took = dice.lognormvariate(-3.9, 0.5)
    if kind == "copy.write":
        return [invoked, e.OpRefused(t + took, op, "the copy is read-only", "ro-copy")]
    if kind in ("stat.turnaround", "specimen.result", "critical.ack"):
        took = dice.lognormvariate(2.6 if kind != "critical.ack" else 0.9, 0.35)
        took *= 2.1 if slow else 1.0
        if kind == "stat.turnaround" and s > 92 and dice.random() < 0.4:
            return [invoked, e.OpUnknown(t + 4, op, "cut short: the traffic was stopped")]
        return [invoked, e.OpOk(t + took, op, "seen", "ehr-b", mrn)]
    if no_primary and kind == "chart.read":
        took *= 4
        if dice.random() < 0.03:
            return [invoked, e.OpUnknown(t + 5, op, "time-out after 5 s", "ehr-b")]
    elif no_primary and klass in ("P3", "P4", "P2") and dice.random() < 0.8:
        refused = e.OpRefused(t + 0.4, op, "503 overload, retry later", "ehr-b", 3)
        return [invoked, e.Shed(t + 0.1, op, klass, "ehr-b", 2.0, "no writable primary"), refused]
    elif no_primary and kind.endswith(".create"):
        took += max(0.0, 39.2 - s)
        if dice.random() < 0.06:
            return [invoked, e.OpUnknown(t + 15, op, "connection reset", "ehr-b")]
    if slow and kind == "specimen.load":
        took *= 9
    return [invoked, e.OpOk(t + took, op, "200" if "read" in kind else "201", "ehr-b", mrn)]


def final_read() -> list[e.Event]:
    """What the auditor read."""
    events: list[e.Event] = []
    for i, store in enumerate(("ehr-db-a", "ehr-db-b", "lis", "analysers", "gam")):
        t = T0 + 122 + i
        for n in range(20):
            events.append(e.Record(t, store, "order", f"Kw{n}", "000001", digest="ab12"))
        events.append(e.StoreRead(t + 0.5, store, True, 20))
    events.append(e.StoreRead(T0 + 128, "ro-copy", False, 0, "time-out after 10 s"))
    return events


def journal(seed: int = 7) -> dict[str, bytes]:
    """The journal folder's files."""
    return {
        "auditor.jsonl": lines(final_read()),
        "harness.jsonl": lines(harness()),
        "hospital-day.jsonl": lines(traffic(seed)),
    }


def claims() -> tuple[Verdict, ...]:
    """Fifteen claims: most hold, two break, two cannot be judged."""
    held = [
        ("RA-1", "Carers of inpatients and vital emergencies can always read the record.",
         "99.6 % of 1,311 chart reads were served by a sanctioned path; longest gap 4.1 s",
         1_311, 600),
        ("RA-3", "Nobody can mistake the read-only copy for the live record.",
         "all 131 answers were marked; 112 writes were refused with a reason", 112, 50),
        ("OR-2", "An order accepted while lab/imaging/pharmacy is down will reach it.",
         "312 accepted orders, each delivered once, the slowest 4 min after the laboratory"
         " was back", 312, 100),
        ("RS-1", "The analysers keep working.", "throughput 99.1 % of the warm-up; 0 lost",
         801, 500),
        ("RS-2", "A critical result always reaches a carer.",
         "63 of 63 acknowledged, the slowest after 7 min (hospital time)", 63, 20),
        ("PR-1", "When capacity drops, elective work is shed first.",
         "P0-P1 99.3 %; no priority inversion in 731 requests", 731, 300),
        ("IN-2", "Nothing is entered twice or out of order.", "no duplicate key, no regression",
         1_904, 1_000),
        ("IN-3", "No patient gets another patient's data.", "1,904 records match the ledger",
         1_904, 1_000),
        ("IN-4", "There is one truth.", "never two writable primaries in 402 looks", 402, 100),
        ("FO-2", "The rest is unaffected.", "error rate +0.0 pt, p95 1.2 × the warm-up",
         1_213, 1_000),
    ]  # fmt: skip
    made = [
        Verdict(i, s, Finding.HELD, r, n, need, (f"harness.jsonl:{25 + k}", "harness.jsonl:31"))
        for k, (i, s, r, n, need) in enumerate(held)
    ]
    made.insert(1, Verdict(
        "RA-2", "The read-only copy is recent and complete.", Finding.INCONCLUSIVE,
        "the final read of ro-copy failed (time-out after 10 s): the copy could not be compared",
        0, 1, ("auditor.jsonl:106",)))  # fmt: skip
    made.insert(3, Verdict(
        "OR-1", "Prescription and patient record are not interrupted.", Finding.BROKEN,
        "97.8 % of 466 order writes were acknowledged, 99.0 % are stated; longest interruption"
        " 8.9 s", 466, 300,
        tuple(f"hospital-day.jsonl:{n}" for n in range(2_204, 2_240))))  # fmt: skip
    made.append(Verdict(
        "RS-3", "Urgent tests stay timely.", Finding.BROKEN,
        "p90 of 178 urgent tests was 44 min before and 112 min during the fault; 97 min are stated"
        " (hospital time, × 60)", 178, 100,
        ("hospital-day.jsonl:4711", "hospital-day.jsonl:5020", "no-such-file.jsonl:3"),
    ))  # fmt: skip
    made.append(Verdict(
        "FO-1", "The spare takes over quickly.", Finding.INCONCLUSIVE,
        "1 failover of 5 needed was seen (9.4 s, 60 s are stated); preset ci asks for one, because"
        " repetitions are the soak preset's task", 1, 5, ("harness.jsonl:32",)))  # fmt: skip
    return tuple(made)


def judgement(
    outcome: Finding = Finding.BROKEN,
    made: tuple[Verdict, ...] | None = None,
    reasons: tuple[str, ...] = (),
) -> Judgement:
    """The day judged."""
    found = claims() if made is None else made
    return Judgement("saint-luc", 7, "process", outcome, found, reasons)


ORDERS = Objective(
    "orders", "orders and prescriptions", "faults",
    (Figure("orders are taken", "466 operations asked while it lasted, 21 in vain", 8.4, 8.9, 466,
            21, ("2-kill-ehr-db-a",), ("harness.jsonl:25",)),),
    Figure("acknowledged writes", "3 of 1,904 acknowledged writes missing or changed", 0.9, 1.25,
           1_904, 3, ("2-kill-ehr-db-a",), ("hospital-day.jsonl:12",)),
    (
        Bound("OR-1", "RTO 60 s", rto=True, rto_s=60.0),
        Bound("IN-2", "RPO 0 s", rpo=True, rpo_s=0.0),
    ),
)  # fmt: skip
LABORATORY = Objective(
    "laboratory", "laboratory", "faults",
    (
        Figure("analysers take tubes", "no fault hit it"),
        Figure("results reach the ward", "12 operations asked while it lasted, 12 in vain", 15.0,
               None, 12, 12, ("3-latency-engine-lis",)),
    ),
    Figure("acknowledged writes", "nobody knows: lis was not read to its end", n=40),
    (Bound("RS-1", "", rto=True, rpo=True),),
)  # fmt: skip
BACKUP = Objective(
    "orders", "orders and prescriptions", "backup",
    (Figure("restored from backup", "2.50 s by the drill's own clock", 2.5, 3.0, 1),),
    Figure("acknowledged writes", "none of 318 acknowledged writes is missing", 0.0, 2.65, 318),
    (Bound("RA-1", "RTO 180 s", rto=True, rpo=True, rto_s=180.0, rpo_s=10.0),),
)  # fmt: skip
MEASURED = (ORDERS, BACKUP, LABORATORY)
"""Recovery of three systems: measured, restored in a drill, hardly measured."""
