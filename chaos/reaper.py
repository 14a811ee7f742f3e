"""The dead-man's switch: plays undo steps for a harness that died, hung, or asks for it.

It decides nothing and imports nothing but the standard library: it runs by path (`python -I`), so
that no broken installation can stop a heal. Hence one file, longer than the house likes.

An undo is data. A lease file holds its steps; each step is played idempotently, within a bound,
and verified; a step that is unknown or fails keeps its file.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

KILL_S = 3.0  # all processes of a scope must be gone by then
SIGNAL_S = 2.0  # all processes of a scope must have taken a signal by then
LOCK_S = 8.0  # another player of the same undo must be done by then
CALL_S = 1.0  # one call to a proxy's API
OPEN_S = 0.5  # one connection to a port
PATIENCE_S = 0.001  # between two looks at /proc
TICK_S = 1.0  # the reaper looks at its owner and its folder at least this often
TRIES = 3  # how often the reaper plays an undo that failed
BETWEEN_TRIES_S = 0.4
PROC_BYTES = 256 << 10  # an environment is shorter than this
MOST_BYTES = 8 << 20  # longest answer that is read from a proxy's API
WALK_DEPTH = 6  # how deep under a data folder a PostgreSQL cluster may lie
GUARD = ".hospital-chaos"  # file in a stack's folder that holds its id: only such is removed
OWNER = "owner.json"

Step = Mapping[str, Any]


class StepFailed(RuntimeError):
    """One undo step could not be done or not be verified; says why and what to do by hand."""


class Silent(OSError):
    """An API did not answer (properly) within its bound; `refused` when nothing listens."""

    def __init__(self, text: str, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


# ------------------------------------------------------------------------------ processes


class Stat(NamedTuple):
    """What /proc/PID/stat says: command, state letter, parent, terminal, start (ticks)."""

    command: bytes
    state: str
    parent: int
    terminal: int
    start: int


def stat(pid: int) -> Stat | None:
    """Look at one process; None when there is no such process."""
    command, _, rest = _read(f"/proc/{pid}/stat").rpartition(b")")
    f = rest.split()
    if len(f) < 20:
        return None
    command = command.partition(b"(")[2]
    return Stat(command, f[0].decode(), int(f[1]), int(f[4]), int(f[19]))


def _read(path: str) -> bytes:
    """A file of /proc in one read (Python's file objects take twice as long); b'' when gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(handle, PROC_BYTES)
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


def find(scope: Step) -> dict[int, Stat]:
    """Living processes of a scope, by four signs: their working folder lies inside `folder`;
    their environment carries all `marks`; they are the recorded root (`pidfile`); or they descend
    from one of these. A shell that a person opened in the folder (it has a terminal) is not one,
    nor is any process that is older than the stack (`born`, in ticks since boot).
    """
    folder = str(scope["folder"])
    marks = [str(m).encode() for m in scope.get("marks", ())]
    root = read_pidfile(scope.get("pidfile", ""))
    born = int(scope.get("born", 0))
    every: dict[int, Stat] = {}
    found: dict[int, Stat] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or (seen := stat(int(name))) is None or seen.state in "ZX":
            continue
        if seen.start < born:
            continue
        pid = int(name)
        every[pid] = seen
        if (
            (pid, seen.start) == root
            or (seen.terminal == 0 and _works_in(pid, folder))
            or (marks and _carries(pid, marks))
        ):
            found[pid] = seen
    young = dict(found)
    while young:  # bounded: each round adds at least one of finitely many processes
        young = {p: s for p, s in every.items() if s.parent in young and p not in found}
        found.update(young)
    found.pop(os.getpid(), None)
    return found


def _works_in(pid: int, folder: str) -> bool:
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
    except OSError:
        return False
    return cwd == folder or cwd.startswith(folder + "/")


def _carries(pid: int, marks: list[bytes]) -> bool:
    environ = _read(f"/proc/{pid}/environ")
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
    """SIGKILL every process of the scope until two looks in a row find none."""
    deadline = time.monotonic() + KILL_S
    ended: set[int] = set()
    quiet = 0
    while quiet < 2:
        found = find(scope)
        quiet = 0 if found else quiet + 1
        if found and not ended:
            _remember_shm(scope, found)
        for pid, seen in found.items():
            send(pid, seen.start, signal.SIGKILL)
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
    deadline = time.monotonic() + SIGNAL_S
    while True:
        found = find(scope)
        left = {pid: seen for pid, seen in found.items() if not done(seen)}
        if not left:
            return len(found)
        if time.monotonic() > deadline:
            raise StepFailed(f"processes {_numbers(left)} do not take {name}; look with `ps`")
        for pid, seen in left.items():
            send(pid, seen.start, number)
        time.sleep(PATIENCE_S)


def _numbers(pids: Mapping[int, object]) -> str:
    shown = ", ".join(map(str, sorted(pids)[:8]))
    return shown + (", …" if len(pids) > 8 else "")


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
    with _locked(Path(f"{pidfile}.lock"), os.O_RDWR | os.O_CREAT):
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
def _locked(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
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


# ------------------------------------------------------------------------------ shared memory


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


# ------------------------------------------------------------------------------ proxies


def ask(
    host: str, port: int, method: str, path: str, body: object = None, bound_s: float = CALL_S
) -> tuple[int, bytes]:
    """One HTTP call that ends within `bound_s` seconds, whatever the server does.

    Returns status and body; raises Silent. HTTP/1.0, so that no answer comes in chunks.
    """
    deadline = time.monotonic() + bound_s
    text = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.0\r\nHost: {host}:{port}\r\nUser-Agent: hospital-chaos\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        "Connection: close\r\n\r\n"
    )
    what = f"{method} http://{host}:{port}{path}"
    try:
        with socket.create_connection((host, port), bound_s) as wire:
            wire.settimeout(max(0.001, deadline - time.monotonic()))
            wire.sendall(head.encode() + text)
            answer = _read_answer(wire, deadline)
        top, _, content = answer.partition(b"\r\n\r\n")
        return int(top.split(None, 2)[1]), content
    except ConnectionRefusedError as error:
        raise Silent(f"{what}: nothing listens there", refused=True) from error
    except OSError as error:
        raise Silent(f"{what}: {error or 'no answer'} (bound {bound_s:g} s)") from error
    except (IndexError, ValueError) as error:
        raise Silent(f"{what}: answered something that is not HTTP") from error


def _read_answer(wire: socket.socket, deadline: float) -> bytes:
    answer = bytearray()
    wanted = MOST_BYTES
    while len(answer) < wanted:
        wire.settimeout(max(0.001, deadline - time.monotonic()))
        piece = wire.recv(65536)
        if not piece:
            break
        answer += piece
        head, gap, _ = answer.partition(b"\r\n\r\n")
        if gap and wanted == MOST_BYTES:  # servers that keep the connection open say how much
            for line in head.lower().split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name == b"content-length":
                    wanted = min(MOST_BYTES, len(head) + 4 + int(value))
    return bytes(answer)


def clear_toxics(step: Step) -> str:
    """Remove named toxics from a proxy and read back; else delete and recreate the proxy."""
    host, port = step["api"]
    base = "/proxies/" + quote(str(step["proxy"]), safe="")
    names = {str(name) for name in step["toxics"]}
    try:
        for name in sorted(names):
            ask(host, port, "DELETE", f"{base}/toxics/{quote(name, safe='')}")
        status, content = ask(host, port, "GET", base)
        left = names if status != 200 else {t["name"] for t in json.loads(content)["toxics"]}
        if status == 200 and not names & left:
            return "removed"
    except Silent as error:
        if error.refused:
            return "the proxy server is gone, and its toxics with it"
    except (ValueError, KeyError, TypeError):
        pass
    return recreate_proxy(step)


def open_proxy(step: Step) -> str:
    """Open a closed proxy and see it listen; else delete and recreate it."""
    host, port = step["api"]
    base = "/proxies/" + quote(str(step["proxy"]), safe="")
    try:
        status, _ = ask(host, port, "POST", base, {"enabled": True})
        if status == 200 and _listens(str(step["listen"])):
            return "open"
    except Silent as error:
        if error.refused:
            return "the proxy server is gone, there is nothing to open"
    return recreate_proxy(step)


def recreate_proxy(step: Step) -> str:
    """The last rung: delete the proxy and create it anew, without any toxic, and see it listen."""
    host, port = step["api"]
    name = str(step["proxy"])
    base = "/proxies/" + quote(name, safe="")
    wanted = {"name": name, "listen": step["listen"], "upstream": step["upstream"], "enabled": True}
    try:
        ask(host, port, "DELETE", base)
        status, content = ask(host, port, "POST", "/proxies", wanted)
        if status not in (201, 409):
            text = content[:200].decode("utf-8", "replace").strip()
            raise StepFailed(f"proxy {name} could not be recreated: {status} {text}")
        status, content = ask(host, port, "GET", base)
        seen = json.loads(content)
        if status == 200 and not seen["toxics"] and _listens(str(step["listen"])):
            return "deleted and recreated the proxy"
    except (Silent, ValueError, KeyError, TypeError) as error:
        raise StepFailed(f"proxy {name} could not be healed: {error}") from error
    raise StepFailed(f"proxy {name} was recreated but does not listen clean on {step['listen']}")


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), OPEN_S).close()
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------ steps


PLAYERS: dict[str, Callable[[Step], str]] = {
    "kill": kill,
    "thaw": thaw,
    "spawn": spawn,
    "clear_toxics": clear_toxics,
    "open_proxy": open_proxy,
    "remove_shm": remove_shm,
    "remove_tree": remove_tree,
    "nothing": lambda _step: "there was nothing in the world to undo",
}


def play_step(step: Step) -> str:
    """Play one step and return what was done; StepFailed when it is unknown or did not work."""
    player = PLAYERS.get(str(step.get("do")))
    if player is None:
        raise StepFailed(f"unknown undo step {step.get('do')!r}; a newer version wrote it?")
    try:
        return player(step)
    except StepFailed:
        raise
    except Exception as error:  # a malformed step must not end the reaper
        raise StepFailed(f"{step.get('do')}: {type(error).__name__}: {error}") from error


def describe(step: Step) -> str:
    """The step in words and commands, so that an administrator can do it by hand."""
    do = str(step.get("do"))
    if do in ("kill", "thaw"):
        verb, number = ("end", "KILL") if do == "kill" else ("thaw", "CONT")
        return (
            f"{verb} all processes of {step.get('service') or 'the stack'}: those that work in "
            f"{step['folder']} (ls -l /proc/*/cwd) or carry {' '.join(step.get('marks', ()))} "
            f"in their environment; kill -{number} each"
        )
    if do == "spawn":
        words = " ".join(shlex.quote(str(word)) for word in step["argv"])
        return f"start {step['service']} again: cd {step['cwd']} && {words}  (its environment \
lies in the lease file)"
    if do in ("clear_toxics", "open_proxy"):
        url = f"http://{step['api'][0]}:{step['api'][1]}/proxies/{quote(str(step['proxy']), '')}"
        if do == "open_proxy":
            return f"open the link {step['proxy']}: curl -X POST -d '{{\"enabled\":true}}' {url}"
        calls = "; ".join(f"curl -X DELETE {url}/toxics/{quote(t, '')}" for t in step["toxics"])
        return f"make the link {step['proxy']} healthy: {calls}"
    if do == "remove_shm":
        return f"remove shared memory named in {step['folder']}/**/postmaster.pid, line 7: ipcrm -m"
    if do == "remove_tree":
        return f"remove the folder {step['folder']}"
    return str(step.get("text", "nothing")) if do == "nothing" else f"unknown step {do!r}"


# ------------------------------------------------------------------------------ lease files


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
            with _locked(path):
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
    else:
        path.unlink()
        sync_folder(path.parent)
    _note(lease, by, troubles)
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


# ------------------------------------------------------------------------------ the watch


class Watch:
    """Reaper of one harness run: answers its requests, keeps its deadlines, survives its end."""

    def __init__(self, folder: Path, owner: tuple[int, int]) -> None:
        self.folder = folder
        self.owner = owner
        self.orphaned = False
        self._tries: dict[str, int] = {}
        self._playing: dict[str, threading.Thread] = {}
        self._asked = b""

    def run(self) -> int:
        """Watch until told to end, or until the owner is gone and everything is undone."""
        say("ready")
        while True:
            bury()
            if self.orphaned:
                time.sleep(min(TICK_S, self._next_s()))
            elif self._listen(self._next_s()):
                return 0
            self._play_due()
            if not self.orphaned and not lives(*self.owner):
                self.orphaned = True
                self._play_all()
            if self.orphaned and not self._standing() and not self._playing_now():
                return 0 if remove_run(self.folder) else 1

    def _next_s(self) -> float:
        now = time.monotonic()
        dues = [due - now for _, due in self._dues()]
        return max(0.0, min([*dues, TICK_S]))

    def _dues(self) -> list[tuple[Path, float]]:
        dues = []
        for path in lease_files(self.folder):
            with contextlib.suppress(OSError, ValueError):
                due = read_lease(path).get("deadline_t")
                tries = self._tries.get(path.name, 0)
                if due is not None and tries < TRIES and not self._busy(path.name):
                    dues.append((path, float(due) + tries * BETWEEN_TRIES_S))
        return dues

    def _listen(self, wait_s: float) -> bool:
        """Answer what the harness asks; True when it said `end` and nothing is held."""
        if not select.select([0], [], [], wait_s)[0]:
            return False
        piece = os.read(0, 65536)
        if not piece:  # the harness is gone: its end of the pipe is closed
            self.orphaned = True
            self._play_all()
            return False
        *lines, self._asked = (self._asked + piece).split(b"\n")
        for line in lines:
            word, _, name = line.decode("utf-8", "replace").partition(" ")
            if word == "hold":
                say(self._hold(name))
            elif word == "end":
                held = lease_files(self.folder)
                say(f"busy {len(held)}" if held else "bye")
                if not held:
                    remove_run(self.folder)
                    return True
            else:
                say(f"what {word}")
        return False

    def _hold(self, name: str) -> str:
        try:
            lease = read_lease(self.folder / f"{name}.lease.json")
        except (OSError, ValueError) as error:
            return f"refused {name} {error}"
        unknown = [str(s.get("do")) for s in lease["steps"] if s.get("do") not in PLAYERS]
        return f"refused {name} unknown step {unknown[0]}" if unknown else f"held {name}"

    def _play_due(self) -> None:
        now = time.monotonic()
        for path, due in self._dues():
            if due <= now:
                self._tries[path.name] = self._tries.get(path.name, 0) + 1
                thread = threading.Thread(target=tell_played, args=(path, "deadline"), daemon=True)
                self._playing[path.name] = thread
                thread.start()

    def _busy(self, name: str) -> bool:
        thread = self._playing.get(name)
        return thread is not None and thread.is_alive()

    def _playing_now(self) -> bool:
        return any(thread.is_alive() for thread in self._playing.values())

    def _play_all(self) -> None:
        """The owner is gone: undo everything it holds, oldest first. The oldest is the stack; with
        it taken down the others find nothing left to undo."""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(BETWEEN_TRIES_S)
            owned = [path for path in lease_files(self.folder) if not _stands(path)]
            results = [tell_played(path, "reaper") for path in owned]
            if all(played.ok for played in results):
                return

    def _standing(self) -> bool:
        """Whether a lease without owner still waits for its end time."""
        return any(
            _stands(path) and self._tries.get(path.name, 0) < TRIES
            for path in lease_files(self.folder)
        )


def _stands(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(read_lease(path).get("standing"))
    return False


def tell_played(path: Path, by: str) -> Played:
    """Play a lease and say so on stderr (the reaper's log)."""
    played = play_lease(path, by)
    word = "undone" if played.ok else "NOT undone"
    with contextlib.suppress(OSError):
        print(f"{time.time():.3f} {played.lease} {word} by {by}: {played.text}", file=sys.stderr)
    return played


def say(line: str) -> None:
    """One line to the harness, if it still listens."""
    with contextlib.suppress(OSError):
        os.write(1, line.encode() + b"\n")


def main(arguments: list[str]) -> int:
    """`reaper.py FOLDER OWNER_PID OWNER_START`: watch over one run's lease folder."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's signals end the harness, not us
    folder, pid, start = arguments
    return Watch(Path(folder), (int(pid), int(start))).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
