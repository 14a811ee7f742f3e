"""Latency: answers on links come later, by a fixed time and a random share.

It delays bytes; it loses none and keeps their order.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics
from chaos.faults.fault import Observation
from chaos.faults.targets import LinkTarget, all_of, links, side_by_side, told
from chaos.runtime import Runtime, Step, Toxic
from chaos.stack import Stack

ANSWER_S = 1.0  # what a target may take for itself while we measure the added delay
EARLY = 0.98  # a measured delay below this share of the ordered one is no effect


@dataclass(frozen=True, slots=True, init=False)
class Latency:
    """`Latency(LinksOf("A"), latency_ms=300, jitter_ms=50)`: each answer waits that long."""

    links: tuple[LinkTarget, ...]
    latency_ms: int
    jitter_ms: int
    token: str

    def __init__(
        self, *links: LinkTarget, latency_ms: int, jitter_ms: int = 0, token: str = ""
    ) -> None:
        if latency_ms <= 0 or not 0 <= jitter_ms <= latency_ms:
            raise ValueError("latency_ms must be above 0, and jitter_ms between 0 and latency_ms")
        object.__setattr__(self, "links", links)
        object.__setattr__(self, "latency_ms", latency_ms)
        object.__setattr__(self, "jitter_ms", jitter_ms)
        object.__setattr__(self, "token", token)

    @property
    def kind(self) -> str:
        return "latency"

    @property
    def story(self) -> str:
        jitter = f" ± {self.jitter_ms}" if self.jitter_ms else ""
        return f"{told(self.links)} slow down by {self.latency_ms}{jitter} ms"

    def pinned(self, runtime: Runtime) -> Latency:
        self.targets(runtime.stack)
        token = self.token or toxics.token()
        return Latency(
            *self.links, latency_ms=self.latency_ms, jitter_ms=self.jitter_ms, token=token
        )

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return links(self.links, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        return toxics.undo(runtime, self.targets(runtime.stack), self._toxics())

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        toxics.put(runtime, self.targets(runtime.stack), self._toxics(), lease_s)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: the proxy holds the toxic and, where the target answers a question (http,
        postgres), a real round trip through the link took at least the ordered time."""
        return all_of(
            side_by_side(lambda k: self._measure(k, runtime), self.targets(runtime.stack))
        )

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: no proxy holds the toxic any more, and each accepts a connection."""
        return toxics.gone(runtime, self.targets(runtime.stack), self._toxics())

    def _toxics(self) -> tuple[Toxic, ...]:
        name = f"latency-{self.token}" if self.token else ""
        return (Toxic(name, "latency", {"latency": self.latency_ms, "jitter": self.jitter_ms}),)

    def _measure(self, link: str, runtime: Runtime) -> Observation:
        held = toxics.read_back(runtime, link, self._toxics())
        if not held.ok:
            return held
        bound_s = (self.latency_ms + self.jitter_ms) / 1e3 + ANSWER_S
        met = runtime.look_at_link(link, bound_s)
        if not met.asked or met.outcome != "answered":
            return Observation(True, f"{held.text} (not measured: {met.outcome})")
        least_ms = (self.latency_ms - self.jitter_ms) * EARLY
        return Observation(met.ms >= least_ms, f"{link}: an answer took {met.ms:.0f} ms")
