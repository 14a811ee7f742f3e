"""The run in plain sentences: what was tried, what came out, what it means, what patients noticed.

It repeats verdicts and numbers that others reached; it never reaches one itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.report.timeline import ClassTally, Timeline
from chaos.report.wording import count, duration, latency, listed, number, percent, visible
from chaos.terms import Terms
from chaos.verdict import Finding, Judgement, Verdict

STORIES_MAX = 4
NAMED_MAX = 5
ORDER = (Finding.BROKEN, Finding.VOID, Finding.ABORTED, Finding.INCONCLUSIVE, Finding.HELD)
NOTHING_PROVEN = (Finding.VOID, Finding.ABORTED)


@dataclass(frozen=True, slots=True)
class Banner:
    """The first thing on every report; plain text, already safe to show."""

    finding: Finding
    title: str
    tried: str
    outcome: str
    meaning: str
    reasons: tuple[str, ...]


def banner(timeline: Timeline, judgement: Judgement, story: str = "") -> Banner:
    """What a chief medical officer reads first."""
    reasons = tuple(visible(r, 600) for r in judgement.reasons)
    if judgement.outcome in NOTHING_PROVEN and not reasons:
        reasons = ("no reason was recorded",)
    return Banner(
        judgement.outcome,
        _title(judgement),
        tried(timeline, story),
        _outcome(judgement),
        _meaning(judgement),
        reasons,
    )


def tried(timeline: Timeline, story: str = "") -> str:
    """What was done to which system under what load, in one or two sentences."""
    load = count(timeline.operations, "clinical operation")
    system = count(len(timeline.services), "service")
    if not timeline.faults:
        did = f"No fault was put on the system; {load} ran against its {system}."
    else:
        stories = [visible(f.story, 160).rstrip(".") for f in timeline.faults[:STORIES_MAX]]
        more = len(timeline.faults) - len(stories)
        told = "; ".join(stories) + (f"; and {number(more)} more" if more else "")
        faults = count(len(timeline.faults), "fault")
        did = f"{faults} struck a running system of {system} under {load}: {told}."
    lead = visible(story, 400).strip()
    return f"{lead} {did}" if lead else did


def by_finding(claims: Sequence[Verdict]) -> dict[Finding, list[Verdict]]:
    """Verdicts per finding, what needs attention first; catalogue order within."""
    return {f: found for f in ORDER if (found := [v for v in claims if v.verdict is f])}


def _title(judgement: Judgement) -> str:
    groups = by_finding(judgement.claims)
    total = len(judgement.claims)
    broken = len(groups.get(Finding.BROKEN, ()))
    unproven = len(groups.get(Finding.INCONCLUSIVE, ())) + len(groups.get(Finding.VOID, ()))
    match judgement.outcome:
        case Finding.HELD:
            return f"All {number(total)} claims held" if total > 1 else "The claim held"
        case Finding.BROKEN:
            return f"{number(broken)} of {count(total, 'claim')} did not hold"
        case Finding.INCONCLUSIVE:
            return f"{number(unproven)} of {count(total, 'claim')} could not be judged"
        case Finding.VOID:
            return "This run proves nothing: the experiment was not valid"
        case Finding.ABORTED:
            return "This run proves nothing: it was stopped before its end"


def _outcome(judgement: Judgement) -> str:
    if not judgement.claims:
        return "No claim was judged."
    groups = by_finding(judgement.claims)
    total = len(judgement.claims)
    if judgement.outcome in NOTHING_PROVEN:
        return f"None of the {count(total, 'claim')} counts as held or broken."
    held = len(groups.get(Finding.HELD, ()))
    text = f"{number(held)} of the hospital's {count(total, 'statement')} held."
    if broken := groups.get(Finding.BROKEN):
        text += f" {number(len(broken))} broke: {_named(broken)}."
    unproven = groups.get(Finding.INCONCLUSIVE, []) + groups.get(Finding.VOID, [])
    if unproven:
        text += f" {number(len(unproven))} could not be judged: {_named(unproven)}."
    return text


def _named(claims: Sequence[Verdict]) -> str:
    names = [
        f"“{visible(v.statement, 160).rstrip('.')}” ({visible(v.id, 40)})"
        for v in claims[:NAMED_MAX]
    ]
    more = len(claims) - len(names)
    return listed([*names, f"{number(more)} more"] if more else names)


def _meaning(judgement: Judgement) -> str:
    match judgement.outcome:
        case Finding.HELD:
            return (
                "Under these faults and this load the hospital kept what it states, with enough"
                " evidence for each claim. Other faults are not covered by this run."
            )
        case Finding.BROKEN:
            return (
                "In such an outage the hospital would not keep the statements that broke: do not"
                " rely on them until the cause is mended and this run has been repeated."
            )
        case Finding.INCONCLUSIVE:
            return (
                "Nothing broke, but the evidence is too thin for the claims named: they are not"
                " shown to be true, nor to be false. Run longer, or with more traffic."
            )
        case Finding.VOID:
            return (
                "Neither the good nor the bad results below count, because the experiment itself"
                " failed. Mend what is named here and run it again."
            )
        case Finding.ABORTED:
            return "What was seen until then is shown below, but none of it counts. Run it again."


# ---------------------------------------------------------------- patients


@dataclass(frozen=True, slots=True)
class PatientLine:
    """One priority class while the faults lasted; texts ready to print."""

    klass: str
    words: str
    asked: str
    answered: str
    refused: str
    unknown: str
    failed_share: str
    failed: bool
    before: str  # p95 before the faults
    during: str  # p95 during the faults
    gap: str


def patients(timeline: Timeline, terms: Terms) -> tuple[PatientLine, ...]:
    """What each class of patients got while the faults lasted."""
    return tuple(_patient_line(c, terms) for c in timeline.class_tallies)


def _patient_line(c: ClassTally, terms: Terms) -> PatientLine:
    d = c.during
    failed = d.refused + d.unknown
    return PatientLine(
        klass=visible(c.name, 40),
        words=terms.klass(c.name),
        asked=number(d.asked),
        answered=number(d.answered),
        refused=number(d.refused),
        unknown=number(d.unknown),
        failed_share=percent(failed, d.asked),
        failed=failed > 0,
        before=latency(c.before.p95_ms),
        during=latency(d.p95_ms),
        gap=duration(c.gap_s) if c.gap_s > 0 else "none",
    )


def patients_sentence(timeline: Timeline, terms: Terms) -> str:
    """What failed for patients while the faults lasted, in one sentence."""
    hit = [c for c in timeline.class_tallies if c.during.refused + c.during.unknown]
    asked = sum(c.during.asked for c in timeline.class_tallies)
    if not timeline.class_tallies:
        return "No clinical operation was recorded, so nothing can be said about patients."
    if not asked:
        return "No clinical operation was asked for while a fault lasted."
    if not hit:
        asked_for = count(asked, "operation")
        return (
            f"While the faults lasted, none of {asked_for} was refused or left without an answer."
        )
    parts = []
    for c in hit:
        failed = c.during.refused + c.during.unknown
        name = terms.klass(c.name) or visible(c.name, 40)
        parts.append(
            f"{number(failed)} of {number(c.during.asked)} for {name}"
            f" ({percent(failed, c.during.asked)})"
        )
    return f"While the faults lasted, operations were refused or not answered: {listed(parts)}."
