"""Bandwidth: links carry only so many kilobytes per second, both ways.

Small messages hardly feel it; large ones queue behind each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import LinkTarget, protocol_of, told
from chaos.runtime import Runtime, Toxic

PROBE_BYTES = 12_000  # of a question; servers bound a header at 16 KiB and more
PROBE_MS = 1_000  # longest time that the question alone may take
FELT_MS = 20  # below this the link's own time hides the effect
EARLY = 0.9  # a question that took less than this share of its time was not slowed down


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
        fix(self, links=links, kb_per_s=kb_per_s, token=token)

    @property
    def kind(self) -> str:
        return "bandwidth"

    @property
    def story(self) -> str:
        return f"{told(self.links)} carry {self.kb_per_s} kB/s at most"

    def toxics(self) -> tuple[Toxic, ...]:
        rate = {"rate": self.kb_per_s}
        return (
            Toxic(common.name(self, "down"), "bandwidth", rate, "downstream"),
            Toxic(common.name(self, "up"), "bandwidth", rate, "upstream"),
        )

    def measured(self, link: str, held: Observation, runtime: Runtime) -> Observation:
        """Proves, where the target answers http: a long question through the link was answered no
        sooner than the rate allows. Not measured: other protocols, and rates too fast to feel."""
        size = min(PROBE_BYTES, self.kb_per_s * PROBE_MS)  # 1 kB/s is 1 byte/ms
        takes_ms = size / self.kb_per_s
        if takes_ms < FELT_MS:
            return common.not_measured(held, None, f"{size} bytes pass in {takes_ms:.1f} ms")
        if protocol_of(link, runtime.stack) != "http":
            return common.not_measured(held, None, "no long question can be asked there")
        met = runtime.look_at_link(link, takes_ms / 1e3 + 2 * common.ANSWER_S, padding=size)
        if met.outcome != "answered":
            return common.not_measured(held, met)
        slow = met.ms >= takes_ms * EARLY
        return Observation(slow, f"{link}: a question of {size} bytes took {met.ms:.0f} ms")

    pinned, targets, undo = common.pinned, common.targets, common.undo
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
