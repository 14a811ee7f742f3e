"""Leases: the undo of everything we put into the world lies on disk before it begins.

A lease is played when its block ends, at its deadline, or by the reaper when we die. This module
changes nothing itself: chaos/reaper is the interpreter of undo steps, in any process.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import secrets
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos import reaper

READY_S = 5.0  # the reaper must say that it listens by then
ANSWER_S = 2.0  # the reaper must answer a request by then
WORK_S = 8.0  # how long `heal` waits for a living reaper whose owner is dead
LOOK_S = 0.05
PROGRAM = str(Path(reaper.__file__).resolve().with_name("__main__.py"))
EMPTY_KEPT_S = 30.0  # a run folder without owner file younger than this is just being made

Step = Mapping[str, object]


class LeaseError(RuntimeError):
    """A lease that cannot be granted or undone: says why, and where its file lies."""


@dataclass(frozen=True, slots=True)
class HealedLease:
    """One lease that `heal` or `take_down` played: what it was, and what came of it."""

    run: str
    lease: str
    ok: bool
    text: str
    steps: tuple[str, ...]  # in words, to be done by hand


@dataclass(frozen=True, slots=True)
class Standing:
    """A lease without owner process: a stack that was raised to stay until `until_utc`."""

    run: str
    lease: str
    path: Path
    until_utc: str
    left_s: float
    note: Mapping[str, object]


def state_folder() -> Path:
    """$HOSPITAL_CHAOS_STATE, else $XDG_STATE_HOME/hospital-chaos, else ~/.local/state/…"""
    if own := os.environ.get("HOSPITAL_CHAOS_STATE"):
        return Path(own).absolute()
    if xdg := os.environ.get("XDG_STATE_HOME"):
        return Path(xdg).absolute() / "hospital-chaos"
    return Path.home() / ".local" / "state" / "hospital-chaos"


class Leases:
    """All leases of one harness run, and the reaper that watches over them.

    `begin` starts the reaper and returns when it listens; no reaper, no fault.
    """

    def __init__(self, folder: Path, child: subprocess.Popen[bytes], journal: Path | None) -> None:
        self.folder = folder
        self._child = child
        self._journal = journal
        self._count = 0
        self._answers = b""
        self._lock = threading.Lock()
        self._closed = False
        _OPEN.add(self)

    @classmethod
    def begin(
        cls, name: str, state: Path | None = None, journal: Path | None = None
    ) -> Leases:  # fmt: skip
        """Make a run's lease folder and start its reaper; LeaseError when it does not listen.

        `journal`: where the reaper notes faults that it ended (a journal file of its own).
        """
        folder = (state or state_folder()) / f"{_plain(name)}-{secrets.token_hex(4)}"
        mine = reaper.stat(os.getpid())
        start = mine.start if mine else 0
        owner = {"pid": os.getpid(), "start": start, "boot": reaper.boot_id()}
        try:
            folder.mkdir(parents=True, mode=0o700)
            reaper.sync_folder(folder.parent)
            reaper.write_durably(folder / reaper.OWNER, owner)
            with open(folder / "reaper.log", "ab") as log:
                child = subprocess.Popen(
                    [sys.executable, "-I", PROGRAM, str(folder),
                     str(os.getpid()), str(start)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/",
                    start_new_session=True, bufsize=0,
                )  # fmt: skip
        except OSError as error:
            raise LeaseError(
                f"cannot keep leases in {folder}: {error.strerror or error}; nothing was started. "
                "Set HOSPITAL_CHAOS_STATE to a folder that can be written"
            ) from error
        leases = cls(folder, child, journal)
        if leases._read_line(READY_S) != "ready":
            leases._abandon()
            raise LeaseError(
                f"the reaper did not become ready within {READY_S:g} s; nothing was started. "
                f"Its log: {folder / 'reaper.log'}"
            )
        seen = reaper.stat(child.pid)
        owner |= {"reaper_pid": child.pid, "reaper_start": seen.start if seen else 0}
        reaper.write_durably(folder / reaper.OWNER, owner)
        return leases

    def grant(
        self,
        name: str,
        steps: Sequence[Step],
        deadline_s: float | None = None,
        *,
        standing: bool = False,
        note: Mapping[str, object] | None = None,
    ) -> Lease:
        """Put an undo on disk and have the reaper confirm it; only then may the thing begin.

        `deadline_s` from now; None lasts as long as the harness. `standing` outlives the harness,
        until its deadline; `note` is kept with it (addresses of a stack that was raised to stay).
        """
        if standing and deadline_s is None:
            raise LeaseError(f"standing lease {name} needs an end time")
        self.check()
        self._count += 1
        file = f"{self._count:03d}-{_plain(name)}"
        path = self.folder / f"{file}.lease.json"
        now = time.monotonic()
        deadline_t = None if deadline_s is None else now + deadline_s
        end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=deadline_s or 0.0)
        lease = {
            "name": name,
            "granted_t": now,
            "deadline_t": deadline_t,
            "deadline_utc": None if deadline_s is None else end.isoformat(timespec="seconds"),
            "boot": reaper.boot_id(),
            "standing": standing,
            "journal": str(self._journal) if self._journal and not name.startswith("stack") else "",
            "note": dict(note or {}),
            "steps": [dict(step) for step in steps],
        }
        try:
            reaper.write_durably(path, lease)
            answer = self._request(f"hold {file}")
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            raise LeaseError(f"lease {name} cannot be written to {path}: {error}") from error
        if answer != f"held {file}":
            path.unlink(missing_ok=True)
            raise LeaseError(f"the reaper did not take lease {name}: {answer or 'no answer'}")
        return Lease(name, path, deadline_t, standing)

    def check(self) -> None:
        """LeaseError when the reaper is gone: no fault may begin or go on without it."""
        if self._closed or self._child.poll() is not None:
            raise LeaseError(
                f"the reaper of {self.folder.name} is gone; heal with `hospital-chaos heal`"
            )

    def close(self) -> None:
        """Let the reaper go. Leases still held are undone by it (standing ones stay)."""
        if self._closed:
            return
        answer = ""
        with contextlib.suppress(LeaseError):
            answer = self._request("end")
        self._abandon()
        if answer != "bye":
            self._wait_for_reaper()

    def __enter__(self) -> Leases:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_for_reaper(self) -> None:
        """Until the reaper has undone what it found, or is left with standing leases only."""
        deadline = time.monotonic() + WORK_S
        while self._child.poll() is None and time.monotonic() < deadline:
            left = reaper.lease_files(self.folder)
            if left and all(map(reaper.stands, left)):
                return
            time.sleep(LOOK_S)

    def _abandon(self) -> None:
        self._closed = True
        _OPEN.discard(self)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(LOOK_S)
        reaper.CHILDREN.append(self._child)  # buried when it ends; it may stay for standing ones

    def _request(self, line: str) -> str:
        with self._lock:
            self.check()
            assert self._child.stdin is not None
            try:
                os.write(self._child.stdin.fileno(), line.encode() + b"\n")
            except (OSError, ValueError) as error:  # ValueError: our end is closed
                raise LeaseError(f"the reaper does not listen any more: {error}") from error
            return self._read_line(ANSWER_S)

    def _read_line(self, bound_s: float) -> str:
        """One line of the reaper; '' when it says nothing within the bound."""
        assert self._child.stdout is not None
        deadline = time.monotonic() + bound_s
        while b"\n" not in self._answers:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                return ""
            piece = os.read(self._child.stdout.fileno(), 65536)
            if not piece:
                return ""
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        return line.decode("utf-8", "replace")


_OPEN: weakref.WeakSet[Leases] = weakref.WeakSet()


def _let_go_in_copy() -> None:
    """A forked copy of the harness must not hold the pipe open: the reaper would miss our death."""
    for leases in list(_OPEN):
        if leases._child.stdin is not None:
            with contextlib.suppress(OSError):
                leases._child.stdin.close()


os.register_at_fork(after_in_child=_let_go_in_copy)


class Lease:
    """One undo on disk. As a context manager it is played when the block ends."""

    def __init__(self, name: str, path: Path, deadline_t: float | None, standing: bool) -> None:
        self.name = name
        self.path = path
        self._deadline_t = deadline_t
        self._standing = standing
        self._released = False

    @property
    def expired(self) -> bool:
        """Whether the reaper has played it already (its deadline had come)."""
        return not self._released and not self.path.exists()

    @property
    def left_s(self) -> float:
        """Seconds until the reaper plays it; infinite when it has no deadline."""
        if self._deadline_t is None:
            return float("inf")
        return self._deadline_t - time.monotonic()

    def release(self) -> None:
        """Play the undo, verified, and remove its file; idempotent. LeaseError when it fails,
        and then the file stays for `hospital-chaos heal`."""
        if self._released:
            return
        played = reaper.play_lease(self.path, "block")
        if not played.ok:
            raise LeaseError(f"{self.name} could not be undone: {played.text} (see {self.path})")
        self._released = True

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._standing:
            self.release()


def heal(state: Path | None = None) -> list[HealedLease]:
    """Play every lease whose owner and reaper are both dead; never those of a living harness.

    Waits up to WORK_S for a living reaper whose owner is dead. Standing leases are played once
    their end time has passed. Never raises for a bad lease: it is reported and its file stays.
    """
    healed: list[HealedLease] = []
    for folder in _run_folders(state or state_folder()):
        owner = _owner(folder)
        if owner is None:
            if _age_s(folder) > EMPTY_KEPT_S:
                healed += _play_folder(folder)
            continue
        if _alive(owner, "pid", "start"):
            continue
        _await_reaper(folder, owner)
        if not _alive(owner, "reaper_pid", "reaper_start"):
            healed += _play_folder(folder)
        else:
            healed += [
                HealedLease(
                    folder.name, path.name, False,
                    f"its reaper (process {owner.get('reaper_pid')}) is still at work; heal again",
                    _words(path),
                )
                for path in reaper.lease_files(folder)
                if not reaper.stands(path)
            ]  # fmt: skip
    return healed


def standing(state: Path | None = None) -> list[Standing]:
    """Every standing lease: stacks that were raised to stay."""
    found = []
    for folder in _run_folders(state or state_folder()):
        for path in reaper.lease_files(folder):
            with contextlib.suppress(OSError, ValueError):
                lease = reaper.read_lease(path)
                if lease.get("standing"):
                    left = float(lease["deadline_t"]) - time.monotonic()
                    found.append(
                        Standing(folder.name, str(lease["name"]), path,
                                 str(lease["deadline_utc"]), left, lease.get("note") or {})
                    )  # fmt: skip
    return found


def take_down(lease: Standing) -> HealedLease:
    """Play a standing lease now (`hospital-chaos down`)."""
    words = _words(lease.path)
    played = reaper.play_lease(lease.path, "heal")
    owner = _owner(lease.path.parent) or {}
    if not _alive(owner, "pid", "start"):
        reaper.remove_run(lease.path.parent)
    return HealedLease(lease.run, lease.lease, played.ok, played.text, words)


def describe(step: Step) -> str:
    """An undo step in words and commands, so that an administrator can do it by hand."""
    return reaper.describe(step)


def _play_folder(folder: Path) -> list[HealedLease]:
    healed = []
    for path in reaper.lease_files(folder):
        if reaper.stands(path) and not _is_over(path):
            continue
        words = _words(path)
        played = reaper.play_lease(path, "heal")
        healed.append(HealedLease(folder.name, played.lease, played.ok, played.text, words))
    reaper.remove_run(folder)
    return healed


def _run_folders(state: Path) -> list[Path]:
    try:
        return sorted(p for p in state.iterdir() if p.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LeaseError(f"cannot read the leases in {state}: {error.strerror}") from error


def _age_s(folder: Path) -> float:
    """Since something was last put into it; 0 for one that is gone: its run has ended in order."""
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0


def _owner(folder: Path) -> dict[str, object] | None:
    try:
        data = json.loads((folder / reaper.OWNER).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _alive(owner: Mapping[str, object], pid: str, start: str) -> bool:
    if owner.get("boot") != reaper.boot_id():
        return False
    number, ticks = owner.get(pid), owner.get(start)
    return isinstance(number, int) and isinstance(ticks, int) and reaper.lives(number, ticks)


def _await_reaper(folder: Path, owner: Mapping[str, object]) -> None:
    deadline = time.monotonic() + WORK_S
    while time.monotonic() < deadline and _alive(owner, "reaper_pid", "reaper_start"):
        if all(reaper.stands(path) for path in reaper.lease_files(folder)):
            return
        time.sleep(LOOK_S)


def _is_over(path: Path) -> bool:
    """Whether a standing lease has reached its end time (or belongs to an earlier boot)."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        lease = reaper.read_lease(path)
        if lease.get("boot") != reaper.boot_id():
            return True
        return time.monotonic() >= float(lease["deadline_t"])
    return True


def _words(path: Path) -> tuple[str, ...]:
    with contextlib.suppress(OSError, ValueError):
        return tuple(reaper.describe(step) for step in reaper.read_lease(path)["steps"])
    return (f"the file {path} cannot be read",)


def _plain(name: str) -> str:
    """A name that is safe as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:60].strip(".") or "run"
