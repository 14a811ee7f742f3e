"""A harness for tests to kill: `python -m tests.storage.leased FOLDER`.

It takes a lease whose undo unmounts an array, mounts it, and works on it under faults. When the
array dies before it does, it says so in FOLDER/done and waits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from chaos.lease import Leases
from chaos.storage.client import StorageArray, StorageError
from tests.storage.arrays import command, places, scope


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    stack = folder / "stack"
    backing, mount, control = places(stack)
    undo = {"do": "unmount", "mount": str(mount), **scope(stack)}
    with Leases.begin("leased", state=folder / "state") as leases, leases.grant("array", (undo,)):
        child = subprocess.Popen(
            command(backing, mount, control),
            stdout=subprocess.DEVNULL,
            env={**os.environ, "STORAGE_TEST": str(stack)},
        )
        orders = StorageArray(control)
        number = 0
        while child.poll() is None:
            number += 1
            try:
                name = f"{number}"
                kind = ("slow", "unsynced", "torn")[number % 3]
                terms = {"latency_ms": 3} if kind == "slow" else {}
                orders.arm({"name": name, "kind": kind, "expires_s": 5, **terms})
                if os.path.ismount(mount):
                    work(mount / name)
                orders.clear([name])
            except (StorageError, OSError):
                time.sleep(0.01)
        (folder / "done").touch()
        time.sleep(60)


def work(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        for place in range(5):
            os.pwrite(handle, b"x" * 8192, place * 8192)
            os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    main()
