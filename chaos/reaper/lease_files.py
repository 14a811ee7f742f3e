"""Lease files: written so that they survive a power cut, played step by step, removed when undone.

A file whose undo failed stays, and says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .starting import locked
from .step import StepFailed
from .steps import play_step

OWNER = "owner.json"
TRIES = 3  # how often the reaper plays an undo that failed


class Played(NamedTuple):
    """What came of playing one lease."""

    lease: str
    ok: bool
    text: str


def read_lease(path: Path) -> dict[str, Any]:
    """The content of a lease file; ValueError when it is not one."""
    data = json.loads(path.read_text("utf-8"))
    if not isinstance(data, dict) or not isinstance(data.get("steps"), list):
        raise ValueError(f"{path} is not a lease")
    return data


def lease_files(folder: Path) -> list[Path]:
    """Lease files in the order of their granting (the stack's own comes first)."""
    with contextlib.suppress(OSError):
        return sorted(p for p in folder.glob("*.lease.json"))
    return []


def play_lease(path: Path, by: str) -> Played:
    """Play every step of a lease; remove its file when all went well, else note why in it."""
    name = path.name.removesuffix(".lease.json")
    for _ in range(TRIES):
        try:
            with locked(path):
                troubles, done = _play_steps(path, by)
            return Played(name, not troubles, "; ".join(troubles or done))
        except FileNotFoundError:  # undone by another process, or tried by it in vain: look again
            if not path.exists():
                return Played(name, True, "another process has undone it")
        except (OSError, ValueError, StepFailed) as error:
            return Played(name, False, f"lease {path}: {error}")
    return Played(name, False, f"lease {path}: other processes keep trying it")


def _play_steps(path: Path, by: str) -> tuple[list[str], list[str]]:
    lease = read_lease(path)
    troubles: list[str] = []
    done: list[str] = []
    for step in lease["steps"]:
        try:
            done.append(f"{step.get('do')}: {play_step(step)}")
        except StepFailed as failure:
            troubles.append(str(failure))
    if troubles:
        lease["failed"] = troubles
        write_durably(path, lease)
        _note(lease, by, troubles)
    else:
        # Noted first: who sees that the file is gone may read the journal, and may end us.
        _note(lease, by, troubles)
        path.unlink()
        sync_folder(path.parent)
    return troubles, done


def _note(lease: Mapping[str, Any], by: str, troubles: list[str]) -> None:
    """Write the end of a fault into the run's journal when the harness cannot (events.py)."""
    path = lease.get("journal")
    if not path or by == "block":
        return
    event = {"e": "fault.ended", "t": time.monotonic(), "fault": lease.get("name"), "by": by}
    if troubles:
        event |= {"e": "fault.stuck", "reason": "; ".join(troubles)}
        del event["by"]
    with contextlib.suppress(OSError):
        handle = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(handle, "ab") as file:
            file.write(json.dumps(event).encode() + b"\n")


def write_durably(path: Path, data: object) -> None:
    """Write JSON so that after return it survives a power cut, and is never seen half."""
    fresh = path.with_suffix(".new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or unlink in this folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_run(folder: Path) -> bool:
    """Remove a run's lease folder when no lease is left in it."""
    if lease_files(folder):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def stands(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(read_lease(path).get("standing"))
    return False
