"""Starts a service again, once, however many players try at the same time.

It knows nothing of services but what stands in the step: words, environment, folder, log.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .processes import lives, read_pidfile, stat
from .step import PATIENCE_S, Step, StepFailed

LOCK_S = 8.0  # another player of the same undo must be done by then


CHILDREN: list[subprocess.Popen[bytes]] = []  # what this process started; polled, never orphaned


def bury() -> None:
    """Take note of ended children, so that they do not stay as zombies."""
    for child in list(CHILDREN):
        if child.poll() is not None:
            with contextlib.suppress(ValueError):
                CHILDREN.remove(child)


def spawn(step: Step) -> str:
    """Start a service in its folder unless its root process lives; safe from several players."""
    bury()
    if not os.path.isdir(str(step["cwd"])):
        return "its data folder is gone, there is nothing to start"
    pidfile = Path(str(step["pidfile"]))
    with locked(Path(f"{pidfile}.lock"), os.O_RDWR | os.O_CREAT):
        root = read_pidfile(pidfile)
        if root is not None and lives(*root):
            return "it runs already"
        child = _start(step)
        seen = stat(child.pid)
        fresh = pidfile.with_suffix(".new")
        start = seen.start if seen else 0
        fresh.write_text(json.dumps({"pid": child.pid, "start": start}), "utf-8")
        os.replace(fresh, pidfile)
    return f"started as process {child.pid}"


def _start(step: Step) -> subprocess.Popen[bytes]:
    try:
        log = os.open(str(step["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:  # a lost log folder must not keep a service down
        log = os.open(os.devnull, os.O_WRONLY)
    try:
        child = subprocess.Popen(
            [str(word) for word in step["argv"]],
            cwd=str(step["cwd"]),
            env={str(k): str(v) for k, v in step["env"].items()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise StepFailed(f"cannot start {step['argv'][0]}: {error.strerror}") from error
    finally:
        os.close(log)
    CHILDREN.append(child)
    return child


@contextlib.contextmanager
def locked(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    """Hold the file's lock; FileNotFoundError when it was replaced or removed meanwhile."""
    deadline = time.monotonic() + LOCK_S
    handle = os.open(path, flags, 0o600)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StepFailed(f"{path} is locked by another process") from None
                time.sleep(PATIENCE_S)
        if os.stat(path).st_ino != os.fstat(handle).st_ino:
            raise FileNotFoundError(str(path))
        yield handle
    finally:
        os.close(handle)
