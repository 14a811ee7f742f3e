"""A bounded thread for faults that go on happening (crash loops, flapping links).

It ends when told, at its deadline, or at the first error, which it keeps for those who look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from chaos.faults.fault import Observation

JOIN_S = 8.0  # longest single action of a loop (a kill that waits for its processes), with room


class Repeating:
    """Runs `once(wait)` again and again; `wait(s)` returns True when it is time to end."""

    def __init__(self) -> None:
        self.rounds = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = ""

    def start(self, once: Callable[[Callable[[float], bool]], None], lease_s: float) -> None:
        """Begin, for `lease_s` at most (the reaper undoes the fault then; we must not go on)."""
        end = time.monotonic() + lease_s

        def wait(s: float) -> bool:
            return self._over.wait(max(0.0, min(s, end - time.monotonic()))) or (
                time.monotonic() >= end
            )

        def run() -> None:
            try:
                while not wait(0.0):
                    once(wait)
                    self.rounds += 1
            except Exception as error:
                self._trouble = str(error) or type(error).__name__

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the loop and wait for its current action; idempotent."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def observe(self) -> Observation:
        """Whether the loop is well: not broken off by an error."""
        if self._trouble:
            return Observation(False, f"the loop broke off: {self._trouble}")
        return Observation(True, f"happened {self.rounds} times")

    def ended(self) -> Observation:
        """Whether the loop has ended."""
        alive = self._thread is not None and self._thread.is_alive()
        return Observation(not alive, "the loop still runs" if alive else "the loop has ended")
