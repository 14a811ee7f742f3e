"""Turns a process of root into an ordinary user of a user namespace of its own.

It refuses to touch files: they keep their owner outside, and uid 1000 inside owns them, so
nothing needs a chown. It must run before the process has a second thread.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

UID = 1000
CLONE_NEWUSER = 0x10000000
CLONE_NEWIPC = 0x08000000


class Refused(RuntimeError):
    """This machine does not let root step down; the text says what to do instead."""


def step_down() -> None:
    """From now on this process and its children are uid 1000, for PostgreSQL refuses root.

    The namespace has its own System V IPC: the kernel frees PostgreSQL's segment when the last
    process dies, so a node killed without warning leaves nothing behind. Raises Refused.
    """
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWIPC) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        Path("/proc/self/setgroups").write_text("deny")  # the kernel wants it before a gid map
        Path("/proc/self/uid_map").write_text(f"{UID} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{UID} {gid} 1")
    except (AttributeError, OSError) as error:
        raise Refused(
            f"PostgreSQL refuses to run as root and this machine forbids user namespaces ({error});"
            " start as another user"
        ) from None
