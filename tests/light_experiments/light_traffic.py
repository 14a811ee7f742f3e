"""Traffic of the light stack: reads `web` and `mirror` a few dozen times a second, open-model.

It refuses to wait for an answer before the next read is due. `params`: `lag_s` makes it fall
behind its own schedule, `die_after_s` makes it die, for tests of those who watch it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from chaos.journal import events as ev
from chaos.journal.writer import Writer

EVERY_S = 0.04
ANSWER_S = 1.0
DRAIN_S = 2.0
STOP = threading.Event()


def main() -> None:
    """Read until told to stop; see chaos/workload.py for the contract with the harness."""
    config = json.loads(Path(os.environ["WORKLOAD_CONFIG"]).read_text())
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    threading.Thread(target=end_with_parent, daemon=True).start()
    with Writer(Path(config["journal"])) as journal:
        journal.append(
            ev.WorkloadStarted(t=time.monotonic(), workload=config["workload"], planned_per_s=25)
        )
        print("ready", flush=True)
        late = read_on(journal, config)
        journal.append(
            ev.WorkloadEnded(
                t=time.monotonic(), workload=config["workload"], planned=len(late),
                started=len(late), late_p99_ms=p99(late) * 1e3,
                late_max_ms=max(late, default=0) * 1e3,
            )
        )  # fmt: skip


def p99(numbers: list[float]) -> float:
    """The nearest rank; 0 of nothing."""
    return sorted(numbers)[-(-len(numbers) * 99 // 100) - 1] if numbers else 0.0


def read_on(journal: Writer, config: dict[str, Any]) -> list[float]:
    """Start one read every EVERY_S; returns how late each started, in seconds."""
    params = config["params"]
    targets = [
        ("web", config["links"]["ward>web.http"]),
        ("mirror", config["direct"]["mirror.http"]),
    ]
    begin = time.monotonic()
    late: list[float] = []
    threads: list[threading.Thread] = []
    while not STOP.is_set():
        number = len(late)
        intended = begin + number * EVERY_S
        STOP.wait(max(0.0, intended - time.monotonic()) + params.get("lag_s", 0.0))
        if time.monotonic() - begin > params.get("die_after_s", 1e9):
            os._exit(7)
        late.append(time.monotonic() - intended)
        name, address = targets[number % 2]
        op = ev.OpInvoked(
            t=time.monotonic(), op=f"r{number}", kind=f"{name}.read", klass="P0",
            intended=intended, key=str(number), target=name,
        )  # fmt: skip
        threads.append(threading.Thread(target=read, args=(journal, op, address)))
        threads[-1].start()
    end = time.monotonic() + DRAIN_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return late


def read(journal: Writer, op: ev.OpInvoked, address: str) -> None:
    """One read: ok, or unknown when nobody answered in time."""
    journal.append(op)
    try:
        with urllib.request.urlopen(f"http://{address}/get", timeout=ANSWER_S) as answer:
            answer.read()
        journal.append(ev.OpOk(t=time.monotonic(), op=op.op, strength="200", via=op.target))
    except OSError as error:
        journal.append(ev.OpUnknown(t=time.monotonic(), op=op.op, reason=str(error)))


def end_with_parent() -> None:
    """The dead-man's switch: standard input closes when the harness is gone."""
    sys.stdin.read()
    STOP.set()


if __name__ == "__main__":
    main()
