"""How fast the journal is written and read: one JSON line per figure.

    python -m benchmarks.journal [events]

It judges nothing; see benchmarks.judge for that.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figure import tell
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.writer import Writer

EVENTS = 1_000_000
REPEATS = 3  # the best counts: a shared machine only ever makes it slower


def events(n: int) -> list[ev.Event]:
    """Pairs of an invocation and its ending, as traffic writes them."""
    made: list[ev.Event] = []
    for i in range(n // 2):
        t = 1_000.0 + i * 1e-4
        mrn = f"M{i % 4_000:06}"
        made.append(
            ev.OpInvoked(
                t=t, op=f"day-{i}", kind="order.create", klass="P1", intended=t, key=f"O{i:09}",
                subject=mrn, ward="W1", target="ehr-a", value=f"{i:016x}",
            )
        )  # fmt: skip
        made.append(ev.OpOk(t=t + 0.02, op=f"day-{i}", strength="201", via="ehr-a", subject=mrn))
    return made


def main() -> None:
    """Append, then read."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    some = events(min(n, 200_000))
    with tempfile.TemporaryDirectory() as folder:
        best = 0.0
        for number in range(REPEATS):
            with Writer(Path(folder) / f"append-{number}.jsonl") as writer:
                began = time.perf_counter()
                for event in some:
                    writer.append(event)
                best = max(best, len(some) / (time.perf_counter() - began))
        tell("journal_appends", best, "1/s", at_least=50_000)
    with tempfile.TemporaryDirectory() as folder:
        with Writer(Path(folder) / "traffic.jsonl") as writer:
            for event in events(n):
                writer.append(event)
        best = 0.0
        for _ in range(REPEATS):
            began = time.perf_counter()
            history = History.read(Path(folder))
            best = max(best, n / (time.perf_counter() - began))
            assert history.op_count == n // 2
        tell("journal_events_read", best, "1/s", at_least=300_000, events=n)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tell("journal_peak_memory", peak, "MiB", events=n)


if __name__ == "__main__":
    main()
