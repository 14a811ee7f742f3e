"""Customers of the shop: ask for the price 20 times a second, whoever still waits for an answer.

It refuses to slow down with the shop: each question is due at its own time.
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

from chaos.journal import events as ev
from chaos.journal.writer import Writer

EVERY_S = 0.05
ANSWER_S = 2.0
STOP = threading.Event()


def main() -> None:
    """Ask until told to stop; see chaos/workload.py for the contract with the harness."""
    config = json.loads(Path(os.environ["WORKLOAD_CONFIG"]).read_text())
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    threading.Thread(target=end_with_parent, daemon=True).start()
    url = f"http://{config['links']['customers>front.http']}/price"
    name = config["workload"]
    with Writer(Path(config["journal"])) as journal:
        journal.append(ev.WorkloadStarted(t=time.monotonic(), workload=name, planned_per_s=20))
        print("ready", flush=True)
        late = ask_on(journal, url)
        worst = max(late, default=0.0) * 1e3
        journal.append(
            ev.WorkloadEnded(
                t=time.monotonic(), workload=name, planned=len(late), started=len(late),
                late_p99_ms=worst, late_max_ms=worst,
            )
        )  # fmt: skip


def ask_on(journal: Writer, url: str) -> list[float]:
    """Returns how late each question was asked, in seconds."""
    begin = time.monotonic()
    late: list[float] = []
    asking: list[threading.Thread] = []
    while not STOP.is_set():
        intended = begin + len(late) * EVERY_S
        STOP.wait(max(0.0, intended - time.monotonic()))
        op = ev.OpInvoked(
            t=time.monotonic(), op=f"p{len(late)}", kind="price.read", klass="P0",
            intended=intended, key=str(len(late)), target="front",
        )  # fmt: skip
        late.append(time.monotonic() - intended)
        asking.append(threading.Thread(target=ask, args=(journal, op, url)))
        asking[-1].start()
    end = time.monotonic() + ANSWER_S
    for thread in asking:
        thread.join(max(0.0, end - time.monotonic()))
    return late


def ask(journal: Writer, op: ev.OpInvoked, url: str) -> None:
    """One question: answered, or unknown."""
    journal.append(op)
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
            answer.read()
        journal.append(ev.OpOk(t=time.monotonic(), op=op.op, strength="200", via="front"))
    except OSError as error:
        journal.append(ev.OpUnknown(t=time.monotonic(), op=op.op, reason=str(error)))


def end_with_parent() -> None:
    """The dead-man's switch: standard input closes when the harness is gone."""
    sys.stdin.read()
    STOP.set()


if __name__ == "__main__":
    main()
