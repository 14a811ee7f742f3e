"""The run in short: Markdown for a pull request or a CI summary, plain text for a terminal.

Neither holds anything that the page does not say, and neither lets journal text format itself.
"""

from __future__ import annotations

import re

from chaos.journal.history import History
from chaos.report.fold import timeline_of
from chaos.report.page import ordered, reproduction, tally
from chaos.report.recovery import FigureRow, SystemRow, nothing, system_rows
from chaos.report.story import Banner, banner, patients_sentence
from chaos.report.timeline import Timeline
from chaos.report.wording import duration, instant, number, visible
from chaos.terms import NO_WORDS, Terms
from chaos.verdict import Finding, Judgement

SIGNS = {
    Finding.HELD: "✔",
    Finding.BROKEN: "✘",
    Finding.INCONCLUSIVE: "?",
    Finding.VOID: "∅",
    Finding.ABORTED: "■",
}
CELL_CHARS = 300
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&$@:]|(?<=www)\.)")


def markdown(
    history: History,
    judgement: Judgement,
    *,
    command: str = "",
    folder: str = "",
    story: str = "",
    terms: Terms = NO_WORDS,
) -> str:
    """GitHub-flavoured Markdown: outcome, what it means, the verdict table, how to reproduce."""
    timeline = timeline_of(history, terms)
    top = banner(timeline, judgement, story)
    lines = [
        f"## {SIGNS[judgement.outcome]} {judgement.outcome.value.capitalize()}: {_md(top.title)}",
        "",
        f"**What was tried.** {_md(top.tried)}",
        "",
        f"**What came out.** {_md(top.outcome)}",
        "",
        *(f"- {_md(reason)}" for reason in top.reasons),
        *([""] if top.reasons else []),
        f"**What that means.** {_md(top.meaning)}",
        "",
        f"**What patients would have noticed.** {_md(patients_sentence(timeline, terms))}",
        "",
    ]
    if timeline.defect:
        lines += [f"**A planted defect was switched on:** {_md(visible(timeline.defect, 200))}", ""]
    if judgement.claims:
        lines += [
            "| Claim | The hospital states | Verdict | Why | Evidence |",
            "|---|---|---|---|---|",
        ]
        for v in ordered(judgement.claims):
            cells = (
                _md(visible(v.id, 60)),
                _md(visible(v.statement, CELL_CHARS)),
                f"{SIGNS[v.verdict]} {v.verdict.value}",
                _md(visible(v.reason, CELL_CHARS)),
                f"{number(v.evidence)} of {number(v.needed)}",
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += _recovery_table(system_rows(judgement))
    lines.append(_md(_when(timeline, judgement)))
    if folder:
        lines += ["", f"Run folder: {_md(visible(folder, 300))}"]
    again = visible(command or reproduction(timeline, judgement), 1_000)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", again)), default=2))
    return "\n".join([*lines, "", fence, again, fence, ""])


def plain(
    history: History,
    judgement: Judgement,
    *,
    command: str = "",
    folder: str = "",
    story: str = "",
    terms: Terms = NO_WORDS,
) -> str:
    """A dozen lines for a terminal or a log: no colour, no control character, no table borders."""
    timeline = timeline_of(history, terms)
    top: Banner = banner(timeline, judgement, story)
    width = max((len(visible(v.id, 20)) for v in judgement.claims), default=0)
    lines = [f"{SIGNS[judgement.outcome]} {judgement.outcome.value}: {top.title}", top.tried]
    lines += [f"  because {reason}" for reason in top.reasons]
    for v in ordered(judgement.claims):
        word = f"{SIGNS[v.verdict]} {v.verdict.value}"
        lines.append(f"  {visible(v.id, 20):<{width}}  {word:<14}  {visible(v.reason, 200)}")
    lines.append(patients_sentence(timeline, terms))
    lines += [f"recovery   {line}" for line in recovery_lines(judgement)]
    if judgement.claims:
        lines.append(f"claims     {tally(judgement)}")
    if folder:
        lines.append(f"run        {visible(folder, 300)}")
    lines.append(f"reproduce  {visible(command or reproduction(timeline, judgement), 1_000)}")
    return "\n".join(lines) + "\n"


def recovery_lines(judgement: Judgement) -> list[str]:
    """One line for each system of which something was measured, and one for all others."""
    if why := nothing(judgement):
        return [f"none measured, {why}"]
    told, silent = [], []
    for row in system_rows(judgement):
        name = f"{row.name}, {row.source}" if row.source else row.name
        times = [f"{f.what} {f.value} ({f.counted})" for f in row.rto if f.measured]
        parts = [f"RTO {'; '.join(times)}"] if times else []
        parts += [f"RPO {row.rpo.value} ({row.rpo.counted})"] if row.rpo.measured else []
        if parts:
            told.append(f"{name}: {', '.join(parts)}")
        else:
            silent.append(name)
    return [*told, *([f"not measured: {', '.join(silent)}"] if silent else [])]


def _recovery_table(rows: tuple[SystemRow, ...]) -> list[str]:
    if not rows:
        return []

    def cell(figure: FigureRow, name: str = "") -> str:
        lead = f"{name}: " if name else ""
        if not figure.measured:
            return _md(f"{lead}{figure.value} ({figure.text})")
        allowed = f", allowed {figure.allowed}" if figure.allowed else ""
        return f"{_md(lead)}**{_md(figure.value)}**{_md(f'{allowed} ({figure.counted})')}"

    lines = ["| System | Service again (RTO) | Lost (RPO) |", "|---|---|---|"]
    for row in rows:
        name = f"{row.name}, {row.source}" if row.source else row.name
        rto = "; ".join(cell(figure, figure.what) for figure in row.rto)
        lines.append(f"| {_md(name)} | {rto} | {cell(row.rpo)} |")
    return [*lines, ""]


def _when(timeline: Timeline, judgement: Judgement) -> str:
    began = instant(timeline.utc) if timeline.utc else "an unrecorded instant"
    cut = "" if timeline.complete else ", then cut off"
    return (
        f"{visible(judgement.name, 200)}, seed {judgement.seed}, runtime"
        f" {visible(judgement.runtime, 40)}; began {began}, lasted"
        f" {duration(timeline.duration_s)}{cut}."
    )


def _md(text: str) -> str:
    """Text that Markdown shows as it is; no journal can smuggle a link, a mention or a table in."""
    return _SPECIAL.sub(r"\\\1", text)
