# ruff: noqa: ARG001, ARG002
"""What a runtime of bare processes cannot do, as verbs it takes over: each says what would do it.

It changes nothing.
"""

from __future__ import annotations

from chaos.runtime import (
    CLOCKS,
    LIMITS,
    NETWORKS,
    STORAGE,
    ClockLook,
    Pressure,
    Step,
    cannot,
)
from chaos.runtime.arrays import StorageFault, StorageLook, StorageOperation, StorageRecord
from chaos.stack import Limits


class NoArrays:
    """The arrays of a runtime that mounts none: every verb is a RuntimeFailure that says so."""

    prepared: tuple[str, ...] = ()

    def prepare(self, arrays: tuple[str, ...]) -> None:
        raise cannot(STORAGE)

    def arm(self, array: str, fault: StorageFault, expires_s: float) -> None:
        raise cannot(STORAGE)

    def faults(self, array: str) -> tuple[str, ...]:
        raise cannot(STORAGE)

    def record(self, array: str, name: str) -> StorageRecord | None:
        raise cannot(STORAGE)

    def cut_power(self, array: str, name: str) -> StorageRecord:
        raise cannot(STORAGE)

    def look(
        self, array: str, volume: str, operation: StorageOperation, within_s: float, size: int = 0
    ) -> StorageLook:
        raise cannot(STORAGE)

    def undo(self, array: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        raise cannot(STORAGE)

    def undo_by_restart(self, service: str, identity: str) -> tuple[Step, ...]:
        raise cannot(STORAGE)


def prepare_clocks(self: object, services: tuple[str, ...]) -> None:
    """RuntimeFailure: all processes of a machine share its clock."""
    raise cannot(CLOCKS)


def set_clock(self: object, service: str, offset_s: float) -> None:
    """RuntimeFailure."""
    raise cannot(CLOCKS)


def clock(self: object, service: str) -> ClockLook:
    """RuntimeFailure."""
    raise cannot(CLOCKS)


def undo_set_clock(self: object, service: str) -> tuple[Step, ...]:
    """RuntimeFailure."""
    raise cannot(CLOCKS)


def limits(self: object, service: str) -> Limits:
    """RuntimeFailure: processes share their machine freely."""
    raise cannot(LIMITS)


def set_limits(self: object, service: str, limits: Limits) -> None:
    """RuntimeFailure."""
    raise cannot(LIMITS)


def pressure(self: object, service: str) -> Pressure:
    """RuntimeFailure."""
    raise cannot(LIMITS)


def undo_set_limits(self: object, service: str, limits: Limits) -> tuple[Step, ...]:
    """RuntimeFailure."""
    raise cannot(LIMITS)


def disconnect(self: object, one: str, other: str) -> None:
    """RuntimeFailure: loopback has no networks to take away."""
    raise cannot(NETWORKS)


def undo_disconnect(self: object, one: str, other: str) -> tuple[Step, ...]:
    """RuntimeFailure."""
    raise cannot(NETWORKS)
