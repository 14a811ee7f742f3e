"""A harness to be killed: raises the light stack, injects and heals in a loop until it dies.

    python tests/kill9_harness.py STATE RUN_FOLDER SEED [standing]
Says on stdout what it does: one JSON line each.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from chaos.faults import Acknowledgements, ImageTransfers, TruncatedMessages, WebRequests
from chaos.lease import Leases
from chaos.runtime.process import ProcessRuntime
from tests.conditions import seen
from tests.faults.stories import EXAMPLES
from tests.light_stack import light_stack

SPOKEN = (Acknowledgements, TruncatedMessages, ImageTransfers, WebRequests)
HERE = {name: one for name, one in EXAMPLES.items() if not isinstance(one, SPOKEN)}
"""Without the faults that need traffic in a protocol which the light stack does not speak; their
undo is the same step as every other toxic's."""
STANDS_S = 60.0
LEASE_S = 30.0
LIVES_S = 30.0  # it ends by itself when nobody kills it


def say(**what: object) -> None:
    """One line for the test."""
    print(json.dumps(what), flush=True)


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
            fault = HERE[chance.choice(list(HERE))].pinned(runtime)
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
