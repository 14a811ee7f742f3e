"""Disconnect: the network between two rooms is gone. Packets vanish; nothing is refused or reset.

Where Cut works in the proxy, this takes the network away below it: open connections stay open on
both sides and fall silent, and new ones find no host.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.faults import toxics
from chaos.faults.fault import Observation, TargetError
from chaos.faults.targets import LinksBetween, all_of, links, side_by_side
from chaos.runtime import Runtime, Step
from chaos.stack import Stack

LOOK_S = 0.2  # a host on a healthy network answers within this


@dataclass(frozen=True, slots=True)
class Disconnect:
    """`Disconnect("A", "B")`: both ways."""

    room: str
    other: str

    @property
    def kind(self) -> str:
        return "disconnect"

    @property
    def story(self) -> str:
        return f"the network between rooms {self.room} and {self.other} is gone"

    def pinned(self, runtime: Runtime) -> Disconnect:
        self.targets(runtime.stack)
        return self

    def targets(self, stack: Stack) -> tuple[str, ...]:
        """Every link between the two rooms; TargetError when there is none."""
        if self.room == self.other:
            raise TargetError(f"room {self.room} cannot be disconnected from itself")
        return links([LinksBetween(self.room, self.other)], stack)

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        self.targets(runtime.stack)
        return runtime.undo_disconnect(self.room, self.other)

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        """Take the network away; the lease's own deadline gives it back."""
        del lease_s
        self.targets(runtime.stack)
        runtime.disconnect(self.room, self.other)

    def seen(self, runtime: Runtime) -> Observation:
        """Proves: no link between the rooms takes a connection in its caller's network, though
        its proxy is open and says so."""

        def look(link: str) -> Observation:
            met = runtime.look_at_link(link, LOOK_S)
            if met.outcome != "refused":
                return Observation(False, f"{link}: a connection met {met.outcome}")
            if closers := runtime.link_closed_by(link):
                who = ", ".join(filter(None, closers)) or "another fault"
                return Observation(False, f"{link} is closed by {who}, so its network is not seen")
            return Observation(True, f"{link}: its open proxy cannot be reached from the caller")

        return all_of(side_by_side(look, self.targets(runtime.stack)))

    def end(self, runtime: Runtime) -> None:
        runtime.play(self.undo(runtime))

    def gone(self, runtime: Runtime) -> Observation:
        """Proves: each link's proxy takes a connection in its caller's network again."""
        names = self.targets(runtime.stack)
        return all_of(side_by_side(lambda link: toxics.accepts(runtime, link), names))
