"""A run folder's results: judge the journal that lies there and write what people and CI read.

It touches nothing but the run folder, so it can be done again later with nothing running.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

import msgspec

from chaos import report
from chaos.claims import Claim
from chaos.claims.judge import judge
from chaos.journal.history import History
from chaos.run import Run, write_atomically
from chaos.stack import Stack
from chaos.systems import System
from chaos.terms import NO_WORDS, Terms
from chaos.verdict import Judgement

STACKS = "hospital_chaos.stacks"
"""Entry points that make stacks."""


def judge_run(run: Run, claims: Sequence[Claim], systems: Sequence[System] = ()) -> Judgement:
    """Read the journal, judge the claims, measure how the systems recovered; write verdicts.json
    and the pages."""
    history = History.read(run.journal)
    judgement = judge(history, claims, systems)
    judgement = msgspec.structs.replace(
        judgement, name=run.name, seed=run.seed, runtime=run.runtime
    )
    write_atomically(
        run.path / "verdicts.json", msgspec.json.format(msgspec.json.encode(judgement))
    )
    write_report(run, history, judgement)
    return judgement


def write_report(run: Run, history: History, judgement: Judgement) -> None:
    """Write report.html, summary.md and junit.xml again from what was judged."""
    command, folder, story = run.command, run.path.name, run.story
    terms = words(run, history)
    pages = {
        "report.html": report.html(
            history, judgement, command=command, folder=folder, story=story, terms=terms
        ),
        "summary.md": report.markdown(
            history, judgement, command=command, folder=folder, story=story, terms=terms
        ),
        "junit.xml": report.junit(judgement, command=command, folder=folder),
    }
    for name, text in pages.items():
        write_atomically(run.path / name, text.encode())


def words(run: Run, history: History) -> Terms:
    """The stack's words that the run folder keeps; a folder from before they were kept gets those
    of the installed stack of that name, and the journal's own names where none is installed."""
    if run.terms is not None:
        return run.terms
    stack = history.run.stack if history.run else ""
    for point in entry_points(group=STACKS, name=stack):
        try:
            made = point.load()()
        except Exception:  # words are a courtesy: a stack that does not load spoils no report
            return NO_WORDS
        return made.terms if isinstance(made, Stack) else NO_WORDS
    return NO_WORDS


def read_judgement(run: Run) -> Judgement:
    """The verdicts that were written before."""
    return msgspec.json.decode((run.path / "verdicts.json").read_bytes(), type=Judgement)
