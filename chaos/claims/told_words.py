"""Who said what, and when somebody looked: the evidence that ToldAlike weighs.

It refuses to accuse a channel of words that it may have said before its time was over.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from chaos.claims.evidence import cited, clock_time, count, seconds
from chaos.journal.events import Sample
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.journal.spans import Seen
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Verdict

if TYPE_CHECKING:
    from chaos.claims.told import ToldAlike

LOOK_S = 1.0
"""A poll may have been answered so many real seconds before it was written down."""
POLL_FLOOR_S = 5.0
"""A poller that shares the machine with the system may pause for so many real seconds."""


class Calls:
    """What people were answered after the thing was called off."""

    def __init__(
        self, claim: ToldAlike, history: History, off: Mapping[str, Op], bound_s: float
    ) -> None:
        self.n = 0
        self.late: list[tuple[Op, Op]] = []
        self.early: list[Op] = []
        for op in history.ops(claim.asked):
            first = off.get(op.key)
            if first is None or not op.ok or op.via not in claim.channels:
                continue
            if op.ended < first.ended:
                continue
            self.n += 1
            if op.answer_value in (claim.right, claim.unknown, ""):
                continue
            if op.invoked > first.ended + bound_s:
                self.late.append((op, first))
            else:
                self.early.append(op)
        self.late.sort(key=lambda pair: pair[0].ended)


class Polls:
    """What the channels said at every moment, as far as somebody looked."""

    def __init__(
        self, claim: ToldAlike, history: History, off: Mapping[str, Op], bound_s: float
    ) -> None:
        self.claim, self.off = claim, off
        self.late: list[tuple[str, Op, Seen[Sample], float]] = []
        self.unsure: list[str] = []
        self.slowest = 0.0
        self.some: list[Seen[Sample]] = []
        self.known: set[str] = set()  # keys that some channel said something of
        self.channels = tuple(claim.channels)
        looks: dict[str, list[Seen[Sample]]] = {name: [] for name in self.channels}
        for look in history.samples.get(claim.polls, ()):
            if look.event.subject in looks:
                looks[look.event.subject].append(look)
        end = max((s[-1].event.t for s in looks.values() if s), default=history.start)
        self.watched = {k for k, op in off.items() if op.ended + bound_s + LOOK_S <= end}
        begin = min((off[key].ended for key in self.watched), default=inf)
        said = self._words(history)
        for name in self.channels:
            if off:
                self._gaps(history, name, looks[name], begin, end)
            answered = [look.event.t for look in looks[name] if look.event.ok]
            self._channel(name, said[name], answered, bound_s)

    def _words(self, history: History) -> dict[str, dict[str, list[Seen[Sample]]]]:
        """channel → key → changes of its word, in order; only of what was called off."""
        found: dict[str, dict[str, list[Seen[Sample]]]] = defaultdict(lambda: defaultdict(list))
        for look in history.samples.get(self.claim.words, ()):
            key = look.event.text.rpartition(" ")[0]
            if look.event.ok and key in self.off:
                found[look.event.subject][key].append(look)
        return found

    def _gaps(
        self, history: History, name: str, looks: list[Seen[Sample]], begin: float, end: float
    ) -> None:
        limit = max(POLL_FLOOR_S, self.claim.poll_s / history.speed)
        times = [begin, *(s.event.t for s in looks if begin < s.event.t < end), end]
        gap = max((b - a for a, b in pairwise(times)), default=0.0)
        if not looks:
            self.unsure.append(f"Nobody polled {self.claim.name(name)}.")
        elif gap > limit and begin < end:
            self.unsure.append(
                f"{self.claim.name(name)} was not polled for {seconds(gap)}; {seconds(limit)} is "
                "the most."
            )

    def _channel(
        self, name: str, said: dict[str, list[Seen[Sample]]], answered: list[float], bound_s: float
    ) -> None:
        claim = self.claim
        known: set[str] = set()
        open_ = 0
        for key, changes in said.items():
            op = self.off[key]
            deadline = op.ended + bound_s + LOOK_S
            words = [one.event.text.rpartition(" ")[2] for one in changes]
            if any(word != claim.unknown for word in words):
                known.add(key)
            for i, (look, word) in enumerate(zip(changes, words, strict=True)):
                until = changes[i + 1].event.t if i + 1 < len(changes) else inf
                if word == claim.right and look.event.t >= op.ended:
                    self.slowest = max(self.slowest, look.event.t - op.ended)
                    self.some += [look] if len(self.some) < 2 else []
                if word in (claim.right, claim.unknown) or until <= deadline:
                    continue
                heard = _heard(answered, max(deadline, look.event.t), until)
                if look.event.t > deadline:
                    heard = look.event.t
                if heard is not None:
                    self.late.append((name, op, look, heard))
                elif until == inf and key in self.watched:
                    open_ += 1
        self.known |= known
        if self.watched and not known & self.watched:
            self.unsure.append(f"{claim.name(name)} knew none of what was called off.")
        if open_:
            self.unsure.append(
                f"{claim.name(name)} did not answer any more and had not said `{claim.right}` of "
                f"{count(open_, claim.thing)}."
            )


def _heard(answered: list[float], after: float, until: float) -> float | None:
    """The first poll surely between two instants: the change at `until` and the poll that saw it
    are written in any order."""
    index = bisect_right(answered, after)
    return answered[index] if index < bisect_left(answered, until - LOOK_S / 4) else None


class Final:
    """What lies in the source and the channels in the end."""

    def __init__(
        self, claim: ToldAlike, history: History, off: Mapping[str, Op], bound_s: float
    ) -> None:
        self.claim, self._bound_s = claim, bound_s
        self.compared = 0
        self.wrong: list[tuple[Stored, Op]] = []
        self.apart: list[tuple[Stored, Stored]] = []
        names = (claim.source, *claim.channels)
        self.unread = [n for n in names if n not in history.stores
                       or not history.stores[n].complete]  # fmt: skip
        drained = history.drained
        self._still = drained.event.t if drained and drained.event.ok else inf
        for name in names:
            store = history.stores.get(name)
            for key, op in off.items() if store else ():
                row = store.shelf(claim.kind).get(key) if store else None
                if row is None or store is None or store.read_from <= op.ended + bound_s:
                    continue
                self.compared += 1
                if row.status not in (claim.right, claim.unknown):
                    self.wrong.append((row, op))
        self._agree(history)

    def _agree(self, history: History) -> None:
        """Whether every channel says what the source's state allows, of anything at all."""
        source = history.stores.get(self.claim.source)
        for name in self.claim.channels if source else ():
            store = history.stores.get(name)
            for row in store.shelf(self.claim.kind) if store and source else ():
                origin = source.shelf(self.claim.kind).get(row.key) if source else None
                allowed = self.claim.states.get(origin.status) if origin else None
                if origin is None or allowed is None or store is None:
                    continue
                settled = 0 < origin.at < store.read_from - self._bound_s
                if not settled and store.read_from < self._still:
                    continue
                self.compared += 1
                if row.status not in (*allowed, self.claim.unknown):
                    self.apart.append((row, origin))

    def verdict(self, history: History) -> Verdict:
        """The part of the claim that the final read can show."""
        claim = self.claim
        finding = Finding.HELD
        reason = f"In the end the channels agree with {claim.source} ({self.compared:,} looks)."
        lines: tuple[str, ...] = ()
        if self.wrong:
            row, op = self.wrong[0]
            finding = Finding.BROKEN
            reason = (
                f"In the end {claim.name(row.store)} has {claim.thing} {row.key} as "
                f"`{row.status}`, called off at {clock_time(history, op.ended)} "
                f"({count(len(self.wrong), 'such record')})."
            )
            lines = cited(history, [one for pair in self.wrong[:10] for one in pair])
        elif self.apart:
            row, origin = self.apart[0]
            finding = Finding.BROKEN
            reason = (
                f"In the end {claim.name(row.store)} says `{row.status}` of {claim.thing} "
                f"{row.key}, which is `{origin.status}` in {origin.store} "
                f"({count(len(self.apart), 'such record')})."
            )
            lines = cited(history, [one for pair in self.apart[:10] for one in pair])
        elif self.unread:
            finding = Finding.INCONCLUSIVE
            reason = f"Not read to the end after the run: {', '.join(self.unread)}."
        return claim.part(finding, reason, self.compared, 0, lines)
