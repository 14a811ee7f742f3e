"""What the harness costs: its overhead per experiment, and from Ctrl-C to a healed world."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figure import tell

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "from chaos.cli import main; main()", "run"]
LIGHT = ["--experiments", str(ROOT / "tests" / "light_experiments"), "--json"]
BOUND_S = 60.0
REPEATS = 3


def main() -> None:
    """Run a light experiment to its end, and stop a long one, REPEATS times each."""
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as scratch:
        overheads = [overhead_s(Path(scratch) / f"held{i}") for i in range(REPEATS)]
        tell("harness overhead per experiment", sorted(overheads)[REPEATS // 2], "s", at_most=1.0)
        stops = [stopped_s(Path(scratch) / f"stop{i}") for i in range(REPEATS)]
        tell("Ctrl-C to healed and reported", max(stops), "s", at_most=2.0)


def overhead_s(folder: Path) -> float:
    """Wall time of one run, less its own windows and less the stack's start."""
    began = time.monotonic()
    with start("light-held", folder) as child:
        child.communicate(timeout=BOUND_S)
    took = time.monotonic() - began
    seen = events(folder)
    opened = {e["window"]: e["t"] for e in seen if e["e"] == "window.opened"}
    closed = {e["window"]: e["t"] for e in seen if e["e"] == "window.closed"}
    windows = sum(closed[w] - opened[w] for w in ("warmup", "fault"))
    started = next(e["t"] for e in seen if e["e"] == "run.started")
    warm = opened["warmup"]
    ready = max(e["t"] for e in seen if e["e"] == "service.seen" and e["t"] < warm)
    return float(took - windows - (ready - started))


def stopped_s(folder: Path) -> float:
    """From SIGINT, while two faults are in effect, to the end of the process."""
    with start("light-long", folder) as child:
        end = time.monotonic() + BOUND_S
        while sum(e["e"] == "fault.seen" for e in events(folder)) < 2:
            if time.monotonic() > end:
                raise TimeoutError("the faults were never seen")
            time.sleep(0.02)
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=BOUND_S)
        return time.monotonic() - began


def start(name: str, folder: Path) -> subprocess.Popen[str]:
    """One run with a state folder of its own."""
    env = {**os.environ, "HOSPITAL_CHAOS_STATE": str(folder / "state")}
    return subprocess.Popen(
        [*COMMAND, name, *LIGHT, "--out", str(folder / "reports")],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def events(folder: Path) -> list[dict[str, Any]]:
    """What the harness has written so far."""
    files = folder.glob("reports/*/journal/harness.jsonl")
    return [json.loads(line) for f in files for line in f.read_text().splitlines() if "}" in line]


if __name__ == "__main__":
    main()
