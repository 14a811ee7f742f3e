"""The command line: doctor, list, plan, run, judge, report, gate, up, down, load-ui, heal.

It is glue and decides nothing. Exit codes: 0 held, 1 broken, 2 inconclusive, 3 void, 4 aborted,
64 usage.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos import doctor as surgery
from chaos import run as runs
from chaos.lease import HealedLease, LeaseError, heal, standing, state_folder, take_down
from chaos.verdict import Exit

out = Console()
err = Console(stderr=True)

app = typer.Typer(
    name="hospital-chaos",
    help="Crash servers of a running (mock) hospital and judge whether its claims hold.\n\n"
    "Start with `hospital-chaos list`, look at one with `plan NAME`, then `run NAME`. "
    "Exit codes: 0 held, 1 broken, 2 inconclusive, 3 void, 4 aborted, 64 usage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Experiments = Annotated[
    Path | None, typer.Option("--experiments", help="Folder of test_*.py experiments.")
]
Json = Annotated[bool, typer.Option("--json", help="For machines: JSON on standard output.")]
Preset = Annotated[str, typer.Option(help="Length and density of the traffic: smoke, ci or soak.")]
Seed = Annotated[
    int, typer.Option(help="Seed of the traffic; the same seed, the same hospital day.")
]
RuntimeName = Annotated[
    str, typer.Option("--runtime", help="Where the stack runs: process or docker.")
]
Out = Annotated[Path, typer.Option("--out", help="Where run folders go.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, for example under reports/.")]


UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's own or the one in typer


class Refusal(Exception):
    """A request that cannot be carried out: one line for the person, one exit code."""

    def __init__(self, words: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(words)
        self.code = code


@app.command()
def doctor(json_: Json = False, out_: Out = Path("reports")) -> int:
    """What this machine can do, and how to get what is missing."""
    from chaos import residence

    findings = surgery.examine(state_folder(), out_.resolve(), residence.installed())
    ready = surgery.can_run(findings)
    if json_:
        _print_json({"can_run": ready, "findings": msgspec.to_builtins(findings)})
        return Exit.HELD if ready else Exit.VOID
    table = Table()
    for column in ("", "what", "found", "what to do"):
        table.add_column(column)
    for f in findings:
        sign = "[green]✔[/]" if f.ok else ("[bold red]✘[/]" if f.needed else "[yellow]–[/]")
        table.add_row(sign, f.what, f.detail, f.remedy)
    out.print(table)
    for lease in standing():
        out.print(f"a stack stands: {lease.run}, until {lease.until_utc} (hospital-chaos down)")
    word = "[green]ready[/]" if ready else "[bold red]not ready[/]"
    out.print(f"experiments on local processes: {word}")
    return Exit.HELD if ready else Exit.VOID


@app.command("list")
def list_(experiments: Experiments = None, json_: Json = False) -> int:
    """The experiments there are."""
    from chaos import catalogue

    entries = catalogue.entries(catalogue.folder(experiments))
    if json_:
        _print_json([{"name": e.name, "story": e.story} for e in entries])
        return Exit.HELD
    table = Table(box=None)
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what is tried")
    for entry in entries:
        table.add_row(entry.name, entry.story)
    out.print(table)
    out.print("\nhospital-chaos plan NAME shows what one would touch; run NAME runs it.")
    return Exit.HELD


@app.command()
def plan(
    name: str,
    experiments: Experiments = None,
    preset: Preset = "ci",
    runtime: RuntimeName = "process",
    json_: Json = False,
) -> int:
    """Targets, blast radius and undo steps of one experiment; changes nothing."""
    from chaos import catalogue
    from chaos.terminal import print_plan

    options = ["--preset", preset, "--runtime", runtime, "--survey"]
    rehearsal = catalogue.rehearse(catalogue.folder(experiments), name, options)
    planned = rehearsal.plan()
    if json_:
        _print_json(msgspec.to_builtins(planned))
    else:
        print_plan(out, planned)
    return Exit.HELD


@app.command()
def run(
    name: str,
    seed: Seed = 7,
    preset: Preset = "ci",
    runtime: RuntimeName = "process",
    out_: Out = Path("reports"),
    experiments: Experiments = None,
    json_: Json = False,
) -> int:
    """Run one experiment on a freshly raised stack and judge its claims."""
    from chaos import catalogue
    from chaos.terminal import TerminalTeller, print_judgement

    _heal_first()
    options = [
        "--seed", str(seed), "--preset", preset, "--runtime", runtime, "--out", str(out_),
    ]  # fmt: skip
    done = catalogue.run(catalogue.folder(experiments), name, options, TerminalTeller(err))
    if not done.runs:
        raise Refusal("; ".join(done.errors) or f"{name} did not start", Exit.USAGE)
    made, judgement = done.runs[0]
    if judgement is None:
        raise Refusal("; ".join(done.errors) or "nothing could be judged", Exit.VOID)
    if json_:
        _print_json({**msgspec.to_builtins(judgement), "folder": made.folder})
    else:
        print_judgement(out, made, judgement)
    return judgement.exit_code


@app.command()
def judge(folder: RunFolder, experiments: Experiments = None, json_: Json = False) -> int:
    """Judge a run folder's journal again, with nothing running (also of a killed run)."""
    from chaos import archive, catalogue
    from chaos.terminal import print_judgement

    made = runs.load(folder)
    where = catalogue.folder(experiments)
    options = ["--preset", made.preset, "--runtime", made.runtime]
    rehearsal = catalogue.rehearse(where, made.name, options)
    judgement = archive.judge_run(made, rehearsal.claims, rehearsal.stack.systems)
    if json_:
        _print_json(msgspec.to_builtins(judgement))
    else:
        print_judgement(out, made, judgement)
    return judgement.exit_code


@app.command()
def report(folder: RunFolder) -> int:
    """Write report.html, summary.md and junit.xml again from what was judged."""
    from chaos import archive
    from chaos.journal.history import History

    made = runs.load(folder)
    if not (made.path / "verdicts.json").exists():
        raise Refusal(f"{folder} was not judged yet: hospital-chaos judge {folder}")
    archive.write_report(made, History.read(made.journal), archive.read_judgement(made))
    out.print(str(made.path / "report.html"), highlight=False)
    return Exit.HELD


@app.command()
def gate(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, judged before.")],
    must_hold: Annotated[
        list[str] | None, typer.Option(help="A claim that must have been shown; repeatable.")
    ] = None,
    json_: Json = False,
) -> int:
    """Go or no-go from judged runs: exit 0 go, 1 no-go. What was not shown counts against going."""
    from chaos import archive
    from chaos.gate import Policy, decide

    made = [runs.load(folder) for folder in folders]
    for run_ in made:
        if not (run_.path / "verdicts.json").exists():
            raise Refusal(f"{run_.path} was not judged yet: hospital-chaos judge {run_.path}")
    policy = Policy(must_hold=tuple(must_hold or ()))
    decision = decide([archive.read_judgement(run_) for run_ in made], policy)
    if json_:
        _print_json(msgspec.to_builtins(decision))
    else:
        out.print("[green]go[/]" if decision.go else "[bold red]no-go[/]")
        for line in (*decision.reasons, *decision.notes):
            out.print(f"  {escape(line)}", highlight=False)
    return Exit.HELD if decision.go else Exit.BROKEN


@app.command("heal")
def heal_(json_: Json = False) -> int:
    """Undo whatever a killed run left in the world; prints every step."""
    healed = heal()
    if json_:
        _print_json(msgspec.to_builtins(healed))
    else:
        _print_healed(healed)
        if not healed:
            out.print("nothing to heal")
    return Exit.HELD if all(lease.ok for lease in healed) else Exit.VOID


@app.command()
def up(
    stack: Annotated[str, typer.Argument(help="Name of an installed stack.")] = "hospital",
    hours: Annotated[float, typer.Option(help="It goes down by itself after this time.")] = 8.0,
    runtime: RuntimeName = "process",
    json_: Json = False,
) -> int:
    """Raise a stack and let it stand (for looking around, or for load-ui) until `down`."""
    from chaos import residence

    _heal_first()
    place = residence.raise_to_stay(stack, hours * 3600, _service_told, runtime)
    if json_:
        _print_json(place)
    else:
        for name, address in place["direct"].items():
            out.print(f"{name:<28} {address}", highlight=False)
        out.print(f"\n{stack} stands for {hours:g} h; hospital-chaos down takes it down")
    return Exit.HELD


@app.command()
def down(json_: Json = False) -> int:
    """Take down every stack that was raised with `up`."""
    healed = [take_down(lease) for lease in standing()]
    if json_:
        _print_json(msgspec.to_builtins(healed))
    else:
        _print_healed(healed)
        if not healed:
            out.print("nothing stands")
    return Exit.HELD if all(lease.ok for lease in healed) else Exit.VOID


@app.command("load-ui")
def load_ui(
    stack: Annotated[str, typer.Argument(help="Name of an installed stack.")] = "hospital",
    port: Annotated[int, typer.Option(help="Port of Locust's web UI on 127.0.0.1.")] = 8089,
) -> int:
    """Raise a stack and open its traffic in Locust's own web UI until Ctrl-C."""
    from chaos import residence

    _heal_first()
    out.print(f"Locust's web UI: http://127.0.0.1:{port} (Ctrl-C ends it and takes the stack down)")
    return residence.serve_load_ui(stack, port, _service_told)


def _service_told(service: str, state: str) -> None:
    err.print(f"{service} {state}", highlight=False)


def _print_healed(healed: list[HealedLease]) -> None:
    for lease in healed:
        sign = "[green]✔[/]" if lease.ok else "[bold red]✘[/]"
        out.print(f"{sign} {lease.run} {lease.lease}: {escape(lease.text)}", highlight=False)
        for step in lease.steps:
            out.print(f"    {escape(step)}", highlight=False)


def _heal_first() -> None:
    """What a killed run left is undone before anything else; a failure stops the command."""
    for lease in heal():
        word = "healed" if lease.ok else "NOT healed"
        err.print(f"left by a killed run, {word}: {lease.run} {lease.lease}: {escape(lease.text)}")
        if not lease.ok:
            raise Refusal(
                f"{lease.run} {lease.lease} could not be undone: {lease.text}; "
                "`hospital-chaos heal` shows each step, to be done by hand",
                Exit.VOID,
            )


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> None:
    """Entry point of the console script; ends the process with the exit code."""
    signal.signal(signal.SIGINT, _terminated)  # a shell that starts jobs may have it ignored
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, _terminated)
    sys.exit(_guarded(lambda: app(args=argv, standalone_mode=False)))


def _guarded(command: Callable[[], Any]) -> int:
    from chaos.catalogue import CatalogueError, UnknownExperiment
    from chaos.runtime import RuntimeFailure

    try:
        code = command()
        return int(code) if isinstance(code, int) else 0
    except typer.Exit as done:
        return done.exit_code
    except UsageError as error:
        words = getattr(error, "format_message", error.__str__)()
        return _say(f"{words} (see --help)", Exit.USAGE) if words else Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        err.print("aborted")
        return Exit.ABORTED
    except Refusal as refusal:
        return _say(refusal, refusal.code)
    except (UnknownExperiment, CatalogueError, runs.RunFolderError) as error:
        return _say(error, Exit.USAGE)
    except (RuntimeFailure, LeaseError) as error:
        return _say(error, Exit.VOID)
    except BrokenPipeError:
        return Exit.ABORTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{runs.why(error)}", Exit.VOID)


def _say(words: object, code: Exit) -> int:
    line = escape(" ".join(str(words).split()))
    err.print(f"[bold red]hospital-chaos:[/] {line}", highlight=False, soft_wrap=True)
    return code
