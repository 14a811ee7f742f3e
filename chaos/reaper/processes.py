"""Finds the processes of a service or a stack in /proc, and ends, freezes or thaws them.

It trusts no process number alone: a number counts only together with its start time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from .step import PATIENCE_S, Step, StepFailed

QUIET_LOOKS = 3
KILL_S = 3.0  # all processes of a scope must be gone by then
SETTLE_S = 0.5  # for so long after a find, a look that meets newly dead does not count as quiet
SIGNAL_S = 2.0  # all processes of a scope must have taken a signal by then
OLD_KEPT_S = 1.0
STAT_BYTES = 1024
ENVIRON_BYTES = 100_000  # ours are much shorter; a larger buffer costs a mapping per look


class Stat(NamedTuple):
    """What /proc/PID/stat says: command, state letter, parent, terminal, start (ticks)."""

    command: bytes
    state: str
    parent: int
    terminal: int
    start: int


def stat(pid: int) -> Stat | None:
    """Look at one process; None when there is no such process."""
    command, _, rest = _read(f"/proc/{pid}/stat", STAT_BYTES).rpartition(b")")
    f = rest.split()
    if len(f) < 20:
        return None
    command = command.partition(b"(")[2]
    return Stat(command, f[0].decode(), int(f[1]), int(f[4]), int(f[19]))


def _read(path: str, most: int) -> bytes:
    """A file of /proc in one read (Python's file objects take twice as long); b'' when gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, most)
    except OSError:
        return b""
    finally:
        os.close(handle)


def lives(pid: int, start: int) -> bool:
    """Whether that very process (not a later one with its number) lives; zombies do not."""
    seen = stat(pid)
    return seen is not None and seen.start == start and seen.state not in "ZX"


def ticks_now() -> int:
    """This instant on the scale of Stat.start; 0 when it cannot be told."""
    try:
        uptime = float(Path("/proc/uptime").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0
    return int(uptime * os.sysconf("SC_CLK_TCK"))


def boot_id() -> str:
    """Identifies this boot of the machine: process numbers mean nothing after the next one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class _Elders:
    """Remembers, for OLD_KEPT_S, which processes are older than a stack: most of a machine's.

    A kill looks at /proc several times in a row; this halves its work. A number that is given to
    another process within that second would go unseen until the next one: the kernel hands out
    numbers in a circle of at least 32768.
    """

    def __init__(self) -> None:
        self._memory: tuple[float, int, set[int]] = (0.0, 0, set())

    def of(self, born: int) -> set[int]:
        """Processes known to be older than `born`; the caller adds what it finds."""
        now = time.monotonic()
        since, for_born, _ = self._memory
        if now - since > OLD_KEPT_S or born != for_born:
            self._memory = (now, born, set())
        return self._memory[2]


_elders = _Elders()


def find(scope: Step) -> dict[int, Stat]:
    """Living processes of a scope, by four signs: their working folder lies inside `folder` (or
    inside `data`, where a service's data lie elsewhere);
    their environment carries all `marks`; they are the recorded root (`pidfile`); or they descend
    from one of these. A shell that a person opened in the folder (it has a terminal) is not one,
    nor is any process that is older than the stack (`born`, in ticks since boot).
    """
    return _look(scope)[0]


def _look(
    scope: Step, meet: Callable[[int, Stat], object] | None = None
) -> tuple[dict[int, Stat], set[int]]:
    """What `find` finds, and the processes that were listed but dead when they were read.

    Of those nobody can tell whose they were, nor whether they left a child. `meet` hears of each
    process that is known by its own signs as soon as it is read: a little later it may have forked.
    """
    folders = [str(scope["folder"]), *filter(None, [str(scope.get("data") or "")])]
    marks = [str(m).encode() for m in scope.get("marks", ())]
    root = read_pidfile(scope.get("pidfile", ""))
    born = int(scope.get("born", 0))
    old = _elders.of(born)
    every: dict[int, Stat] = {}
    found: dict[int, Stat] = {}
    dead: set[int] = set()
    for name in reversed(os.listdir("/proc")):  # the youngest first: they vanish soonest
        if not name.isdigit() or (pid := int(name)) in old:
            continue
        if (seen := stat(pid)) is None or seen.state in "ZX":
            dead.add(pid)
            continue
        if seen.start < born:
            old.add(pid)
            continue
        every[pid] = seen
        if (
            (pid, seen.start) == root
            or (seen.terminal == 0 and _works_in(pid, folders))
            or (marks and _carries(pid, marks))
        ):
            if meet:
                meet(pid, seen)
            found[pid] = seen
    young = dict(found)
    while young:  # bounded: each round adds at least one of finitely many processes
        young = {p: s for p, s in every.items() if s.parent in young and p not in found}
        found.update(young)
    found.pop(os.getpid(), None)
    return found, dead


def _works_in(pid: int, folders: list[str]) -> bool:
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
    except OSError:
        return False
    return any(cwd == folder or cwd.startswith(folder + "/") for folder in folders)


def _carries(pid: int, marks: list[bytes]) -> bool:
    environ = _read(f"/proc/{pid}/environ", ENVIRON_BYTES)
    if not all(mark in environ for mark in marks):
        return False
    return set(marks) <= set(environ.split(b"\0"))


def send(pid: int, start: int, number: int) -> None:
    """Signal that very process; silent when it is gone, whoever has its number now."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        seen = stat(pid)
        if seen is not None and seen.start == start:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        return  # the caller looks again and names those that are left
    finally:
        os.close(handle)


def read_pidfile(path: object) -> tuple[int, int] | None:
    """(pid, start) of a service's root process; None when it was never started."""
    try:
        data = json.loads(Path(str(path)).read_text("utf-8")) if path else {}
        return int(data["pid"]), int(data["start"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def kill(scope: Step) -> str:
    """SIGKILL every process of the scope until QUIET_LOOKS in a row find none.

    One look may miss a child that was born while its parent ended, but then it meets the dead
    parent: for SETTLE_S a look with newly dead counts for nothing (later it does: a machine may be
    busy with others' processes). All are stopped before the first dies: none may see another's
    death and tidy up, as no server does whose power is cut. With `only` (`pid/start`) nothing is
    done once another instance runs in its place.
    """
    root = read_pidfile(scope.get("pidfile", "")) if scope.get("only") else None
    if root and f"{root[0]}/{root[1]}" != scope["only"] and lives(*root):
        return "another instance runs in its place"
    deadline, settled = time.monotonic() + KILL_S, 0.0
    ended: set[int] = set()
    dead: set[int] = set()
    quiet = 0

    def stop(pid: int, seen: Stat) -> None:
        if pid != os.getpid():
            send(pid, seen.start, signal.SIGSTOP)

    while quiet < QUIET_LOOKS:
        before = dead
        found, dead = _look(scope, stop)
        if found or not settled:
            settled = time.monotonic() + SETTLE_S
        restless = dead - before and time.monotonic() < settled
        quiet = 0 if found or restless else quiet + 1
        if found and not ended:
            _remember_shm(scope, found)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid, seen in found.items():
                send(pid, seen.start, number)
        ended |= found.keys()
        while left := {pid: s for pid, s in found.items() if lives(pid, s.start)}:
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"processes {_numbers(left)} in {scope['folder']} outlive SIGKILL; "
                    "look at their state with `ps -o pid,stat,wchan,args`"
                )
            time.sleep(PATIENCE_S)
        if found and time.monotonic() > deadline:
            raise StepFailed(f"processes in {scope['folder']} come faster than they can be ended")
    return f"ended {len(ended)} processes" if ended else "no process was left"


def freeze(scope: Step) -> None:
    """SIGSTOP every process of the scope until a look finds none that still runs."""
    _signal_until(scope, signal.SIGSTOP, lambda seen: seen.state in "Tt", "SIGSTOP")


def thaw(scope: Step) -> str:
    """SIGCONT every process of the scope until a look finds none that is stopped."""
    count = _signal_until(scope, signal.SIGCONT, lambda seen: seen.state not in "Tt", "SIGCONT")
    return f"{count} processes run"


def _signal_until(scope: Step, number: int, done: Callable[[Stat], bool], name: str) -> int:
    deadline, sent = time.monotonic() + SIGNAL_S, False
    while True:
        found = find(scope)
        left = {pid: seen for pid, seen in found.items() if not done(seen)}
        if not left:
            return len(found)
        if sent and time.monotonic() > deadline:  # on a busy machine one look may take so long
            raise StepFailed(f"processes {_numbers(left)} do not take {name}; look with `ps`")
        for pid, seen in left.items():
            send(pid, seen.start, number)
        sent = True
        time.sleep(PATIENCE_S)


def _numbers(pids: Mapping[int, object]) -> str:
    shown = ", ".join(map(str, sorted(pids)[:8]))
    return shown + (", …" if len(pids) > 8 else "")


def _remember_shm(scope: Step, found: Mapping[int, Stat]) -> None:
    """Note which shared memory files of PostgreSQL the processes map: SIGKILL leaks them."""
    if not (path := scope.get("shm_list")):
        return
    names: set[str] = set()
    for pid, seen in found.items():
        if not seen.command.startswith(b"postgres"):
            continue
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            names |= {line.split()[5] for line in maps if " /dev/shm/PostgreSQL." in line}
    if names:
        with contextlib.suppress(OSError), open(str(path), "a", encoding="utf-8") as file:
            file.write("".join(f"{name}\n" for name in sorted(names)))
