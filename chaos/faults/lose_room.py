"""LoseRoom: everything in a room fails together: its services and every link that touches it.

A composition of Kill or Pause with Cut; it knows nothing that those do not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chaos.faults.cut import Cut
from chaos.faults.fault import Observation, TargetError
from chaos.faults.kill import Kill
from chaos.faults.pause import Pause
from chaos.faults.targets import LinksOf, all_of
from chaos.runtime import Runtime, Step
from chaos.stack import Stack, TopologyError


@dataclass(frozen=True, slots=True)
class LoseRoom:
    """`LoseRoom("A")`: power off. `how="pause"`: its machines hang. `silent`: as in Cut."""

    room: str
    how: Literal["kill", "pause"] = "kill"
    silent: bool = False
    services: Kill | Pause | None = None
    links: Cut | None = None

    @property
    def kind(self) -> str:
        return "room"

    @property
    def story(self) -> str:
        how = "loses power" if self.how == "kill" else "hangs"
        return f"room {self.room} {how}: all its services and every link that touches it"

    def pinned(self, runtime: Runtime) -> LoseRoom:
        services, links = self._parts(runtime.stack)
        return LoseRoom(
            self.room,
            self.how,
            self.silent,
            services.pinned(runtime),
            links.pinned(runtime) if links else None,
        )

    def targets(self, stack: Stack) -> tuple[str, ...]:
        services, links = self._parts(stack)
        return services.targets(stack) + (links.targets(stack) if links else ())

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        """Links first: a service that starts finds its peers."""
        services, links = self._parts(runtime.stack)
        return (links.undo(runtime) if links else ()) + services.undo(runtime)

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        services, links = self._parts(runtime.stack)
        services.begin(runtime, lease_s)
        if links:
            links.begin(runtime, lease_s)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves what Kill (or Pause) and Cut prove of each service and each link."""
        services, links = self._parts(runtime.stack)
        return all_of([services.seen(runtime), *([links.seen(runtime)] if links else [])])

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: every link is open and every service runs and is as well as before."""
        services, links = self._parts(runtime.stack)
        return all_of([*([links.gone(runtime)] if links else []), services.gone(runtime)])

    def _parts(self, stack: Stack) -> tuple[Kill | Pause, Cut | None]:
        if self.services is not None:
            return self.services, self.links
        try:
            names = [s.name for s in stack.services_in(self.room)]
            touching = stack.links_of(self.room)
        except TopologyError as error:
            raise TargetError(str(error)) from error
        if not names:
            raise TargetError(f"room {self.room} has no services in stack {stack.name}")
        services = Kill(*names) if self.how == "kill" else Pause(*names)
        return services, Cut(LinksOf(self.room), silent=self.silent) if touching else None
