"""How long a service was away: the longest silence that a fault brought, as an interval.

It refuses to name a time where nobody asked, to take the ordinary pause between two requests for
an interruption, and to end one before somebody was served again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter

from chaos.claims.back import TAKES_AWAY
from chaos.claims.evidence import cited, count, merged, seconds
from chaos.claims.served import BLINK_S
from chaos.claims.subject import right_answer
from chaos.journal.history import NONE, History
from chaos.journal.ops import Op, Outcome
from chaos.journal.spans import Injection
from chaos.objective import Figure
from chaos.systems import Arrival, Face

REACH_S = 60.0
"""Operations intended so long before and after the faults are looked at first; all are where
nobody is served in that time."""
LATER_S = 0.001
"""Who waits no longer than that above the slowest answer before any fault waits as ever."""
_OK = Outcome.OK
_intended = attrgetter("intended")


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of a face: instants, each list in order.

    `usual_s` is the slowest answer before any fault and LATER_S (infinite without one): whoever
    waits no longer misses nothing yet. Who was never served was in want from one of `want_from` to
    one of `want_until`; who was served later than usual, from then until his answer.
    """

    asked: Sequence[float]
    asked_served: Sequence[float]  # of those who were served in the end
    served: Sequence[float]
    usual_s: float
    want_from: Sequence[float]
    want_until: Sequence[float]
    failed: Sequence[Op] = ()

    def wanted_s(self, before: float, back: float, since: float) -> float:
        """How long somebody was surely in want between two answers (`back` infinite: after the
        last): from the first sign of want to the last, nobody being served between them."""
        begins, ends = [inf], [-inf]
        i = bisect_right(self.asked_served, before)
        if i < len(self.asked_served) and self.asked_served[i] + self.usual_s < back < inf:
            begins.append(self.asked_served[i] + self.usual_s)
            ends.append(back)
        k = bisect_right(self.want_from, before)
        begins += self.want_from[k : k + 1]
        k = bisect_right(self.want_until, back) - 1
        ends += self.want_until[k : k + 1] if k >= 0 else []
        return max(0.0, max(ends) - max(min(begins), since))


@dataclass(frozen=True, slots=True)
class Silence:
    """A time between two answers, or after the last (`back` infinite), counted from `since`, the
    beginning of the fault at the earliest."""

    since: float
    back: float
    least_s: float

    @property
    def most_s(self) -> float:
        """Infinite while nobody is served again."""
        return self.back - self.since


def interruption(face: Face, faults: Sequence[Injection], history: History) -> Figure:
    """The longest time without service that one of `faults` brought (those that hit the face)."""
    if not faults:
        return Figure(face.words, "no fault hit it")
    unread = _unread(face, history)
    if unread:
        return Figure(face.words, unread)
    first = min(fault.began for fault in faults)
    last = max(fault.healed for fault in faults)
    asked = _asked(face, history, first - REACH_S, last + REACH_S)
    served = asked.served
    near = served and served[0] < first and served[-1] > last
    if not near or asked.usual_s > REACH_S / 2:
        asked = _asked(face, history, -inf, inf)
    n = sum(_between(asked.asked, *span) for span in merged((f.began, f.healed) for f in faults))
    if not n:
        return Figure(face.words, "nobody asked for it while a fault lasted")
    found = [(one, fault) for fault in faults if (one := _longest(asked, fault))]
    least = max((one.least_s for one, _ in found), default=0.0)
    taken = [pair for pair in found if pair[1].kind in TAKES_AWAY or pair[0].least_s >= BLINK_S]
    if not taken:
        kinds = ", ".join(dict.fromkeys(fault.kind for fault in faults))
        most = max((one.most_s for one, _ in found), default=0.0)
        told = f"{seconds(most)} between answers at most" if most < inf else "nobody asked later"
        return Figure(face.words, f"what hit it ({kinds}) took nothing away ({told})", n=n)
    worst, _ = max(taken, key=lambda pair: (pair[0].most_s, pair[0].least_s))
    most = worst.most_s
    by = [f for f in faults if f.began < worst.back and f.healed > worst.since]
    failed = [op for op in asked.failed if first <= op.intended < last]
    return Figure(
        face.words, _told(n, len(failed), worst, by, last - asked.asked[-1]), min(least, most),
        None if most == inf else most, n, len(failed), tuple(f.fault for f in by),
        cited(history, by, failed[:3]),
    )  # fmt: skip


def _told(
    n: int, failed: int, worst: Silence, by: Sequence[Injection], unasked_s: float
) -> str:  # fmt: skip
    told = f"{count(n, 'operation')} asked while it lasted, {failed:,} in vain"
    if BLINK_S < unasked_s < inf:
        told += f", nobody in its last {seconds(unasked_s)}"
    over = max((f.over for f in by), default=inf)
    if worst.back == inf:
        return f"{told}; nobody was served again before the evidence ends"
    if over < worst.back and worst.most_s > BLINK_S:
        return f"{told}; served again {seconds(worst.back - over)} after the fault was undone"
    return told


def _longest(asked: Asked, fault: Injection) -> Silence | None:
    """The longest silence that meets the fault: the longest that it may have been, and the longest
    that one of them surely was."""
    served = asked.served
    i = bisect_right(served, fault.began) - 1  # the last answer before it
    end = bisect_left(served, fault.healed)
    best: Silence | None = None
    least = most = 0.0
    quick = bool(asked.want_from)  # a refusal is a sign of want at once
    before = served[i] if i >= 0 else -inf
    for back in served[i + 1 : end + 1]:
        if back - before > most:
            since = max(before, fault.began)
            if best is None or back - since > most:
                best, most = Silence(since, back, 0.0), back - since
        if back - before > least:
            since = max(before, fault.began)
            if quick or back - before - asked.usual_s > least:
                least = max(least, asked.wanted_s(before, back, since))
        before = back
    since = max(before, fault.began)
    unserved = bisect_right(asked.asked, before) < len(asked.asked)
    if end >= len(served) and (unserved or best is None):  # nobody was served any more
        best, least = Silence(since, inf, 0.0), max(least, asked.wanted_s(before, inf, since))
    return best and Silence(best.since, best.back, least)


def _between(instants: Sequence[float], start: float, end: float) -> int:
    return bisect_left(instants, end) - bisect_left(instants, start)


def _unread(face: Face, history: History) -> str:
    """Why arrivals cannot be seen; empty when they can."""
    for arrival in face.arrivals:
        store = history.stores.get(arrival.store)
        if store is None or not store.complete:
            return f"{arrival.store} was not read to its end"
        if any(row.at <= 0 for row in store.shelf(arrival.record)):
            return f"{arrival.store} does not say when it took them"
    return ""


# ------------------------------------------------------------ what was asked


def _asked(face: Face, history: History, start: float, end: float) -> Asked:
    calm = min((f.began for f in history.injections), default=inf)
    ops = [op for kind in face.kinds for op in history.by_kind.get(kind, NONE).between(start, end)]
    if len(face.kinds) > 1:
        ops.sort(key=_intended)
    bad = [op for op in ops if op.outcome is not _OK or op.answer_subject != op.subject]
    failed = {op.began_at: op for op in bad if not _serves(face, history, op)}
    mute = {place for place, op in failed.items() if op.undecided}
    if failed:
        answered = [op for op in ops if op.began_at not in failed]
        asking = [op.intended for op in ops if op.began_at not in mute]
    else:
        answered, asking = ops, [op.intended for op in ops]
    early = answered[: bisect_left(answered, calm, key=_intended)]
    waits = [op.ended - op.intended for op in early if op.ended < calm]
    served = [op.ended for op in answered]
    lost = [op for place, op in failed.items() if place not in mute]
    ends = [(op.intended, op.ended if op.ended < inf else op.intended) for op in lost]
    going = [op.intended for op in answered] if face.arrivals or failed else asking
    for arrival in face.arrivals:
        for at, came in _arrivals(arrival, history, start, end):
            asking.append(at)
            if came < inf:
                going.append(at)
                served.append(came)
                if came < calm:
                    waits.append(came - at)
            else:
                ends.append((at, history.stores[arrival.store].read_from))
    asking.sort()
    served.sort()
    usual = max(waits, default=inf) + LATER_S
    return Asked(
        asking, going if going is asking else sorted(going), served, usual,
        sorted(min(at + usual, until) for at, until in ends), sorted(until for _, until in ends),
        sorted(lost, key=_intended),
    )  # fmt: skip


def _serves(face: Face, history: History, op: Op) -> bool:
    if op.outcome is _OK:
        return not op.answer_subject or right_answer(history, op)
    answer = face.lawful.get(op.kind)
    return bool(op.outcome is Outcome.REFUSED and answer and answer in op.reason)


def _arrivals(
    arrival: Arrival, history: History, start: float, end: float
) -> Iterator[tuple[float, float]]:
    """(acknowledged, arrived) of every acknowledged operation; infinite where it never came."""
    shelf = history.stores[arrival.store].shelf(arrival.record)
    for op in history.by_kind.get(arrival.kind, NONE).between(start, end):
        if op.outcome is _OK and op.key:
            row = shelf.get(op.key)
            yield op.ended, inf if row is None else max(row.at, op.ended)
