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
from chaos.report.evidence import Cited, cited
from chaos.report.fold import UNDONE_BY, timeline_of
from chaos.report.lanes import drawn
from chaos.report.quoting import lines_of
from chaos.report.story import (
    NOTHING_PROVEN,
    Banner,
    PatientLine,
    banner,
    by_finding,
    patients,
    patients_sentence,
)
from chaos.report.terms import HOSPITAL, Terms
from chaos.report.timeline import Check, FaultLane, Moment, Tally, Timeline
from chaos.report.wording import (
    at,
    clip,
    count,
    duration,
    hospital_time,
    instant,
    latency,
    number,
    visible,
)
from chaos.verdict import Judgement, Verdict

AS_PLANNED = UNDONE_BY["block"]
MOMENTS_MAX = 80
FAULTS_MAX = 200
TEXT_CHARS = 1_200
CELL_CHARS = 400


@dataclass(frozen=True, slots=True)
class ClaimView:
    """One row of the verdict table and its evidence."""

    id: str
    statement: str
    finding: str
    reason: str
    evidence: str
    needed: str
    cites: str
    evidence_lines: Cited


@dataclass(frozen=True, slots=True)
class FaultView:
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
class MomentView:
    """One line of the story in words."""

    at: str
    lived: str
    text: str
    key: bool


@dataclass(frozen=True, slots=True)
class CheckView:
    """One condition of a valid experiment."""

    name: str
    finding: str
    word: str
    text: str


@dataclass(frozen=True, slots=True)
class KindView:
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
    claims: tuple[ClaimView, ...]
    patients: tuple[PatientLine, ...]
    faults: tuple[FaultView, ...]
    faults_more: str
    clocks: str
    lived: bool
    wide: tuple[Strip, ...]
    narrow: tuple[Strip, ...]
    moments: tuple[MomentView, ...]
    moments_more: str
    checks: tuple[CheckView, ...]
    kinds: tuple[KindView, ...]
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
    terms: Terms = HOSPITAL,
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
        claims=tuple(_claim(v, lines, start_t) for v in ordered(judgement.claims)),
        patients=patients(timeline, terms),
        faults=tuple(_fault(f, timeline.duration_s) for f in faults),
        faults_more=_more(len(timeline.faults), len(faults)),
        clocks=_clocks(timeline),
        lived=timeline.speed != 1,
        wide=drawn(timeline, terms),
        narrow=drawn(timeline, terms, narrow=True),
        moments=tuple(_moment(m, timeline.speed) for m in moments),
        moments_more=_more(len(timeline.moments), len(moments)),
        checks=tuple(_check(c) for c in timeline.checks),
        kinds=tuple(_kind(k, timeline.speed, terms) for k in timeline.kinds),
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


def _claim(v: Verdict, lines: Mapping[str, str], start_t: float) -> ClaimView:
    return ClaimView(
        id=visible(v.id, 60),
        statement=visible(v.statement, CELL_CHARS),
        finding=v.verdict.value,
        reason=visible(v.reason, TEXT_CHARS),
        evidence=number(v.evidence),
        needed=number(v.needed),
        cites=count(len(set(v.lines)), "line") if v.lines else "",
        evidence_lines=cited(v.lines, lines.get, start_t),
    )


def _fault(f: FaultLane, end_s: float) -> FaultView:
    def when(t_s: float | None) -> str:
        return "never" if t_s is None else at(t_s)

    return FaultView(
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


def _told(moments: Sequence[Moment]) -> list[Moment]:
    """At most MOMENTS_MAX, the weighty ones first to be kept, in order of time."""
    ranked = sorted(range(len(moments)), key=lambda i: (moments[i].weight, i))
    return [moments[i] for i in sorted(ranked[:MOMENTS_MAX])]


def _moment(m: Moment, speed: float) -> MomentView:
    lived = hospital_time(m.t_s, speed)
    return MomentView(at(m.t_s), f"+{lived}", visible(m.text, CELL_CHARS), m.weight == 0)


def _check(c: Check) -> CheckView:
    finding, word = {
        True: ("held", "yes"), False: ("broken", "no"), None: ("void", "not on record")
    }[c.ok]  # fmt: skip
    return CheckView(visible(clip(c.name, 80)), finding, word, visible(c.text, TEXT_CHARS))


def _kind(k: Tally, speed: float, terms: Terms) -> KindView:
    human = k.name in terms.human_kinds and speed != 1
    factor = speed if human else 1.0
    note = "in hospital time" if human else ""
    if k.name in terms.lock_probes:
        note = "refusing is right"

    def shown(ms: float | None) -> str:
        return latency(None if ms is None else ms * factor)

    return KindView(
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


def _more(total: int, shown: int) -> str:
    return number(total - shown) if total > shown else ""
