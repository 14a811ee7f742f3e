"""Squeeze: services get less of their machine: less CPU, less memory, fewer processes.

It loads nothing. What is seen is the limit in force, and whether the service pressed against it
since; where it did not, the words say so and claim no pressure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from chaos.faults import services as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import changed, fix
from chaos.faults.targets import Pin, ServiceTarget, all_of, serve_again, told
from chaos.runtime import Pressure, Runtime, RuntimeFailure, Step
from chaos.stack import Limits, Stack

LEAST_CPUS = 0.01  # engines refuse less
LEAST_MEMORY_MIB = 6  # engines refuse less
SAME_CPUS = 1e-6


@dataclass(frozen=True, slots=True)
class Own:
    """A service as it was before: its limits, what it pressed, and the steps that undo."""

    limits: Limits
    pressure: Pressure
    undo: tuple[Step, ...]


@dataclass(frozen=True, slots=True, init=False)
class Squeeze:
    """`Squeeze("ehr-a", cpus=0.2, memory_mib=256, pids=64)`; what is left out stays as it is.

    Memory is the limit of all processes of the service together; what does not fit is ended by
    the kernel, and the service is started again when the fault ends. `pids` counts threads, too.
    """

    services: tuple[ServiceTarget, ...]
    limits: Limits
    pins: tuple[Pin, ...]
    own: dict[str, Own] = field(hash=False)

    def __init__(
        self, *services: ServiceTarget, cpus: float = 0.0, memory_mib: int = 0, pids: int = 0,
        pins: tuple[Pin, ...] = (), own: dict[str, Own] | None = None,
    ) -> None:  # fmt: skip
        """ValueError when nothing is limited, or to less than an engine allows."""
        limits = Limits(cpus, memory_mib, pids)
        if not math.isfinite(cpus):
            raise ValueError("cpus of a squeeze must be a number")
        if min(cpus, memory_mib, pids) < 0:
            raise ValueError("cpus, memory_mib and pids of a squeeze must be above 0")
        if not (cpus or memory_mib or pids):
            raise ValueError("a squeeze needs cpus, memory_mib or pids, above 0")
        if 0 < cpus < LEAST_CPUS:
            raise ValueError(f"cpus of a squeeze must be at least {LEAST_CPUS:g}")
        if 0 < memory_mib < LEAST_MEMORY_MIB:
            raise ValueError(f"memory_mib of a squeeze must be at least {LEAST_MEMORY_MIB}")
        fix(self, services=services, limits=limits, pins=pins, own=own or {})

    @property
    def kind(self) -> str:
        return "squeeze"

    @property
    def story(self) -> str:
        found = (
            f"{self.limits.cpus:g} CPU" if self.limits.cpus else "",
            f"{self.limits.memory_mib} MiB of memory" if self.limits.memory_mib else "",
            f"{self.limits.pids} processes" if self.limits.pids else "",
        )
        return f"{told(self.services)} get no more than {', '.join(filter(None, found))}"

    def pinned(self, runtime: Runtime) -> Squeeze:
        """Its own limits are asked here, once: what undoes it is known before it begins."""
        if self.pins:
            return self
        pinned = common.pinned(self, runtime)
        own = {
            name: Own(
                runtime.limits(name) if runtime.raised else Limits(),
                runtime.pressure(name) if runtime.raised else Pressure(),
                runtime.undo_set_limits(name, self.limits),
            )
            for name in common.targets(pinned, runtime.stack)
        }
        return changed(pinned, own=own)

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return common.targets(self, stack)

    def strike(self, runtime: Runtime, name: str) -> None:
        runtime.set_limits(name, self.limits)

    def mend(self, runtime: Runtime, name: str) -> tuple[Step, ...]:
        known = self.own.get(name)
        return known.undo if known else runtime.undo_set_limits(name, self.limits)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        return common.undo(self.pinned(runtime), runtime)

    def look(self, found: Pin, runtime: Runtime) -> Observation:
        """Proves: the limits read back are these; tells the pressure that was counted since."""
        name = found.service
        try:
            now, pressure = runtime.limits(name), runtime.pressure(name)
        except RuntimeFailure as error:
            return Observation(False, str(error))
        wrong = _differences(name, self.limits, now)
        if wrong:
            return Observation(False, "; ".join(wrong))
        if runtime.state(name) == "gone":
            words = "was ended by the kernel, out of memory" if pressure.starved else "is gone"
            return Observation(pressure.starved, f"{name} {words}")
        return self._pressed(name, pressure, self.own[name].pressure)

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: the limits are the old ones, and each target answers as well as before."""
        back = [self._is_back(name, runtime) for name in self.own]
        return all_of([*back, serve_again(self.pins, runtime)])

    def _is_back(self, name: str, runtime: Runtime) -> Observation:
        try:
            now = runtime.limits(name)
        except RuntimeFailure as error:
            return Observation(False, str(error))
        old = self.own[name].limits
        ok = all(
            abs(getattr(now, part) - getattr(old, part)) <= SAME_CPUS
            for part in ("cpus", "memory_mib", "pids")
            if getattr(self.limits, part)
        )
        words = "has its own limits again" if ok else f"still has other limits: {_told(now)}"
        return Observation(ok, f"{name} {words}")

    def _pressed(self, name: str, now: Pressure, before: Pressure) -> Observation:
        """In force; and how far it is felt, from the kernel's own counters."""
        words, limits = [], self.limits
        if limits.cpus:
            throttled = _since(now.throttled, before.throttled)
            periods = _since(now.periods, before.periods)
            felt = f"throttled in {throttled} of {periods} periods of 100 ms"
            words.append(f"{limits.cpus:g} CPU in force ({felt if throttled else 'not felt yet'})")
        if limits.memory_mib:
            if round(now.memory_limit_mib) != limits.memory_mib:
                text = f"{name}: its kernel limit is {now.memory_limit_mib:g} MiB of memory"
                return Observation(False, text)
            used = f"{now.memory_mib:.0f} in use; {_hit(now, before)}"
            words.append(f"{limits.memory_mib} MiB in force ({used})")
        if limits.pids:
            if now.pids_limit != limits.pids:
                return Observation(False, f"{name}: its kernel limit is {now.pids_limit} processes")
            full = now.pids >= limits.pids
            felt = "full: it gets no more" if full else "not felt yet"
            words.append(f"{limits.pids} processes in force ({now.pids} run; {felt})")
        return Observation(True, f"{name}: " + ", ".join(words))

    begin, seen, end = common.begin, common.seen, common.end


def _hit(now: Pressure, before: Pressure) -> str:
    if now.starved and not before.starved:
        return "the kernel has ended a process of it"
    if now.refused < 0:
        return "this kernel does not count how often the limit is hit"
    hits = _since(now.refused, before.refused)
    return f"the limit was hit {hits} times" if hits else "not felt yet"


def _since(now: int, before: int) -> int:
    """Counters begin again with each instance."""
    return now - before if now >= before else now


def _differences(name: str, wanted: Limits, now: Limits) -> list[str]:
    found = []
    if wanted.cpus and abs(now.cpus - wanted.cpus) > SAME_CPUS:
        found.append(f"{name} may use {now.cpus:g} CPU")
    if wanted.memory_mib and now.memory_mib != wanted.memory_mib:
        found.append(f"{name} may use {now.memory_mib} MiB of memory")
    if wanted.pids and now.pids != wanted.pids:
        found.append(f"{name} may run {now.pids} processes")
    return found


def _told(limits: Limits) -> str:
    return f"{limits.cpus:g} CPU, {limits.memory_mib} MiB, {limits.pids} processes"
