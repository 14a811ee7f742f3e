"""Reset: links are torn down (RST) as soon as the caller sends something.

A connection that stays idle notices nothing, as with a firewall that has lost its table.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics
from chaos.faults.fault import Observation
from chaos.faults.targets import LinkTarget, all_of, links, side_by_side, told
from chaos.runtime import Runtime, Step, Toxic
from chaos.stack import Stack

LOOK_S = 1.0


@dataclass(frozen=True, slots=True, init=False)
class Reset:
    """`Reset("engine>lis.mllp")`: what the caller sends never arrives; its connection is reset."""

    links: tuple[LinkTarget, ...]
    token: str

    def __init__(self, *links: LinkTarget, token: str = "") -> None:
        object.__setattr__(self, "links", links)
        object.__setattr__(self, "token", token)

    @property
    def kind(self) -> str:
        return "reset"

    @property
    def story(self) -> str:
        return f"{told(self.links)} reset every connection that is used"

    def pinned(self, runtime: Runtime) -> Reset:
        self.targets(runtime.stack)
        return Reset(*self.links, token=self.token or toxics.token())

    def targets(self, stack: Stack) -> tuple[str, ...]:
        return links(self.links, stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        return toxics.undo(runtime, self.targets(runtime.stack), self._toxics())

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        toxics.put(runtime, self.targets(runtime.stack), self._toxics(), lease_s)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: a real connection through the link was reset (or closed) at its first byte."""
        return all_of(side_by_side(lambda k: self._poke(k, runtime), self.targets(runtime.stack)))

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: no proxy holds the toxic any more, and each accepts a connection."""
        return toxics.gone(runtime, self.targets(runtime.stack), self._toxics())

    def _toxics(self) -> tuple[Toxic, ...]:
        name = f"reset-{self.token}" if self.token else ""
        return (Toxic(name, "reset_peer", {"timeout": 0}, "upstream"),)

    def _poke(self, link: str, runtime: Runtime) -> Observation:
        held = toxics.read_back(runtime, link, self._toxics())
        if not held.ok:
            return held
        met = runtime.look_at_link(link, LOOK_S, poke=True)  # the toxic keeps the byte
        ok = met.outcome in ("reset", "closed")
        return Observation(ok, f"{link}: a connection was {met.outcome} at its first byte")
