"""Pause: services hang. Their processes stand still, their connections stay open and silent.

It is how a machine looks that is alive for TCP and dead for everybody who waits for an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import services as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import Pin, ServiceTarget, told
from chaos.runtime import Runtime, Step


@dataclass(frozen=True, slots=True, init=False)
class Pause:
    """`Pause("ehr-db-a")`: SIGSTOP to every process; ends with SIGCONT."""

    services: tuple[ServiceTarget, ...]
    pins: tuple[Pin, ...]

    def __init__(self, *services: ServiceTarget, pins: tuple[Pin, ...] = ()) -> None:
        fix(self, services=services, pins=pins)

    @property
    def kind(self) -> str:
        return "pause"

    @property
    def story(self) -> str:
        return f"{told(self.services)} hangs (SIGSTOP)"

    def strike(self, runtime: Runtime, name: str) -> None:
        runtime.pause(name)

    def mend(self, runtime: Runtime, name: str) -> tuple[Step, ...]:
        return runtime.undo_pause(name)

    def look(self, found: Pin, runtime: Runtime) -> Observation:
        """Proves: every process of the service is in the stopped state, the pinned one included."""
        state = runtime.state(found.service)
        same = runtime.identity(found.service) == found.identity
        text = f"{found.service} is {state}" + ("" if same else ", and is another instance")
        return Observation(state == "paused" and same, text)

    pinned, targets, undo = common.pinned, common.targets, common.undo
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
