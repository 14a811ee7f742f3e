"""One storage fault as it is ordered: kinds, terms, and what makes an order wrong.

Pure data; what a fault does to an operation stands in faults.py.
"""

from __future__ import annotations

import errno
import math
from typing import Any, Literal, cast, get_args

import msgspec

Kind = Literal["slow", "failing", "full", "read_only", "hung", "torn", "unsynced", "rot", "gone"]
Operation = Literal["read", "write", "fsync", "meta"]

KINDS: tuple[Kind, ...] = get_args(Kind)
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
MOST_MS = 600_000.0
MOST_FLIPS = 10_000
MOST_NAME = 200


class SpecError(ValueError):
    """An order that makes no sense: says what is wrong with it."""


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. `path` is a glob of names inside the array, in which `*` stands for any text, `/`
    included (`x/*` is the folder x with all that is in it); '' is the whole array. `expires_s` 0
    stays until it is cleared.

    `operations` narrows slow, failing and hung (default: all four). Of failing and torn,
    `probability`, `nth` (that one only) or `every` choose the operations; without any of them, all.
    """

    name: str
    kind: Kind
    path: str = ""
    operations: tuple[Operation, ...] = ()
    expires_s: float = 0.0
    seed: int = 0
    latency_ms: float = 0.0  # slow
    jitter_ms: float = 0.0  # slow: ± evenly
    kb_per_s: float = 0.0  # slow: of reads and writes together; 1 kB is 1000 bytes
    probability: float = 0.0  # failing, torn
    nth: int = 0
    every: int = 0
    error: str = "EIO"  # failing, gone, torn
    then: Literal["error", "gone"] = "error"  # torn: only that write fails, or the array is gone
    free_bytes: int = 0  # full: so much is still free
    lying: bool = False  # unsynced: fsync says yes and does nothing
    flips: int = 0  # rot: so many bits, each in another block of 8 KiB where there are enough

    def checked(self) -> Spec:
        """This, when it makes sense; else SpecError."""
        if not self.name or len(self.name) > MOST_NAME:
            raise SpecError(f"a fault needs a name of 1 to {MOST_NAME} characters")
        numbers = (
            self.expires_s, self.latency_ms, self.jitter_ms, self.kb_per_s, self.probability,
            self.nth, self.every, self.free_bytes, self.flips,
        )  # fmt: skip
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise SpecError(f"{self.name}: no number of a fault may be negative or endless")
        if self.kind == "slow" and not (self.latency_ms or self.kb_per_s):
            raise SpecError(f"{self.name}: slow needs latency_ms or kb_per_s")
        if self.jitter_ms > self.latency_ms or self.latency_ms > MOST_MS:
            raise SpecError(f"{self.name}: jitter_ms ≤ latency_ms ≤ {MOST_MS:.0f} is wanted")
        if self.probability > 1:
            raise SpecError(f"{self.name}: probability lies between 0 and 1")
        if sum(map(bool, (self.probability, self.nth, self.every))) > 1:
            raise SpecError(f"{self.name}: give one of probability, nth, every")
        if self.kind == "rot" and not 1 <= self.flips <= MOST_FLIPS:
            raise SpecError(f"{self.name}: rot needs flips between 1 and {MOST_FLIPS}")
        if not isinstance(getattr(errno, self.error, None), int):
            raise SpecError(f"{self.name}: there is no error {self.error!r} (EIO, ENOTCONN, …)")
        return self

    @property
    def errno(self) -> int:
        """The error's number."""
        return cast(int, getattr(errno, self.error))


def read(value: Any) -> Spec:
    """An order as it came in; SpecError in one line when it is wrong."""
    try:
        return msgspec.convert(value, Spec).checked()
    except msgspec.ValidationError as error:
        raise SpecError(str(error)) from error
