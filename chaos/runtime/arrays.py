"""What a runtime with storage arrays can do to them: the Protocol, and the values it speaks in.

It does nothing itself: mounted.py does it to real arrays, fake_arrays.py in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

StorageOperation = Literal["read", "write", "fsync", "meta", "space"]
Step = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StorageFault:
    """One fault of an array: kind and terms as chaos.storage.spec.Spec has them."""

    name: str
    kind: str
    terms: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """What a fault of an array saw and did.

    Counts of operations; `waiting` hang now. `ordered_ms` and `took_ms` are medians of what a slow
    array ordered and of what its operations really waited. `flipped` tells each flipped bit (path,
    offset, bit, before, after), `lost` what a power cut took (files, bytes, names).
    """

    seen: int = 0
    acted: int = 0
    waiting: int = 0
    ordered_ms: float = 0.0
    took_ms: float = 0.0
    gone: bool = False
    flipped: tuple[Mapping[str, object], ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StorageLook:
    """What one operation on a volume met: `done`, `hung`, or the name of an error (EIO); after how
    many milliseconds; and how many bytes are said to be free (-1: not asked)."""

    outcome: str
    ms: float
    free_bytes: int = -1


class Storage(Protocol):
    """The arrays of a stack. An array has a server of its own only where `prepare` has asked for it
    before `up`: other runs pay nothing."""

    def prepare(self, arrays: tuple[str, ...]) -> None:
        """Before `up`: raise these arrays so that they can fail. RuntimeFailure where none can."""
        ...

    @property
    def prepared(self) -> tuple[str, ...]:
        """The arrays that were asked for."""
        ...

    def arm(self, array: str, fault: StorageFault, expires_s: float) -> None:
        """Arm one fault; it ends by itself after `expires_s`."""
        ...

    def faults(self, array: str) -> tuple[str, ...]:
        """Names of the faults that are armed on the array now."""
        ...

    def record(self, array: str, name: str) -> StorageRecord | None:
        """What a fault did, also when it is over; None when there was none."""
        ...

    def cut_power(self, array: str, name: str) -> StorageRecord:
        """Take back what the `unsynced` fault of that name saw written and not synced; the array
        is gone until the fault is cleared."""
        ...

    def look(
        self,
        array: str,
        volume: str,
        operation: StorageOperation,
        within_s: float,
        size: int = 4096,
    ) -> StorageLook:
        """Do one operation (of `size` bytes) on a file of our own in a volume's folder, and remove
        the file; bounded, never raises."""
        ...

    def undo(self, array: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """Steps that end these faults."""
        ...

    def undo_by_restart(self, service: str, identity: str) -> tuple[Step, ...]:
        """Steps that end that instance of a service (no later one); what starts it again is
        Runtime.undo_kill."""
        ...
