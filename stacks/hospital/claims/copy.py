"""Claims about the read-only copy: recent, complete, and never taken for the live record.

They refuse to believe the copy's own word: its as-of time is checked against who is in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chaos.claims.evidence import (
    cited,
    count,
    fault_spans,
    human,
    inside,
    lowered,
    percent,
    seconds,
    together,
)
from chaos.journal.events import Sample
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.journal.spans import Seen
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict

COPY = "ro-copy"
RECORD = ("ehr-db-a", "ehr-db-b")
AGE_S = 900.0
EQUAL_SHARE = 0.995
LOOK_BEFORE_S = 10.0
"""The copy's age is looked at every second; an older look says nothing about the fault."""
MARKERS_MIN = 10


@dataclass(frozen=True)
class CopyRecent:
    """RA-2. When a fault begins the copy is at most 15 min old (human bound, scaled), it holds
    100 % of the inpatients who were known to the record before its as-of time, it is never silent
    for longer than those 15 min while faults last (a copy that nobody can read grows old, too),
    and at least 99.5 % of its records equal the record's at the final read. Not for faults that
    take the copy itself away on purpose. Minimum evidence: 10 looks at the census (the catalogue
    says all; 10 looks at all of them). Source: G (SAFER)."""

    need: Need = field(default=Need.full(10))
    id: str = "RA-2"
    statement: str = "The read-only copy is recent and complete."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        parts = [
            self._census(history), self._age(history), self._there(history),
            self._content(history),
        ]  # fmt: skip
        return together(self.id, self.statement, parts)

    def _there(self, history: History) -> Verdict:
        """Whether it answered during the faults; a watcher that never saw it knows nothing."""
        bound = AGE_S / history.speed
        spans = fault_spans(history)
        longest, silent = 0.0, []
        run: list[Seen[Sample]] = []
        seen_before = False
        for look in history.samples.get("copy.asof", ()):
            if look.event.ok or not inside(look.event.t, spans):
                seen_before |= look.event.ok
                run = []
                continue
            run.append(look)
            lasted = run[-1].event.t - run[0].event.t
            if lasted > longest:
                longest, silent = lasted, list(run)
        allowed = human(AGE_S, history)
        if seen_before and longest > bound:
            reason = (
                f"The copy answered nobody for {seconds(longest)} (real) while the fault lasted; "
                f"{allowed} allowed."
            )
            return self._part(Finding.BROKEN, reason, 1, 1, cited(history, silent))
        reason = f"It was never silent for longer than {seconds(longest)} (real) during faults."
        return self._part(Finding.HELD, reason, 1, 1, ())

    def _age(self, history: History) -> Verdict:
        looks = history.samples.get("copy.asof", ())
        bound = AGE_S / history.speed
        ages: list[tuple[float, Seen[Sample]]] = []
        blind, old, future = 0, [], []
        for fault in history.injections:
            before = [
                s for s in looks
                if s.event.ok and fault.began - LOOK_BEFORE_S <= s.event.t <= fault.began
            ]  # fmt: skip
            if not before:
                blind += 1
                continue
            last = before[-1]
            ages.append((fault.began - last.event.value, last))
            old += [last] if ages[-1][0] > bound else []
            future += [last] if last.event.value > last.event.t + 1.0 else []
        worst = max((age for age, _ in ages), default=0.0)
        allowed = human(AGE_S, history)
        finding, reason = (
            Finding.HELD,
            (f"The copy was {seconds(worst)} old (real) when the fault began; {allowed} allowed."),
        )
        if old or future:
            finding = Finding.BROKEN
            if future and not old:
                reason = "The copy's as-of time lies in the future: it is not true."
        elif blind or not ages:
            finding, reason = Finding.INCONCLUSIVE, "Nobody saw the copy's age before the fault."
        lines = cited(history, old, future, [s for _, s in ages])
        return self._part(finding, reason, len(ages), 1, lines)

    def _census(self, history: History) -> Verdict:
        looks = [s for s in history.samples.get("copy.census", ()) if s.event.ok]
        short = [s for s in looks if s.event.value < 1.0]
        finding, reason = (
            Finding.HELD,
            (f"All inpatients were in the copy at each of {count(len(looks), 'look')}."),
        )
        if short:
            worst = min(short, key=lambda s: s.event.value)
            finding, reason = (
                Finding.BROKEN,
                (
                    f"Inpatients were missing from the copy at {count(len(short), 'look')} of "
                    f"{len(looks):,}; at worst it held {percent(worst.event.value)} "
                    f"({worst.event.text or 'nobody named'})."
                ),
            )
        elif len(looks) < self.need.asked:
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    f"Only {count(len(looks), 'look')} at who is in the copy; "
                    f"{self.need.asked} are "
                    "needed."
                ),
            )
        lines = cited(history, short, looks[:1], looks[-1:])
        return self._part(finding, reason + lowered(self.need), len(looks), self.need.asked, lines)

    def _content(self, history: History) -> Verdict:
        copy = history.stores.get(COPY)
        record = next(
            (s for n in RECORD if (s := history.stores.get(n)) is not None and s.complete), None
        )
        if copy is None or not copy.complete or record is None:
            absent = COPY if copy is None or not copy.complete else "the record's database"
            reason = f"{absent} was not read to its end after the run."
            return self._part(Finding.INCONCLUSIVE, reason, 0, 1, ())
        drained = history.drained
        settled = (
            drained is not None and drained.event.ok
            and copy.read_from >= drained.event.t + AGE_S / history.speed
        )  # fmt: skip
        equal, differ = 0, []
        for kind, shelf in copy.shelves.items():
            for row in shelf:
                origin = record.shelf(kind).get(row.key)
                if origin is None or _alike(row, origin):
                    equal += origin is not None
                    # A copy must not invent records either.
                    differ += [row] if origin is None and kind in record.shelves else []
                elif settled or row.version >= origin.version:
                    differ.append(row)
        n = equal + len(differ)
        share = equal / n if n else 0.0
        told = f"{equal:,} of {count(n, 'record')} in the copy equal the record ({percent(share)})"
        if not n:
            return self._part(Finding.INCONCLUSIVE, "The copy held nothing to compare.", 0, 1, ())
        if len(differ) > (1 - EQUAL_SHARE) * n:
            reason = f"{told}; {percent(EQUAL_SHARE)} is the least."
            return self._part(Finding.BROKEN, reason, n, 1, cited(history, differ))
        return self._part(Finding.HELD, f"{told}.", n, 1, cited(history, differ))

    def _part(
        self, finding: Finding, reason: str, evidence: int, needed: int, lines: tuple[str, ...]
    ) -> Verdict:
        return Verdict(self.id, self.statement, finding, reason, evidence, needed, lines)


def _alike(one: Stored, other: Stored) -> bool:
    return (one.subject, one.status, one.digest) == (other.subject, other.status, other.digest)


@dataclass(frozen=True)
class CopyMarked:
    """RA-3. Every answer of the copy carries READ-ONLY and its as-of time, and every attempt to
    write into it is refused with a reason; none is accepted or dropped (INV). Minimum evidence:
    50 write attempts that the copy answered. Source: G (SAFER)."""

    need: Need = field(default=Need.full(50))
    id: str = "RA-3"
    statement: str = "Nobody can mistake the read-only copy for the live record."
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        marks = history.samples.get("copy.marker", ())
        bare = [s for s in marks if not s.event.ok]
        writes = list(history.ops("copy.write"))
        accepted = [op for op in writes if op.ok]
        answered = [op for op in writes if op.outcome is Outcome.REFUSED and op.via == COPY]
        mute = [op for op in answered if not op.reason.strip()]
        refused = [op for op in answered if op.reason.strip()]
        stored = self._stored(history, writes)
        finding, reason = (
            Finding.HELD,
            (
                f"All {count(len(refused), 'attempt')} to write into the copy were refused with a "
                f"reason; all {count(len(marks), 'answer')} carried READ-ONLY and the as-of time."
            ),
        )
        broken = [
            f"{count(len(items), one)} {what}" for items, one, what in (
                (accepted, "attempt", "to write into the copy seemed to have worked."),
                (mute, "refusal", "by the copy gave no reason."),
                (stored, "write", "made to the copy and found in a store."),
                (bare, "answer", "of the copy lacked READ-ONLY or the as-of time."),
            ) if items
        ]  # fmt: skip
        if broken:
            finding, reason = Finding.BROKEN, " ".join(broken)
        elif len(refused) < self.need.asked or len(marks) < min(MARKERS_MIN, self.need.asked):
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    f"Only {count(len(refused), 'attempt')} to write were answered by the copy "
                    f"({self.need.asked} needed) and {count(len(marks), 'answer')} looked at."
                ),
            )
        lines = cited(history, accepted, mute, stored, bare, refused[:2], marks[:1])
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), len(refused),
            self.need.asked, lines,
        )  # fmt: skip

    @staticmethod
    def _stored(history: History, writes: list[Op]) -> list[Stored]:
        found = []
        for op in writes:
            for store in history.stores.values():
                for shelf in store.shelves.values():
                    row = shelf.get(op.key) if op.key else None
                    if row is not None:
                        found.append(row)
        return found
