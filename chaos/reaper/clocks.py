"""Gives a service's wall clock the right time again: zeroes the number that its processes map.

It touches that one file, and makes none where the folder is gone (then no clock is off either).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from .step import Step, StepFailed

OFFSET = struct.Struct("=q")  # nanoseconds, as chaos/runtime/wall_clock.c maps them
NANO = 1_000_000_000


def set_right(step: Step) -> str:
    """Write an offset of nothing into the clock's file, and read it back; idempotent."""
    file = Path(str(step["file"]))
    if not file.is_file():
        return "the clock is gone, and what was wrong with it"
    write(file, 0)
    if now := read(file):
        raise StepFailed(f"the clock of {step['service']} stays {now:g} s off ({file})")
    return "the right time again"


def make(file: Path) -> None:
    """A clock that shows the right time."""
    file.write_bytes(OFFSET.pack(0))
    file.chmod(0o644)  # the service reads it as another user


def write(file: Path, offset_s: float) -> None:
    """In place and in one write: it is mapped, and must not shrink or be another file."""
    raw = os.open(file, os.O_WRONLY)
    try:
        os.pwrite(raw, OFFSET.pack(round(offset_s * NANO)), 0)
    finally:
        os.close(raw)


def read(file: Path) -> float:
    """The offset in the file, in seconds."""
    return float(OFFSET.unpack(file.read_bytes())[0]) / NANO


def words(step: Step) -> str:
    """The step in words and a command (in place: the file is mapped)."""
    zero = f"dd if=/dev/zero of={step['file']} bs=8 count=1 conv=notrunc"
    return f"give {step['service']} the right time: {zero}"
