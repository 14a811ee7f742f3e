"""One operation on a file of our own on an array, timed: `touch.py FOLDER OPERATION BYTES`.

It prints one line of JSON, imports nothing but the standard library, and is a program of its own
because whoever touches a hung array hangs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Callable

NAME = ".hospital-chaos-touch"


def main() -> None:
    """Do it, tell it, remove the file."""
    folder, operation, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    path = f"{folder}/{NAME}-{os.getpid()}"
    free, began, took_s = -1, time.perf_counter(), 0.0
    outcome = "done"
    try:
        if operation == "space":
            seen = os.statvfs(folder)
            free = seen.f_bavail * seen.f_frsize
            took_s = time.perf_counter() - began
        else:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            acts: dict[str, Callable[[], object]] = {
                "read": lambda: os.pread(handle, size, 0),
                "write": lambda: os.pwrite(handle, bytes(size), 0),
                "fsync": lambda: os.fsync(handle),
                "meta": lambda: os.fchmod(handle, 0o600),
            }
            if operation == "fsync":
                os.pwrite(handle, bytes(size), 0)
            began = time.perf_counter()
            acts[operation]()
            took_s = time.perf_counter() - began
    except OSError as error:
        outcome = errno.errorcode.get(error.errno or 0, "EIO")
        took_s = time.perf_counter() - began
    print(json.dumps([outcome, took_s * 1e3, free]), flush=True)
    with contextlib.suppress(OSError):
        os.unlink(path)


if __name__ == "__main__":
    main()
