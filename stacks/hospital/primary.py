"""Which node of the record's database pair is the primary, as Patroni itself says.

It only asks (GET /primary on each node's own address); it changes no role.
"""

from __future__ import annotations

import httpx

from chaos.faults import Chosen
from chaos.runtime import Runtime
from chaos.stack import Stack

ASK_S = 1.0
NODES = ("ehr-db-a", "ehr-db-b")


def database_primary(stack: Stack) -> Chosen:
    """A target for faults: the node that is primary when the fault is injected."""
    there = tuple(s.name for s in stack.services if s.name in NODES)
    return Chosen("the record's primary database", there, lambda runtime: _primary(runtime, there))


def _primary(runtime: Runtime, nodes: tuple[str, ...]) -> str:
    """The one node that answers 200 on /primary; LookupError when it is not exactly one."""
    primaries = [node for node in nodes if _is_primary(runtime, node)]
    if len(primaries) != 1:
        raise LookupError(f"{len(primaries)} nodes say that they are primary: {primaries}")
    return primaries[0]


def _is_primary(runtime: Runtime, node: str) -> bool:
    try:
        url = f"http://{runtime.address(node, 'rest')}/primary"
        return httpx.get(url, timeout=ASK_S).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
