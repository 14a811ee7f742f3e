"""SlowClose: links keep connections open for a while after their end.

Callers that wait for the end of a connection, or count open ones, feel it; nobody else does.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import LinkTarget, told
from chaos.runtime import Runtime, Toxic

MEASURABLE_MS = 3_000  # a longer delay is not waited for
EARLY = 0.98  # an end that came sooner than this share of the ordered delay was not late


@dataclass(frozen=True, slots=True, init=False)
class SlowClose:
    """`SlowClose("wards>ehr-a.http", delay_ms=2000)`: each close arrives that much later."""

    links: tuple[LinkTarget, ...]
    delay_ms: int
    token: str

    def __init__(self, *links: LinkTarget, delay_ms: int, token: str = "") -> None:
        if delay_ms <= 0:
            raise ValueError("delay_ms must be above 0")
        fix(self, links=links, delay_ms=delay_ms, token=token)

    @property
    def kind(self) -> str:
        return "slow-close"

    @property
    def story(self) -> str:
        return f"{told(self.links)} close {self.delay_ms} ms late"

    def toxics(self) -> tuple[Toxic, ...]:
        return (Toxic(common.name(self), "slow_close", {"delay": self.delay_ms}),)

    def measured(self, link: str, held: Observation, runtime: Runtime) -> Observation:
        """Proves, where the target closes after its answer (http): the end came that much after
        the last byte. Not measured: other protocols, and delays above MEASURABLE_MS."""
        if self.delay_ms > MEASURABLE_MS:
            return common.not_measured(held, None, f"the delay is above {MEASURABLE_MS} ms")
        met = runtime.look_at_link(link, self.delay_ms / 1e3 + common.ANSWER_S, to_end=True)
        if not met.asked or met.outcome != "answered":
            return common.not_measured(held, met)
        if met.close_ms < 0:
            return common.not_measured(held, None, "the target kept the connection open")
        late = met.close_ms >= self.delay_ms * EARLY
        return Observation(late, f"{link}: the end came {met.close_ms:.0f} ms after the last byte")

    pinned, targets, undo = common.pinned, common.targets, common.undo
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
