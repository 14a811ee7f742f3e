"""What counts as evidence for a claim, and how a verdict is put together from it.

It weighs nothing by itself: it selects operations and spans, cites journal lines and says aloud
where less evidence was asked for than the claim itself defines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from math import ceil, inf

from chaos.journal.events import Event
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.journal.spans import Injection, Seen, Window
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict

PATIENCE_S = 60.0
"""In a run that was cut off, an operation without an ending that is younger than this says
nothing; an older one was not answered."""
LINES_MAX = 20
FAULT, WARMUP, WHOLE = "fault", "warmup", "run"

Span = tuple[float, float]
Citable = Op | Stored | Seen[Event] | Injection | Window | int


# ------------------------------------------------------------ spans


def merged(spans: Iterable[Span]) -> list[Span]:
    """The union of spans, in order; empty ones vanish."""
    union: list[Span] = []
    for start, end in sorted(s for s in spans if s[1] > s[0]):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def fault_spans(history: History) -> list[Span]:
    """The fault windows, widened so that no moment with a fault lies outside: from the fault's
    beginning to the playing of its undo."""
    windows = [w for w in history.windows if w.name == FAULT]
    spans = [(w.start, w.end) for w in windows]
    limit = max((w.end for w in windows if not w.closed), default=history.end)
    spans += [(f.began, min(f.over, max(limit, f.began))) for f in history.injections]
    return merged(spans)


def warmup_spans(history: History) -> list[Span]:
    """The warm-up, at most up to the first fault."""
    first = min((f.began for f in history.injections), default=inf)
    return merged((w.start, min(w.end, first)) for w in history.windows if w.name == WARMUP)


def spans_of(history: History, window: str) -> list[Span]:
    """Spans by the name of the window: `fault`, `warmup` or `run`."""
    if window == FAULT:
        return fault_spans(history)
    if window == WARMUP:
        return warmup_spans(history)
    return [(-inf, inf)]


def inside(t: float, spans: Sequence[Span]) -> bool:
    """Whether the instant lies in one of the spans."""
    return any(start <= t < end for start, end in spans)


# ------------------------------------------------------------ operations


def was_cut(history: History) -> bool:
    """Whether the run did not come to its own end."""
    return history.ended is None or history.ended.outcome != "completed"


def decided(history: History, ops: Iterable[Op]) -> list[Op]:
    """Operations that are evidence: not those which ended together with the traffic before
    their own bound had passed, nor those in flight when a run was cut off."""
    young = history.end - PATIENCE_S if was_cut(history) else inf
    return [op for op in ops if not op.undecided and not (op.ended_at == 0 and op.intended > young)]


def ops_in(
    history: History, kinds: Sequence[str], klasses: Sequence[str], spans: Sequence[Span]
) -> list[Op]:
    """Operations of these kinds and classes (any class when none is named) intended in spans."""
    wanted = frozenset(klasses)
    return [
        op
        for start, end in spans
        for op in history.ops_between(kinds, start, end)
        if not wanted or op.klass in wanted
    ]


# ------------------------------------------------------------ numbers and words


def quantile(latencies: Sequence[float], share: float) -> float:
    """The latency that `share` of the operations did not exceed; unanswered ones are infinite."""
    if not latencies:
        return inf
    return sorted(latencies)[max(0, ceil(share * len(latencies)) - 1)]


def percent(share: float) -> str:
    """`99.53 %`; never rounded up to a full 100."""
    value = share * 100
    if value < 100 and round(value, 2) >= 100:
        return "99.99 %"
    return f"{value:.2f} %".replace(".00 %", " %")


def seconds(s: float) -> str:
    """`0.42 s`, `95 s`, or `never` for infinity."""
    if s == inf:
        return "never"
    return f"{s:.2f} s" if s < 10 else f"{s:.0f} s"


def count(n: int, one: str, many: str = "") -> str:
    """`1 write`, `2 writes`, `1,000 writes`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def human(hospital_s: float, history: History) -> str:
    """A human bound in hospital time and what it is in real time at this run's speed."""
    hours = hospital_s >= 7_200 and hospital_s % 3_600 == 0
    minutes = f"{hospital_s / 3_600:g} h" if hours else f"{hospital_s / 60:g} min"
    if history.speed == 1:
        return minutes
    return f"{minutes} of hospital time ({seconds(hospital_s / history.speed)} at this run's speed)"


def bounded(hospital_s: float, floor_s: float, history: History) -> tuple[float, str]:
    """A human bound in real seconds, never below what machines need (`floor_s`, not compressed),
    and both in words."""
    words = human(hospital_s, history)
    if floor_s > hospital_s / history.speed:
        words += f", or {seconds(floor_s)} of machine time, which is not compressed,"
    return max(floor_s, hospital_s / history.speed), words


def clock_time(history: History, t: float) -> str:
    """An instant as a person looks it up: `07:25:12 UTC (45.2 s of the run)`."""
    run = history.run
    after = t - (run.t if run else history.start)
    told = f"{after:.1f} s of the run"
    try:
        at = datetime.fromisoformat(run.utc if run else "") + timedelta(seconds=after)
    except (ValueError, OverflowError):
        return told
    return f"{at:%H:%M:%S} {at.tzname() or 'UTC'} ({told})"


def lowered(need: Need) -> str:
    """What the verdict must say when less was asked for than the claim itself defines."""
    if need.asked >= need.claim:
        return ""
    return f" This run asked for {need.asked:,} instead of {need.claim:,}: {need.why}."


# ------------------------------------------------------------ verdicts


def cited(history: History, *groups: Iterable[Citable]) -> tuple[str, ...]:
    """Up to LINES_MAX places as `file:line`, without repeats, the first groups first."""
    lines: dict[str, None] = {}
    for group in groups:
        for item in islice(group, LINES_MAX):
            lines[history.cite(item if isinstance(item, int) else item.place)] = None
    return tuple(islice(lines, LINES_MAX))


def ends(items: Sequence[Op]) -> list[Op]:
    """The first and the last: what bounds the evidence."""
    return [items[0], items[-1]] if len(items) > 1 else list(items)


def absent(ident: str, statement: str, need: Need, what: str) -> Verdict:
    """The verdict on a claim about something that the run's topology does not have."""
    reason = f"No {what} stands in this run's topology."
    return Verdict(ident, statement, Finding.INCONCLUSIVE, reason, 0, max(1, need.asked))


_RANK = (Finding.BROKEN, Finding.VOID, Finding.INCONCLUSIVE, Finding.HELD)


def worst(findings: Iterable[Finding]) -> Finding:
    """Broken before void before inconclusive before held; inconclusive when there is none."""
    found = set(findings)
    return next((f for f in _RANK if f in found), Finding.INCONCLUSIVE)


def together(ident: str, statement: str, parts: Sequence[Verdict]) -> Verdict:
    """One verdict from the parts of a claim: the worst counts and speaks first; evidence and
    need are those of the first part that lacks some, else of the first."""
    finding = worst(p.verdict for p in parts)
    ordered = sorted(parts, key=lambda p: _RANK.index(p.verdict))
    scarce = next((p for p in parts if p.evidence < p.needed), parts[0])
    lines: dict[str, None] = {}
    for part in ordered:
        if part.verdict is finding:
            lines.update(dict.fromkeys(part.lines))
    for part in ordered:
        lines.update(dict.fromkeys(part.lines))
    reasons: dict[str, None] = dict.fromkeys(p.reason for p in ordered)
    return Verdict(
        ident, statement, finding, " ".join(reasons), scarce.evidence, scarce.needed,
        tuple(islice(lines, LINES_MAX)),
    )  # fmt: skip
