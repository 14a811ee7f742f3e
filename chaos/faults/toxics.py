"""What all faults by toxics have in common, as functions that each takes for its methods.

Such a fault says only what is its own: what it is called, its toxics, and how their effect is
measured on one link (`measured`). Not a fault itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol, TypeVar

from chaos.faults import targets as resolve
from chaos.faults.fault import Observation, TargetError
from chaos.faults.fixed import changed
from chaos.faults.targets import LinkTarget, all_of, side_by_side
from chaos.runtime import LinkLook, Runtime, RuntimeFailure, Step, Toxic
from chaos.stack import Stack

OPEN_S = 0.5  # a healthy proxy accepts a connection within this
ANSWER_S = 1.0  # what a target may take for itself while an effect on its link is measured


class ByToxics(Protocol):
    """What such a fault brings itself."""

    @property
    def kind(self) -> str: ...

    @property
    def links(self) -> tuple[LinkTarget, ...]: ...

    @property
    def token(self) -> str: ...

    def toxics(self) -> tuple[Toxic, ...]:
        """The toxics for each link; their names are made by `name`."""

    def measured(self, link: str, held: Observation, runtime: Runtime) -> Observation:
        """Look at one link whose proxy holds the toxics (`held` says so in words)."""


T = TypeVar("T", bound=ByToxics)


def name(self: ByToxics, part: str = "") -> str:
    """Of one toxic: differs from those of other injections; '' before the fault is pinned."""
    return "-".join(filter(None, (self.kind, self.token, part))) if self.token else ""


def token() -> str:
    """Makes one injection differ from another on the same link."""
    return secrets.token_hex(3)


def pinned(self: T, runtime: Runtime) -> T:
    """The same with a token of its own, its targets checked."""
    targets(self, runtime.stack)
    return self if self.token else changed(self, token=token())


def targets(self: ByToxics, stack: Stack) -> tuple[str, ...]:
    """Names of all links."""
    return resolve.links(self.links, stack)


def undo(self: ByToxics, runtime: Runtime) -> tuple[Step, ...]:
    """Steps that take the toxics off every link."""
    return undo_of(runtime, targets(self, runtime.stack), self.toxics())


def begin(self: ByToxics, runtime: Runtime, lease_s: float) -> None:
    """Put the toxics on every link; each expires in the proxy with the lease."""
    put(runtime, targets(self, runtime.stack), self.toxics(), lease_s)


def seen(self: ByToxics, runtime: Runtime) -> Observation:
    """Proves: each proxy holds the toxics, and what the fault's `measured` proves of one link."""

    def look(link: str) -> Observation:
        held = read_back(runtime, link, self.toxics())
        return self.measured(link, held, runtime) if held.ok else held

    return all_of(side_by_side(look, targets(self, runtime.stack)))


def end(self: ByToxics, runtime: Runtime) -> None:
    """Play the undo."""
    runtime.play(undo(self, runtime))


def gone(self: ByToxics, runtime: Runtime) -> Observation:
    """Proves: no proxy holds a toxic of this any more, and each accepts a connection."""
    return gone_of(runtime, targets(self, runtime.stack), self.toxics())


def not_measured(held: Observation, met: LinkLook | None, why: str = "") -> Observation:
    """The toxics are there, but their effect could not be measured; says why."""
    if met is not None:
        why = f"a connection met {met.outcome}" if met.asked else "nothing can be asked there"
    return Observation(True, f"{held.text} (effect not measured: {why})")


def put(
    runtime: Runtime, links: Sequence[str], toxics: Sequence[Toxic], lease_s: float
) -> None:  # fmt: skip
    """Put the toxics on every link; each expires in the proxy with the lease."""
    if not all(toxic.name for toxic in toxics):
        raise TargetError("the fault was not pinned; call pinned() first")
    for link in links:
        for toxic in toxics:
            runtime.add_toxic(link, toxic, lease_s)


def undo_of(
    runtime: Runtime, links: Sequence[str], toxics: Sequence[Toxic]
) -> tuple[Step, ...]:  # fmt: skip
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


def gone_of(
    runtime: Runtime, links: Sequence[str], toxics: Sequence[Toxic]
) -> Observation:  # fmt: skip
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


def accepts(runtime: Runtime, link: str, by: str = "") -> Observation:
    """Proves: the link's proxy accepts a connection, or another fault than `by` holds it closed."""
    try:
        closers = runtime.link_closed_by(link)
    except RuntimeFailure as error:
        return Observation(False, str(error))
    if by and by in closers:
        return Observation(False, f"{link} is still closed by this fault")
    if closers and (not by or any(closers)):
        return Observation(True, f"{link} is clean, and closed by another fault")
    met = runtime.look_at_link(link, OPEN_S)
    ok = met.outcome != "refused"
    return Observation(ok, f"{link} is {'open' if ok else 'closed'}")
