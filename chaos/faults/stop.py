"""Stop: services are shut down on purpose (maintenance): asked to drain, then ended.

A service that does not end within its `stop_s` is killed; the probe cannot tell the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults.fault import Observation
from chaos.faults.kill import Kill
from chaos.faults.targets import (
    Pin,
    ServiceTarget,
    candidates,
    pin,
    same_instances,
    side_by_side,
    told,
)
from chaos.runtime import Runtime, Step
from chaos.stack import Stack


@dataclass(frozen=True, slots=True, init=False)
class Stop:
    """`Stop("lis")`: SIGTERM and `stop_s` to drain; ends with a start."""

    services: tuple[ServiceTarget, ...]
    pins: tuple[Pin, ...]

    def __init__(self, *services: ServiceTarget, pins: tuple[Pin, ...] = ()) -> None:
        object.__setattr__(self, "services", services)
        object.__setattr__(self, "pins", pins)

    @property
    def kind(self) -> str:
        return "stop"

    @property
    def story(self) -> str:
        return f"{told(self.services)} is shut down deliberately (SIGTERM, may drain)"

    def pinned(self, runtime: Runtime) -> Stop:
        return self if self.pins else Stop(*self.services, pins=pin(self.services, runtime))

    def targets(self, stack: Stack) -> tuple[str, ...]:
        named = tuple(p.service for p in self.pins)
        return named or candidates(self.services, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        return self._as_kill().undo(runtime)

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        """Returns when all have ended: `stop_s` of the slowest at most."""
        del lease_s  # the lease's own deadline undoes it
        same_instances(self.pins, runtime)
        side_by_side(runtime.stop, self.targets(runtime.stack))

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: the pinned process has ended and no process of the service is left."""
        return self._as_kill().seen(runtime)

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: a process runs and answers its own health question as well as before."""
        return self._as_kill().gone(runtime)

    def _as_kill(self) -> Kill:
        return Kill(*self.services, pins=self.pins)
