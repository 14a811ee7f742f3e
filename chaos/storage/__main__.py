"""`python -m chaos.storage`: mounts one array and serves it; one JSON line when it is mounted.

    {"control": "/run/a.sock", "backing": "/data/.arrays/A", "mount": "/data/A", "pid": 4711}

Two processes: one serves; the other does nothing but wait for its end and unmount, so that a
server that was killed leaves no dead mount behind. Exit codes: 0 after SIGTERM or SIGINT or an
unmount, 1 cannot mount or the server died, 64 bad arguments or a place that is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from chaos.storage.control import Control
from chaos.storage.mounting import MountRefused, check, missing, mount, mounted, unmount
from chaos.storage.session import Session

EXIT_USAGE = 64
BUSY_LOOK_S = 0.05  # between two tries to unmount what is still in use
AHEAD = -10  # steps of nice; only root gets them
FAST_SWITCH_S = 0.0005  # a thread that has an answer shall not wait for one that computes


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"storage: {message}; see --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Mount and serve; returns the exit code."""
    parser = _Parser(prog="python -m chaos.storage", description="A storage array that can fail.")
    parser.add_argument("--backing", type=Path, required=True, help="folder with the real files")
    parser.add_argument("--mount", type=Path, required=True, help="empty folder to mount it on")
    parser.add_argument("--control", type=Path, required=True, help="Unix socket for orders")
    said = parser.parse_args(arguments)
    place, backing = said.mount.absolute(), said.backing.absolute()
    try:
        check(backing, place)
    except (MountRefused, OSError) as error:
        print(f"storage: {error}", file=sys.stderr)
        return EXIT_USAGE
    if why := missing():
        print(f"storage: cannot mount: {why}", file=sys.stderr)
        return 1
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = os.fork()
    if server == 0:
        os._exit(_serve(backing, place, said.control))
    return _watch(server, place)


def _serve(backing: Path, place: Path, control: Path) -> int:
    """The server: ends when the array is unmounted."""
    os.umask(0)
    with contextlib.suppress(PermissionError):  # a disk does not answer later on a busy machine
        os.nice(AHEAD)
    sys.setswitchinterval(FAST_SWITCH_S)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    who = {
        "control": str(control), "backing": str(backing), "mount": str(place), "pid": os.getpid(),
    }  # fmt: skip
    try:
        session = Session(mount(place, backing.name), str(backing))
        orders = Control(control, session, who)
    except (MountRefused, OSError) as error:
        print(f"storage: {error}", file=sys.stderr, flush=True)
        return 1
    threading.Thread(target=orders.run, daemon=True).start()
    print(json.dumps(who), flush=True)
    try:
        session.run()
    except OSError as error:
        print(f"storage: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _watch(server: int, place: Path) -> int:
    """The watcher: unmounts when asked to end, or when the server is gone."""
    wanted = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    code = None
    asked = False
    while True:
        code = _ended(server) if code is None else code
        if (code is not None or asked) and (str(place) not in mounted() or unmount(place)):
            break
        got = signal.sigtimedwait(wanted, BUSY_LOOK_S if asked or code is not None else 60.0)
        asked |= got is not None and got.si_signo != signal.SIGCHLD
    if code is None:
        code = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
    return 0 if code == 0 or asked else 1


def _ended(child: int) -> int | None:
    with contextlib.suppress(ChildProcessError):
        pid, status = os.waitpid(child, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None
    return 1


if __name__ == "__main__":
    sys.exit(main())
