"""What a person sees while an experiment runs, and the tables that end it.

It only prints; progress goes to standard error so that `--json` stays alone on standard output.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos.plan import Plan
from chaos.planned import PlannedProject
from chaos.report.recovery import FigureRow, nothing, system_rows
from chaos.run import Run
from chaos.verdict import Finding, Judgement

SIGNS = {
    Finding.HELD: ("✔", "green"),
    Finding.BROKEN: ("✘", "bold red"),
    Finding.INCONCLUSIVE: ("?", "yellow"),
    Finding.VOID: ("∅", "magenta"),
    Finding.ABORTED: ("■", "magenta"),
}
PHASES = {
    "raise": "raise", "service": "·", "traffic": "traffic", "wait": "wait", "inject": "FAULT",
    "heal": "heal", "settle": "settle", "judge": "judge", "down": "down",
}  # fmt: skip


class TerminalTeller:
    """Tells progress line by line, with the time since the start (readable in a CI log, too)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()

    def tell(self, phase: str, text: str, seconds: float = 0.0) -> None:
        """One line per step; a step that takes a while says how long."""
        clock = f"{time.monotonic() - self._start:6.1f} s"
        colour = {"inject": "bold red", "heal": "green", "judge": "bold"}.get(phase, "")
        length = f" [dim]({seconds:g} s)[/]" if seconds else ""
        word = f"{PHASES.get(phase, phase):<8}"
        body = f"[{colour}]{escape(text)}[/]" if colour else escape(text)
        self._console.print(f"[dim]{clock}[/]  {word} {body}{length}", highlight=False)


def print_judgement(console: Console, run: Run, judgement: Judgement) -> None:
    """The verdict table, the outcome, and the line that reproduces it."""
    table = Table(title=run.story or run.name, title_justify="left", expand=True)
    table.add_column("claim", no_wrap=True)
    table.add_column("what the hospital states", ratio=3)
    table.add_column("verdict", no_wrap=True)
    table.add_column("evidence", no_wrap=True, justify="right")
    table.add_column("reason", ratio=5)
    for verdict in judgement.claims:
        sign, colour = SIGNS[verdict.verdict]
        table.add_row(
            verdict.id,
            escape(verdict.statement),
            f"[{colour}]{sign} {verdict.verdict}[/]",
            f"{verdict.evidence}/{verdict.needed}",
            escape(verdict.reason),
        )
    console.print(table)
    _print_recovery(console, judgement)
    sign, colour = SIGNS[judgement.outcome]
    for reason in judgement.reasons:
        console.print(f"[{colour}]{sign}[/] {escape(reason)}", highlight=False)
    console.print(f"outcome    [{colour}]{sign} {judgement.outcome}[/]", highlight=False)
    console.print(f"report     {escape(str(run.path / 'report.html'))}", highlight=False)
    console.print(f"reproduce  {escape(run.command)}", highlight=False, soft_wrap=True)


def _print_recovery(console: Console, judgement: Judgement) -> None:
    """How soon each system was back, and what it lost; what was not measured says why."""
    rows, why = system_rows(judgement), nothing(judgement)
    if why:
        console.print(f"recovery objectives: none measured, {escape(why)}", highlight=False)
    if not rows:
        return
    table = Table(title="recovery objectives measured", title_justify="left", expand=True)
    table.add_column("system", ratio=2)
    table.add_column("service again (RTO)", ratio=5)
    table.add_column("lost (RPO)", ratio=4)

    def told(figure: FigureRow) -> str:
        if not figure.measured:
            return f"[dim]{escape(figure.value)}: {escape(figure.text)}[/]"
        allowed = f", allowed {figure.allowed}" if figure.allowed else ""
        return f"[bold]{escape(figure.value)}[/]{escape(allowed)} [dim]({figure.counted})[/]"

    for row in rows:
        name = f"{row.name}, {row.source}" if row.source else row.name
        times = "\n".join(f"{escape(figure.what)}: {told(figure)}" for figure in row.rto)
        table.add_row(escape(name), times, told(row.rpo))
    console.print(table)


def print_plan(console: Console, plan: Plan) -> None:
    """What would be touched, in which order, and how each fault would be undone."""
    console.print(f"[bold]{escape(plan.name)}[/]: {escape(plan.story)}")
    console.print(
        f"stack {plan.stack}: {len(plan.services)} services; "
        f"own windows at most {plan.at_most_s:g} s; nothing is changed by this command\n"
    )
    for fault in plan.faults:
        console.print(f"[bold red]fault[/] {escape(fault.story)}", highlight=False)
        console.print(f"  touches  {escape(', '.join(fault.targets))}", highlight=False)
        console.print(f"  rooms    {escape(', '.join(fault.rooms)) or '-'}", highlight=False)
        console.print(f"  ends     after {fault.lease_s:g} s at the latest, by itself")
        for step in fault.undo:
            console.print(f"  undo     {escape(step)}", highlight=False)
    if plan.project is None:
        console.print(f"\n[bold]never touched[/] {escape(', '.join(plan.untouched)) or 'nothing'}")
    else:
        _print_project(console, plan.project)
    script = Table(title="script", title_justify="left")
    script.add_column("step")
    script.add_column("what")
    script.add_column("at most", justify="right")
    for line in plan.script:
        script.add_row(line.verb, escape(line.text), f"{line.seconds:g} s" if line.seconds else "")
    console.print(script)
    for ident, statement in plan.claims:
        console.print(f"  {ident:<5} {escape(statement)}", highlight=False)


def _print_project(console: Console, project: PlannedProject) -> None:
    """Every container of an existing project: what changes and how that is undone, or why not."""
    console.print(
        f"\nCompose project {escape(project.name)}: {len(project.containers)} containers, at most "
        f"{project.most_targets} are hit at the same time",
        highlight=False,
    )
    for one in project.containers:
        word = "[bold red]touched[/]" if one.changes else "[bold]never touched[/]"
        why = f": {one.why}" if one.why else ""
        console.print(
            f"{word} {escape(one.container)} ({one.id}), service {escape(one.service)}"
            f"{escape(why)}",
            highlight=False,
        )
        if one.changes:
            lines = [("network", text) for text in one.networks]
            lines += [("change", text) for text in one.changes]
            lines += [("undo", text) for text in one.undo] + [("note", text) for text in one.notes]
            lines.append(("stays", f"its id, its environment, restart policy {one.restart}"))
            for what, text in lines:
                console.print(f"  {what:<8} {escape(text)}", highlight=False)
