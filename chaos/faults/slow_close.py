"""SlowClose: links keep connections open for a while after their end.

Callers that wait for the end of a connection, or count open ones, feel it; nobody else does.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics
from chaos.faults.fault import Observation
from chaos.faults.targets import LinkTarget, all_of, links, side_by_side, told
from chaos.runtime import Runtime, Step, Toxic
from chaos.stack import Stack


@dataclass(frozen=True, slots=True, init=False)
class SlowClose:
    """`SlowClose("wards>ehr-a.http", delay_ms=2000)`: each close arrives that much later."""

    links: tuple[LinkTarget, ...]
    delay_ms: int
    token: str

    def __init__(self, *links: LinkTarget, delay_ms: int, token: str = "") -> None:
        if delay_ms <= 0:
            raise ValueError("delay_ms must be above 0")
        object.__setattr__(self, "links", links)
        object.__setattr__(self, "delay_ms", delay_ms)
        object.__setattr__(self, "token", token)

    @property
    def kind(self) -> str:
        return "slow-close"

    @property
    def story(self) -> str:
        return f"{told(self.links)} close {self.delay_ms} ms late"

    def pinned(self, runtime: Runtime) -> SlowClose:
        self.targets(runtime.stack)
        return SlowClose(*self.links, delay_ms=self.delay_ms, token=self.token or toxics.token())

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return links(self.links, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        return toxics.undo(runtime, self.targets(runtime.stack), self._toxics())

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        toxics.put(runtime, self.targets(runtime.stack), self._toxics(), lease_s)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: the proxy holds the toxic. The delay itself is not measured: when a target
        closes is the target's affair."""
        names = self.targets(runtime.stack)
        return all_of(
            side_by_side(lambda k: toxics.read_back(runtime, k, self._toxics()), names)
        )  # fmt: skip

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: no proxy holds the toxic any more, and each accepts a connection."""
        return toxics.gone(runtime, self.targets(runtime.stack), self._toxics())

    def _toxics(self) -> tuple[Toxic, ...]:
        name = f"slow-close-{self.token}" if self.token else ""
        return (Toxic(name, "slow_close", {"delay": self.delay_ms}),)
