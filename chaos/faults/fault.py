"""What a fault is: the Protocol, what an effect probe saw, and what a bad target raises.

Nothing here touches the world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from chaos.runtime import Runtime, Step
from chaos.stack import Stack


class TargetError(ValueError):
    """A target that is empty, unknown or ambiguous: nothing is injected."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What an effect probe saw: whether it is as wanted, and the words for the journal."""

    ok: bool
    text: str


@runtime_checkable
class Prepared(Protocol):
    """A fault that can only hit a stack which was raised for it."""

    def prepare(self, runtime: Runtime) -> None:
        """Tell the runtime, before `up`, what it will need."""
        ...


class Fault(Protocol):
    """One thing that goes wrong."""

    @property
    def kind(self) -> str:
        """kill, pause, stop, crash-loop, latency, bandwidth, cut, reset, slow-close, flap, room,
        squeeze, clock-skew, disconnect, acknowledgements, truncated-messages, image-transfers,
        web-requests, slow-storage, failing-storage, full-storage, read-only-storage, hung-storage,
        lost-array, torn-writes, lost-writes, bit-rot."""
        ...

    @property
    def story(self) -> str:
        """One sentence for the report: `ehr-a crashes (SIGKILL, no restart)`."""
        ...

    def pinned(self, runtime: Runtime) -> Fault:
        """The same fault with its targets fixed, by name and by identity; call it first.

        Resolvers (`the current primary`) are asked here, once. TargetError when a target is
        unknown, ambiguous, not running, or when there are too many. On a runtime that is not
        raised (a rehearsal) nothing is asked: a resolver stands for its first candidate.
        """
        ...

    def targets(self, stack: Stack) -> tuple[str, ...]:
        """Services or links, resolved against the stack; TargetError when there are none.

        Before `pinned` a resolver counts with all its candidates (the blast radius).
        """
        ...

    def undo(self, runtime: Runtime) -> tuple[Step, ...]:
        """The undo as data, complete before anything begins."""
        ...

    def begin(self, runtime: Runtime, lease_s: float) -> None:
        """Change the world. Only the experiment calls this, under a lease of `lease_s`.

        TargetError when a pinned target is not the same any more.
        """
        ...

    def seen(self, runtime: Runtime) -> Observation:
        """Look once whether the fault is in effect."""
        ...

    def end(self, runtime: Runtime) -> None:
        """Undo it; idempotent."""
        ...

    def gone(self, runtime: Runtime) -> Observation:
        """Look once whether the fault's effect is gone (services run and are ready again)."""
        ...
