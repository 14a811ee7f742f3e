"""How a child of the harness ends: on SIGTERM in good order, and soon when its harness is gone.

It refuses to outlive its harness: when the standard input closes, an operating-system thread that
no green thread can starve ends the process after ORPHAN_S, in good order or not.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any

READY = "ready"
ORPHAN_S = 1.5
EXIT_ORPHANED = 70


_orphan = False


def orphaned() -> bool:
    """Whether the harness is gone."""
    return _orphan


def announce_ready() -> None:
    """Tell the harness that the work begins now."""
    print(READY, flush=True)


def end_with_harness(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM or SIGINT; die within ORPHAN_S when the standard input closes.

    `stop` must be quick and safe in a signal handler. A terminal or a file as standard input
    (started by hand) is not watched.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        _unpatched("_thread", "start_new_thread")(_watch_stdin, ())


def _watch_stdin() -> None:
    global _orphan
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    _orphan = True
    os.kill(os.getpid(), signal.SIGTERM)
    _unpatched("time", "sleep")(ORPHAN_S)
    os._exit(EXIT_ORPHANED)


def _unpatched(module: str, name: str) -> Any:
    """The original of what gevent may have replaced by its green version."""
    patcher = sys.modules.get("gevent.monkey")
    if patcher is not None:
        return patcher.get_original(module, name)
    return getattr(__import__(module), name)
