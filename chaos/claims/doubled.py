"""Nothing is stored twice, nothing older stands over something newer, nothing arrives out of order.

It refuses to call a store clean that was not read to its end, and a loss a regression.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from chaos.claims.evidence import cited, count, fault_spans, lowered, seconds
from chaos.journal.events import Sample
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.journal.spans import Seen
from chaos.journal.stores import Store, Stored
from chaos.verdict import Finding, Need, Verdict


def unread(history: History, stores: tuple[str, ...]) -> list[str]:
    """Those of the stores that were not read to their end after the run."""
    return [n for n in stores if n not in history.stores or not history.stores[n].complete]


@dataclass(frozen=True)
class NoDoubles:
    """No business key lies twice in any store but those of work (`queues`, which owe the same
    thing to several receivers). Evidence: records looked at."""

    id: str
    statement: str
    need: Need
    stores: tuple[str, ...]
    queues: tuple[str, ...] = ()
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        looked, doubled, some = 0, [], []
        for name, store in sorted(history.stores.items()):
            for shelf in () if name in self.queues else store.shelves.values():
                looked += len(shelf)
                for key in shelf.doubled():
                    doubled.append(shelf.rows(key)[-1])
                some += [row for row, _ in zip(shelf, range(1), strict=False)]
        missing = unread(history, self.stores)
        drained = history.drained
        if doubled:
            one = doubled[0]
            finding, reason = (
                Finding.BROKEN,
                (
                    f"{count(len(doubled), 'record')} stored more than once: "
                    f"{one.kind} {one.key} in "
                    f"{one.store}."
                ),
            )
        elif missing:
            finding = Finding.INCONCLUSIVE
            reason = f"Not read to the end after the run: {', '.join(missing)}."
        elif drained is None or not drained.event.ok:
            finding = Finding.INCONCLUSIVE
            why = f" ({drained.event.reason})" if drained else ""
            reason = f"The backlogs were not seen empty{why}: second copies may still come."
        elif looked < self.need.asked:
            finding = Finding.INCONCLUSIVE
            reason = f"Only {count(looked, 'record')} found; {self.need.asked:,} are needed."
        else:
            finding, reason = Finding.HELD, f"None of {count(looked, 'record')} lies twice."
        lines = cited(history, doubled, some)
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), looked,
            self.need.asked, lines,
        )  # fmt: skip


@dataclass(frozen=True)
class NoRegression:
    """No older state stands over a newer one. `source` has the newest state of each key;
    `ranks` orders the states, and a store that keeps to them stores at most `rank` versions up
    to that state: a lower state with more versions was written over a higher one. (A lower state
    without that trace is a newer one that never came: a loss, see WritesKept.)"""

    id: str
    statement: str
    kind: str
    source: str
    stores: tuple[str, ...]
    ranks: Mapping[str, int]
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        source = history.stores.get(self.source)
        over: list[tuple[Stored, Stored]] = []
        mute: list[Stored] = []
        compared = 0
        for name in self.stores:
            store = history.stores.get(name)
            if source is None or store is None:
                continue
            for newest in source.shelf(self.kind):
                for row in store.shelf(self.kind).rows(newest.key):
                    compared += 1
                    self._compare(newest, row, over, mute)
        missing = unread(history, (self.source, *self.stores))
        finding, reason = (
            Finding.HELD,
            (
                f"In none of {count(compared, 'comparison')} an older {self.kind} "
                "stands over a newer."
            ),
        )
        if over:
            row, newest = over[0]
            finding, reason = (
                Finding.BROKEN,
                (
                    f"{count(len(over), self.kind)} fell back to an older state: {row.key} is "
                    f"`{row.status}` in {row.store} (version {row.version}) "
                    f"although {newest.store} "
                    f"has it `{newest.status}`."
                ),
            )
        elif missing:
            finding = Finding.INCONCLUSIVE
            reason = f"Not read to the end after the run: {', '.join(missing)}."
        elif mute:
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    f"{count(len(mute), self.kind)} are older than in {self.source}, and the store "
                    "does not say whether they were overwritten or the newer ones never came."
                ),
            )
        elif not compared:
            finding, reason = Finding.INCONCLUSIVE, f"No {self.kind} could be compared."
        lines = cited(history, [r for pair in over[:10] for r in pair], mute)
        return Verdict(self.id, self.statement, finding, reason, compared, 1, lines)

    def _compare(
        self, newest: Stored, row: Stored, over: list[tuple[Stored, Stored]], mute: list[Stored]
    ) -> None:
        rank, best = self.ranks.get(row.status, 0), self.ranks.get(newest.status, 0)
        if rank >= best:
            return
        if row.version <= 0:
            mute.append(row)
        elif row.version > rank:
            over.append((row, newest))


@dataclass(frozen=True)
class InOrder:
    """What was acknowledged clearly earlier arrives no later: of two writes of which one was
    acknowledged `slack_s` real seconds before the other began, the store takes the first first."""

    id: str
    statement: str
    kind: str  # of operations
    store: str
    record_kind: str
    slack_s: float = 2.0
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        store = history.stores.get(self.store)
        arrived = [] if store is None else _arrivals(history, self.kind, store, self.record_kind)
        late = _overtaken(arrived, self.slack_s)
        finding, reason = (
            Finding.HELD,
            (
                f"{count(len(arrived), 'write')} arrived in {self.store} in the "
                "order of their making."
            ),
        )
        if late:
            first, second = late[0]
            finding, reason = (
                Finding.BROKEN,
                (
                    f"{count(len(late), 'write')} overtaken by later ones on the "
                    f"way to {self.store}: "
                    f"{second.key}, made {seconds(second.invoked - first.ended)} "
                    f"after {first.key} was "
                    "acknowledged, arrived before it."
                ),
            )
        elif store is None or not store.complete:
            finding, reason = Finding.INCONCLUSIVE, f"{self.store} was not read to its end."
        elif len(arrived) < 2:
            finding = Finding.INCONCLUSIVE
            reason = f"{self.store} does not say when writes arrived."
        lines = cited(history, [op for pair in late[:10] for op in pair])
        return Verdict(self.id, self.statement, finding, reason, len(arrived), 2, lines)


def _arrivals(
    history: History, kind: str, store: Store, record_kind: str
) -> list[tuple[Op, float]]:
    shelf = store.shelf(record_kind)
    found = []
    for op in history.ops(kind):
        row = shelf.get(op.key) if op.ok and op.key else None
        if row is not None and row.at > 0:
            found.append((op, row.at))
    return found


def _overtaken(arrived: list[tuple[Op, float]], slack_s: float) -> list[tuple[Op, Op]]:
    """Pairs (earlier, later) where the later write arrived strictly first."""
    later = sorted(arrived, key=lambda entry: entry[0].invoked)
    begins = [op.invoked for op, _ in later]
    soonest: list[tuple[float, Op]] = []  # of later[i:], filled from the end
    best: tuple[float, Op] | None = None
    for op, at in reversed(later):
        if best is None or at < best[0]:
            best = (at, op)
        soonest.append(best)
    soonest.reverse()
    pairs = []
    for op, at in arrived:
        index = bisect_right(begins, op.ended + slack_s)
        if index < len(soonest) and soonest[index][0] < at:
            pairs.append((op, soonest[index][1]))
    return pairs


@dataclass(frozen=True)
class DrainedInTime:
    """After the last fault the backlogs are empty within `share` of the outage (real seconds),
    and not later than `most_s` human seconds; `floor_s` real seconds are always allowed, because
    retries pause between attempts, and because a short outage in compressed time leaves as much
    work as a long one, done by a machine that is not compressed. Judged on the `queue.depth`
    samples, calm being what the warm-up showed, else on the `drained` look."""

    id: str
    statement: str
    share: float = 0.5
    most_s: float = 4 * 3600.0
    floor_s: float = 30.0
    sample: str = "queue.depth"
    calm_depth: float = 5.0
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        spans = fault_spans(history)
        if not spans:
            return self._verdict(Finding.INCONCLUSIVE, "There was no outage to recover from.", 0)
        over = max((f.healed for f in history.injections if f.healed < inf), default=spans[-1][1])
        outage_s = sum(end - start for start, end in spans)
        allowed = max(self.floor_s, min(self.share * outage_s, self.most_s))
        calm, busy = self._looks(history, over)
        drained = history.drained
        empty = calm.event.t if calm else inf
        if drained is not None and drained.event.ok:
            empty = min(empty, drained.event.t)
        still = busy.event.t if busy else over
        if drained is not None and not drained.event.ok:
            still = max(still, drained.event.t)
        lines = cited(history, [s for s in (calm, busy) if s], [drained] if drained else [])
        told = f"{seconds(allowed)} allowed after an outage of {seconds(outage_s)}"
        if empty - over <= allowed:
            took = seconds(max(0.0, empty - over))
            seen = drained is None or drained.event.ok
            what = "Backlogs empty" if seen else "Queues as short as before"
            return self._verdict(Finding.HELD, f"{what} after {took} ({told}).", 1, lines)
        if still - over > allowed:
            why = drained.event.reason if drained and not drained.event.ok else "see the queues"
            reason = f"Backlogs not empty {seconds(still - over)} after the outage ({told}): {why}."
            return self._verdict(Finding.BROKEN, reason, 1, lines)
        reason = "Nobody looked at the backlogs soon enough to know when they were empty."
        return self._verdict(Finding.INCONCLUSIVE, reason, 0, lines)

    def _looks(
        self, history: History, over: float
    ) -> tuple[Seen[Sample] | None, Seen[Sample] | None]:
        """After the outage: the first look by which every queue was calm again, and the last
        before it that was not."""
        first = min((f.began for f in history.injections), default=inf)
        usual: dict[str, float] = {}
        busy: dict[str, bool] = {}
        last: Seen[Sample] | None = None
        for one in history.samples.get(self.sample, ()):
            name, depth = one.event.subject, one.event.value
            if not one.event.ok:
                continue
            if one.event.t < first:
                usual[name] = max(usual.get(name, self.calm_depth), depth)
            elif one.event.t >= over:
                busy[name] = depth > usual.get(name, self.calm_depth)
                if not any(busy.values()) and set(usual) <= set(busy):
                    return one, last
                if any(busy.values()):
                    last = one
        return None, last

    def _verdict(
        self, finding: Finding, reason: str, evidence: int, lines: tuple[str, ...] = ()
    ) -> Verdict:
        return Verdict(self.id, self.statement, finding, reason, evidence, 1, lines)
