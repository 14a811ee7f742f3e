"""SlowStorage: an array answers late, or moves few bytes a second.

It loses nothing and keeps the order of what one program does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chaos.faults import storage as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import Pin
from chaos.runtime import Runtime
from chaos.runtime.arrays import StorageOperation

EARLY = 0.98  # a measured delay below this share of the ordered one is no effect
SIZE = 65_536  # bytes by which a bandwidth is measured
CALLS = 12  # calls into the array that one look may need: each may be late
OPERATIONS: tuple[StorageOperation, ...] = ("read", "write", "fsync", "meta")


@dataclass(frozen=True, slots=True, init=False)
class SlowStorage:
    """`SlowStorage("array-a", latency_ms=80, jitter_ms=20, operations=("write", "fsync"))`.

    Milliseconds for each operation (default: all of read, write, fsync, meta), ± jitter evenly;
    `kb_per_s` bounds reads and writes of the array (or volume) together. `files`: only those
    names inside (`*` is any text, `/` included). `restarts`: its end is the array's exchange, and
    what stands on it is started anew; for the first stage of an array that fails in stages.
    """

    volumes: tuple[str, ...]
    latency_ms: float
    jitter_ms: float
    kb_per_s: float
    operations: tuple[StorageOperation, ...]
    files: str
    seed: int
    restarts: bool
    pins: tuple[Pin, ...]
    token: str

    def __init__(
        self, *volumes: str, latency_ms: float = 0, jitter_ms: float = 0, kb_per_s: float = 0,
        operations: tuple[StorageOperation, ...] = (), files: str = "", seed: int = 0,
        restarts: bool = False,
    ) -> None:  # fmt: skip
        """ValueError when nothing would be slow."""
        if not 0 <= jitter_ms <= latency_ms or kb_per_s < 0 or not (latency_ms or kb_per_s):
            raise ValueError("give latency_ms (and jitter_ms up to that), kb_per_s, or both")
        if jitter_ms and jitter_ms == latency_ms and not kb_per_s:
            raise ValueError("jitter_ms as large as latency_ms: no operation need be late")
        if kb_per_s and not latency_ms and operations and not {"read", "write"} & set(operations):
            raise ValueError("kb_per_s slows reads and writes only; name one of them")
        if not set(operations) <= set(OPERATIONS):
            raise ValueError(f"operations are some of {', '.join(OPERATIONS)}")
        fix(
            self, volumes=volumes, latency_ms=latency_ms, jitter_ms=jitter_ms, kb_per_s=kb_per_s,
            operations=operations, files=files, seed=seed, restarts=restarts, pins=(), token="",
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "slow-storage"

    @property
    def story(self) -> str:
        jitter = f" ± {self.jitter_ms:g}" if self.jitter_ms else ""
        late = f"{self.latency_ms:g}{jitter} ms" if self.latency_ms else ""
        rate = f"{self.kb_per_s:g} kB/s" if self.kb_per_s else ""
        which = f" for {', '.join(self.operations)}" if self.operations else ""
        slow = " and ".join(filter(None, (late, rate)))
        return f"{common.told(self.volumes, self.files)} slows down: {slow}{which}"

    ends_services = False

    def ordered(self) -> tuple[str, Mapping[str, object]]:
        return "slow", {
            "latency_ms": self.latency_ms, "jitter_ms": self.jitter_ms, "seed": self.seed,
            "kb_per_s": self.kb_per_s, "operations": list(self.operations),
        }  # fmt: skip

    def felt(self, place: common.Place, runtime: Runtime) -> Observation:
        """Proves: an operation of our own took at least the ordered time (where only some files
        are hit: the services' own did, in the median)."""
        least_ms = (self.latency_ms - self.jitter_ms) * EARLY
        if not place.whole:
            found = common.record(place, runtime)
            text = f"{place.array}: {found.acted} operations waited {found.took_ms:.1f} ms each"
            return Observation(found.acted > 0 and found.took_ms >= least_ms, text)
        operation = (self.operations or ("write",))[0]
        moving = [o for o in self.operations or ("write",) if o in ("read", "write")]
        passing_ms = 0.0
        if self.kb_per_s and moving:
            operation, passing_ms = moving[0], SIZE / self.kb_per_s
            least_ms += passing_ms * EARLY if operation == "write" else 0.0
        bound_s = common.LOOK_S + CALLS * (self.latency_ms + self.jitter_ms + passing_ms) / 1e3
        look = common.met(place, runtime, operation, bound_s, SIZE if passing_ms else 512)
        text = f"{place.array}: {operation} took {look.ms:.1f} ms and is {look.outcome}"
        return Observation(look.outcome == "done" and look.ms >= least_ms, text)

    pinned, targets, undo, prepare = common.pinned, common.targets, common.undo, common.prepare
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
