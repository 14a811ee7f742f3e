"""What all faults by toxics have in common: put them on, read them back, see them gone.

Not a fault itself: each kind of fault is a value of its own with its own effect probe.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from chaos.faults.fault import Observation, TargetError
from chaos.faults.targets import all_of, side_by_side
from chaos.runtime import Runtime, RuntimeFailure, Step, Toxic

OPEN_S = 0.5  # a healthy proxy accepts a connection within this


def token() -> str:
    """Makes the toxics of one injection differ from those of another on the same link."""
    return secrets.token_hex(3)


def put(
    runtime: Runtime, links: Sequence[str], toxics: Sequence[Toxic], lease_s: float
) -> None:  # fmt: skip
    """Put the toxics on every link; each expires in the proxy with the lease."""
    if not all(toxic.name for toxic in toxics):
        raise TargetError("the fault was not pinned; call pinned() first")
    for link in links:
        for toxic in toxics:
            runtime.add_toxic(link, toxic, lease_s)


def undo(runtime: Runtime, links: Sequence[str], toxics: Sequence[Toxic]) -> tuple[Step, ...]:
    """Steps that take them off every link."""
    names = tuple(toxic.name for toxic in toxics)
    return tuple(step for link in links for step in runtime.undo_toxics(link, names))


def read_back(runtime: Runtime, link: str, toxics: Sequence[Toxic]) -> Observation:
    """Proves that the link's proxy holds the toxics; not what they do."""
    try:
        there = runtime.toxics(link)
    except RuntimeFailure as error:
        return Observation(False, str(error))
    missing = [toxic.name for toxic in toxics if toxic.name not in there]
    if missing:
        return Observation(False, f"{link}: its proxy does not hold {', '.join(missing)}")
    return Observation(True, f"{link}: its proxy holds {', '.join(t.type for t in toxics)}")


def gone(runtime: Runtime, links: Sequence[str], toxics: Sequence[Toxic]) -> Observation:
    """Proves: no proxy holds one of the toxics, and each accepts a connection."""

    def look(link: str) -> Observation:
        try:
            left = set(runtime.toxics(link)) & {toxic.name for toxic in toxics}
        except RuntimeFailure as error:
            return Observation(False, str(error))
        if left:
            return Observation(False, f"{link}: its proxy still holds {', '.join(sorted(left))}")
        return accepts(runtime, link)

    return all_of(side_by_side(look, links))


def accepts(runtime: Runtime, link: str) -> Observation:
    """Proves: the link's proxy accepts a connection (or another fault holds it closed)."""
    try:
        enabled = runtime.link_enabled(link)
    except RuntimeFailure as error:
        return Observation(False, str(error))
    if not enabled:
        return Observation(True, f"{link} is clean, and closed by another fault")
    met = runtime.look_at_link(link, OPEN_S)
    ok = met.outcome != "refused"
    return Observation(ok, f"{link} is {'open' if ok else 'closed'}")
