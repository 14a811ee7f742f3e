"""Storage that answers with errors, with nothing, or not at all: failing, full, read-only, hung,
lost.

It damages nothing that lies on the array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chaos.faults import storage as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.slow_storage import OPERATIONS
from chaos.faults.targets import Pin
from chaos.runtime import Runtime
from chaos.runtime.arrays import StorageOperation

Terms = tuple[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True, init=False)
class FailingStorage:
    """`FailingStorage("ehr-db-a", operations=("fsync",), nth=3)`: operations fail with an error.

    `probability`, `nth` (that one only) or `every` choose among them; without any, all fail.
    """

    volumes: tuple[str, ...]
    operations: tuple[StorageOperation, ...]
    probability: float
    nth: int
    every: int
    error: str
    files: str
    seed: int
    pins: tuple[Pin, ...]
    token: str

    def __init__(
        self, *volumes: str, operations: tuple[StorageOperation, ...] = (), nth: int = 0,
        probability: float = 0, every: int = 0, error: str = "EIO", files: str = "", seed: int = 0,
    ) -> None:  # fmt: skip
        """ValueError for more than one way to choose."""
        if not set(operations) <= set(OPERATIONS):
            raise ValueError(f"operations are some of {', '.join(OPERATIONS)}")
        if sum(map(bool, (probability, nth, every))) > 1 or not 0 <= probability <= 1:
            raise ValueError("give one of probability (0 to 1), nth, every; or none of them")
        if min(nth, every) < 0:
            raise ValueError("nth and every must be above 0")
        fix(
            self, volumes=volumes, operations=operations, probability=probability, nth=nth,
            every=every, error=error, files=files, seed=seed, pins=(), token="",
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "failing-storage"

    @property
    def story(self) -> str:
        chosen = [
            f"{self.probability:.0%} of" if self.probability else "",
            f"number {self.nth} of" if self.nth else "",
            f"each {self.every}. of" if self.every else "",
        ]
        which = f"{''.join(chosen) or 'all'} {', '.join(self.operations) or 'operations'}"
        return f"{common.told(self.volumes, self.files)}: {which} fail with {self.error}"

    ends_services = True
    restarts = False

    def ordered(self) -> Terms:
        return "failing", {
            "operations": list(self.operations), "probability": self.probability, "nth": self.nth,
            "every": self.every, "error": self.error, "seed": self.seed,
        }  # fmt: skip

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: where all fail, an operation of our own failed so; else one of the services'."""
        if self.probability or self.nth or self.every:
            return common.acted(place, runtime, f"failed with {self.error}")
        return common.fails_with(place, runtime, (self.operations or ("write",))[0], self.error)

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone


@dataclass(frozen=True, slots=True, init=False)
class FullStorage:
    """`FullStorage("array-b", free_mb=1)`: when so much more was written, ENOSPC."""

    volumes: tuple[str, ...]
    free_mb: float
    files: str
    pins: tuple[Pin, ...]
    token: str

    def __init__(self, *volumes: str, free_mb: float = 0, files: str = "") -> None:
        """ValueError for less than nothing."""
        if free_mb < 0:
            raise ValueError("free_mb must not be negative")
        fix(self, volumes=volumes, free_mb=free_mb, files=files, pins=(), token="")

    @property
    def kind(self) -> str:
        return "full-storage"

    @property
    def story(self) -> str:
        full = f"has only {self.free_mb:g} MB left" if self.free_mb else "is full"
        return f"{common.told(self.volumes, self.files)} {full}"

    ends_services = True
    restarts = False

    def ordered(self) -> Terms:
        return "full", {"free_bytes": self._free_bytes}

    @property
    def _free_bytes(self) -> int:
        return round(self.free_mb * 1e6)

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: the volume says that no more than that is free (where only some files are hit:
        a service's own write was refused)."""
        if not place.whole:
            return common.acted(place, runtime, "found no space")
        look = common.met(place, runtime, "space", common.LOOK_S)
        ok = look.outcome == "done" and 0 <= look.free_bytes <= self._free_bytes
        refused = common.record(place, runtime).acted
        text = f"{place.array}: {look.free_bytes} bytes are free, {refused} operations told so"
        return Observation(ok, text)

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone


@dataclass(frozen=True, slots=True, init=False)
class ReadOnlyStorage:
    """`ReadOnlyStorage("array-a")`: every change fails with EROFS, reading goes on."""

    volumes: tuple[str, ...]
    files: str
    pins: tuple[Pin, ...]
    token: str

    def __init__(self, *volumes: str, files: str = "") -> None:
        fix(self, volumes=volumes, files=files, pins=(), token="")

    @property
    def kind(self) -> str:
        return "read-only-storage"

    @property
    def story(self) -> str:
        return f"{common.told(self.volumes, self.files)} can only be read"

    ends_services = True
    restarts = False

    def ordered(self) -> Terms:
        return "read_only", {}

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: a write is refused."""
        return common.fails_with(place, runtime, "write", "EROFS")

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone


@dataclass(frozen=True, slots=True, init=False)
class HungStorage:
    """`HungStorage("array-a", operations=("fsync",))`: operations wait until the fault ends.

    Whoever waits can be killed; no other signal wakes him.
    """

    volumes: tuple[str, ...]
    operations: tuple[StorageOperation, ...]
    files: str
    pins: tuple[Pin, ...]
    token: str

    def __init__(
        self, *volumes: str, operations: tuple[StorageOperation, ...] = (), files: str = ""
    ) -> None:
        """ValueError for operations that there are not."""
        if not set(operations) <= set(OPERATIONS):
            raise ValueError(f"operations are some of {', '.join(OPERATIONS)}")
        fix(self, volumes=volumes, operations=operations, files=files, pins=(), token="")

    @property
    def kind(self) -> str:
        return "hung-storage"

    @property
    def story(self) -> str:
        which = ", ".join(self.operations) or "every operation"
        return f"{common.told(self.volumes, self.files)} hangs: {which} waits"

    ends_services = True
    restarts = False

    def ordered(self) -> Terms:
        return "hung", {"operations": list(self.operations)}

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: an operation waits and does not come back."""
        if not place.whole:
            return common.acted(place, runtime, "had to wait")
        operation = (self.operations or ("write",))[0]
        look = common.met(place, runtime, operation, common.HUNG_S)
        return Observation(look.outcome == "hung", f"{place.array}: {operation} is {look.outcome}")

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone


@dataclass(frozen=True, slots=True, init=False)
class LostArray:
    """`LostArray("array-a")`: every operation fails at once, on open files as well.

    When it is back, `restarts` starts what stands on it anew, as people do: a program that met the
    errors may go on half dead (Patroni's Raft thread ends by one, its process does not).
    """

    volumes: tuple[str, ...]
    error: str
    restarts: bool
    files: str
    pins: tuple[Pin, ...]
    token: str

    def __init__(
        self, *volumes: str, error: str = "EIO", restarts: bool = True, files: str = ""
    ) -> None:
        fix(
            self, volumes=volumes, error=error, restarts=restarts, files=files, pins=(), token=""
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "lost-array"

    @property
    def story(self) -> str:
        return f"{common.told(self.volumes, self.files)} is gone"

    ends_services = True

    def ordered(self) -> Terms:
        return "gone", {"error": self.error}

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: nothing can be read there."""
        return common.fails_with(place, runtime, "read", self.error)

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
