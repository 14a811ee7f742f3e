"""What a storage array that can fail costs while it does not: one JSON line per figure.

    python -m benchmarks.storage

Each figure is a ratio of the same operation through the array and on the folder behind it, measured
in turns in one run, since a shared machine's disk is never twice the same.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figure import skip, tell
from chaos import reaper
from chaos.storage.mounting import GUARD, missing

SYNCED = 300  # writes of 8 KiB, each synced, in one turn
PLAIN = 2_000  # reads and writes that are not synced
TURNS = 6
MOUNTED_S = 10.0
BLOCK = os.urandom(8192)


def synced(handle: int) -> float:
    """Median microseconds of a write and its fdatasync, as PostgreSQL commits."""

    def write(number: int) -> None:
        os.pwrite(handle, BLOCK, number % 256 * 8192)
        os.fdatasync(handle)

    return _median(write, SYNCED)


def read(handle: int) -> float:
    """Median microseconds of reading 8 KiB that lie in the machine's cache."""
    return _median(lambda n: os.pread(handle, 8192, n % 256 * 8192), PLAIN)


def written(handle: int) -> float:
    """Median microseconds of a write that is not synced."""
    return _median(lambda n: os.pwrite(handle, BLOCK, n % 256 * 8192), PLAIN)


def _median(act: Callable[[int], object], times: int) -> float:
    took = []
    for number in range(times):
        began = time.perf_counter()
        act(number)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


def main() -> None:
    """Mount one array, measure, unmount."""
    if why := missing():
        for name in ("storage_synced_write_ratio", "storage_read_us", "storage_write_us"):
            skip(name, why)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / GUARD).write_text("benchmark", "ascii")
        backing, mount = folder / "backing", folder / "mount"
        backing.mkdir()
        mount.mkdir()
        child = subprocess.Popen(
            [sys.executable, "-m", "chaos.storage", "--backing", str(backing),
             "--mount", str(mount), "--control", str(folder / "s")],
            stdout=subprocess.PIPE, cwd=str(Path(__file__).resolve().parents[1]),
            env={**os.environ, "STORAGE_BENCH": place},
        )  # fmt: skip
        try:
            assert child.stdout is not None
            assert select.select([child.stdout], [], [], MOUNTED_S)[0], "the array does not mount"
            json.loads(child.stdout.readline())
            _measure(backing, mount)
        finally:
            marks = [f"STORAGE_BENCH={place}"]
            step = {"do": "unmount", "mount": str(mount), "folder": place, "marks": marks}
            reaper.play_step(step)
            child.wait()


def _measure(backing: Path, mount: Path) -> None:
    handles = []
    for place in (backing / "direct", mount / "through"):
        handles.append(os.open(place, os.O_RDWR | os.O_CREAT))
        for number in range(256):
            os.pwrite(handles[-1], BLOCK, number * 8192)
        os.fsync(handles[-1])
    direct, through = handles
    turns = [(synced(direct), synced(through)) for _ in range(TURNS)]
    plain, array = (statistics.median(side) for side in zip(*turns, strict=True))
    tell(
        "storage_synced_write_ratio", statistics.median(t / d for d, t in turns), "x", at_most=2.5,
        direct_us=round(plain, 1), array_us=round(array, 1),
    )  # fmt: skip
    tell("storage_read_us", read(through), "µs", at_most=200.0, direct_us=round(read(direct), 1))
    tell("storage_write_us", written(through), "µs", at_most=200.0,
         direct_us=round(written(direct), 1))  # fmt: skip
    for handle in handles:
        os.close(handle)


if __name__ == "__main__":
    main()
