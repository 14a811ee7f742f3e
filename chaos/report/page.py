"""report.html: one self-contained page for the medical direction first, and engineers second.

It puts texts into a template, which escapes them; it reads no file but the template, and decides
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from chaos.journal.history import History
from chaos.report.drawing import Strip
from chaos.report.fold import timeline_of
from chaos.report.lanes import drawn
from chaos.report.quoting import lines_of
from chaos.report.recovery import SystemRow, beside, nothing, system_rows
from chaos.report.recovery_bars import recovery_bars
from chaos.report.rows import (
    TEXT_CHARS,
    CheckRow,
    ClaimRow,
    FaultRow,
    KindRow,
    MomentRow,
    check_row,
    claim_row,
    fault_row,
    kind_row,
    moment_row,
)
from chaos.report.story import (
    NOTHING_PROVEN,
    Banner,
    PatientLine,
    banner,
    by_finding,
    patients,
    patients_sentence,
)
from chaos.report.timeline import Moment, Timeline
from chaos.report.wording import (
    count,
    duration,
    hospital_time,
    instant,
    number,
    visible,
)
from chaos.terms import NO_WORDS, Terms
from chaos.verdict import Judgement, Verdict

MOMENTS_MAX = 80
FAULTS_MAX = 200


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template prints, as text."""

    name: str
    seed: str
    facts: tuple[tuple[str, str], ...]
    banner: Banner
    nothing_proven: bool
    defect: str
    patients_sentence: str
    tally: str
    claims: tuple[ClaimRow, ...]
    systems: tuple[SystemRow, ...]
    unmeasured: str
    bars: tuple[Strip, ...]
    narrow_bars: tuple[Strip, ...]
    patients: tuple[PatientLine, ...]
    faults: tuple[FaultRow, ...]
    faults_more: str
    clocks: str
    lived: bool
    wide: tuple[Strip, ...]
    narrow: tuple[Strip, ...]
    moments: tuple[MomentRow, ...]
    moments_more: str
    checks: tuple[CheckRow, ...]
    kinds: tuple[KindRow, ...]
    shed: str
    command: str
    folder: str


def html(
    history: History,
    judgement: Judgement,
    *,
    command: str = "",
    folder: str = "",
    story: str = "",
    lines: Mapping[str, str] | None = None,
    terms: Terms = NO_WORDS,
) -> str:
    """The page as text; the same history and judgement always give the same bytes.

    `command` reproduces the run, `folder` names the run folder, `story` is the experiment's own
    sentence; `lines` are raw journal lines by `file:line`, taken from the history when absent.
    """
    timeline = timeline_of(history, terms)
    refs = [ref for v in judgement.claims for ref in v.lines]
    found = lines_of(history, refs) if lines is None else lines
    start_t = history.run.t if history.run else history.start
    page = _page(timeline, judgement, terms, found, start_t, story, command, folder)
    return _environment().get_template("report.html.j2").render(p=page)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("chaos.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def _page(
    timeline: Timeline,
    judgement: Judgement,
    terms: Terms,
    lines: Mapping[str, str],
    start_t: float,
    story: str,
    command: str,
    folder: str,
) -> Page:
    faults = timeline.faults[:FAULTS_MAX]
    moments = _told(timeline.moments)
    return Page(
        name=visible(judgement.name, 200),
        seed=str(judgement.seed),
        facts=_facts(timeline, judgement),
        banner=banner(timeline, judgement, story),
        nothing_proven=judgement.outcome in NOTHING_PROVEN,
        defect=visible(timeline.defect, 200),
        patients_sentence=patients_sentence(timeline, terms),
        tally=tally(judgement),
        claims=tuple(
            claim_row(v, lines, start_t, beside(judgement, v.id)) for v in ordered(judgement.claims)
        ),
        systems=system_rows(judgement),
        unmeasured=nothing(judgement),
        bars=recovery_bars(judgement),
        narrow_bars=recovery_bars(judgement, narrow=True),
        patients=patients(timeline, terms),
        faults=tuple(fault_row(f, timeline.duration_s) for f in faults),
        faults_more=_more(len(timeline.faults), len(faults)),
        clocks=_clocks(timeline),
        lived=timeline.speed != 1,
        wide=drawn(timeline, terms),
        narrow=drawn(timeline, terms, narrow=True),
        moments=tuple(moment_row(m, timeline.speed) for m in moments),
        moments_more=_more(len(timeline.moments), len(moments)),
        checks=tuple(check_row(c) for c in timeline.checks),
        kinds=tuple(kind_row(k, timeline.speed, terms) for k in timeline.kinds),
        shed=count(timeline.shed, "attempt was refused", "attempts were refused")
        if timeline.shed
        else "",
        command=visible(command or reproduction(timeline, judgement), TEXT_CHARS),
        folder=visible(folder, 300),
    )


def reproduction(timeline: Timeline, judgement: Judgement) -> str:
    """The one line that reproduces the run, when the caller knows no better one."""
    preset = f" --preset {timeline.preset}" if timeline.preset else ""
    return (
        f"hospital-chaos run {judgement.name} --runtime {judgement.runtime}{preset}"
        f" --seed {judgement.seed}"
    )


def ordered(claims: Sequence[Verdict]) -> list[Verdict]:
    """Broken first, held last; the catalogue's order within."""
    return [v for found in by_finding(claims).values() for v in found]


def tally(judgement: Judgement) -> str:
    """`2 broken, 1 inconclusive, 9 held`."""
    groups = by_finding(judgement.claims)
    return ", ".join(f"{number(len(found))} {f.value}" for f, found in groups.items())


def _facts(timeline: Timeline, judgement: Judgement) -> tuple[tuple[str, str], ...]:
    facts = [("Began", instant(timeline.utc) if timeline.utc else "not recorded")]
    lasted = duration(timeline.duration_s)
    if timeline.speed != 1:
        lasted += f" (= {hospital_time(timeline.duration_s, timeline.speed)} in the hospital)"
    facts.append(("Lasted", lasted if timeline.complete else f"{lasted}, then cut off"))
    for name, value in (
        ("Stack", timeline.stack),
        ("Runtime", judgement.runtime),
        ("Preset", timeline.preset),
        ("Seed", str(judgement.seed)),
    ):
        if value:
            facts.append((name, visible(value, 80)))
    return tuple(facts)


def _clocks(timeline: Timeline) -> str:
    text = "Times are seconds since the run began."
    if timeline.speed == 1:
        return f"{text} Human and machine times both run at their natural speed."
    return (
        f"{text} Human times – laboratory turnaround, the copy's schedule, how fast carers react –"
        f" are compressed: one second here is {hospital_time(1, timeline.speed)} in the"
        f" hospital (× {timeline.speed:g}). Machine times – answer times, time-outs, failover –"
        " are real and not compressed."
    )


def _told(moments: Sequence[Moment]) -> list[Moment]:
    """At most MOMENTS_MAX, the weighty ones first to be kept, in order of time."""
    ranked = sorted(range(len(moments)), key=lambda i: (moments[i].weight, i))
    return [moments[i] for i in sorted(ranked[:MOMENTS_MAX])]


def _more(total: int, shown: int) -> str:
    return number(total - shown) if total > shown else ""
