"""Waiting for a condition instead of sleeping, and looking for what a stack has left behind."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chaos import reaper
from chaos.faults import Observation
from chaos.runtime.ports import LOCK

FEW = 4  # random moments; the others are for campaigns


def repeated(times: int, few: int = FEW) -> list[Any]:
    """Numbers to parametrise a test by: the first few always, the rest in campaigns."""
    marks = pytest.mark.campaign
    return [n if n < few else pytest.param(n, marks=marks) for n in range(times)]


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


def held_leases(state: Path) -> list[Path]:
    """The leases of all runs that lie there now; a run's folder may go while it is looked at."""
    with suppress(FileNotFoundError):
        return [file for run in sorted(state.iterdir()) for file in reaper.lease_files(run)]
    return []


def answering(first: int, count: int) -> list[int]:
    """Ports of a stack's block where somebody listens; none when it is another stack's by now."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(LOCK.format(first))
        except OSError:
            return []
        return [port for port in range(first, first + count) if _accepts(port)]


def _accepts(port: int) -> bool:
    with socket.socket() as wire:
        return wire.connect_ex(("127.0.0.1", port)) == 0


def dead(pid: int) -> bool:
    """Whether no such process lives."""
    now = reaper.stat(pid)
    return now is None or now.state in "ZX"


def processes_in(folder: Path) -> list[int]:
    """Processes whose working folder lies in that folder."""
    return sorted(reaper.find({"folder": str(folder)}))
