"""What a person sees while an experiment runs, and the tables that end it.

It only prints; progress goes to standard error so that `--json` stays alone on standard output.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos.plan import Plan
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
    sign, colour = SIGNS[judgement.outcome]
    for reason in judgement.reasons:
        console.print(f"[{colour}]{sign}[/] {escape(reason)}", highlight=False)
    console.print(f"outcome    [{colour}]{sign} {judgement.outcome}[/]", highlight=False)
    console.print(f"report     {escape(str(run.path / 'report.html'))}", highlight=False)
    console.print(f"reproduce  {escape(run.command)}", highlight=False, soft_wrap=True)


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
    console.print(f"\n[bold]never touched[/] {escape(', '.join(plan.untouched)) or 'nothing'}")
    script = Table(title="script", title_justify="left")
    script.add_column("step")
    script.add_column("what")
    script.add_column("at most", justify="right")
    for line in plan.script:
        script.add_row(line.verb, escape(line.text), f"{line.seconds:g} s" if line.seconds else "")
    console.print(script)
    for ident, statement in plan.claims:
        console.print(f"  {ident:<5} {escape(statement)}", highlight=False)
