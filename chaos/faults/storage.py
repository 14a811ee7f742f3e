"""What all faults of storage arrays have in common, as functions that each takes for its methods.

Such a fault says only what is its own: what it is called, its terms, and how its effect is felt
on one array (`felt`). Not a fault itself. A target is an array, or a service: then its volume.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from chaos.faults.fault import Observation, TargetError
from chaos.faults.fixed import changed
from chaos.faults.targets import Pin, all_of, pin, same_instances, serve_again
from chaos.runtime import Runtime, RuntimeFailure, Step
from chaos.runtime.arrays import StorageFault, StorageLook, StorageOperation, StorageRecord
from chaos.stack import Stack, TopologyError

LOOK_S = 1.0  # what one operation on an array may take by itself
HUNG_S = 0.4  # an operation that takes longer hangs


@dataclass(frozen=True, slots=True)
class Place:
    """One array that is hit: the fault's name there, which files, and a volume to look at."""

    array: str
    name: str
    path: str
    volume: str
    whole: bool  # every file of the array or volume: so a file of our own is hit, too


class OfArrays(Protocol):
    """What such a fault brings itself."""

    @property
    def kind(self) -> str: ...

    @property
    def volumes(self) -> tuple[str, ...]: ...

    @property
    def files(self) -> str: ...

    @property
    def pins(self) -> tuple[Pin, ...]: ...

    @property
    def token(self) -> str: ...

    @property
    def ends_services(self) -> bool:
        """Whether services may end by it, so that its undo starts them again."""

    @property
    def restarts(self) -> bool:
        """Whether its undo ends and starts services that are still the ones that were hit."""

    def ordered(self) -> tuple[str, Mapping[str, object]]:
        """Kind and terms as chaos.storage.spec.Spec has them."""

    def felt(self, place: Place, runtime: Runtime) -> Observation:
        """Look once at one array on which the fault is armed."""


T = TypeVar("T", bound=OfArrays)


def prepare(self: OfArrays, runtime: Runtime) -> None:
    """The arrays are raised so that they can fail."""
    runtime.storage.prepare(tuple(dict.fromkeys(p.array for p in places(self, runtime.stack))))


def places(self: OfArrays, stack: Stack) -> tuple[Place, ...]:
    """Where the fault is armed; TargetError for what is neither an array nor on one."""
    if not self.volumes:
        raise TargetError("no array was named as target; nothing was injected")
    if len(set(self.volumes)) != len(self.volumes):
        raise TargetError(f"target named twice: {', '.join(self.volumes)}")
    found = []
    arrays = {s.volume.array for s in stack.services if s.volume}
    for number, target in enumerate(self.volumes):
        name = f"{self.kind}-{self.token}-{number}" if self.token else ""
        if target in arrays:
            (first, *_) = stack.volumes_on(target)
            assert first.volume is not None
            found.append(Place(target, name, self.files, first.volume.name, not self.files))
            continue
        try:
            volume = stack.service(target).volume
        except TopologyError as error:
            known = ", ".join(sorted(arrays)) or "none"
            raise TargetError(
                f"no array or service {target!r} in this stack (arrays: {known})"
            ) from error
        if volume is None:
            raise TargetError(f"service {target} has no volume on an array")
        path = f"{volume.name}/{self.files or '*'}"
        found.append(Place(volume.array, name, path, volume.name, not self.files))
    return tuple(found)


def targets(self: OfArrays, stack: Stack) -> tuple[str, ...]:
    """Every service whose data are hit."""
    arrays = {p.array for p in places(self, stack)}
    names = [s.name for s in stack.services if s.volume and s.volume.array in arrays]
    whole = {s.name for a in arrays & set(self.volumes) for s in stack.volumes_on(a)}
    return tuple(name for name in names if name in whole or name in self.volumes)


def pinned(self: T, runtime: Runtime) -> T:
    """With a token of its own, and the services whose data are hit pinned.

    Who does not run is left alone: an earlier fault of the array has ended it, or somebody has
    stopped it; that one's undo starts it again.
    """
    if self.pins:
        return self
    names = targets(self, runtime.stack)
    if runtime.raised:
        names = tuple(name for name in names if runtime.identity(name)) or names
    found = pin(names, runtime)
    return changed(self, pins=found, token=self.token or secrets.token_hex(3))


def undo(self: OfArrays, runtime: Runtime) -> tuple[Step, ...]:
    """Steps that end the fault, and start services that did not survive it."""
    if not self.token:
        raise TargetError("the fault was not pinned; call pinned() first")
    steps = [
        s for p in places(self, runtime.stack) for s in runtime.storage.undo(p.array, (p.name,))
    ]
    if self.restarts:  # all end before the first begins anew: none meets half a room
        for found in self.pins:
            steps += runtime.storage.undo_by_restart(found.service, found.identity)
    if self.restarts or self.ends_services:
        for found in self.pins:
            steps += runtime.undo_kill(found.service)
    return tuple(steps)


def begin(self: OfArrays, runtime: Runtime, lease_s: float) -> None:
    """Arm it; each array ends it by itself with the lease."""
    found = places(self, runtime.stack)
    if not any(runtime.storage.faults(place.array) for place in found):
        same_instances(self.pins, runtime)  # else an earlier fault there may end any at any time
    kind, terms = self.ordered()
    for place in found:
        value = StorageFault(place.name, kind, {**terms, "path": place.path})
        runtime.storage.arm(place.array, value, lease_s)


def seen(self: OfArrays, runtime: Runtime) -> Observation:
    """Proves: each array holds the fault, and what the fault's `felt` proves of one array."""
    if not self.pins:
        return all_of(())

    def look(place: Place) -> Observation:
        try:
            if place.name not in runtime.storage.faults(place.array):
                return Observation(False, f"{place.array} does not hold this fault")
            return self.felt(place, runtime)
        except RuntimeFailure as error:
            return Observation(False, str(error))

    return all_of(look(place) for place in places(self, runtime.stack))


def end(self: OfArrays, runtime: Runtime) -> None:
    """Play the undo."""
    runtime.play(undo(self, runtime))


def gone(self: OfArrays, runtime: Runtime) -> Observation:
    """Proves: no array holds the fault, a write is synced there, and each service whose data were
    hit answers as well as before. While another fault is on the array, its end looks at that:
    the first to begin shall be the last to end."""
    if not self.pins:
        return all_of(())
    others = False

    def look(place: Place) -> Observation:
        nonlocal others
        try:
            armed = runtime.storage.faults(place.array)
        except RuntimeFailure as error:
            return Observation(False, str(error))
        if place.name in armed:
            return Observation(False, f"{place.array} still holds this fault")
        if armed:
            others = True
            return Observation(True, f"{place.array} is clean, and hit by another fault")
        met = runtime.storage.look(place.array, place.volume, "fsync", LOOK_S)
        return Observation(met.outcome == "done", f"{place.array}: a synced write is {met.outcome}")

    clean = all_of(look(place) for place in places(self, runtime.stack))
    return clean if others else all_of([clean, serve_again(self.pins, runtime)])


# ------------------------------------------------------------ ways to feel one


def record(place: Place, runtime: Runtime) -> StorageRecord:
    """What the fault did on that array, as the array says."""
    return runtime.storage.record(place.array, place.name) or StorageRecord()


def met(
    place: Place, runtime: Runtime, operation: StorageOperation, within_s: float, size: int = 512
) -> StorageLook:
    """One operation of our own in the volume."""
    return runtime.storage.look(place.array, place.volume, operation, within_s, size)


def fails_with(
    place: Place, runtime: Runtime, operation: StorageOperation, error: str
) -> Observation:  # fmt: skip
    """Proves: an operation of our own in the volume meets that error; where only some files are
    hit: one of the services' own did."""
    if not place.whole:
        return acted(place, runtime, "met the fault")
    look = met(place, runtime, operation, LOOK_S)
    text = f"{place.array}: {operation} in {place.volume} met {look.outcome}"
    return Observation(look.outcome == error, text)


def acted(place: Place, runtime: Runtime, what: str) -> Observation:
    """Proves: at least one operation of a service met the fault."""
    found = record(place, runtime)
    text = f"{place.array}: {found.acted} of {found.seen} operations {what}"
    return Observation(found.acted > 0, text)


def told(names: tuple[str, ...], files: str) -> str:
    """The targets in words."""
    return f"{files} of {', '.join(names)}" if files else ", ".join(names)
