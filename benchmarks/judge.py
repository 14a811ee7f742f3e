"""How long every claim takes on a long run, reading included: one JSON line per figure.

    python -m benchmarks.judge [operations]

The run is synthetic: operations in the mix of a hospital day, every write acknowledged and stored
in every place where it must be, one failover in the middle. It proves nothing about a hospital.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import tell
from chaos.claims.judge import judge
from chaos.claims.objectives import objectives
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.writer import Writer
from stacks.hospital.claims import CATALOGUE
from stacks.hospital.systems import SYSTEMS

OPERATIONS = 1_000_000
TIME_LIMIT_S = 600
RATE = 500.0  # operations per second of the synthetic run
READS, ORDERS, NOTES, TUBES = 60, 12, 12, 8  # per cent; each tube has a result, so 100 in all
T0 = 1_000.0
STORES = ("ehr-db-a", "ehr-db-b", "lis", "analysers", "gam", "ro-copy", "engine")
SERVICES = dict.fromkeys((*STORES, "ehr-a", "ehr-b"), "A")
"""The synthetic run has the department of care only."""


def _op(i: int, at: float, kind: str, klass: str, took: float, **facts: str) -> list[ev.Event]:
    via = facts.pop("via", "ehr-a")
    name, subject = f"day-{i}-{kind[:2]}", facts["subject"]
    return [
        ev.OpInvoked(t=at, op=name, kind=kind, klass=klass, intended=at, target=via, **facts),
        ev.OpOk(t=at + took, op=name, strength="201", via=via, subject=subject),
    ]


def traffic(n: int) -> Iterator[ev.Event]:
    """The operations of the day."""
    yield ev.WorkloadStarted(t=T0, workload="day", planned_per_s=RATE)
    for i in range(n):
        at, mrn, klass = T0 + i / RATE, f"M{i % 4_000:06}", ("P0", "P1", "P3")[i % 3]
        who = {"subject": mrn, "ward": f"W{i % 20}"}
        turn = i % 100
        if turn < READS:
            yield from _op(i, at, "chart.read", klass, 0.02, key=mrn, **who)
        elif turn < READS + ORDERS:
            yield from _op(i, at, "order.create", klass, 0.03, key=f"O{i}",
                           value=f"{i:016x}", **who)  # fmt: skip
        elif turn < READS + ORDERS + NOTES:
            yield from _op(i, at, "observation.create", klass, 0.03, key=f"N{i}",
                           value=f"{i:016x}", **who)  # fmt: skip
        elif turn < READS + ORDERS + NOTES + TUBES:
            yield from _op(i, at, "specimen.load", "P1", 0.02, key=f"S{i}", value=f"O{i}",
                           via="analysers", **who)  # fmt: skip
        else:
            yield from _op(i, at, "specimen.result", "P1", 9.0, key=f"S{i - TUBES}",
                           via="analysers", subject=f"M{(i - TUBES) % 4_000:06}")  # fmt: skip
    yield ev.WorkloadEnded(t=T0 + n / RATE + 20, workload="day", planned=n, started=n,
                           late_p99_ms=2.0, late_max_ms=9.0)  # fmt: skip


def stores(n: int) -> Iterator[ev.Event]:
    """What the auditor reads."""
    t = T0 + n / RATE + 100
    yield ev.Drained(t=t - 1, ok=True)
    held: dict[str, int] = {}
    for i in range(n):
        turn, mrn = i % 100, f"M{i % 4_000:06}"
        rows: tuple[tuple[str, str, str], ...] = ()
        if READS <= turn < READS + ORDERS:
            rows = tuple((s, "order", f"O{i}") for s in ("ehr-db-a", "ehr-db-b", "lis"))
        elif READS + ORDERS <= turn < READS + ORDERS + NOTES:
            rows = tuple((s, "observation", f"N{i}") for s in ("ehr-db-a", "ehr-db-b"))
        elif READS + ORDERS + NOTES <= turn < READS + ORDERS + NOTES + TUBES:
            rows = (("analysers", "specimen", f"S{i}"),
                    *((s, "report", f"S{i}") for s in ("lis", "ehr-db-a", "ehr-db-b")))  # fmt: skip
        for store, kind, key in rows:
            held[store] = held.get(store, 0) + 1
            yield ev.Record(
                t=t, store=store, kind=kind, key=key, subject=mrn, digest=f"{i:016x}",
                status="final" if kind == "report" else "active", version=2,
                at=T0 + i / RATE + 0.2,
            )  # fmt: skip
    for store in STORES:
        yield ev.StoreRead(t=t + 1, store=store, complete=True, records=held.get(store, 0))


def harness(n: int) -> Iterator[ev.Event]:
    """The run around it: warm-up for a tenth, a fault for a half."""
    length, fault = n / RATE, "1-kill-ehr-db-a"
    began, over = T0 + length * 0.2, T0 + length * 0.7
    yield ev.RunStarted(t=T0 - 1, name="synthetic", seed=1, runtime="fake", utc="", preset="bench",
                        speed=60.0, stack="hospital", services=SERVICES)  # fmt: skip
    yield ev.WindowOpened(t=T0, window="warmup")
    yield ev.WindowClosed(t=T0 + length * 0.1, window="warmup")
    yield ev.WindowOpened(t=began, window="fault")
    yield ev.FaultBegan(t=began, fault=fault, kind="kill", targets=("ehr-db-a",), story="killed")
    yield ev.FaultSeen(t=began + 0.01, fault=fault, observation="gone")
    yield ev.WindowClosed(t=over, window="fault")
    yield ev.FaultEnded(t=over, fault=fault)
    yield ev.FaultGone(t=over + 1, fault=fault, observation="ready")
    yield ev.RunEnded(t=T0 + length + 120, outcome="completed")


def write(folder: Path, n: int) -> int:
    """Write the journal; returns how many events it holds."""
    total = 0
    for name, some in (("harness", harness(n)), ("traffic", traffic(n)), ("audit", stores(n))):
        with Writer(folder / f"{name}.jsonl") as writer:
            for event in some:
                writer.append(event)
                total += 1
    return total


def read_and_judge(folder: Path) -> None:
    """In a process of its own, so that the memory is its own, too."""
    began, began_cpu = time.perf_counter(), time.process_time()
    history = History.read(folder)
    read_s = time.perf_counter() - began
    judgement = judge(history, [make() for make in CATALOGUE.values()])  # type: ignore[call-arg]
    total_s = time.perf_counter() - began
    cpu_s, before_cpu = time.process_time() - began_cpu, time.process_time()
    measured = objectives(history, SYSTEMS, tuple(CATALOGUE))
    share = (time.process_time() - before_cpu) / cpu_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    verdicts = {v.id: v.verdict for v in judgement.claims}
    assert not judgement.reasons, judgement.reasons
    n = history.op_count
    tell("judge_reading", read_s, "s", operations=n)
    tell("judge_every_claim", total_s, "s", at_most=15, operations=n, reading_included=True,
         cpu_s=round(cpu_s, 2), verdicts=verdicts)  # fmt: skip
    figures = [figure for one in measured for figure in (*one.rto, one.rpo)]
    tell("judge_objectives", share, "of the judging", at_most=0.05, operations=n,
         figures=sum(figure.measured for figure in figures))  # fmt: skip
    tell("judge_peak_memory", peak, "MiB", at_most=1024, operations=n)


def main() -> None:
    """Write a journal, then judge it in a fresh process."""
    if len(sys.argv) == 3 and sys.argv[1] == "--folder":
        read_and_judge(Path(sys.argv[2]))
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else OPERATIONS
    with tempfile.TemporaryDirectory() as folder:
        total = write(Path(folder), n)
        tell("judge_journal", total, "events", operations=n)
        again = [sys.executable, "-m", "benchmarks.judge", "--folder", folder]
        subprocess.run(again, check=True, timeout=TIME_LIMIT_S)


if __name__ == "__main__":
    main()
