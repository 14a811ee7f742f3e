"""The incident system's own log: what was declared, published, closed, opened, released, by whom.

    book = Book(store); state = await book.write([Entry(...)])    # durable, then it counts

Append-only; the state of the hospital's return is nothing but the fold of its entries, so that a
killed incident system comes back knowing all. It refuses to change what was written.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from stacks.hospital.recovery.plan import HOLD_UNTIL, OF_SERVICE
from stacks.hospital.store import Store

JOURNAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, what TEXT NOT NULL, body TEXT NOT NULL
);
"""
DECLARED, NOTICE, CLOSED, OPENED = "declared", "notice", "closed", "opened"
ANNOUNCED = "announced"
HELD, RELEASED, CHECKED, NORMAL = "held", "released", "checked", "normal"
LOSS, FAILBACK, REBUILD = "loss", "failback", "rebuild"
DOWNTIME, PLANNED = "downtime", "planned"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the log; `at` and `eta` in Unix seconds."""

    what: str
    incident: str
    at: float = 0.0
    by: str = ""
    text: str = ""
    services: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    """Of messages (held, released); of the incident (declared, announced): downtime or planned;
    of a takeover (loss): its timeline."""
    because: tuple[str, ...] = ()
    """What was found healthy when this was decided."""
    eta: float = 0.0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What holds now. Times in Unix seconds, 0 = never."""

    incident: str = ""
    """Id of the incident that goes on; empty in normal operation."""
    kind: str = ""
    by: str = ""
    reason: str = ""
    named: tuple[str, ...] = ()
    """Services that the declaration named."""
    announced: tuple[str, ...] = ()
    """Services whose stop on purpose was announced while the incident went on."""
    declared_at: float = 0.0
    closed: frozenset[str] = frozenset()
    """Services that must not take writes when they come."""
    ever_closed: frozenset[str] = frozenset()
    held: tuple[str, ...] = ()
    core_at: float = 0.0
    """When the last of those opened for whom the engine's queues wait."""
    opened_at: float = 0.0
    released_at: float = 0.0
    noticed_at: float = 0.0
    eta: float = 0.0
    checked: tuple[str, ...] = field(default=())
    losses: tuple[str, ...] = ()
    """What each takeover of this incident lost, in words."""
    accounted: frozenset[str] = frozenset()
    """Timelines of takeovers that were accounted for, in whatever incident."""
    normal_at: float = 0.0
    incidents: int = 0


def fold(state: State, entry: Entry) -> State:
    """The state after one more entry."""
    if entry.what == DECLARED:
        return State(
            incident=entry.incident, kind=entry.kinds[0] if entry.kinds else DOWNTIME, by=entry.by,
            reason=entry.text, named=entry.services, declared_at=entry.at,
            incidents=state.incidents + 1, normal_at=state.normal_at, accounted=state.accounted,
        )  # fmt: skip
    if entry.what == ANNOUNCED:
        told = tuple(dict.fromkeys((*state.announced, *entry.services)))
        ever = state.ever_closed - set(entry.services)  # its stop is still ahead
        return replace(state, announced=told, ever_closed=ever)
    if entry.what == NOTICE:
        return replace(state, noticed_at=entry.at, eta=entry.eta)
    if entry.what == CLOSED:
        gone = frozenset(entry.services)
        return replace(state, closed=state.closed | gone, ever_closed=state.ever_closed | gone)
    if entry.what == OPENED:
        core = any(OF_SERVICE[name].name in HOLD_UNTIL for name in entry.services)
        return replace(
            state, closed=state.closed - set(entry.services), opened_at=entry.at,
            core_at=entry.at if core else state.core_at, checked=(),
        )  # fmt: skip
    if entry.what == HELD:
        return replace(state, held=tuple(dict.fromkeys((*state.held, *entry.kinds))))
    if entry.what == RELEASED:
        left = tuple(kind for kind in state.held if kind not in entry.kinds)
        return replace(state, held=left, released_at=entry.at)
    if entry.what == CHECKED:
        return replace(state, checked=(*state.checked, entry.text))
    if entry.what == NORMAL:
        return State(incidents=state.incidents, normal_at=entry.at, accounted=state.accounted)
    if entry.what == LOSS:
        loss = f"{' '.join(entry.services)}: {entry.text}"
        return replace(
            state, losses=(*state.losses, loss), accounted=state.accounted | set(entry.kinds)
        )
    return state


class Book:
    """The log of one Store (its schema must contain JOURNAL_SCHEMA) and the state it amounts to."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.entries: list[Entry] = self._read()
        self.state = State()
        for entry in self.entries:
            self.state = fold(self.state, entry)

    def _read(self) -> list[Entry]:
        rows = self.store.read(
            lambda connection: connection.execute(
                "SELECT seq, at, body FROM entry ORDER BY seq"
            ).fetchall()
        )
        return [
            msgspec.structs.replace(msgspec.json.decode(body, type=Entry), seq=seq, at=at)
            for seq, at, body in rows
        ]

    async def write(self, entries: Sequence[Entry]) -> State:
        """Append; what was decided counts when it is on disk. Raises StoreError."""
        stamped = [msgspec.structs.replace(one, at=one.at or time.time()) for one in entries]

        def work(connection: sqlite3.Connection) -> list[int]:
            return [_append(connection, one) for one in stamped]

        numbers = await self.store.write(work)
        for one, seq in zip(stamped, numbers, strict=True):
            kept = msgspec.structs.replace(one, seq=seq)
            self.entries.append(kept)
            self.state = fold(self.state, kept)
        return self.state

    def after(self, seq: int, limit: int) -> list[Entry]:
        """Entries behind a number, oldest first."""
        return [one for one in self.entries if one.seq > seq][:limit]


def _append(connection: sqlite3.Connection, one: Entry) -> int:
    row = connection.execute(
        "INSERT INTO entry (at, what, body) VALUES (?, ?, ?)",
        (one.at, one.what, msgspec.json.encode(one).decode()),
    )
    return int(row.lastrowid or 0)


def words(services: Iterable[str]) -> str:
    """`record (ehr-a), laboratory (lis)`."""
    return ", ".join(
        f"{OF_SERVICE[name].words} ({name})" if name in OF_SERVICE else name for name in services
    )
