"""Waiting for a condition instead of sleeping, and looking for what a stack has left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from chaos import reaper
from chaos.faults import Observation


def until(condition: Callable[[], bool], within_s: float = 5.0, every_s: float = 0.005) -> bool:
    """Whether the condition came true within the bound."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True


def seen(look: Callable[[], Observation], within_s: float = 5.0) -> tuple[Observation, float]:
    """The first observation that is ok (or the last), and milliseconds until then."""
    began = time.monotonic()
    while True:
        observation = look()
        took_s = time.monotonic() - began
        if observation.ok or took_s > within_s:
            return observation, took_s * 1e3
        time.sleep(0.005)


def dead(pid: int) -> bool:
    """Whether no such process lives."""
    now = reaper.stat(pid)
    return now is None or now.state in "ZX"


def processes_in(folder: Path) -> list[int]:
    """Processes whose working folder lies in that folder."""
    return sorted(reaper.find({"folder": str(folder)}))
