"""Rows of the page's tables: values of the timeline and the judgement, written as text.

Every text that came from a journal is made visible and cut here; the template escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chaos.report.evidence import Cited, cited
from chaos.report.lives import UNDONE_BY
from chaos.report.timeline import Check, FaultLane, Moment, Tally
from chaos.report.wording import at, clip, count, duration, hospital_time, latency, number, visible
from chaos.terms import Terms
from chaos.verdict import Verdict

AS_PLANNED = UNDONE_BY["block"]
TEXT_CHARS = 1_200
CELL_CHARS = 400


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One row of the verdict table and its evidence."""

    id: str
    statement: str
    finding: str
    reason: str
    evidence: str
    needed: str
    cites: str
    evidence_lines: Cited
    measured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One row of what was done."""

    number: str
    story: str
    kind: str
    rooms: str
    targets: str
    began: str
    seen: str
    effect: str
    ended: str
    by: str
    gone: str
    heal: str
    lasted: str
    trouble: str


@dataclass(frozen=True, slots=True)
class MomentRow:
    """One line of the story in words."""

    at: str
    lived: str
    text: str
    key: bool


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One condition of a valid experiment."""

    name: str
    finding: str
    word: str
    text: str


@dataclass(frozen=True, slots=True)
class KindRow:
    """Numbers of one kind of operation."""

    name: str
    words: str
    note: str
    count: str
    cut_short: str
    answered: str
    refused: str
    unknown: str
    p50: str
    p95: str
    top: str


def claim_row(
    v: Verdict, lines: Mapping[str, str], start_t: float, measured: tuple[str, ...] = ()
) -> ClaimRow:  # fmt: skip
    """A verdict, the lines it cites, and what was `measured` of the systems it speaks of."""
    return ClaimRow(
        id=visible(v.id, 60),
        statement=visible(v.statement, CELL_CHARS),
        finding=v.verdict.value,
        reason=visible(v.reason, TEXT_CHARS),
        evidence=number(v.evidence),
        needed=number(v.needed),
        cites=count(len(set(v.lines)), "line") if v.lines else "",
        evidence_lines=cited(v.lines, lines.get, start_t),
        measured=measured,
    )


def fault_row(f: FaultLane, end_s: float) -> FaultRow:
    """A fault's life; `end_s` is the run's end."""

    def when(t_s: float | None) -> str:
        return "never" if t_s is None else at(t_s)

    return FaultRow(
        number=str(f.number),
        story=visible(f.story, CELL_CHARS),
        kind=visible(f.kind, 60),
        rooms=visible(", ".join(f.rooms), 120),
        targets=visible(", ".join(f.targets), CELL_CHARS),
        began=at(f.began_s),
        seen=when(f.seen_s),
        effect=visible(f.effect, CELL_CHARS),
        ended=when(f.ended_s),
        by="" if f.ended_by == AS_PLANNED else visible(f.ended_by, 80),
        gone=when(f.gone_s),
        heal=visible(f.heal, CELL_CHARS),
        lasted=duration(f.until_s(end_s) - f.began_s)
        + ("" if f.ended_s is not None else " or more"),
        trouble=visible(f.trouble, CELL_CHARS),
    )


def moment_row(m: Moment, speed: float) -> MomentRow:
    """A moment, in real and in hospital time."""
    lived = hospital_time(m.t_s, speed)
    return MomentRow(at(m.t_s), f"+{lived}", visible(m.text, CELL_CHARS), m.weight == 0)


def check_row(c: Check) -> CheckRow:
    """A condition with its sign."""
    finding, word = {
        True: ("held", "yes"), False: ("broken", "no"), None: ("void", "not on record")
    }[c.ok]  # fmt: skip
    return CheckRow(visible(clip(c.name, 80)), finding, word, visible(c.text, TEXT_CHARS))


def kind_row(k: Tally, speed: float, terms: Terms) -> KindRow:
    """A kind's numbers; durations of human kinds as the hospital lived them."""
    human = k.name in terms.human_kinds and speed != 1
    factor = speed if human else 1.0
    note = "in hospital time" if human else ""
    if k.name in terms.lock_probes:
        note = "refusing is right"

    def shown(ms: float | None) -> str:
        return latency(None if ms is None else ms * factor)

    return KindRow(
        name=visible(k.name, 60),
        words=terms.kind(k.name),
        note=note,
        count=number(k.asked),
        cut_short=number(k.cut_short) if k.cut_short else "",
        answered=number(k.answered),
        refused=number(k.refused),
        unknown=number(k.unknown),
        p50=shown(k.p50_ms),
        p95=shown(k.p95_ms),
        top=shown(k.max_ms),
    )
