"""Told alike: after something was called off, every channel that people ask says so, soon.

It refuses to call agreement what nobody polled, and to accuse a channel of words that it may have
said before its time was over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.claims.evidence import bounded, cited, clock_time, count, lowered, seconds, together
from chaos.claims.told_words import LOOK_S, Calls, Final, Polls
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.verdict import Finding, Need, Verdict

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
        polls = Polls(self, history, off, bound_s)
        calls = Calls(self, history, off, bound_s)
        final = Final(self, history, off, bound_s)
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

    def _heard(self, history: History, calls: Calls, words: str, watched: Verdict) -> Verdict:
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

    def _watched(self, history: History, polls: Polls, words: str) -> Verdict:
        n = len(polls.watched & polls.known)
        finding, reason = (
            Finding.HELD,
            (
                f"After {count(n, self.thing)} called off every channel that knew of them "
                f"({', '.join(polls.channels)}) said `{self.right}` within {words} and the "
                f"{LOOK_S:g} s that may lie between two looks; the slowest was seen after "
                f"{seconds(polls.slowest)} (real)."
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
