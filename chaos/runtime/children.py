"""The harness's own processes on this machine, in one folder: how they start and how they are found
again by a reaper that never saw them.

It starts nothing itself: what it makes are steps and scopes, data that lie on disk beforehand.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from chaos import reaper
from chaos.runtime import RuntimeFailure
from chaos.runtime import surroundings as env

RUN = ".run"  # pidfiles, control sockets, lists
BORN_SLACK_TICKS = 100  # clocks of the kernel may round
SOCKET_ROOM = 40  # characters of TMPDIR that leave room for PostgreSQL's socket paths


class Children:
    """Programs of one stack, each in a folder of its own below `folder`; nothing is made yet."""

    def __init__(self, stack_id: str, logs: Path) -> None:
        """`stack_id` marks the folder and every process."""
        self.id = stack_id
        self.folder = Path(_short_temp()) / f"hc-{stack_id}"
        self.logs = logs
        self.shm_list = str(self.folder / RUN / "shm")
        self._born = max(0, reaper.ticks_now() - BORN_SLACK_TICKS)

    def make(self, *names: str) -> None:
        """Make the folder, marked as ours, with these below it. RuntimeFailure says why not."""
        try:
            self.folder.mkdir(mode=0o700)
            (self.folder / reaper.GUARD).write_text(self.id, "ascii")
            for name in (RUN, *names):
                (self.folder / name).mkdir()
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RuntimeFailure(
                f"cannot make the stack's folders: {error}; is the disk full, or the path not ours?"
            ) from error

    def undo_make(self) -> dict[str, object]:
        """The step that removes the folder with all that is in it."""
        return {"do": "remove_tree", "folder": str(self.folder), "id": self.id}

    def log(self, name: str) -> Path:
        """Where the program's words go (stdout and stderr)."""
        return self.logs / f"{name}.log"

    def scope(self, name: str = "", data: Path | None = None) -> dict[str, object]:
        """How the reaper finds the processes of one program, or of the whole stack.

        `data`: another folder that one of them may work in.
        """
        found: dict[str, object] = {
            "folder": str(self.folder),
            "marks": [f"{env.MARK}={self.id}"],
            "shm_list": self.shm_list,
            "born": self._born,
        }
        if name:
            found |= {
                "service": name,
                "folder": str(self.folder / name),
                "data": str(data or ""),
                "marks": [f"{env.MARK}={self.id}", f"SERVICE_NAME={name}"],
                "pidfile": str(self._pidfile(name)),
            }
        return found

    def spawn(self, name: str, command: Sequence[str], own: dict[str, str]) -> dict[str, object]:
        """The step that starts a program; `own` is what only its environment has."""
        folder = self.folder / name
        return {
            "do": "spawn",
            "service": name,
            "argv": [sys.executable if word == "{python}" else word for word in command],
            "env": {
                **env.ambient(os.environ),
                "PYTHONPATH": with_harness(),
                "PYTHONUNBUFFERED": "1",
                "DATA_DIR": str(folder),
                **own,
                "SERVICE_NAME": name,
                env.MARK: self.id,
            },
            "cwd": str(folder),
            "log": str(self.log(name)),
            "pidfile": str(self._pidfile(name)),
        }

    def _pidfile(self, name: str) -> Path:
        return self.folder / RUN / f"{name}.pid"


def with_harness() -> str:
    """PYTHONPATH by which a program finds the same code as we did, wherever its folder is."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH", "")])])


def _short_temp() -> str:
    """A temp folder whose real path leaves room for Unix socket paths (107 bytes)."""
    place = os.path.realpath(tempfile.gettempdir())
    return place if len(place) <= SOCKET_ROOM else os.path.realpath("/tmp")
