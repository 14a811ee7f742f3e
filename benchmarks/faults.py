"""How soon a fault is in effect, and how soon seen healed: on the light stack, real processes.

The light stack's services start in a quarter of a second, so that healing a kill measures the
harness and not the patience of a hospital's database.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.figure import tell
from chaos.faults import Cut, Fault, Kill, Latency, Pause
from chaos.lease import Leases
from chaos.runtime.process import ProcessRuntime
from tests.conditions import seen
from tests.light_stack import light_stack

REPEATS = 8
LATENCY_MS = 20
LEASE_S = 30.0


def main() -> None:
    """Inject and heal each fault REPEATS times; the median and the worst are told."""
    with tempfile.TemporaryDirectory(prefix="hc-bench-") as scratch:
        os.environ["HOSPITAL_CHAOS_STATE"] = f"{scratch}/state"
        run = Path(scratch) / "run"
        (run / "logs").mkdir(parents=True)
        runtime = ProcessRuntime(light_stack(), run)
        with Leases.begin("bench") as leases, leases.grant("stack", runtime.undo_up()):
            runtime.up(lambda *_: None)
            for name, fault, own_ms in (
                ("kill", Kill("echo"), 0.0),
                ("pause", Pause("echo"), 0.0),
                ("cut", Cut("ward>web.http"), 0.0),
                ("latency toxic", Latency("ward>web.http", latency_ms=LATENCY_MS), LATENCY_MS),
            ):
                measure(name, fault, own_ms, runtime, leases)


def measure(
    name: str, fault: Fault, own_ms: float, runtime: ProcessRuntime, leases: Leases
) -> None:
    """`own_ms` is what the probe itself must wait to see the fault (a latency's own delay)."""
    effects, heals = [], []
    for _ in range(REPEATS):
        pinned = fault.pinned(runtime)
        with leases.grant(name, pinned.undo(runtime), LEASE_S):
            began = time.perf_counter()
            pinned.begin(runtime, LEASE_S)
            look, _ = seen(lambda f=pinned: f.seen(runtime))  # type: ignore[misc]
            assert look.ok, look.text
            effects.append((time.perf_counter() - began) * 1e3 - own_ms)
            began = time.perf_counter()
            pinned.end(runtime)
            look, _ = seen(lambda f=pinned: f.gone(runtime))  # type: ignore[misc]
            assert look.ok, look.text
            heals.append((time.perf_counter() - began) * 1e3)
    half = REPEATS // 2
    effect, heal = sorted(effects), sorted(heals)
    tell(f"{name} seen in effect", effect[half], "ms", at_most=50, worst=round(effect[-1], 1))
    tell(f"{name} healed and seen", heal[half], "ms", at_most=500, worst=round(heal[-1], 1))


if __name__ == "__main__":
    main()
