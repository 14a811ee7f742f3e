"""Where a stack runs: the Protocol that every runtime fulfils, and the values it speaks in.

A runtime raises one stack in one place and touches it there. It decides nothing, judges nothing
and never changes the world without an undo that already lies on disk (see chaos.lease).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from chaos.stack import Stack

State = Literal["running", "paused", "gone"]
Step = Mapping[str, object]  # one undo step as data; chaos/reaper is its interpreter
Progress = Callable[[str, str], None]  # (service, state)


class RuntimeFailure(RuntimeError):
    """The runtime could not do what was asked: says what, where to look and what to do next."""


class NotReady(RuntimeFailure):
    """A service did not become ready within its bound."""


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Health:
    """What a service says of itself: `ready`, `degraded`, `starting`, `stopping` or `silent`."""

    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Toxic:
    """One Toxiproxy toxic: type, attributes (units as in Toxiproxy), stream and toxicity."""

    name: str
    type: str
    attributes: Mapping[str, int]
    stream: Literal["upstream", "downstream"] = "downstream"
    toxicity: float = 1.0


Outcome = Literal["answered", "silent", "refused", "reset", "closed"]


@dataclass(frozen=True, slots=True)
class LinkLook:
    """What one connection through a link's proxy met, and after how many milliseconds.

    answered: bytes came back; silent: connected, but nothing came; refused: no connection; reset:
    RST; closed: the other side closed without a byte. `asked` is False where the protocol has
    no question that any server answers (only connecting was tried then).
    """

    outcome: Outcome
    ms: float
    asked: bool = True


class Runtime(Protocol):
    """What an experiment may ask of the place where its stack runs.

    Every `undo_*` returns steps as data and changes nothing; every other verb changes the world
    at once and returns when the change was ordered, not when it was seen (`state`, `health` and
    `toxics` are for seeing).
    """

    name: str
    stack: Stack
    raised: bool  # whether `up` has completed and `down` was not called since

    def play(self, steps: tuple[Step, ...]) -> None:
        """Play undo steps now, here; each is idempotent. RuntimeFailure when one fails."""
        ...

    def undo_up(self) -> tuple[Step, ...]:
        """Steps that take the whole stack down, known before `up`."""
        ...

    def up(self, progress: Progress) -> None:
        """Raise everything and wait until every service is ready; NotReady names the culprit."""
        ...

    def down(self) -> None:
        """Take everything down; idempotent."""
        ...

    def identity(self, service: str) -> str:
        """What pins the running instance (pid and start time, container id); '' when gone."""
        ...

    def state(self, service: str) -> State:
        """Whether the service's processes run, are paused, or are gone."""
        ...

    def health(self, service: str) -> Health:
        """Ask the service itself, directly, not through a proxy; bounded, never raises."""
        ...

    def address(self, service: str, port: str) -> Address:
        """The service's own listening address, not through a proxy."""
        ...

    def link_address(self, link: str) -> Address:
        """The address of the link's proxy, which the link's source calls."""
        ...

    def kill(self, service: str) -> None:
        """End all processes of the service at once, without warning (SIGKILL)."""
        ...

    def pause(self, service: str) -> None:
        """Freeze all processes of the service (SIGSTOP)."""
        ...

    def resume(self, service: str) -> None:
        """Thaw a paused service."""
        ...

    def stop(self, service: str) -> None:
        """Deliberate stop: ask, let it drain within its `stop_s`, then end what is left."""
        ...

    def start(self, service: str) -> None:
        """Start a service that is gone; a no-op when it runs. Does not wait until it is ready."""
        ...

    def undo_kill(self, service: str) -> tuple[Step, ...]:
        """Steps that start the service again."""
        ...

    def undo_pause(self, service: str) -> tuple[Step, ...]:
        """Steps that thaw the service."""
        ...

    def add_toxic(self, link: str, toxic: Toxic, expires_s: float) -> None:
        """Put a toxic on the link's proxy; the proxy drops it by itself after `expires_s`."""
        ...

    def toxics(self, link: str) -> tuple[str, ...]:
        """Names of the toxics that are on the link's proxy now."""
        ...

    def set_link(self, link: str, enabled: bool, expires_s: float = 0.0) -> None:
        """Close (or open) the link's proxy: a closed one refuses connections."""
        ...

    def link_enabled(self, link: str) -> bool:
        """Whether the link's proxy accepts connections now."""
        ...

    def look_at_link(self, link: str, within_s: float, poke: bool = False) -> LinkLook:
        """Connect through the link's proxy, ask what the protocol answers, and say what came.

        Bounded by `within_s`, never raises. `poke` sends one byte where the protocol has no
        question (only for faults that keep that byte from the target).
        """
        ...

    def undo_toxics(self, link: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """Steps that remove these toxics, escalating to delete and recreate the proxy."""
        ...

    def undo_set_link(self, link: str) -> tuple[Step, ...]:
        """Steps that open the link's proxy again."""
        ...

    def forget_remains(self) -> None:
        """Remove what only a living run needs (data folders); logs stay."""
        ...
