"""SkewClock: the wall clock of services jumps; their monotonic clocks go on.

It moves no clock of the machine. Two faults that set the same clock are refused, because neither
could say what it did.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import services as common
from chaos.faults.fault import Observation, TargetError
from chaos.faults.fixed import fix
from chaos.faults.targets import Pin, ServiceTarget, all_of, serve_again, told
from chaos.runtime import ClockLook, Runtime, RuntimeFailure, Step
from chaos.stack import Stack

LEAST_S = 5.0  # a smaller jump cannot be told from whole seconds and slow answers
MOST_S = 10 * 366 * 86_400.0  # ten years: certificates have expired long before
NEAR_S = 2.5  # how close a clock must be read to count as set: whole seconds, and a look's own time


@dataclass(frozen=True, slots=True, init=False)
class SkewClock:
    """`SkewClock("ris", offset_s=3600)`: an hour ahead; `offset_s=-90` is a minute and a half late.

    An experiment's rehearsal tells the runtime beforehand whose clock will be set.
    """

    services: tuple[ServiceTarget, ...]
    offset_s: float
    pins: tuple[Pin, ...]

    def __init__(
        self, *services: ServiceTarget, offset_s: float, pins: tuple[Pin, ...] = ()
    ) -> None:
        """ValueError for an offset that nobody could see, or beyond ten years."""
        if not LEAST_S <= abs(offset_s) <= MOST_S:  # also for what is no number
            raise ValueError(
                f"offset_s of a clock must be at least {LEAST_S:g} s and at most ten years, ahead "
                f"or back; it is {offset_s:g}"
            )
        fix(self, services=services, offset_s=float(offset_s), pins=pins)

    @property
    def kind(self) -> str:
        return "clock-skew"

    @property
    def story(self) -> str:
        where = "ahead" if self.offset_s > 0 else "back"
        return f"the clock of {told(self.services)} jumps {abs(self.offset_s):g} s {where}"

    def prepare(self, runtime: Runtime) -> None:
        """Every service that may be hit is raised with a clock that can be set."""
        runtime.prepare_clocks(self.targets(runtime.stack))

    def pinned(self, runtime: Runtime) -> SkewClock:
        """TargetError when a clock is off already."""
        pinned = common.pinned(self, runtime)
        if runtime.raised and not self.pins:
            for found in pinned.pins:
                if abs(off_s := runtime.clock(found.service).offset_s) > NEAR_S:
                    raise TargetError(
                        f"the clock of {found.service} is off by {off_s:+.0f} s already, so what "
                        "another jump does could not be told"
                    )
        return pinned

    def strike(self, runtime: Runtime, name: str) -> None:
        runtime.set_clock(name, self.offset_s)

    def mend(self, runtime: Runtime, name: str) -> tuple[Step, ...]:
        return runtime.undo_set_clock(name)

    def look(self, found: Pin, runtime: Runtime) -> Observation:
        """Proves: the service's clock, as it tells it itself or as a program beside it reads it,
        is `offset_s` off; names processes of it that go by another clock."""
        return _look(found.service, self.offset_s, runtime)

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: the clocks are right again, and each target answers as well as before."""
        clocks = [_look(found.service, 0.0, runtime) for found in self.pins]
        return all_of([*clocks, serve_again(self.pins, runtime)])

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return common.targets(self, stack)

    undo, begin, seen, end = common.undo, common.begin, common.seen, common.end


def _look(service: str, wanted_s: float, runtime: Runtime) -> Observation:
    try:
        clock = runtime.clock(service)
    except RuntimeFailure as error:
        return Observation(False, str(error))
    return Observation(abs(clock.offset_s - wanted_s) <= NEAR_S, _words(service, clock))


def _words(service: str, clock: ClockLook) -> str:
    off = "right" if abs(clock.offset_s) <= NEAR_S else f"{clock.offset_s:+.1f} s off"
    apart = f"; {', '.join(clock.apart)} go by the machine's clock" if clock.apart else ""
    return f"the clock of {service} is {off}, by {clock.source}{apart}"
