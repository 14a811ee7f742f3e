"""Pause: services hang. Their processes stand still, their connections stay open and silent.

It is how a machine looks that is alive for TCP and dead for everybody who waits for an answer.
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
class Pause:
    """`Pause("ehr-db-a")`: SIGSTOP to every process; ends with SIGCONT."""

    services: tuple[ServiceTarget, ...]
    pins: tuple[Pin, ...]

    def __init__(self, *services: ServiceTarget, pins: tuple[Pin, ...] = ()) -> None:
        object.__setattr__(self, "services", services)
        object.__setattr__(self, "pins", pins)

    @property
    def kind(self) -> str:
        return "pause"

    @property
    def story(self) -> str:
        return f"{told(self.services)} hangs (SIGSTOP)"

    def pinned(self, runtime: Runtime) -> Pause:
        return self if self.pins else Pause(*self.services, pins=pin(self.services, runtime))

    def targets(self, stack: Stack) -> tuple[str, ...]:
        named = tuple(p.service for p in self.pins)
        return named or candidates(self.services, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        names = self.pinned(runtime).targets(runtime.stack)
        return tuple(step for name in names for step in runtime.undo_pause(name))

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        del lease_s  # the lease's own deadline undoes it
        same_instances(self.pins, runtime)
        for name in self.targets(runtime.stack):
            runtime.pause(name)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: every process of the service is in the stopped state, the pinned one included."""
        return all_of(_stands_still(found, runtime) for found in self.pins)

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: the processes run and the service answers as well as before."""
        return serve_again(self.pins, runtime)


def _stands_still(found: Pin, runtime: Runtime) -> Observation:
    state = runtime.state(found.service)
    same = runtime.identity(found.service) == found.identity
    text = f"{found.service} is {state}" + ("" if same else ", and is another instance")
    return Observation(state == "paused" and same, text)
