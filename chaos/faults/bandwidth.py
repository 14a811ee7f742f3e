"""Bandwidth: links carry only so many kilobytes per second, both ways.

Small messages hardly feel it; large ones queue behind each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics
from chaos.faults.fault import Observation
from chaos.faults.targets import LinkTarget, all_of, links, side_by_side, told
from chaos.runtime import Runtime, Step, Toxic
from chaos.stack import Stack


@dataclass(frozen=True, slots=True, init=False)
class Bandwidth:
    """`Bandwidth("wards>ehr-a.http", kb_per_s=20)`; a kilobyte is 1000 bytes."""

    links: tuple[LinkTarget, ...]
    kb_per_s: int
    token: str

    def __init__(self, *links: LinkTarget, kb_per_s: int, token: str = "") -> None:
        if kb_per_s <= 0:
            raise ValueError(
                "kb_per_s must be above 0; to let nothing through use Cut(silent=True)"
            )
        object.__setattr__(self, "links", links)
        object.__setattr__(self, "kb_per_s", kb_per_s)
        object.__setattr__(self, "token", token)

    @property
    def kind(self) -> str:
        return "bandwidth"

    @property
    def story(self) -> str:
        return f"{told(self.links)} carry {self.kb_per_s} kB/s at most"

    def pinned(self, runtime: Runtime) -> Bandwidth:
        self.targets(runtime.stack)
        return Bandwidth(*self.links, kb_per_s=self.kb_per_s, token=self.token or toxics.token())

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return links(self.links, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        return toxics.undo(runtime, self.targets(runtime.stack), self._toxics())

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        toxics.put(runtime, self.targets(runtime.stack), self._toxics(), lease_s)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: the proxy holds both toxics. The rate itself is not measured: no protocol here
        has a harmless question with an answer large enough to time."""
        names = self.targets(runtime.stack)
        return all_of(
            side_by_side(lambda k: toxics.read_back(runtime, k, self._toxics()), names)
        )  # fmt: skip

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: no proxy holds a toxic of this any more, and each accepts a connection."""
        return toxics.gone(runtime, self.targets(runtime.stack), self._toxics())

    def _toxics(self) -> tuple[Toxic, ...]:
        name = f"bandwidth-{self.token}" if self.token else ""
        rate = {"rate": self.kb_per_s}
        return (
            Toxic(name and f"{name}-down", "bandwidth", rate, "downstream"),
            Toxic(name and f"{name}-up", "bandwidth", rate, "upstream"),
        )
