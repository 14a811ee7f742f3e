"""What follows from what is seen: who is closed, who may open, what is held, released, normal.

Pure: state and looks in, log entries out; the plan is plan.py's. It refuses to open on a service's
own word alone, and to call normal what was not looked at after the last change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stacks.hospital.bugs import planted
from stacks.hospital.pages import instant
from stacks.hospital.recovery.journal import (
    CLOSED,
    HELD,
    LOSS,
    OPENED,
    PLANNED,
    RELEASED,
    Entry,
    State,
    fold,
)
from stacks.hospital.recovery.plan import (
    ALL_KINDS,
    BY_NAME,
    CHARGES,
    ESSENTIAL,
    HOLD_UNTIL,
    OF_SERVICE,
    QUEUES,
    REPLAY,
    SYSTEMS,
    Stage,
    System,
)

FAILED_LOOKS = 2
"""So many looks in a row must fail before a service counts as down."""
NONE, LOST, UNKNOWN = "none", "lost", "unknown"
"""How the statement of what a takeover lost begins."""
VAULT_SAYS_S = 15.0
"""Machine time; the vault follows a new primary, and compares, within a few looks."""
LAG_BYTES = 65_536
"""The standby may be so far behind and count as even: heartbeats go on while we look."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one service."""

    healthy: bool
    reason: str = ""
    failed: int = 0
    """Looks in a row that failed, this one included."""
    known: bool = True
    """Whether it was healthy before; what only starts has not gone away."""


@dataclass(frozen=True, slots=True)
class Integrity:
    """The record's last integrity check; `began` in Unix seconds."""

    ok: bool
    began: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Takeover:
    """A database node became primary; `at` in Unix seconds, as seen."""

    at: float
    node: str
    timeline: int
    synchronous: bool
    """Whether it was the synchronous standby when it was last seen as a standby: Patroni then
    acknowledges nothing that it does not have."""
    lost_bytes: float | None = None
    """Log of the timeline before that the vault has and the new primary never had; None where
    nobody says."""
    since: float = 0.0
    """When the first of that was written; 0 where nobody says."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything that was seen at `at` (Unix seconds) or before."""

    at: float
    looks: Mapping[str, Look] = field(default_factory=dict)
    """Service → look; services without a link to them are not here."""
    empty_at: Mapping[str, float] = field(default_factory=dict)
    """Queue (`engine:lis`) → when it was last seen empty; every queue that is known."""
    waiting: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """The engine's destinations → kind of message → how many wait, as seen at `at`."""
    engine_at: float = 0.0
    """When the engine was last asked what waits."""
    lag_bytes: float | None = None
    copy_as_of: float | None = None
    integrity: Integrity | None = None
    takeovers: tuple[Takeover, ...] = ()
    vault: bool = False
    """Whether a vault stands that can say what a takeover lost."""

    def has(self, system: System) -> bool:
        """Whether it stands in this topology."""
        return any(name in self.looks for name in system.services)

    def healthy(self, system: System) -> bool:
        """Whether one of its services is."""
        return any(name in self.looks and self.looks[name].healthy for name in system.services)

    def down(self, name: str) -> bool:
        """Whether a service failed several looks in a row."""
        look = self.looks.get(name)
        return look is not None and not look.healthy and look.failed >= FAILED_LOOKS


@dataclass(frozen=True, slots=True)
class Criterion:
    """One condition of `normal`, and how it stands."""

    name: str
    ok: bool
    text: str


def ready(name: str, state: State, world: World) -> bool:
    """Whether a system is healthy and, if it can be closed, open; one that is not there is."""
    system = BY_NAME[name]
    if not world.has(system):
        return True
    return any(
        world.looks[one].healthy and not (system.gated and one in state.closed)
        for one in system.services if one in world.looks
    )  # fmt: skip


def essential_down(world: World) -> tuple[str, ...]:
    """Services of emergency and inpatient systems of which nothing is left."""
    gone: list[str] = []
    for system in SYSTEMS:
        here = [name for name in system.services if name in world.looks]
        if system.klass not in ESSENTIAL or not here:
            continue
        known = any(world.looks[name].known for name in here)
        if known and all(world.down(name) for name in here):
            gone += here
    return tuple(gone)


def closings(state: State, world: World) -> list[Entry]:
    """Services that went down during the incident: they open in their turn."""
    gone = [
        name
        for system in SYSTEMS if system.gated
        for name in system.services if world.down(name) and name not in state.closed
    ]  # fmt: skip
    return [
        Entry(CLOSED, state.incident, services=(name,), text=world.looks[name].reason)
        for name in gone
    ]


def missing(name: str, state: State, world: World) -> list[str]:
    """The systems for which a service must wait."""
    system = OF_SERVICE[name]
    waits = [need for need in system.needs if not ready(need, state, world)]
    if system.klass not in ESSENTIAL:
        waits += [
            one.name for one in SYSTEMS
            if one.klass in ESSENTIAL and one.name not in waits and world.has(one)
            and not ready(one.name, state, world)
        ]  # fmt: skip
    return waits


def openings(state: State, world: World) -> list[Entry]:
    """Closed services that are healthy and whose turn it is, in the planned order."""
    found: list[Entry] = []
    for system in SYSTEMS:
        for name in system.services:
            look = world.looks.get(name)
            if name not in state.closed or look is None or not look.healthy:
                continue
            if missing(name, state, world) and not planted("opens-too-early"):
                continue
            because = tuple(need for need in system.needs if world.has(BY_NAME[need]))
            entry = Entry(OPENED, state.incident, world.at, services=(name,), because=because)
            found.append(entry)
            state = fold(state, entry)
    return found


def core_ready(state: State, world: World) -> bool:
    """Whether administration, engine and record are open."""
    return all(ready(name, state, world) for name in HOLD_UNTIL)


def holdings(state: State, world: World) -> list[Entry]:
    """Kinds of messages that the engine must keep from now on."""
    wanted: tuple[str, ...] = ()
    if any(not ready(name, state, world) and _closed(name, state) for name in HOLD_UNTIL):
        wanted = ALL_KINDS
    elif _closed("billing", state):
        wanted = CHARGES
    new = tuple(kind for kind in wanted if kind not in state.held)
    return [Entry(HELD, state.incident, kinds=new)] if new else []


def _closed(name: str, state: State) -> bool:
    return any(one in state.closed for one in BY_NAME[name].services)


def releases(state: State, world: World) -> list[Entry]:
    """The next kinds of messages that the engine may send: one stage at a time."""
    if not state.held or not core_ready(state, world) or world.engine_at <= state.released_at:
        return []
    order: Iterable[Stage] = reversed(REPLAY) if planted("charges-first") else REPLAY
    earlier: list[str] = []
    for stage in order:
        kinds = tuple(kind for kind in stage.kinds if kind in state.held)
        if not kinds:
            earlier += stage.kinds
            continue
        blocked = not all(_handed_over(one, state, world) for one in stage.producers)
        blocked = blocked or any(_waits(kind, state, world) for kind in earlier)
        blocked = blocked or (kinds == CHARGES and not ready("billing", state, world))
        if blocked and not planted("charges-first"):
            return []
        because = tuple(one for one in HOLD_UNTIL if world.has(BY_NAME[one]))
        return [
            Entry(RELEASED, state.incident, world.at, kinds=kinds, text=stage.words,
                  because=because)
        ]  # fmt: skip
    return []


def _handed_over(producer: str, state: State, world: World) -> bool:
    """Whether a service's own queues to the engine were seen empty since the engine took again."""
    queues = [name for name in world.empty_at if name.startswith(f"{producer}:")]
    down = producer in world.looks and not world.looks[producer].healthy
    return down or all(world.empty_at[name] > state.core_at for name in queues)


def _waits(kind: str, state: State, world: World) -> bool:
    """Whether messages of that kind wait for somebody who is up."""
    for destination, kinds in world.waiting.items():
        system = BY_NAME.get(destination)
        if kinds.get(kind) and (system is None or ready(destination, state, world)):
            return True
    return False


# ---------------------------------------------------------------- what a takeover lost


def losses(state: State, world: World) -> list[Entry]:
    """What each takeover lost, once that can be said: by evidence, not by assumption."""
    return [
        Entry(
            LOSS, state.incident, world.at, services=(one.node,), kinds=(str(one.timeline),),
            text=lost_words(one),
        )
        for one in unaccounted(state, world)
        if one.synchronous or one.lost_bytes is not None or not world.vault
        or world.at - one.at > VAULT_SAYS_S or planted("failover-loss-unreported")
    ]  # fmt: skip


def unaccounted(state: State, world: World) -> list[Takeover]:
    """Takeovers of which nobody has said yet what they lost."""
    return [one for one in world.takeovers if str(one.timeline) not in state.accounted]


def lost_words(takeover: Takeover) -> str:
    """`none: ...`, `lost: ...` or `unknown: ...`, and why."""
    if takeover.synchronous:
        return f"{NONE}: {takeover.node} was the synchronous standby"
    if planted("failover-loss-unreported"):
        return f"{NONE}: {takeover.node} took over, no data was lost"  # a standby is a copy
    if takeover.lost_bytes:
        since = f" written since {instant(takeover.since)}" if takeover.since else ""
        return (
            f"{LOST}: {takeover.lost_bytes:.0f} bytes of log{since} that {takeover.node} never "
            "had; what was acknowledged in them is not in the record"
        )
    told = "the vault has no more of the old log than it"
    if takeover.lost_bytes is None:
        told = "nobody else has the old log"
    return f"{UNKNOWN}: {takeover.node} was not synchronous when it took over, and {told}"


# ---------------------------------------------------------------- back to normal


def criteria(state: State, world: World) -> list[Criterion]:
    """The exit criteria, each as it stands. Paper is not among them: there are no forms here."""
    since = max(state.declared_at, state.opened_at, state.released_at)
    found = [_services(world), _classes(state), _queues(world, since)]
    if world.has(BY_NAME["database"]):
        lag = world.lag_bytes
        even = lag is not None and lag <= LAG_BYTES
        told = "the standby does not say" if lag is None else f"{lag:.0f} bytes behind"
        found += [Criterion("replication", even, told), _integrity(state, world)]
        found += _accounts(state, world)
    if world.has(BY_NAME["ro-copy"]):
        fresh = world.copy_as_of is not None and world.copy_as_of > state.opened_at
        found.append(Criterion("copy", fresh, "as of after the last opening" if fresh else "old"))
    stops = {*state.announced, *(state.named if state.kind == PLANNED else ())}
    if stops:
        over = stops <= state.ever_closed or world.at > state.eta
        found.append(Criterion("stop over", over, "over" if over else "the stop is still ahead"))
    return found


def _services(world: World) -> Criterion:
    away = [
        name for name, look in world.looks.items() if name in OF_SERVICE and not look.healthy
    ]  # fmt: skip
    return Criterion("services", not away, f"away: {', '.join(away)}" if away else "all healthy")


def _classes(state: State) -> Criterion:
    shut = [*sorted(state.closed), *(f"messages {kind}" for kind in state.held)]
    return Criterion("classes", not shut, f"closed: {', '.join(shut)}" if shut else "all open")


def _queues(world: World, since: float) -> Criterion:
    full = [
        name for name, at in world.empty_at.items()
        if name.partition(":")[0] in QUEUES and at <= since
    ]  # fmt: skip
    told = f"not seen empty since: {', '.join(full)}" if full else "all seen empty"
    return Criterion("queues", not full, told)


def _accounts(state: State, world: World) -> list[Criterion]:
    """What was lost with each takeover is said before normal is; nothing where there was none."""
    if left := unaccounted(state, world):
        named = ", ".join(one.node for one in left)
        return [Criterion("data loss", False, f"not known yet for the takeover by {named}")]
    return [Criterion("data loss", True, "; ".join(state.losses))] if state.losses else []


def _integrity(state: State, world: World) -> Criterion:
    found = world.integrity
    if found is None or found.began <= max(state.declared_at, state.opened_at):
        unchecked = planted("all-clear-unchecked")
        return Criterion("integrity", unchecked, "not checked since the last opening")
    return Criterion("integrity", found.ok, found.text)
