"""Puts the journal's events together: invocations with their endings, records with their stores.

It drops no contradiction: two endings, an ending without a beginning or a clock that runs
backwards are defects of the journal.
"""

from __future__ import annotations

from collections import defaultdict
from math import inf
from sys import intern

from chaos.journal import events as ev
from chaos.journal.lines import Condition
from chaos.journal.ops import Op, Outcome
from chaos.journal.stores import Store, Stored

BACKWARDS_S = 30.0
"""Lines of one file may be out of order by a thread's hesitation, never by more than this."""
AHEAD_S = 5.0
"""An operation's intended start may come from another clock; it is never this much too late."""
FILE_SHIFT = 32
"""A place is `file number << FILE_SHIFT | line number`."""

Ending = ev.OpOk | ev.OpRefused | ev.OpUnknown
ENDINGS = (ev.OpOk, ev.OpRefused, ev.OpUnknown)
OK, REFUSED, UNKNOWN = Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN


class Ledger:
    """Takes the events of all files, one file after the other; `close` when all were taken."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.ops: dict[str, list[Op]] = defaultdict(list)
        self.rare: list[tuple[float, int, ev.Event]] = []
        self.samples: dict[str, list[tuple[float, int, ev.Sample]]] = defaultdict(list)
        self.sheds: list[tuple[float, int, ev.Shed]] = []
        self.stores: dict[str, Store] = {}
        self.start = inf
        self.end = -inf
        self.seconds: set[int] = set()
        self._texts: dict[str, str] = {}
        self._begun: dict[str, tuple[ev.OpInvoked, int] | None] = {}  # None: it has ended
        self._early: dict[str, tuple[Ending, int]] = {}
        self._unsealed: dict[str, list[Stored]] = defaultdict(list)
        self._read_from: dict[str, float] = {}
        self._name = ""
        self._latest = -inf
        self._second = -1

    def begin_file(self, name: str) -> None:
        """The next events come from this file."""
        self._name = name
        self._latest = -inf

    def end_file(self) -> None:
        """Records that no `store.read` closed are a read that did not come to its end."""
        for store, records in self._unsealed.items():
            began = self._read_from.get(store, 0.0)
            self._seal(Store(store, False, records, began, "its read did not end"))
        self._unsealed.clear()
        self._read_from.clear()

    def take(self, place: int, batch: list[ev.AnyEvent]) -> None:
        """Consecutive events; `place` is that of the first."""
        texts, begun = self._texts, self._begun
        latest, start, second = self._latest, self.start, self._second
        for event in batch:
            t = event.t
            if t > latest:
                latest = t
            elif t < latest - BACKWARDS_S:
                self.condition.defect(
                    f"{self._at(place)}: the clock ran back by {latest - t:.0f} s"
                )
            if t < start:
                start = t
            if not second <= t < second + 1:
                second = int(t)
                self.seconds.add(second)
            if isinstance(event, ev.OpInvoked):
                name = event.op
                if name not in begun and not self._early:  # as nearly always
                    begun[name] = (event, place)
                else:
                    self._invoked(event, place)
            elif isinstance(event, ENDINGS):
                open_ = begun.get(event.op)
                if open_ is not None:
                    begun[event.op] = None
                    self._add(open_[0], open_[1], event, place)
                else:
                    self._ended_first(event, place)
            elif isinstance(event, ev.Record):
                share = texts.setdefault
                row = Stored(
                    intern(event.store),
                    intern(event.kind),
                    share(event.key, event.key),
                    intern(event.subject),
                    intern(event.status),
                    event.version,
                    share(event.digest, event.digest),
                    event.count, event.at, place,
                )  # fmt: skip
                self._unsealed[row.store].append(row)
                if row.store not in self._read_from:
                    self._read_from[row.store] = t
            elif isinstance(event, ev.Sample):
                self.samples[event.what].append((t, place, event))
            elif isinstance(event, ev.Shed):
                self.sheds.append((t, place, event))
            else:
                if isinstance(event, ev.StoreRead):
                    self._store_read(event, place)
                self.rare.append((t, place, event))
            place += 1
        self._latest, self.start, self._second = latest, start, second
        self.end = max(self.end, latest)

    def close(self) -> None:
        """All files were taken: what was begun and never ended is unknown."""
        for open_ in self._begun.values():
            if open_ is not None:
                self._add(*open_, None, 0)
        for ending, place in self._early.values():
            self.condition.defect(f"{self._cite(place)}: ends {ending.op}, which never began")
        self._begun.clear()
        self._early.clear()
        self._texts.clear()

    # ------------------------------------------------------------ operations

    def _invoked(self, event: ev.OpInvoked, place: int) -> None:
        """A beginning whose ending was read already (another file), or a second beginning."""
        if event.op in self._begun:
            self.condition.defect(f"{self._at(place)}: operation {event.op} begins a second time")
            return
        early = self._early.pop(event.op, None)
        self._begun[event.op] = (event, place) if early is None else None
        if early is not None:
            self._add(event, place, *early)

    def _ended_first(self, event: Ending, place: int) -> None:
        """An ending whose beginning was not read yet (another file) or has ended already."""
        if event.op in self._begun or event.op in self._early:
            self.condition.defect(f"{self._at(place)}: operation {event.op} ends a second time")
        else:
            self._early[event.op] = (event, place)

    def _add(self, begun: ev.OpInvoked, place: int, ending: Ending | None, ended_at: int) -> None:
        share = self._texts.setdefault
        outcome, strength, subject, value, reason = UNKNOWN, "", "", "", "no ending"
        ended, via, attempts = inf, "", 1
        if ending is not None:
            ended, via, attempts = ending.t, ending.via, ending.attempts
            if isinstance(ending, ev.OpOk):
                outcome, reason = OK, ""
                strength, subject, value = ending.strength, ending.subject, ending.value
            elif isinstance(ending, ev.OpRefused):
                outcome, reason = REFUSED, ending.reason
            elif isinstance(ending, ev.OpUnknown):
                reason = ending.reason
            if ended < begun.t or ended < begun.intended - AHEAD_S:
                self.condition.defect(f"{self._at(ended_at)}: {begun.op} ends before it begins")
        kind = intern(begun.kind)
        self.ops[kind].append(
            # Texts of a small vocabulary are interned, the others shared with the records.
            Op(
                begun.op, kind, intern(begun.klass), share(begun.key, begun.key),
                intern(begun.subject), intern(begun.ward), intern(begun.target),
                share(begun.value, begun.value), begun.intended, begun.t, ended, outcome,
                intern(strength), intern(via), intern(subject), value and share(value, value),
                reason and share(reason, reason), attempts, place, ended_at,
            )
        )  # fmt: skip

    # ------------------------------------------------------------ stores

    def _store_read(self, event: ev.StoreRead, place: int) -> None:
        records = self._unsealed.pop(event.store, [])
        complete, reason = event.complete, event.reason
        if complete and event.records and event.records != len(records):
            complete = False
            reason = f"it held {event.records} records but {len(records)} lie in the journal"
        began = self._read_from.pop(event.store, None)
        self._seal(Store(event.store, complete, records, event.t, reason, place, began))

    def _seal(self, store: Store) -> None:
        """The last complete read of a store counts; an incomplete one only for want of that."""
        known = self.stores.get(store.name)
        better = known is None or (store.complete, store.read_at) >= (
            known.complete, known.read_at,
        )  # fmt: skip
        if better:
            self.stores[store.name] = store

    # ------------------------------------------------------------ places

    def _at(self, place: int) -> str:
        return f"{self._name}:{place & ((1 << FILE_SHIFT) - 1)}"

    def _cite(self, place: int) -> str:
        return f"file {place >> FILE_SHIFT}, line {place & ((1 << FILE_SHIFT) - 1)}"
