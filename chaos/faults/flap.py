"""Flap: links go down and come up again and again, as with a bad cable.

Each time down every open connection breaks; each time up everybody reconnects at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chaos.faults import toxics as common
from chaos.faults.cut import Cut
from chaos.faults.fault import Observation
from chaos.faults.fixed import changed, fix
from chaos.faults.repeating import Repeating
from chaos.faults.targets import LinkTarget, all_of, links, told
from chaos.runtime import Runtime, Step
from chaos.stack import Stack

SLACK_S = 1.0  # a cut that nobody lifts in time expires in the proxy this much later


@dataclass(frozen=True, slots=True, init=False)
class Flap:
    """`Flap("engine>lis.mllp", down_s=1, up_s=4)`: cut for `down_s`, whole for `up_s`."""

    links: tuple[LinkTarget, ...]
    down_s: float
    up_s: float
    token: str
    loop: Repeating = field(compare=False, repr=False)

    def __init__(
        self, *links: LinkTarget, down_s: float = 1.0, up_s: float = 4.0,
        token: str = "", loop: Repeating | None = None,
    ) -> None:  # fmt: skip
        if down_s <= 0 or up_s <= 0:
            raise ValueError("down_s and up_s of a flapping link must be above 0 s")
        fix(self, links=links, down_s=down_s, up_s=up_s, token=token, loop=loop or Repeating())

    @property
    def kind(self) -> str:
        return "flap"

    @property
    def story(self) -> str:
        return f"{told(self.links)} flap ({self.down_s:g} s down, {self.up_s:g} s up)"

    def pinned(self, runtime: Runtime) -> Flap:
        self.targets(runtime.stack)
        return changed(self, token=common.token(), loop=Repeating())  # each injection its own

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return links(self.links, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        return self._as_cut().undo(runtime)

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        """The first cut is made before this returns."""
        names, by = self.targets(runtime.stack), common.name(self._as_cut())

        def cut() -> None:
            for name in names:
                runtime.set_link(name, False, self.down_s + SLACK_S, by)

        def once(wait: Callable[[float], bool]) -> None:
            if not wait(self.down_s):
                for name in names:
                    runtime.set_link(name, True, by=by)
                if not wait(self.up_s):
                    cut()

        cut()
        self.loop.start(once, lease_s)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: a real connection through each link was refused, or the loop has already gone
        round (then the links were down and up since)."""
        if self.loop.rounds:
            return self.loop.observe()
        return all_of([self._as_cut().seen(runtime), self.loop.observe()])

    def end(self, runtime: Runtime) -> None:
        """The loop first, so that it cannot cut what the undo opens."""
        self.loop.stop()
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: the loop has ended and each link's proxy accepts a connection."""
        return all_of([self.loop.ended(), self._as_cut().gone(runtime)])

    def _as_cut(self) -> Cut:
        return Cut(*self.links, token=self.token)
