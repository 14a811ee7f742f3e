"""Recovery objectives in words: what was measured of each system, beside the claims and in a table.

It repeats figures; it compares none with a bound, because the claims do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.objective import Bound, Figure, Objective
from chaos.report.wording import count, duration, visible
from chaos.verdict import Judgement

NAME_CHARS, TEXT_CHARS = 80, 400
SYSTEMS_MAX, FACES_MAX = 30, 6
BESIDE_MAX = 12
NOT_MEASURED = "not measured"
FROM_BACKUP = "from backup"
BLINK_S = 1.0
"""Below this a time without an answer is the ordinary pause between two requests."""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure as text: the value, what it rests on, and what claims allow."""

    what: str
    value: str
    text: str
    allowed: str
    counted: str  # operations or writes that it rests on
    measured: bool


@dataclass(frozen=True, slots=True)
class SystemRow:
    """One system of the table."""

    name: str
    source: str
    rto: tuple[FigureRow, ...]
    rpo: FigureRow


def nothing(judgement: Judgement) -> str:
    """The one reason for which nothing at all was measured; empty when something was, or when
    there is nothing to say."""
    figures = [f for one in judgement.objectives for f in (*one.rto, one.rpo)]
    reasons = {f.text for f in figures}
    if len(reasons) != 1 or any(f.measured for f in figures):
        return ""
    return visible(reasons.pop(), TEXT_CHARS)


def system_rows(judgement: Judgement) -> tuple[SystemRow, ...]:
    """Every system that was measured, or says why it was not; none when one reason is all."""
    if nothing(judgement):
        return ()
    return tuple(_row(one) for one in judgement.objectives[:SYSTEMS_MAX])


def _row(one: Objective) -> SystemRow:
    return SystemRow(
        visible(one.words or one.system, NAME_CHARS),
        FROM_BACKUP if one.source == "backup" else "",
        tuple(figure_row(f, one.bounds, "rto", _noun(one)) for f in one.rto[:FACES_MAX]),
        figure_row(one.rpo, one.bounds, "rpo", "write"),
    )


def _noun(one: Objective) -> str:
    return "drill" if one.source == "backup" else "operation"


def figure_row(figure: Figure, bounds: Sequence[Bound], which: str, noun: str) -> FigureRow:
    """A figure beside the bounds that claims set for it (`which`: rto or rpo); `noun`: of what
    `n` are counted."""
    told = time_away(figure) if which == "rto" else lost(figure)
    allowed = ", ".join(
        f"{most(s)} ({visible(claim, 40)})" for claim, s in allowances(figure, bounds, which)
    )
    counted = count(figure.n, noun)
    return FigureRow(
        visible(figure.what, NAME_CHARS), told, visible(figure.text, TEXT_CHARS), allowed,
        counted, figure.measured,
    )  # fmt: skip


def most(s: float) -> str:
    """A bound in words; no time at all is `none`."""
    return duration(s) if s > 0 else "none"


def allowances(figure: Figure, bounds: Sequence[Bound], which: str) -> list[tuple[str, float]]:
    """(claim, seconds) for every claim that bounds this figure."""
    found = []
    for bound in bounds:
        s = bound.rto_s if which == "rto" else bound.rpo_s
        if s is not None and (which == "rpo" or bound.what in ("", figure.what)):
            found.append((bound.claim, s))
    return found


def time_away(figure: Figure) -> str:
    """`19.4 to 19.7 s`, `at least 12 s`, `at most 0.3 s`, `not measured`."""
    least, most = figure.least_s, figure.most_s
    if least is None:
        return NOT_MEASURED
    if most is None:
        return f"at least {duration(least)}"
    if least < BLINK_S:
        return f"at most {duration(most)}"
    return _span(least, most)


def lost(figure: Figure) -> str:
    """`nothing (known to 0.4 s)`, `0.9 to 1.2 s`, `at least 3 s`, `not measured`."""
    least, most = figure.least_s, figure.most_s
    if least is None:
        return NOT_MEASURED
    if not figure.failed:
        return "nothing" if most is None else f"nothing (known to {duration(most)})"
    if most is None:
        return f"at least {duration(least)}"
    return _span(least, most)


def _span(least: float, most: float) -> str:
    one, other = duration(least), duration(most)
    if one == other:
        return other
    same = one.rpartition(" ")[2] == other.rpartition(" ")[2] == "s" and one.count(" ") == 1
    return f"{one.removesuffix(' s') if same and other.count(' ') == 1 else one} to {other}"


# ------------------------------------------------------------ beside a claim


def beside(judgement: Judgement, claim: str) -> tuple[str, ...]:
    """What was measured of every system that the claim speaks of, a sentence each."""
    told: list[str] = []
    silent: list[str] = []
    for one in judgement.objectives if not nothing(judgement) else ():
        for bound in one.bounds:
            if bound.claim != claim:
                continue
            for figure, sentence in _sentences(one, bound):
                (told if figure.measured else silent).append(sentence)
    if len(told) > BESIDE_MAX:
        told = [*told[:BESIDE_MAX], f"and {len(told) - BESIDE_MAX} more"]
    return tuple(told or silent[:1])


def _sentences(one: Objective, bound: Bound) -> Iterator[tuple[Figure, str]]:
    name = visible(one.words or one.system, NAME_CHARS)
    if one.source == "backup":
        name += f", {FROM_BACKUP}"
    for figure in one.rto if bound.rto else ():
        if bound.what in ("", figure.what):
            what = "" if one.source == "backup" else f" ({visible(figure.what, NAME_CHARS)})"
            yield figure, f"{name}{what}: RTO {_time(figure, bound, _noun(one))}"
    if bound.rpo:
        yield one.rpo, f"{name}: RPO {_loss(one.rpo, bound)}"


def _time(figure: Figure, bound: Bound, noun: str) -> str:
    if not figure.measured:
        return f"{NOT_MEASURED}: {visible(figure.text, TEXT_CHARS)}"
    allowed = "" if bound.rto_s is None else f", {most(bound.rto_s)} allowed"
    return f"{time_away(figure)}{allowed} ({count(figure.n, noun)})"


def _loss(figure: Figure, bound: Bound) -> str:
    if not figure.measured:
        return f"{NOT_MEASURED}: {visible(figure.text, TEXT_CHARS)}"
    allowed = "" if bound.rpo_s is None else f", {most(bound.rpo_s)} allowed"
    return f"{lost(figure)}{allowed} ({count(figure.n, 'write')})"
