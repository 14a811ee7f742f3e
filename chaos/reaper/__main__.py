"""The reaper as a program: `python -I chaos/reaper/__main__.py FOLDER OWNER_PID OWNER_START`.

It runs by path and imports nothing of the harness, so that no broken installation stops a heal.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if not __package__:  # by path: the folder above is searched last and hides no standard module
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    __package__ = "reaper"

from .watch import Watch


def main(arguments: list[str]) -> int:
    """`reaper.py FOLDER OWNER_PID OWNER_START`: watch over one run's lease folder."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's signals end the harness, not us
    folder, pid, start = arguments
    return Watch(Path(folder), (int(pid), int(start))).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
