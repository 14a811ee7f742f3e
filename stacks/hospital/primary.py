"""Which node of the record's database pair is the primary, and whether the record takes writes.

It only asks (GET /primary on each database node, GET /health on each node of the record); it
changes no role.
"""

from __future__ import annotations

import time

import httpx

from chaos.experiment import Experiment
from chaos.faults import Chosen
from chaos.runtime import Runtime
from chaos.stack import Stack

ASK_S = 1.0
AGREED_S, AGAIN_S = 5.0, 0.25
"""So long nodes may disagree who is primary, or answer too late on a busy machine."""
NODES = ("ehr-db-a", "ehr-db-b")
RECORD = ("ehr-a", "ehr-b")
SPARE_MOST_S = 66.0
"""FO-1 and OR-1 allow 60 s without service; only a longer silence proves that they are broken."""


def wait_for_spare(experiment: Experiment, least_s: float) -> None:
    """Let the fault last `least_s`, and longer, up to SPARE_MOST_S, while nobody took over.

    A spare that works costs no time; one that does not is given more than it was promised, so that
    the verdict is not `too short to prove it`.
    """
    begun = time.monotonic()
    experiment.wait(least_s, why="the spare must take over")
    runtime, most_s = experiment.runtime, max(0.0, SPARE_MOST_S - least_s)
    experiment.until(
        lambda: time.monotonic() - begun > SPARE_MOST_S or record_takes_writes(runtime),
        most_s + 4 * ASK_S, "the record takes writes again, or its time is over",
    )  # fmt: skip


def record_takes_writes(runtime: Runtime) -> bool:
    """Whether a node of the record says `ready`: its health question is a write."""
    return any(_is_ready(runtime, node) for node in RECORD)


def _is_ready(runtime: Runtime, node: str) -> bool:
    try:
        answer = httpx.get(f"http://{runtime.address(node, 'http')}/health", timeout=ASK_S)
        return bool(answer.json().get("status") == "ready")
    except (httpx.HTTPError, ValueError):
        return False


def database_primary(stack: Stack) -> Chosen:
    """A target for faults: the node that is primary when the fault is injected."""
    there = tuple(s.name for s in stack.services if s.name in NODES)
    return Chosen("the record's primary database", there, lambda runtime: _primary(runtime, there))


def _primary(runtime: Runtime, nodes: tuple[str, ...]) -> str:
    """The one node that answers 200 on /primary; LookupError when it is not exactly one in time."""
    deadline = time.monotonic() + AGREED_S
    while True:
        primaries = [node for node in nodes if _is_primary(runtime, node)]
        if len(primaries) == 1:
            return primaries[0]
        if time.monotonic() > deadline:
            raise LookupError(
                f"{len(primaries)} nodes say that they are primary, for {AGREED_S:g} s: {primaries}"
            )
        time.sleep(AGAIN_S)


def _is_primary(runtime: Runtime, node: str) -> bool:
    try:
        url = f"http://{runtime.address(node, 'rest')}/primary"
        return httpx.get(url, timeout=ASK_S).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
