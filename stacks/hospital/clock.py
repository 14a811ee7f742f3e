"""Translates what services write on their wall clocks into this machine's monotonic clock.

It refuses to guess: a text that is no instant gives None.
"""

from __future__ import annotations

import time
from datetime import datetime


def offset_s() -> float:
    """Monotonic minus Unix seconds, now; add it to a Unix instant of this machine."""
    return time.monotonic() - time.time()


def monotonic_of(instant: str | float | None, offset: float | None = None) -> float | None:
    """An RFC 3339 text, or Unix seconds, in seconds of CLOCK_MONOTONIC; None when it is neither.

    `offset`: what `offset_s` gave, so that equal instants of one answer stay equal.
    """
    if offset is None:
        offset = offset_s()
    if isinstance(instant, (int, float)) and not isinstance(instant, bool):
        return float(instant) + offset
    if not isinstance(instant, str) or not instant:
        return None
    try:
        moment = datetime.fromisoformat(instant)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return moment.timestamp() + offset
