"""Mounts arrays for tests, and sees that nothing of them is left."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos import reaper
from chaos.reaper.mounts import mounts
from chaos.storage.client import StorageArray
from chaos.storage.mounting import GUARD, missing

MOUNTED_S = 10.0
needs_fuse = pytest.mark.skipif(bool(missing()), reason=f"no storage faults here: {missing()}")


@dataclass(frozen=True)
class Array:
    """One mounted array: where its files lie, where it is mounted, how it takes orders."""

    folder: Path
    backing: Path
    mount: Path
    orders: StorageArray
    process: subprocess.Popen[bytes]
    server: int

    @property
    def step(self) -> dict[str, object]:
        """The reaper's step that unmounts it."""
        return {"do": "unmount", "mount": str(self.mount), **scope(self.folder)}


def scope(folder: Path) -> dict[str, object]:
    """How the reaper finds the array's processes."""
    return {"folder": str(folder), "marks": [f"STORAGE_TEST={folder}"]}


def places(folder: Path, name: str = "A") -> tuple[Path, Path, Path]:
    """A backing folder, a mount folder and a control socket in a folder marked as ours."""
    folder.mkdir(exist_ok=True)
    (folder / GUARD).write_text("test", "ascii")
    backing, mount = folder / ".arrays" / name, folder / name
    backing.mkdir(parents=True)
    mount.mkdir()
    return backing, mount, folder / f"{name}.sock"


def command(backing: Path, mount: Path, control: Path) -> list[str]:
    return [
        sys.executable, "-m", "chaos.storage",
        "--backing", str(backing), "--mount", str(mount), "--control", str(control),
    ]  # fmt: skip


@contextmanager
def mounted(folder: Path, name: str = "A") -> Iterator[Array]:
    """A mounted array; unmounted afterwards as the reaper would."""
    backing, mount, control = places(folder, name)
    child = subprocess.Popen(
        command(backing, mount, control),
        stdout=subprocess.PIPE,
        env={**os.environ, "STORAGE_TEST": str(folder)},
        cwd=str(Path(__file__).resolve().parents[2]),
    )
    assert child.stdout is not None
    try:
        assert select.select([child.stdout], [], [], MOUNTED_S)[0], "the array does not mount"
        said = json.loads(child.stdout.readline())
        array = Array(folder, backing, mount, StorageArray(control), child, said["pid"])
        yield array
    finally:
        reaper.play_step({"do": "unmount", "mount": str(mount), **scope(folder)})
        child.wait(5)
        child.stdout.close()
    assert str(mount) not in mounts()
