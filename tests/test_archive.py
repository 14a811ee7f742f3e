"""The words of a stack: kept in the run folder, found for old folders, shown in every report."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from chaos import archive, report, run
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.terms import NO_WORDS, Terms
from chaos.verdict import Finding, Judgement
from stacks.hospital.claims.integrity import NobodyMixedUp
from stacks.hospital.claims.places import HOMES
from stacks.hospital.stack import hospital
from stacks.hospital.terms import HOSPITAL

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
JUDGED = Judgement("x", 1, "process", Finding.INCONCLUSIVE, ())


def folder(out: Path, stack: str, **more: object) -> run.Run:
    """A run folder with one decision of the crisis cell in its journal."""
    made = run.create(out, "x", seed=1, runtime="process", preset="smoke", now=NOW, **more)
    events = [
        ev.RunStarted(1.0, "x", 1, "process", NOW.isoformat(), "smoke", 60.0, stack, {}),
        ev.OpInvoked(5.0, "a", "decision.cancel", "P3", 5.0, key="D1", value="consultation"),
        ev.OpOk(5.5, "a", "200"),
        ev.OpInvoked(6.0, "b", "decision.cancel", "P3", 6.0, key="D2", value="endoscopy"),
        ev.OpRefused(6.5, "b", "scheduling: 503"),
    ]
    data = msgspec.json.Encoder().encode_lines(events)
    (made.journal / "traffic.jsonl").write_bytes(data)
    return made


def written(made: run.Run) -> str:
    archive.write_report(made, History.read(made.journal), JUDGED)
    return (made.path / "report.html").read_text()


def test_a_run_folder_keeps_the_words_of_its_stack(tmp_path: Path) -> None:
    """The report of a stack that is not installed here still speaks its language."""
    words = Terms(kinds={"decision.cancel": "a word of another stack"})
    made = folder(tmp_path, "not installed", terms=words)
    assert run.load(made.path).terms == words
    assert "a word of another stack" in written(run.load(made.path))


def test_the_hospitals_words_survive_the_folder(tmp_path: Path) -> None:
    """What the stack says is what is read back."""
    made = folder(tmp_path, "hospital", terms=hospital(defect="").terms)
    assert run.load(made.path).terms == HOSPITAL


@pytest.mark.parametrize(
    ("stack", "shown"), [("hospital", True), ("not installed", False), ("", False)]
)
def test_a_folder_from_before_words_were_kept_is_readable(
    tmp_path: Path, stack: str, shown: bool
) -> None:
    """It gets the words of the installed stack of its name, else the journal's names."""
    made = folder(tmp_path, stack)
    told = msgspec.json.decode((made.path / "run.json").read_bytes())
    told.pop("terms", None)
    (made.path / "run.json").write_bytes(msgspec.json.encode(told))
    old = run.load(made.path)
    assert old.terms is None
    page = written(old)
    assert "decision.cancel" in page
    assert ("crisis cell calls off appointments" in page) is shown
    assert (archive.words(old, History.read(old.journal)) == NO_WORDS) is not shown


def test_decisions_are_moments_of_the_timeline(tmp_path: Path) -> None:
    """What the crisis cell decided stands among the faults, and what it could not do."""
    made = folder(tmp_path, "hospital")
    page = report.html(History.read(made.journal), JUDGED, terms=HOSPITAL)
    assert "The crisis cell calls off appointments: consultation" in page
    assert "endoscopy, in vain (scheduling: 503)" in page


def test_every_operation_that_claims_judge_has_words() -> None:
    """A chief medical officer reads words, not names of kinds."""
    judged = {*HOMES, *NobodyMixedUp().answers, "decision.cancel", "session.held", "back.office"}
    assert judged <= set(HOSPITAL.kinds)
    assert HOSPITAL.human_kinds | HOSPITAL.lock_probes | set(HOSPITAL.acts) <= set(HOSPITAL.kinds)
