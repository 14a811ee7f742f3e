"""Bit rot: flips bits in files behind the mount, and says exactly where.

It repairs nothing: what is damaged stays so, as on a disk, until somebody restores it.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chaos.storage.spec import Spec, SpecError

BLOCK = 8192  # PostgreSQL's page: each flip goes to another one while there are enough
MOST_TRIES = 50  # for each flip, to find a block that has none yet


def rot(
    root: bytes, concerns: Callable[[bytes], bool], spec: Spec
) -> tuple[int, list[dict[str, Any]]]:
    """Flip `spec.flips` bits, chosen by seed; returns how many files could have been hit, and what
    was done: path, offset, bit, and the byte before and after."""
    files = _files(root, concerns)
    if not files:
        raise SpecError(f"{spec.name}: no file with content matches {spec.path!r}")
    choice = random.Random(f"{spec.seed} rot")
    blocks: set[tuple[bytes, int]] = set()
    places: set[tuple[bytes, int]] = set()
    done: list[dict[str, Any]] = []
    while len(done) < spec.flips:
        for _ in range(MOST_TRIES):
            path, size = choice.choice(files)
            offset = choice.randrange(size)
            if (path, offset // BLOCK) not in blocks:
                break
        if (path, offset) in places:
            raise SpecError(
                f"{spec.name}: {spec.flips} flips are too many for the bytes in {spec.path!r}; "
                f"{len(done)} were made"
            )
        blocks.add((path, offset // BLOCK))
        places.add((path, offset))
        done.append(_flip(root, path, offset, choice.randrange(8)))
    return len(files), done


def _flip(root: bytes, path: bytes, offset: int, bit: int) -> dict[str, Any]:
    handle = os.open(root + b"/" + path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        before = os.pread(handle, 1, offset)[0]
        after = before ^ (1 << bit)
        os.pwrite(handle, bytes([after]), offset)
        os.fsync(handle)
    except IndexError:
        raise SpecError(f"{os.fsdecode(path)} became shorter while bits were flipped") from None
    finally:
        os.close(handle)
    return {
        "path": os.fsdecode(path), "offset": offset, "bit": bit, "before": before, "after": after,
    }  # fmt: skip


def _files(root: bytes, concerns: Callable[[bytes], bool]) -> list[tuple[bytes, int]]:
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            whole = os.path.join(folder, name)
            path = whole[len(root) + 1 :]
            with suppress(OSError):
                seen = os.lstat(whole)
                if stat.S_ISREG(seen.st_mode) and seen.st_size and concerns(path):
                    found.append((path, seen.st_size))
    return sorted(found)
