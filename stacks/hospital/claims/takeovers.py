"""Which database node took over when, as its own commits show, and what was lost with it.

It judges nothing. Nobody's word counts: a takeover is a commit on a younger timeline, a loss is an
acknowledged write that the record does not have in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from stacks.hospital.claims.places import DATABASES, HOMES

WRITABLE = "db.writable"
ALL_CLEAR = "ask-all-clear"
"""What an operator does who asks whether all is clear (stacks/hospital/traffic/consoles.py)."""


@dataclass(frozen=True, slots=True)
class TookOver:
    """A node's first commit on a new timeline; `after` is when the one before it was last seen to
    commit."""

    node: str
    at: float
    after: float
    place: int


def takeovers(history: History) -> list[TookOver]:
    """In order; the first timeline of all is none."""
    found: list[TookOver] = []
    newest, last = 0, -inf
    for look in history.samples.get(WRITABLE, ()):
        one = look.event
        if not one.ok or not one.text.isdecimal() or one.subject not in DATABASES:
            continue
        if int(one.text) > newest:
            if newest:
                found.append(TookOver(one.subject, one.t, last, look.place))
            newest = int(one.text)
        last = one.t
    return found


def lost_writes(history: History) -> list[Op] | None:
    """Acknowledged writes to the record itself that are not in it in the end; None when no node
    was read to its end."""
    whole = [
        store for name in DATABASES
        if (store := history.stores.get(name)) is not None and store.complete
    ]  # fmt: skip
    if not whole:
        return None
    store = whole[0]
    return [
        op
        for kind, homes in HOMES.items()
        for home in homes
        if home.store == DATABASES[0] and not home.backlog
        for op in history.ops(kind)
        if op.ok and op.key and op.ended < store.read_from
        and store.shelf(home.kind).get(op.key) is None
    ]  # fmt: skip


def told_clear(history: History) -> list[Op]:
    """Questions whether all is clear that were answered with yes."""
    return [op for op in history.ops("operator.act") if op.value == ALL_CLEAR and op.ok]


def refused_clear(history: History) -> list[Op]:
    """Questions whether all is clear that were answered with no."""
    return [
        op for op in history.ops("operator.act")
        if op.value == ALL_CLEAR and op.outcome is Outcome.REFUSED
    ]  # fmt: skip
