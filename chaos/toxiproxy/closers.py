"""Who keeps a proxy closed, each until it lets go or its own time is over.

It opens nothing itself: it calls when nobody is left. The name '' is a caller without a name.
"""

from __future__ import annotations

from collections.abc import Callable

from chaos.toxiproxy.loop import Loop, Timer


class Closers:
    """The names of those who closed one proxy."""

    def __init__(self, loop: Loop, nobody_left: Callable[[], None]) -> None:
        self._loop = loop
        self._nobody_left = nobody_left
        self._timers: dict[str, Timer | None] = {}

    @property
    def names(self) -> list[str]:
        return list(self._timers)

    def add(self, name: str, delay_ms: float | None) -> None:
        """Keep it closed, for `delay_ms` at most; said again, the new time counts."""
        self.drop(name)
        ring = None if delay_ms is None else self._loop.after_ms(delay_ms, lambda: self._over(name))
        self._timers[name] = ring

    def drop(self, name: str) -> None:
        """One lets go; nothing is called."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def clear(self) -> None:
        """All let go; nothing is called."""
        for name in self.names:
            self.drop(name)

    def _over(self, name: str) -> None:
        self.drop(name)
        if not self._timers:
            self._nobody_left()
