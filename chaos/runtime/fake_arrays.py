"""Storage arrays in memory, for rehearsals and tests: they remember orders and reckon effects.

It mounts nothing; its undo steps are words.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from chaos.runtime import RuntimeFailure
from chaos.runtime.arrays import (
    Step,
    StorageFault,
    StorageLook,
    StorageOperation,
    StorageRecord,
)
from chaos.stack import Stack

QUICK_MS = 0.1  # one operation on a healthy array
FREE_BYTES = 10**11


@dataclass(slots=True)
class _Armed:
    fault: StorageFault
    end: float
    record: StorageRecord


class FakeArrays:
    """`heard` notes an order and says whether it shall be obeyed; `able` raises where the runtime
    that is stood in for has no storage faults. Between two looks at a record one operation passes,
    unless its array is in `still`."""

    def __init__(
        self, stack: Stack, heard: Callable[[str, str], bool], able: Callable[[], None]
    ) -> None:
        self.prepared: tuple[str, ...] = ()
        self.still: set[str] = set()
        self._stack = stack
        self._heard = heard
        self._able = able
        self._armed: dict[tuple[str, str], _Armed] = {}

    def prepare(self, arrays: tuple[str, ...]) -> None:
        """Remember them."""
        self._able()
        for array in arrays:
            self._stack.volumes_on(array)
        self.prepared = tuple(dict.fromkeys((*self.prepared, *arrays)))

    def arm(self, array: str, fault: StorageFault, expires_s: float) -> None:
        """Remember it until it expires."""
        self._known(array)
        if self._heard("arm_storage", array):
            if fault.name in self.faults(array):
                raise RuntimeFailure(f"a fault {fault.name!r} is armed on {array} already")
            flips = fault.terms.get("flips", 0)
            flipped = tuple({"path": "f", "offset": n} for n in range(int(str(flips))))
            record = StorageRecord(gone=fault.kind == "gone", flipped=flipped, acted=len(flipped))
            end = time.monotonic() + expires_s if expires_s > 0 else float("inf")
            self._armed[array, fault.name] = _Armed(fault, end, record)

    def faults(self, array: str) -> tuple[str, ...]:
        """Those that have not expired."""
        return tuple(armed.fault.name for armed in self._live(array))

    def record(self, array: str, name: str) -> StorageRecord | None:
        """Since the last look one operation was acted upon, unless the array is still."""
        armed = self._armed.get((array, name))
        if armed is None:
            return None
        if armed in self._live(array) and array not in self.still and not armed.record.flipped:
            r = armed.record
            late_ms = float(str(armed.fault.terms.get("latency_ms", 0)))
            armed.record = replace(r, seen=r.seen + 1, acted=r.acted + 1, took_ms=late_ms)
        return armed.record

    def cut_power(self, array: str, name: str) -> StorageRecord:
        """The array is gone."""
        for armed in self._live(array):
            if armed.fault.name == name and armed.fault.kind == "unsynced":
                lost = {"files": 1, "bytes": 8192, "names": 0}
                armed.record = replace(armed.record, gone=True, lost=lost)
                return armed.record
        raise RuntimeFailure(f"no fault {name!r} that knows what is not synced is on {array}")

    def look(
        self,
        array: str,
        volume: str,
        operation: StorageOperation,
        within_s: float,
        size: int = 4096,
    ) -> StorageLook:
        """What the armed faults would make of it."""
        del volume
        ms, free = QUICK_MS, FREE_BYTES if operation == "space" else -1
        for armed in self._live(array):
            terms = armed.fault.terms
            mine = terms.get("operations") or (operation,)
            kind = armed.fault.kind
            if armed.record.gone or (kind == "failing" and operation in list(mine)):  # type: ignore[call-overload]
                return StorageLook(str(terms.get("error", "EIO")), ms)
            if kind == "read_only" and operation != "space":
                return StorageLook("EROFS", ms)
            if kind == "hung" and operation in list(mine):  # type: ignore[call-overload]
                return StorageLook("hung", within_s * 1e3)
            if kind == "full" and operation == "space":
                free = int(str(terms.get("free_bytes", 0)))
            if kind == "slow" and operation in list(mine):  # type: ignore[call-overload]
                ms += float(str(terms.get("latency_ms", 0)))
                if rate := float(str(terms.get("kb_per_s", 0))):
                    ms += size / rate
        return StorageLook("done", ms, free)

    def undo(self, array: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """In words."""
        self._able()
        self._stack.volumes_on(array)
        text = f"end {', '.join(names)} on array {array}"
        return (
            {"do": "nothing", "text": text, "verb": "clear_storage", "name": array,
             "names": list(names)},
        )  # fmt: skip

    def undo_by_restart(self, service: str, identity: str) -> tuple[Step, ...]:
        """In words."""
        self._able()
        step = {"do": "nothing", "verb": "end", "name": service, "only": identity}
        return ({**step, "text": f"end {service}, so that it can start anew"},)

    def clear(self, array: str, names: object) -> None:
        """Play that step."""
        assert isinstance(names, list)
        if self._heard("clear_storage", array):
            for name in names:
                if armed := self._armed.get((array, str(name))):
                    armed.end = 0.0

    def _known(self, array: str) -> None:
        self._able()
        if array not in self.prepared:
            raise RuntimeFailure(f"array {array} was not raised so that it can fail")

    def _live(self, array: str) -> list[_Armed]:
        now = time.monotonic()
        return [a for (on, _), a in self._armed.items() if on == array and now < a.end]
