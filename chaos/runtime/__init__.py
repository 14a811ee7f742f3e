"""Where a stack runs: the Protocol that every runtime fulfils, and the values it speaks in.

A runtime raises one stack in one place and touches it there. It decides nothing, judges nothing
and never changes the world without an undo that already lies on disk (see chaos.lease).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from chaos.runtime.arrays import Storage
from chaos.stack import Limits, Stack
from chaos.storage.mounting import missing

State = Literal["running", "paused", "gone"]
Step = Mapping[str, object]  # one undo step as data; chaos/reaper is its interpreter
Progress = Callable[[str, str], None]  # (service, state)


class RuntimeFailure(RuntimeError):
    """The runtime could not do what was asked: says what, where to look and what to do next."""


class NotHere(RuntimeFailure):
    """This machine lacks what an experiment needs: it is skipped with this reason, never passed."""


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
    """One toxic: type, attributes (units as in Toxiproxy), stream and toxicity.

    Those that speak a protocol (mllp, dicom, http) are known to the embedded proxy alone.
    """

    name: str
    type: str
    attributes: Mapping[str, int | str]
    stream: Literal["upstream", "downstream"] = "downstream"
    toxicity: float = 1.0


@dataclass(frozen=True, slots=True)
class ToxicRecord:
    """What a toxic that speaks a protocol saw and did, and what the sender did afterwards.

    Counts of exchanges: `answered` are acts whose answer had really come from the receiver;
    `again`, `moved_on` and `closed` acts after which the sender sent the same once more, went on
    to something else on that connection, or closed it. `unread` are connections that speak
    something else. `latest` are the latest acts in words.
    """

    seen: int = 0
    acted: int = 0
    answered: int = 0
    again: int = 0
    moved_on: int = 0
    closed: int = 0
    unread: int = 0
    latest: tuple[str, ...] = ()


Outcome = Literal["answered", "silent", "refused", "reset", "closed"]


@dataclass(frozen=True, slots=True)
class LinkLook:
    """What one connection through a link's proxy met, and after how many milliseconds.

    answered: bytes came back; silent: connected, but nothing came; refused: no connection; reset:
    RST; closed: the other side closed without a byte. `asked` is False where the protocol has
    no question that any server answers (only connecting was tried then). `close_ms` is how long
    after its last byte the other side closed, where that was waited for; -1 where not.
    """

    outcome: Outcome
    ms: float
    asked: bool = True
    close_ms: float = -1.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """How hard a service presses against its limits, as its kernel counts it.

    CPU: `throttled` of `periods` (100 ms each) since the container started. Memory in MiB;
    `refused` counts how often the limit was hit (-1 where the kernel does not say), `starved`
    is whether the kernel has ended a process for want of memory. Limits of 0 are none.
    """

    throttled: int = 0
    periods: int = 0
    memory_mib: float = 0.0
    memory_limit_mib: float = 0.0
    refused: int = -1
    starved: bool = False
    pids: int = 0
    pids_limit: int = 0


@dataclass(frozen=True, slots=True)
class ClockLook:
    """How far a service's wall clock is ahead of ours, in seconds, and whose word that is.

    `apart` are processes of the service that keep the machine's own clock all the same.
    """

    offset_s: float
    source: str
    apart: tuple[str, ...] = ()


# What some runtimes can do and others cannot; see `Runtime.abilities`.
LIMITS, CLOCKS, NETWORKS, STORAGE = "limits", "clocks", "networks", "storage"
ABILITIES = {
    LIMITS: "squeezing a service's limits",
    CLOCKS: "setting a service's clock",
    NETWORKS: "disconnecting rooms",
    STORAGE: "a storage array that fails",
}


def cannot(ability: str) -> RuntimeFailure:
    """What a runtime without that ability says."""
    if ability == STORAGE:
        return cannot_store(missing() or "an existing project's volumes cannot be replaced")
    return RuntimeFailure(f"{ABILITIES[ability]} needs containers: --runtime docker")


def cannot_store(why: str) -> NotHere:
    """What a runtime says where no array can be mounted."""
    return NotHere(f"{ABILITIES[STORAGE]} needs FUSE: {why}")


class Runtime(Protocol):
    """What an experiment may ask of the place where its stack runs.

    Every `undo_*` returns steps as data and changes nothing; every other verb changes the world
    at once and returns when the change was ordered, not when it was seen (`state`, `health` and
    `toxics` are for seeing).
    """

    name: str
    stack: Stack
    raised: bool  # whether `up` has completed and `down` was not called since

    @property
    def storage(self) -> Storage:
        """Its storage arrays."""
        ...

    @property
    def at_once(self) -> int:
        """How many services are hit or looked at side by side; 1 where that would gain nothing."""
        ...

    @property
    def abilities(self) -> frozenset[str]:
        """Which of ABILITIES it has; the verbs of the others raise what `cannot` makes."""
        ...

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

    def lost(self) -> str:
        """What of the raised stack somebody else took away, in words; '' when nothing is missing.

        What is ended but still there may be a fault of ours, or the system's own doing: that is
        not lost. RuntimeFailure when it cannot be told.
        """
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

    def toxic_kinds(self) -> tuple[str, ...]:
        """The types of toxic that this runtime's proxies know."""
        ...

    def toxic_record(self, link: str, name: str) -> ToxicRecord | None:
        """What a speaking toxic did, also when it is gone by now; None when there was none."""
        ...

    def set_link(self, link: str, enabled: bool, expires_s: float = 0.0, by: str = "") -> None:
        """Close (or open) the link's proxy: a closed one refuses connections.

        Closed under several names (`by`) it opens when the last one has let go; without a name
        it opens for all.
        """
        ...

    def link_closed_by(self, link: str) -> tuple[str, ...]:
        """Who keeps the link's proxy closed now; () when it is open."""
        ...

    def link_enabled(self, link: str) -> bool:
        """Whether the link's proxy accepts connections now."""
        ...

    def look_at_link(
        self, link: str, within_s: float, poke: bool = False, padding: int = 0, to_end: bool = False
    ) -> LinkLook:
        """Connect through the link's proxy, ask what the protocol answers, and say what came.

        Bounded by `within_s`, never raises. `poke` sends one byte where the protocol has no
        question (only for faults that keep that byte from the target). `padding` makes an http
        question that many bytes longer; `to_end` waits until the other side closes.
        """
        ...

    def undo_toxics(self, link: str, names: tuple[str, ...]) -> tuple[Step, ...]:
        """Steps that remove these toxics, escalating to delete and recreate the proxy."""
        ...

    def undo_set_link(self, link: str, by: str = "") -> tuple[Step, ...]:
        """Steps by which `by` lets go of the link's proxy (without a name: that open it)."""
        ...

    def prepare_clocks(self, services: tuple[str, ...]) -> None:
        """Before `up`: raise these services with a wall clock that can be set."""
        ...

    def set_clock(self, service: str, offset_s: float) -> None:
        """Put the wall clock of all its processes that far ahead (or back); 0 is the right time.

        Their monotonic clocks go on as before. It counts for later instances, too.
        """
        ...

    def clock(self, service: str) -> ClockLook:
        """How far the service's wall clock is ahead, asked of the service or inside of it."""
        ...

    def undo_set_clock(self, service: str) -> tuple[Step, ...]:
        """Steps that give the service the right time."""
        ...

    def limits(self, service: str) -> Limits:
        """The limits in force now; a limit of 0 is none."""
        ...

    def set_limits(self, service: str, limits: Limits) -> None:
        """Put these limits in force at once; one of 0 stays as it is.

        RuntimeFailure when the kernel refuses (memory below what is in use, say).
        """
        ...

    def pressure(self, service: str) -> Pressure:
        """How hard the service presses against its limits; zeros when it is gone."""
        ...

    def undo_set_limits(self, service: str, limits: Limits) -> tuple[Step, ...]:
        """Steps that put back what is in force now of those limits that are not 0, and start
        the service where it did not survive them."""
        ...

    def disconnect(self, one: str, other: str) -> None:
        """Take the network between two rooms away: packets vanish, nothing is refused."""
        ...

    def undo_disconnect(self, one: str, other: str) -> tuple[Step, ...]:
        """Steps that join the two rooms again, at the same addresses."""
        ...

    def forget_remains(self) -> None:
        """Remove what only a living run needs (data folders); logs stay."""
        ...
