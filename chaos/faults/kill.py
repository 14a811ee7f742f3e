"""Kill: services crash at once, all their processes, and nobody restarts them until the end.

It kills the pinned instances only; one that has restarted by itself meanwhile is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults.fault import Observation
from chaos.faults.targets import (
    Pin,
    ServiceTarget,
    all_of,
    candidates,
    pin,
    same_instances,
    serve_again,
    told,
)
from chaos.runtime import Runtime, Step
from chaos.stack import Stack


@dataclass(frozen=True, slots=True, init=False)
class Kill:
    """`Kill("ehr-a", primary)`: SIGKILL; ends with a start in the same place, on the same data."""

    services: tuple[ServiceTarget, ...]
    pins: tuple[Pin, ...]

    def __init__(self, *services: ServiceTarget, pins: tuple[Pin, ...] = ()) -> None:
        object.__setattr__(self, "services", services)
        object.__setattr__(self, "pins", pins)

    @property
    def kind(self) -> str:
        return "kill"

    @property
    def story(self) -> str:
        return f"{told(self.services)} crashes (SIGKILL, no restart)"

    def pinned(self, runtime: Runtime) -> Kill:
        return self if self.pins else Kill(*self.services, pins=pin(self.services, runtime))

    def targets(self, stack: Stack) -> tuple[str, ...]:
        named = tuple(p.service for p in self.pins)
        return named or candidates(self.services, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        names = self.pinned(runtime).targets(runtime.stack)
        return tuple(step for name in names for step in runtime.undo_kill(name))

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        del lease_s  # the lease's own deadline undoes it
        same_instances(self.pins, runtime)
        for name in self.targets(runtime.stack):
            runtime.kill(name)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: the pinned process is dead and no process of the service is left."""
        return all_of(_is_dead(found, runtime) for found in self.pins)

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: a process runs and answers its own health question as well as before."""
        return serve_again(self.pins, runtime)


def _is_dead(found: Pin, runtime: Runtime) -> Observation:
    state, identity = runtime.state(found.service), runtime.identity(found.service)
    ok = state == "gone" and identity != found.identity
    return Observation(ok, f"{found.service} is {state} (was process {found.identity})")
