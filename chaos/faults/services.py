"""What all faults that hit services have in common, as functions that each takes for its methods.

Such a fault says only what is its own: what it is called, how one service is hit (`strike`), how
that is undone (`mend`) and how it looks (`look`).
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from chaos.faults.fault import Observation
from chaos.faults.fixed import changed
from chaos.faults.targets import (
    Pin,
    ServiceTarget,
    all_of,
    candidates,
    pin,
    same_instances,
    serve_again,
    side_by_side,
)
from chaos.runtime import Runtime, Step
from chaos.stack import Stack


class OfServices(Protocol):
    """What such a fault brings itself."""

    @property
    def services(self) -> tuple[ServiceTarget, ...]: ...

    @property
    def pins(self) -> tuple[Pin, ...]: ...

    def strike(self, runtime: Runtime, name: str) -> None:
        """Hit one service."""

    def mend(self, runtime: Runtime, name: str) -> tuple[Step, ...]:
        """Steps that undo it for one service."""

    def look(self, found: Pin, runtime: Runtime) -> Observation:
        """Look once at one service that was hit."""


S = TypeVar("S", bound=OfServices)


def pinned(self: S, runtime: Runtime) -> S:
    """Each target fixed by name and by the identity of its instance."""
    return self if self.pins else changed(self, pins=pin(self.services, runtime))


def targets(self: OfServices, stack: Stack) -> tuple[str, ...]:
    """The pinned services; before that, all candidates."""
    named = tuple(found.service for found in self.pins)
    return named or candidates(self.services, stack)


def undo(self: OfServices, runtime: Runtime) -> tuple[Step, ...]:
    """The mending of every target."""
    names = targets(pinned(self, runtime), runtime.stack)
    return tuple(step for name in names for step in self.mend(runtime, name))


def begin(self: OfServices, runtime: Runtime, lease_s: float) -> None:
    """Hit every target; the lease's own deadline undoes it."""
    del lease_s
    same_instances(self.pins, runtime)
    names = targets(self, runtime.stack)
    side_by_side(lambda name: self.strike(runtime, name), names, runtime.at_once)


def seen(self: OfServices, runtime: Runtime) -> Observation:
    """Proves of every target what the fault's `look` proves of one."""
    looks = side_by_side(lambda found: self.look(found, runtime), self.pins, runtime.at_once)
    return all_of(looks)


def end(self: OfServices, runtime: Runtime) -> None:
    """Play the undo."""
    runtime.play(undo(self, runtime))


def gone(self: OfServices, runtime: Runtime) -> Observation:
    """Proves: each target's process runs and answers its own health question as well as before."""
    return serve_again(self.pins, runtime)


def is_dead(found: Pin, runtime: Runtime) -> Observation:
    """Proves: no process of the service is left, so the pinned one is dead."""
    state = runtime.state(found.service)
    return Observation(
        state == "gone", f"{found.service} is {state} (was process {found.identity})"
    )
