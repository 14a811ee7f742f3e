"""Kill: services crash at once, all their processes, and nobody restarts them until the end.

It kills the pinned instances only; one that has restarted by itself meanwhile is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import services as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import Pin, ServiceTarget, told
from chaos.runtime import Runtime, Step


@dataclass(frozen=True, slots=True, init=False)
class Kill:
    """`Kill("ehr-a", primary)`: SIGKILL; ends with a start in the same place, on the same data."""

    services: tuple[ServiceTarget, ...]
    pins: tuple[Pin, ...]

    def __init__(self, *services: ServiceTarget, pins: tuple[Pin, ...] = ()) -> None:
        fix(self, services=services, pins=pins)

    @property
    def kind(self) -> str:
        return "kill"

    @property
    def story(self) -> str:
        return f"{told(self.services)} crashes (SIGKILL, no restart)"

    def strike(self, runtime: Runtime, name: str) -> None:
        runtime.kill(name)

    def mend(self, runtime: Runtime, name: str) -> tuple[Step, ...]:
        return runtime.undo_kill(name)

    def look(self, found: Pin, runtime: Runtime) -> Observation:
        return common.is_dead(found, runtime)

    pinned, targets, undo = common.pinned, common.targets, common.undo
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
