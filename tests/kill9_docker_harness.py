"""A harness to be killed: raises the light stack in containers, injects, heals, takes it down.

    python -m tests.kill9_docker_harness STATE RUN_FOLDER NUMBER
Says on stdout what it does, one JSON line each. NUMBER chooses the fault, so that all have their
turn; LIGHT_IMAGE names the image. With LIGHT_ARRAYS=1 two services stand on an array that fails.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from chaos.faults import Fault
from chaos.lease import Leases
from chaos.runtime.docker import DockerRuntime
from tests.conditions import seen
from tests.faults.stories import STORED
from tests.kill9_harness import fitting
from tests.light_stack import in_containers, light_stack, on_disks

LEASE_S = 30.0
LIVES_S = 60.0  # it ends by itself when nobody kills it
HELD_S = 0.7  # how long a fault stays
ON_ARRAYS = os.environ.get("LIGHT_ARRAYS") == "1"
FELT = ("slow", "failing", "full", "read-only", "hung", "lost", "power-cut")  # without callers


def say(**what: object) -> None:
    """One line for the test."""
    print(json.dumps(what), flush=True)


def main(state: Path, run: Path, number: int) -> None:
    """One life: up, one fault, down; then it waits for the kill."""
    end = time.monotonic() + LIVES_S
    light = on_disks(light_stack()) if ON_ARRAYS else light_stack()
    stack = replace(in_containers(light), image=("echo", os.environ["LIGHT_IMAGE"]))
    with Leases.begin("kill9", state, run / "reaper.jsonl") as leases:
        runtime = DockerRuntime(stack, run)
        runtime.prepare_clocks(tuple(s.name for s in stack.services))
        if ON_ARRAYS:
            runtime.storage.prepare(("disk-b",))
        say(run=runtime.id, folder=str(runtime.folder))
        lease = leases.grant("stack", runtime.undo_up())
        say(phase="up")
        runtime.up(lambda _service, _state: None)
        faults = [STORED[name] for name in FELT] if ON_ARRAYS else fitting(runtime)
        once(faults[number % len(faults)].pinned(runtime), runtime, leases)
        say(phase="down")
        lease.release()
        say(phase="gone")
        time.sleep(max(0.0, end - time.monotonic()))


def once(fault: Fault, runtime: DockerRuntime, leases: Leases) -> None:
    """One fault from grant to healed."""
    lease = leases.grant(fault.kind, fault.undo(runtime), LEASE_S)
    say(phase=f"fault {fault.kind}")
    fault.begin(runtime, LEASE_S)
    look, _ = seen(lambda: fault.seen(runtime))
    assert look.ok, look.text
    time.sleep(HELD_S)
    fault.end(runtime)
    lease.release()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
