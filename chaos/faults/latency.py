"""Latency: answers on links come later, by a fixed time and a random share.

It delays bytes; it loses none and keeps their order.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import LinkTarget, told
from chaos.runtime import Runtime, Toxic

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
        fix(self, links=links, latency_ms=latency_ms, jitter_ms=jitter_ms, token=token)

    @property
    def kind(self) -> str:
        return "latency"

    @property
    def story(self) -> str:
        jitter = f" ± {self.jitter_ms}" if self.jitter_ms else ""
        return f"{told(self.links)} slow down by {self.latency_ms}{jitter} ms"

    def toxics(self) -> tuple[Toxic, ...]:
        delay = {"latency": self.latency_ms, "jitter": self.jitter_ms}
        return (Toxic(common.name(self), "latency", delay),)

    def measured(self, link: str, held: Observation, runtime: Runtime) -> Observation:
        """Proves, where the target answers a question (http, postgres): a real round trip through
        the link took at least the ordered time."""
        bound_s = (self.latency_ms + self.jitter_ms) / 1e3 + common.ANSWER_S
        met = runtime.look_at_link(link, bound_s)
        if not met.asked or met.outcome != "answered":
            return common.not_measured(held, met)
        least_ms = (self.latency_ms - self.jitter_ms) * EARLY
        return Observation(met.ms >= least_ms, f"{link}: an answer took {met.ms:.0f} ms")

    pinned, targets, undo = common.pinned, common.targets, common.undo
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
