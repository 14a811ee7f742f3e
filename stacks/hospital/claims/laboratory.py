"""Claims about the laboratory: analysers work on, critical results reach somebody, STAT is timely.

They refuse to take a result for delivered because it was measured, and a silence for a good sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from chaos.claims.evidence import (
    Span,
    cited,
    count,
    decided,
    ends,
    fault_spans,
    human,
    inside,
    lowered,
    ops_in,
    percent,
    seconds,
    together,
    warmup_spans,
)
from chaos.claims.kept import WritesKept
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.systems import Home
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.places import ENGINE, FINAL, RESULT_AFTER_S

RUN_S = 18 * 60.0
"""An analyser needs at most 18 min (human bound, scaled) for a tube."""
LOOK_S = 3.0
"""Real seconds until somebody looks at the console and reads it."""
UNMATCHED = "registered"
"""Status of a result that the LIS keeps until its order comes."""
BASELINE_MIN = 20
MINUTE_S = 60.0


@dataclass(frozen=True)
class AnalysersWork:
    """RS-1. The share of loaded tubes whose result stands on the console in time (18 min of
    hospital time for the run, 3 real s to look) is at least 95 % of the share before the faults
    (100 % when too few were due before them), and no result is lost: every accepted tube lies in
    the analysers and, final or corrected, in the LIS; one that waits there for an order which never
    came is not lost (the order is: OR-2, IN-1). Minimum evidence: 500 tubes whose run meets the
    faults. Source: S (Saint-Étienne: analyser lines were not interrupted)."""

    need: Need = field(default=Need.full(500))
    id: str = "RS-1"
    statement: str = "The analysers keep working."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        homes = (
            Home("analysers", "specimen", same_value=False),
            Home("lis", "report", backlog=True, statuses=(*FINAL, UNMATCHED), same_value=False,
                 after_s=RESULT_AFTER_S),
        )  # fmt: skip
        lost = WritesKept(
            self.id, self.statement, Need.full(1), {"specimen.load": homes}, queues=ENGINE,
            once=False,
        ).judge(history)  # fmt: skip
        return together(self.id, self.statement, [self._throughput(history), lost])

    def _throughput(self, history: History) -> Verdict:
        run = RUN_S / history.speed
        results = {op.key: op for op in history.ops("specimen.result")}
        spans = [(start - run, end) for start, end in fault_spans(history)]
        loads = ops_in(history, ("specimen.load",), (), spans)
        in_time, late = _sorted_out(history, loads, results, run + LOOK_S)
        calm = ops_in(history, ("specimen.load",), (), [
            (start, end - run - LOOK_S) for start, end in warmup_spans(history)
        ])  # fmt: skip
        good, bad = _sorted_out(history, calm, results, run + LOOK_S)
        enough = len(good) + len(bad) >= BASELINE_MIN
        base = len(good) / (len(good) + len(bad)) if enough else 1.0
        n = len(in_time) + len(late)
        share = len(in_time) / n if n else 0.0
        least = 0.95 * base
        told = (
            f"{len(in_time):,} of {count(n, 'tube')} were finished within "
            f"{human(RUN_S, history)} ({percent(share)}; at least {percent(least)}, "
            f"{'as before the faults' if enough else 'too few were due before to compare with'})."
        )
        finding = Finding.HELD
        if len(late) > (1 - least) * max(n, self.need.claim):
            finding = Finding.BROKEN
        elif n < self.need.asked or share < least:
            finding = Finding.INCONCLUSIVE
            told = f"{told} {self.need.asked:,} tubes are needed."
        lines = cited(history, late, ends(in_time))
        return Verdict(
            self.id, self.statement, finding, told + lowered(self.need), n, self.need.asked, lines
        )


def _sorted_out(
    history: History, loads: Iterable[Op], results: dict[str, Op], limit: float
) -> tuple[list[Op], list[Op]]:
    """Tubes finished in time, and tubes that were not accepted or not finished in time; tubes
    that were stopped with the traffic before their time are neither."""
    in_time, late = [], []
    for load in decided(history, loads):
        result = results.get(load.key)
        if not load.ok:
            late.append(load)
        elif result is None:
            if history.end - load.intended > limit:
                late.append(load)
        elif result.ok and result.ended - load.intended <= limit:
            in_time.append(result)
        elif min(result.ended, history.end) - load.intended > limit or not (
            result.undecided or result.pending
        ):
            late.append(result)
    return in_time, late


@dataclass(frozen=True)
class CriticalReachesCarer:
    """RS-2. Every critical result is acknowledged by a named carer within 30 min of hospital
    time (human bound, scaled) from its measurement, by any channel. Minimum evidence: 20 during
    the faults. Source: G, A."""

    need: Need = field(default=Need.full(20))
    id: str = "RS-2"
    statement: str = "A critical result always reaches a carer."
    bound_s: float = 30 * 60.0
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        limit = self.bound_s / history.speed
        spans = fault_spans(history)
        reached: list[Op] = []
        late: list[Op] = []
        nameless: list[Op] = []
        waiting: list[Op] = []
        for op in history.ops("critical.ack"):
            waited = min(op.ended, history.end) - op.intended
            if waited > limit:
                late.append(op)
            elif op.ok and not op.answer_value.strip():
                nameless.append(op)
            elif op.ok:
                reached.append(op)
            elif op.outcome == "refused" or not (op.undecided or op.pending):
                late.append(op)
            elif waited > limit / 2:
                waiting.append(op)
        during = [op for op in reached if inside(op.intended, spans)]
        slowest = max((op.latency_s for op in during), default=0.0)
        bound = human(self.bound_s, history)
        finding, reason = (
            Finding.HELD,
            (
                f"All {count(len(during), 'critical result')} of the fault "
                "windows were acknowledged "
                f"by a named carer within {bound}; the slowest took {seconds(slowest)} (real)."
            ),
        )
        if late or nameless:
            finding, reason = (
                Finding.BROKEN,
                (
                    f"{count(len(late), 'critical result')} not acknowledged within {bound}, "
                    f"{len(nameless):,} acknowledged by nobody in particular "
                    f"(for example specimen {(late or nameless)[0].key})."
                ),
            )
        elif waiting:
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    f"{count(len(waiting), 'critical result')} still waited when the traffic "
                    "stopped, more than half of the time allowed being over."
                ),
            )
        elif len(during) < self.need.asked:
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    f"Only {count(len(during), 'critical result')} in the fault windows; "
                    f"{self.need.asked:,} are needed."
                ),
            )
        lines = cited(history, late, nameless, waiting, ends(during))
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), len(during),
            self.need.asked, lines,
        )  # fmt: skip


@dataclass(frozen=True)
class UrgentTimely:
    """RS-3. From STAT order to visible result: p90 ≤ 97 min of hospital time during the faults
    (human bound, scaled; the published mean delay of +62 %), and never more than 5 times the p90
    before them; before them p90 ≤ 60 min. Orders that were still open when the traffic stopped
    count for as long as they waited (Kaplan-Meier). Minimum evidence: 100 answered STAT orders.
    Source: B (PMC6620179, Novis Q-Probes)."""

    need: Need = field(default=Need.full(100))
    id: str = "RS-3"
    statement: str = "Urgent tests stay timely."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        speed = history.speed
        waits = _waits(history, fault_spans(history), inf)
        answered = sum(done for _, done, _ in waits)
        p90, open_share = _p90(waits)
        base = self._baseline(history)
        limit = 97 * MINUTE_S / speed
        times = f", {p90 / base:.1f} times as long as before" if base and p90 < inf else ""
        told = (
            f"90 % of {count(answered, 'STAT result')} were visible "
            f"{'within ' + _minutes(p90, speed) if p90 < inf else 'nobody knows when'}{times}; "
            f"{human(97 * MINUTE_S, history)} allowed."
        )
        over = [op for wait, _, op in waits if wait > limit]
        finding = Finding.HELD
        if len(over) > 0.1 * max(len(waits), self.need.claim):
            finding = Finding.BROKEN
            told = (
                f"{len(over):,} of {count(len(waits), 'STAT order')} had no visible result after "
                f"{human(97 * MINUTE_S, history)}; at most 10 % may."
            )
        elif base and inf > p90 > 5 * base and answered >= self.need.asked:
            finding, told = Finding.BROKEN, told + " More than 5 times is a critical failure."
        elif answered < self.need.asked or p90 > limit:
            finding = Finding.INCONCLUSIVE
            told += f" {self.need.asked:,} results are needed ({percent(open_share)} still open)."
        elif base and p90 > 5 * base:
            finding = Finding.INCONCLUSIVE
        slow = [op for _, _, op in sorted(waits, key=lambda w: -w[0])]
        lines = cited(history, over, slow[:3], ends([op for _, _, op in waits]))
        return Verdict(
            self.id, self.statement, finding, told + lowered(self.need), answered,
            self.need.asked, lines,
        )  # fmt: skip

    def unsteady(self, history: History) -> list[str]:
        """Slower than 60 min before any fault."""
        base = self._baseline(history)
        if base and base > 60 * MINUTE_S / history.speed:
            took = _minutes(base, history.speed)
            return [f"90 % of STAT results needed {took} before any fault; 60 min is normal"]
        return []

    @staticmethod
    def _baseline(history: History) -> float:
        """The p90 before the faults in real seconds; 0 when too few came to know it."""
        spans = warmup_spans(history)
        waits = _waits(history, spans, max((end for _, end in spans), default=0.0))
        p90, _ = _p90(waits)
        enough = sum(done for _, done, _ in waits) >= BASELINE_MIN
        return p90 if enough and p90 < inf else 0.0


def _waits(history: History, spans: Sequence[Span], until: float) -> list[tuple[float, bool, Op]]:
    """(real seconds waited, whether the result came, operation), looked at until an instant."""
    found = []
    for op in ops_in(history, ("stat.turnaround",), (), spans):
        end = min(op.ended, until, history.end)
        given_up = not op.ok and not op.undecided and not op.pending and op.ended <= until
        wait = inf if given_up else max(0.0, end - op.intended)
        found.append((wait, op.ok and op.ended <= until, op))
    return found


def _p90(waits: Sequence[tuple[float, bool, Op]]) -> tuple[float, float]:
    """(time by which 90 % had come, share still open in the end), by the product-limit estimate;
    infinite when the evidence does not reach that far."""
    left, open_ = len(waits), 1.0
    for wait, came, _ in sorted(waits, key=lambda w: (w[0], not w[1])):
        if came:
            open_ *= 1 - 1 / left
            if open_ <= 0.1 + 1e-9:
                return wait, open_
        left -= 1
    return inf, open_


def _minutes(real_s: float, speed: float) -> str:
    return f"{real_s * speed / MINUTE_S:.0f} min of hospital time"
