"""Reset: links are torn down (RST) as soon as the caller sends something.

A connection that stays idle notices nothing, as with a firewall that has lost its table.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics as common
from chaos.faults.fault import Observation
from chaos.faults.fixed import fix
from chaos.faults.targets import LinkTarget, told
from chaos.runtime import Runtime, Toxic

LOOK_S = 1.0


@dataclass(frozen=True, slots=True, init=False)
class Reset:
    """`Reset("engine>lis.mllp")`: what the caller sends never arrives; its connection is reset."""

    links: tuple[LinkTarget, ...]
    token: str

    def __init__(self, *links: LinkTarget, token: str = "") -> None:
        fix(self, links=links, token=token)

    @property
    def kind(self) -> str:
        return "reset"

    @property
    def story(self) -> str:
        return f"{told(self.links)} reset every connection that is used"

    def toxics(self) -> tuple[Toxic, ...]:
        return (Toxic(common.name(self), "reset_peer", {"timeout": 0}, "upstream"),)

    def measured(self, link: str, held: Observation, runtime: Runtime) -> Observation:
        """Proves: a real connection through the link was reset (or closed) at its first byte."""
        del held
        met = runtime.look_at_link(link, LOOK_S, poke=True)  # the toxic keeps the byte
        ok = met.outcome in ("reset", "closed")
        return Observation(ok, f"{link}: a connection was {met.outcome} at its first byte")

    pinned, targets, undo = common.pinned, common.targets, common.undo
    begin, seen, end, gone = common.begin, common.seen, common.end, common.gone
