"""Removes what a stack leaves behind: its folder, and the shared memory of killed PostgreSQLs.

It removes nothing that does not carry the stack's own mark.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .mounts import mounts_below
from .step import Step, StepFailed

WALK_DEPTH = 6  # how deep under a data folder a PostgreSQL cluster may lie
GUARD = ".hospital-chaos"  # file in a stack's folder that holds its id: only such is removed


def remove_shm(step: Step) -> str:
    """Remove shared memory that killed PostgreSQL servers under `folder` have left behind."""
    removed = 0
    with contextlib.suppress(OSError):
        for name in set(Path(str(step["shm_list"])).read_text("utf-8").split()):
            if name.startswith("/dev/shm/PostgreSQL.") and os.path.exists(name):
                os.unlink(name)
                removed += 1
    for pid, key, segment in _postmasters(str(step["folder"])):
        if _segment_of(pid, key, segment):
            ctypes.CDLL(None, use_errno=True).shmctl(segment, 0, None)  # 0 is IPC_RMID
            if _segment_of(pid, key, segment):
                raise StepFailed(f"shared memory {segment} stays; remove it: ipcrm -m {segment}")
            removed += 1
    return f"removed {removed} pieces of shared memory"


def _postmasters(folder: str) -> Iterator[tuple[int, int, int]]:
    """(pid, key, segment) of each postmaster.pid below the folder."""
    for place, folders, files in os.walk(folder):
        if place.count("/") - folder.count("/") >= WALK_DEPTH or "PG_VERSION" in files:
            folders.clear()
        if "postmaster.pid" in files:
            with contextlib.suppress(OSError, ValueError, IndexError):
                lines = Path(place, "postmaster.pid").read_text("utf-8").splitlines()
                key, segment = lines[6].split()
                yield int(lines[0]), int(key), int(segment)


def _segment_of(pid: int, key: int, segment: int) -> bool:
    """Whether that segment still is the postmaster's, and nobody is attached to it."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/sysvipc/shm").read_text("ascii").splitlines()[1:]:
            f = [int(word) for word in line.split()[:7]]
            if f[1] == segment:
                return f[0] & 0xFFFFFFFF == key & 0xFFFFFFFF and f[4] == pid and f[6] == 0
    return False


def remove_tree(step: Step) -> str:
    """Remove a stack's folder: only one that carries the stack's own id, never through a link."""
    folder = Path(str(step["folder"]))
    if not folder.exists():
        return "the folder is gone already"
    guard = folder / GUARD
    if still := mounts_below(str(folder)):
        raise StepFailed(
            f"{still[0]} is still mounted; unmount it first: fusermount3 -u {still[0]}"
        )
    try:
        if [e.name for e in os.scandir(folder)] and guard.read_text("ascii") != step["id"]:
            raise StepFailed(f"{folder} belongs to another stack; look at {guard}")
        for entry in os.scandir(folder):
            if entry.name == GUARD:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        guard.unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        if folder.exists() and not guard.exists():
            raise StepFailed(f"{folder} has no {GUARD} file, it may not be ours") from None
    except OSError as error:
        raise StepFailed(f"cannot remove {folder}: {error}; remove it by hand") from error
    if folder.exists():
        raise StepFailed(f"{folder} is still there; remove it by hand")
    return "removed"
