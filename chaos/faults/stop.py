"""Stop: services are shut down on purpose (maintenance): asked to drain, then ended.

A service that does not end within its `stop_s` is killed; the probe cannot tell the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import services as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import Pin, ServiceTarget, same_instances, side_by_side, told
from chaos.runtime import Runtime, Step


@dataclass(frozen=True, slots=True, init=False)
class Stop:
    """`Stop("lis")`: SIGTERM and `stop_s` to drain; ends with a start."""

    services: tuple[ServiceTarget, ...]
    pins: tuple[Pin, ...]

    def __init__(self, *services: ServiceTarget, pins: tuple[Pin, ...] = ()) -> None:
        fix(self, services=services, pins=pins)

    @property
    def kind(self) -> str:
        return "stop"

    @property
    def story(self) -> str:
        return f"{told(self.services)} is shut down deliberately (SIGTERM, may drain)"

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        """Returns when all have ended: `stop_s` of the slowest at most."""
        del lease_s  # the lease's own deadline undoes it
        same_instances(self.pins, runtime)
        side_by_side(runtime.stop, self.targets(runtime.stack))

    def strike(self, runtime: Runtime, name: str) -> None:
        runtime.stop(name)

    def mend(self, runtime: Runtime, name: str) -> tuple[Step, ...]:
        return runtime.undo_kill(name)

    def look(self, found: Pin, runtime: Runtime) -> Observation:
        return common.is_dead(found, runtime)

    pinned, targets, undo = common.pinned, common.targets, common.undo
    seen, end, gone = common.seen, common.end, common.gone
