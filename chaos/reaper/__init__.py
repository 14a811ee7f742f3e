"""The dead-man's switch: plays undo steps for a harness that died, hung, or asks for it.

It decides nothing and imports nothing but the standard library and its own files (by relative
imports, since the program runs by path, outside of the package `chaos`).

An undo is data. A lease file holds its steps; each step is played idempotently, within a bound,
and verified; a step that is unknown or fails keeps its file.
"""

from __future__ import annotations

from .asking import Silent, ask, ask_engine
from .containers import SHORT_ID
from .lease_files import (
    OWNER,
    Played,
    lease_files,
    play_lease,
    read_lease,
    remove_run,
    stands,
    sync_folder,
    write_durably,
)
from .processes import (
    Stat,
    boot_id,
    find,
    freeze,
    kill,
    lives,
    read_pidfile,
    send,
    stat,
    thaw,
    ticks_now,
)
from .remains import GUARD
from .removal import RUN_LABEL, SERVICE_LABEL, plain_log, this_process
from .starting import CHILDREN, bury
from .step import Step, StepFailed
from .steps import PLAYERS, describe, play_step

__all__ = [
    "CHILDREN",
    "GUARD",
    "OWNER",
    "PLAYERS",
    "RUN_LABEL",
    "SERVICE_LABEL",
    "SHORT_ID",
    "Played",
    "Silent",
    "Stat",
    "Step",
    "StepFailed",
    "ask",
    "ask_engine",
    "boot_id",
    "bury",
    "describe",
    "find",
    "freeze",
    "kill",
    "lease_files",
    "lives",
    "plain_log",
    "play_lease",
    "play_step",
    "read_lease",
    "read_pidfile",
    "remove_run",
    "send",
    "stands",
    "stat",
    "sync_folder",
    "thaw",
    "this_process",
    "ticks_now",
    "write_durably",
]
