"""A service's health: what it says when asked whether it can do its work now.

It refuses to answer from memory: every question runs the real checks (shared by whoever asks at
the same time), each within CHECK_S.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from stacks.hospital.log import describe

CHECK_S = 2.0
"""How long one check may take before it counts as failed."""

Check = Callable[[], Awaitable[None]]
"""Tests one real dependency: returns when it is well, else raises Unready, Degraded or Noted."""


class Unready(Exception):
    """The dependency is not well: the service answers 503; the text says why."""


class Degraded(Exception):
    """A declared degraded mode: the service still answers 200, with status `degraded`."""


class Noted(Exception):
    """The dependency is well, and there is something to tell; the text says what."""


class Health:
    """Collects the checks of one service; `phase` is starting, ready or stopping."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.phase = "starting"
        self.checks: dict[str, Check] = {}
        self.trouble: dict[str, str] = {}
        """Background work that died and is being started again: name → reason."""
        self._running: asyncio.Task[tuple[int, dict[str, object]]] | None = None

    async def report(self) -> tuple[int, dict[str, object]]:
        """The HTTP status and the JSON body of GET /health."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._ask())
        return await asyncio.shield(self._running)

    async def _ask(self) -> tuple[int, dict[str, object]]:
        names = list(self.checks)
        found = await asyncio.gather(*(_run(self.checks[name]) for name in names))
        checks: dict[str, dict[str, object]] = {}
        failed = degraded = False
        for name, (level, reason, ms) in zip(names, found, strict=True):
            checks[name] = {"ok": level == "ok", "ms": round(ms, 1)}
            if reason:
                checks[name]["reason"] = reason
            failed = failed or level == "failed"
            degraded = degraded or level == "degraded"
        for name, reason in self.trouble.items():
            checks[name] = {"ok": False, "ms": 0.0, "reason": f"background work died: {reason}"}
            failed = True
        status = self.phase
        if self.phase == "ready" and (failed or degraded):
            status = "degraded"
        body: dict[str, object] = {"status": status, "service": self.service, "checks": checks}
        return (200 if self.phase == "ready" and not failed else 503), body


async def _run(check: Check) -> tuple[str, str, float]:
    began = time.perf_counter()
    level, reason = "ok", ""
    try:
        async with asyncio.timeout(CHECK_S):
            await check()
    except Noted as note:
        reason = str(note)
    except Degraded as mode:
        level, reason = "degraded", str(mode)
    except Unready as error:
        level, reason = "failed", str(error)
    except TimeoutError:
        level, reason = "failed", f"no answer within {CHECK_S} s"
    except Exception as error:
        level, reason = "failed", describe(error)
    return level, reason, (time.perf_counter() - began) * 1e3
