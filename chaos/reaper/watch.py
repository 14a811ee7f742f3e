"""The watch of the reaper over one harness run: its requests, its deadlines, its death.

It decides nothing: it plays what lies in the run's folder, when its time has come.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from pathlib import Path

from .lease_files import (
    TRIES,
    Played,
    lease_files,
    play_lease,
    read_lease,
    remove_run,
    stands,
)
from .processes import lives
from .starting import bury
from .steps import PLAYERS

TICK_S = 1.0  # the reaper looks at its owner and its folder at least this often
BETWEEN_TRIES_S = 0.4
FINISH_S = 1.0  # less than the harness waits for an answer


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
                self._let_finish()
                if remove_run(self.folder):
                    say("bye")
                    return True
                say(f"busy {len(lease_files(self.folder))}")
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

    def _let_finish(self) -> None:
        """Wait for undos whose file is gone already, and shorter than for an answer."""
        deadline = time.monotonic() + FINISH_S
        for thread in self._playing.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _playing_now(self) -> bool:
        return any(thread.is_alive() for thread in self._playing.values())

    def _play_all(self) -> None:
        """The owner is gone: undo everything it holds, oldest first. The oldest is the stack; with
        it taken down the others find nothing left to undo."""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(BETWEEN_TRIES_S)
            owned = [path for path in lease_files(self.folder) if not stands(path)]
            results = [tell_played(path, "reaper") for path in owned]
            if all(played.ok for played in results):
                return

    def _standing(self) -> bool:
        """Whether a lease without owner still waits for its end time."""
        return any(
            stands(path) and self._tries.get(path.name, 0) < TRIES
            for path in lease_files(self.folder)
        )


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
