"""CrashLoop: a service crashes again each time it is back.

It plays the supervisor as well (it starts the service after each crash), because a runtime of
bare processes has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.faults.fault import Observation
from chaos.faults.kill import Kill
from chaos.faults.repeating import Repeating
from chaos.faults.targets import Pin, ServiceTarget, all_of, same_instances, told
from chaos.runtime import Runtime, Step
from chaos.stack import Stack

DOWN_S = 0.5  # between a crash and the supervisor's restart


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """`CrashLoop("engine", every_s=3)`: crash, restart after `down_s`, crash `every_s` later."""

    service: ServiceTarget
    every_s: float = 3.0
    down_s: float = DOWN_S
    pins: tuple[Pin, ...] = ()
    loop: Repeating = field(default_factory=Repeating, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.every_s <= 0 or self.down_s <= 0:
            raise ValueError("every_s and down_s of a crash loop must be above 0 s")

    @property
    def kind(self) -> str:
        return "crash-loop"

    @property
    def story(self) -> str:
        return f"{told([self.service])} crashes again {self.every_s:g} s after each restart"

    def pinned(self, runtime: Runtime) -> CrashLoop:
        if self.pins:
            return self
        pins = self._as_kill().pinned(runtime).pins
        return CrashLoop(self.service, self.every_s, self.down_s, pins)

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return self._as_kill().targets(stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        return self._as_kill().undo(runtime)

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        same_instances(self.pins, runtime)
        (name,) = self.targets(runtime.stack)

        def once(wait: Callable[[float], bool]) -> None:
            runtime.kill(name)
            if not wait(self.down_s):
                runtime.start(name)
                wait(self.every_s)

        self.loop.start(once, lease_s)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: the pinned process is dead and the loop goes on."""
        crashes = [_has_crashed(found, runtime) for found in self.pins]
        return all_of([all_of(crashes), self.loop.observe()])

    def end(self, runtime: Runtime) -> None:
        """The loop first, so that it cannot crash what the undo starts."""
        self.loop.stop()
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: the loop has ended, and the service runs and answers as well as before."""
        return all_of([self.loop.ended(), self._as_kill().gone(runtime)])

    def _as_kill(self) -> Kill:
        return Kill(self.service, pins=self.pins)


def _has_crashed(found: Pin, runtime: Runtime) -> Observation:
    dead = runtime.identity(found.service) != found.identity
    state = "has crashed" if dead else "has not crashed yet"
    return Observation(dead, f"{found.service} {state}")
