"""A harness to be killed: raises the light stack, injects and heals in a loop until it dies.

    python tests/kill9_harness.py STATE RUN_FOLDER SEED [standing]
Says on stdout what it does: one JSON line each.
"""

from __future__ import annotations

import json
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from chaos.faults import (
    Acknowledgements,
    Fault,
    ImageTransfers,
    TargetError,
    TruncatedMessages,
    WebRequests,
)
from chaos.lease import Leases
from chaos.runtime import Runtime, RuntimeFailure
from chaos.runtime.process import ProcessRuntime
from tests.conditions import seen
from tests.faults.stories import EXAMPLES
from tests.light_stack import light_stack

SPOKEN = (Acknowledgements, TruncatedMessages, ImageTransfers, WebRequests)
STANDS_S = 60.0
LEASE_S = 30.0
LIVES_S = 30.0  # it ends by itself when nobody kills it


def say(**what: object) -> None:
    """One line for the test."""
    print(json.dumps(what), flush=True)


def fitting(runtime: Runtime) -> list[Fault]:
    """The examples that this runtime can do, whose targets the stack has, and which need no
    traffic in a protocol that the light stack does not speak (their undo is that of any toxic)."""
    found = []
    for fault in EXAMPLES.values():
        with suppress(TargetError, RuntimeFailure):
            if not isinstance(fault, SPOKEN) and fault.undo(runtime):
                found.append(fault)
    return found


def main(state: Path, run: Path, seed: int, standing: bool) -> None:
    """Until LIVES_S are over, or the kill."""
    end = time.monotonic() + LIVES_S
    chance = random.Random(seed)
    with Leases.begin("kill9", state, run / "reaper.jsonl") as leases:
        runtime = ProcessRuntime(light_stack(), run)
        say(reaper=leases._child.pid, api=runtime._block.first, ports=runtime._block.count)
        undo = runtime.undo_up()
        stack = leases.grant("stack", undo, STANDS_S if standing else None, standing=standing)
        runtime.up(lambda _service, _state: None)
        say(raised=True)
        while time.monotonic() < end:
            fault = chance.choice(fitting(runtime)).pinned(runtime)
            lease = leases.grant(fault.kind, fault.undo(runtime), LEASE_S)
            say(began=fault.kind)
            fault.begin(runtime, LEASE_S)
            assert seen(lambda fault=fault: fault.seen(runtime))[0].ok  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.2))
            fault.end(runtime)
            lease.release()
            assert seen(lambda fault=fault: fault.gone(runtime))[0].ok  # type: ignore[misc]
        stack.release()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), "standing" in sys.argv)
