"""What is let go of what the vault keeps: by age, so that nobody drives a good copy out by haste.

    kept = retained(copies, lambda one: one.at, every_s=3_600, span_s=86_400, newest=3)

It decides only; it refuses to look at anything but instants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def retained(
    some: Sequence[T], at: Callable[[T], float], every_s: float, span_s: float, newest: int
) -> list[T]:
    """Of copies, oldest first: so many of the newest, and of each `every_s` of the last `span_s`
    the first. However many are made at once, what was kept of earlier times stays its time."""
    if not some:
        return []
    since = at(some[-1]) - span_s
    firsts: dict[int, T] = {}
    for one in some:
        if at(one) >= since:
            firsts.setdefault(int(at(one) // every_s), one)
    kept = [*firsts.values(), *some[-newest:]]
    return [one for one in some if one in kept]
