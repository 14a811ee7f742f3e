"""How fast the light stack rises and goes as containers, and how soon a fault there is in effect.

The image is made before anything is measured. Skipped, with the reason, where no engine runs.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.figure import skip, tell
from chaos.faults import Disconnect, Fault, Kill, Pause
from chaos.lease import Leases
from chaos.runtime import engine
from chaos.runtime.docker import DockerRuntime
from tests import light_image
from tests.conditions import until
from tests.light_stack import in_containers, light_stack

RISES = 3
REPEATS = 8
LEASE_S = 60.0
SEEN_S = 10.0
EFFECT_MS = 200
READY_S = 30
GONE_S = 10


def main() -> None:
    """Raise, hit, take down; the median and the worst are told."""
    if why := engine.missing():
        skip("containers", why)
        return
    stack = replace(in_containers(light_stack()), image=("echo", light_image.tag()))
    ups, downs = [], []
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as scratch:
        os.environ["HOSPITAL_CHAOS_STATE"] = f"{scratch}/state"
        with Leases.begin("bench") as leases:
            for number in range(RISES):
                runtime = DockerRuntime(stack, Path(scratch) / f"run{number}")
                lease = leases.grant("stack", runtime.undo_up())
                ups.append(seconds(lambda r=runtime: r.up(lambda *_: None)))  # type: ignore[misc]
                if number == 0:
                    faults(runtime, leases)
                downs.append(seconds(lease.release))
    told("containers: light stack ready", ups, "s", READY_S)
    told("containers: light stack gone", downs, "s", GONE_S)


def faults(runtime: DockerRuntime, leases: Leases) -> None:
    """From the order to the effect, as a look at the world shows it."""
    kills: list[float] = []
    pauses: list[float] = []
    thaws: list[float] = []
    starts: list[float] = []
    for _ in range(REPEATS):
        kills.append(begun(Kill("echo"), runtime, leases, starts))
        pauses.append(begun(Pause("echo"), runtime, leases, thaws))
    told("containers: kill in effect", kills, "ms", EFFECT_MS)
    told("containers: pause in effect", pauses, "ms", EFFECT_MS)
    told("containers: unpause seen, service ready", thaws, "ms", EFFECT_MS)
    told("containers: start seen, service ready", starts, "ms", 3000)
    cuts: list[float] = []
    joins: list[float] = []
    for _ in range(REPEATS // 2):
        cuts.append(begun(Disconnect("A", "B"), runtime, leases, joins))
    told("containers: rooms disconnected, seen on every link", cuts, "ms", 1500)
    told("containers: rooms joined again, seen on every link", joins, "ms", 1500)


def begun(fault: Fault, runtime: DockerRuntime, leases: Leases, heals: list[float]) -> float:
    """Milliseconds until the fault was seen; those until it was seen healed go to `heals`."""
    pinned = fault.pinned(runtime)
    with leases.grant(fault.kind, pinned.undo(runtime), LEASE_S):
        began = time.perf_counter()
        pinned.begin(runtime, LEASE_S)
        assert until(lambda: pinned.seen(runtime).ok, SEEN_S), fault.story
        effect_ms = (time.perf_counter() - began) * 1e3
        began = time.perf_counter()
        pinned.end(runtime)
        assert until(lambda: pinned.gone(runtime).ok, SEEN_S), fault.story
        heals.append((time.perf_counter() - began) * 1e3)
    return effect_ms


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def told(name: str, values: list[float], unit: str, at_most: float) -> None:
    """The median, and the worst beside it."""
    ordered = sorted(values)
    tell(name, ordered[len(ordered) // 2], unit, at_most=at_most, worst=round(ordered[-1], 2))


if __name__ == "__main__":
    main()
