"""Told alike: after something was called off, every channel that people ask says so, soon.

It refuses to call agreement what nobody polled, and to accuse a channel of words that it may have
said before its time was over.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from chaos.claims.evidence import bounded, cited, clock_time, count, lowered, seconds, together
from chaos.journal.events import Sample
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.journal.spans import Seen
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict

LOOK_S = 1.0
"""A poll may have been answered so many real seconds before it was written down."""
POLL_FLOOR_S = 5.0
"""A poller that shares the machine with the system may pause for so many real seconds."""
MINUTE_S = 60.0


@dataclass(frozen=True)
class ToldAlike:
    """At most `within_s` human seconds (`floor_s` real seconds are always allowed) after an `off`
    operation was acknowledged, each of `channels` that knows its key says `right` of it; `unknown`
    is no word. Judged on `asked` operations (via = channel, answer value = word), on `words`
    samples (subject = channel, text = "key word", written when a word changed) between `polls` of
    the channel, and on the `kind` records of the channels and of `source` at the final read, where
    `states` of the source allow only some words for any key. Human `poll_s` is the longest time
    between two polls. Evidence: called-off keys that every channel was watched for."""

    id: str
    statement: str
    need: Need
    off: tuple[str, ...]
    source: str
    channels: Mapping[str, str]  # service → what people call it
    thing: str = "appointment"
    kind: str = "appointment"
    asked: str = "appointment.ask"
    words: str = "channel.word"
    polls: str = "channel.poll"
    right: str = "cancelled"
    unknown: str = "unknown"
    states: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within_s: float = 10 * MINUTE_S
    floor_s: float = 0.0
    poll_s: float = MINUTE_S
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        bound_s, words = bounded(self.within_s, self.floor_s, history)
        off: dict[str, Op] = {}
        for op in history.ops(*self.off):
            if op.ok and op.key and (op.key not in off or op.ended < off[op.key].ended):
                off[op.key] = op
        polls = _Polls(self, history, off, bound_s)
        calls = _Calls(self, history, off, bound_s)
        final = _Final(self, history, off, bound_s)
        watched = self._watched(history, polls, words)
        heard = self._heard(history, calls, words, watched)
        # Words said to a person count more than words that a machine saw.
        first = (heard, watched) if calls.late else (watched, heard)
        return together(self.id, self.statement, [*first, final.verdict(history)])

    def part(
        self, finding: Finding, reason: str, evidence: int, needed: int, lines: tuple[str, ...]
    ) -> Verdict:
        """One part of the verdict."""
        return Verdict(self.id, self.statement, finding, reason, evidence, needed, lines)

    def name(self, channel: str) -> str:
        """`the call centre (callcentre)`."""
        words = self.channels.get(channel, "")
        return f"{words} ({channel})" if words else channel

    def when(self, history: History, said: float, op: Op) -> str:
        """Both instants and what lies between them."""
        later = seconds(said - op.ended)
        return (
            f"at {clock_time(history, said)}, {later} after it was called off at "
            f"{clock_time(history, op.ended)}"
        )

    def _heard(self, history: History, calls: _Calls, words: str, watched: Verdict) -> Verdict:
        evidence = (watched.evidence, watched.needed)
        early = f", {len(calls.early):,} of them still the old word within the time allowed"
        if calls.late:
            op, first = calls.late[0]
            by = sorted({one.via for one, _ in calls.late})
            reason = (
                f"{self.name(op.via)} said `{op.answer_value}` of {self.thing} {op.key} to "
                f"somebody who asked {self.when(history, op.ended, first)}; {words} allowed. "
                f"{len(calls.late):,} of {count(calls.n, 'answer')} about what was called off "
                f"were wrong after that time, from {', '.join(by)}{early if calls.early else ''}."
            )
            lines = cited(history, [o for pair in calls.late[:10] for o in pair])
            return self.part(Finding.BROKEN, reason, *evidence, lines)
        reason = (
            f"{count(calls.n, 'answer')} to those who asked about them"
            f"{early if calls.early else ''}, none wrong later."
        )
        return self.part(Finding.HELD, reason, *evidence, cited(history, calls.early[:3]))

    def _watched(self, history: History, polls: _Polls, words: str) -> Verdict:
        n = len(polls.watched & polls.known)
        finding, reason = (
            Finding.HELD,
            (
                f"After {count(n, self.thing)} called off every channel that knew of them "
                f"({', '.join(polls.channels)}) said `{self.right}` within {words}; the slowest "
                f"took {seconds(polls.slowest)} (real)."
            ),
        )
        lines = cited(history, polls.some)
        if polls.late:
            channel, op, look, said = min(polls.late, key=lambda one: one[3])
            by = sorted({one[0] for one in polls.late})
            finding = Finding.BROKEN
            reason = (
                f"Polls show {self.name(channel)} still saying `{look.event.text.split(' ')[-1]}` "
                f"of {self.thing} {op.key} {self.when(history, said, op)}; {words} allowed. So did "
                f"{', '.join(by)} of {count(len({o.key for _, o, _, _ in polls.late}), self.thing)}"
                f" out of {len(polls.off):,} called off."
            )
            lines = cited(history, [one for _, o, s, _ in polls.late[:10] for one in (s, o)])
        elif polls.unsure:
            finding, reason = Finding.INCONCLUSIVE, " ".join(polls.unsure)
        elif n < self.need.asked:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"Only {count(n, self.thing)} called off and watched for {words} after it; "
                f"{self.need.asked:,} are needed."
            )
        return self.part(finding, reason + lowered(self.need), n, self.need.asked, lines)


class _Calls:
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


class _Polls:
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


class _Final:
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
