"""How long the mock hospital takes to be ready: cold, from the template, and to be gone."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.figure import tell
from chaos.reaper import find
from chaos.runtime.process import ProcessRuntime
from stacks.hospital.stack import hospital

REPEATS = 3


def main() -> None:
    """One cold start (empty template), then REPEATS from the template."""
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as scratch:
        os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
        up, _, _ = once(Path(scratch) / "cold")
        tell("stack ready, cold", up, "s", at_most=20)
        runs = [once(Path(scratch) / f"warm{i}") for i in range(REPEATS)]
        ups, downs, sizes = zip(*runs, strict=True)
        middle = sorted(ups)[len(ups) // 2]
        tell(
            "stack ready, from the template",
            middle,
            "s",
            at_most=8,
            runs=[round(u, 2) for u in ups],
        )
        tell("stack gone", max(downs), "s", at_most=3)
        tell("stack resident (proportional)", max(sizes), "MiB", at_most=2048)


def once(folder: Path) -> tuple[float, float, float]:
    """Raise and take down once: (seconds up, seconds down, MiB)."""
    (folder / "logs").mkdir(parents=True)
    runtime = ProcessRuntime(hospital(), folder)
    began = time.monotonic()
    try:
        runtime.up(lambda *_: None)
        up = time.monotonic() - began
        size = proportional_mib(str(runtime.folder))
    finally:
        began = time.monotonic()
        runtime.forget_remains()
    return up, time.monotonic() - began, size


def proportional_mib(folder: str) -> float:
    """Memory of every process that works inside the folder; shared pages counted once (PSS)."""
    total = 0
    for pid in find({"folder": folder}):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


if __name__ == "__main__":
    main()
