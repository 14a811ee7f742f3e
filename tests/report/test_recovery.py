"""Recovery objectives in every report: figures, their reasons, nothing that was not measured."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from types import ModuleType

import msgspec
import pytest
from rich.console import Console

from chaos import report
from chaos.journal.history import History
from chaos.objective import Bound, Figure, Objective
from chaos.report.recovery import beside, lost, system_rows, time_away
from chaos.report.recovery_bars import recovery_bars
from chaos.run import Run
from chaos.terminal import print_judgement
from chaos.verdict import Judgement


@pytest.fixture(scope="module")
def judged(saint_luc: ModuleType) -> Judgement:
    made: Judgement = msgspec.structs.replace(saint_luc.judgement(), objectives=saint_luc.MEASURED)
    return made


class Reader(HTMLParser):
    """The text, and every SVG's label and titles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.labels: list[str] = []
        self.classes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "svg" and found.get("role") == "img":
            self.labels.append(found.get("aria-label") or "")
        self.classes.append(found.get("class") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_the_page_has_a_table_of_every_system(judged: Judgement, history: History) -> None:
    """Figures with their counts and bounds; reasons where there is none; drills apart."""
    text = squeezed(read(report.html(history, judged)).text)
    table = text[text.index("what was not measured is not zero.") :]
    table = table[: table.index("Patients, while the faults lasted")]
    assert "orders are taken: 8.4 to 8.9 s, allowed 60 s (OR-1)" in table
    assert "466 operations asked while it lasted, 21 in vain" in table
    assert "0.9 to 1.25 s, allowed none (IN-2)" in table
    assert "analysers take tubes: not measured, no fault hit it" in table
    assert "results reach the ward: at least 15 s" in table
    assert "not measured, nobody knows: lis was not read to its end" in table
    assert "from backup" in table
    assert "nothing (known to 2.65 s), allowed 10 s (RA-1)" in table


def test_claims_that_speak_of_a_system_show_its_figures(judged: Judgement) -> None:
    """Beside the claim and its bound; a claim that speaks of none shows none."""
    assert beside(judged, "OR-1") == (
        "orders and prescriptions (orders are taken): RTO 8.4 to 8.9 s, 60 s allowed "
        "(466 operations)",
    )
    assert beside(judged, "IN-2") == (
        "orders and prescriptions: RPO 0.9 to 1.25 s, none allowed (1,904 writes)",
    )
    assert beside(judged, "RA-1") == (
        "orders and prescriptions, from backup: RTO 2.5 to 3 s, 3 min 00 s allowed (1 drill)",
        "orders and prescriptions, from backup: RPO nothing (known to 2.65 s), 10 s allowed "
        "(318 writes)",
    )
    assert beside(judged, "RS-1") == (
        "laboratory (results reach the ward): RTO at least 15 s (12 operations)",
    )
    assert beside(judged, "FO-1") == ()


def test_figures_stand_in_the_row_of_their_claim(judged: Judgement, history: History) -> None:
    """Between the claim's reason and its evidence."""
    text = squeezed(read(report.html(history, judged)).text)
    row = text[text.index("OR-1 “Prescription") : text.index("RS-3 “Urgent")]
    assert "RTO 8.4 to 8.9 s, 60 s allowed (466 operations)" in row


def test_bars_are_readable_without_colour_and_by_ear(judged: Judgement, history: History) -> None:
    """Solid, hatched and a mark; every bar with its value as text and as a title; a figure that was
    not measured has no bar."""
    page = read(report.html(history, judged))
    labels = [label for label in page.labels if label.startswith("Recovery objectives as bars")]
    assert len(labels) >= 4  # two charts, wide and narrow
    drawn = [c for c in page.classes if c.startswith("recovery ")]
    assert {"recovery sure", "recovery open", "recovery bound", "recovery more"} <= set(drawn)
    assert drawn.count("recovery open") == 2 * 5  # five figures, wide and narrow
    shapes = [
        shape for narrow in (False, True) for strip in recovery_bars(judged, narrow=narrow)
        for _, row in strip.rows for shape in row.shapes
    ]  # fmt: skip
    told = [getattr(shape, "title", "") for shape in shapes]
    assert any(t.startswith("orders and prescriptions, orders are taken: 8.4 to") for t in told)
    values = [getattr(shape, "text", "") for shape in shapes]
    assert any(v.startswith("not measured: no fault") for v in values)
    for strip in recovery_bars(judged):
        for _, row in strip.rows:
            for shape in row.shapes:
                right = getattr(shape, "x", 0) + getattr(shape, "w", 0)
                assert 0 <= right <= strip.width


GOLDEN = """\
recovery   orders and prescriptions: RTO orders are taken 8.4 to 8.9 s (466 operations), RPO 0.9 to 1.25 s (1,904 writes)
recovery   orders and prescriptions, from backup: RTO restored from backup 2.5 to 3 s (1 drill), RPO nothing (known to 2.65 s) (318 writes)
recovery   laboratory: RTO results reach the ward at least 15 s (12 operations)
"""  # noqa: E501
GOLDEN_TABLE = r"""
| System | Service again (RTO) | Lost (RPO) |
|---|---|---|
| orders and prescriptions | orders are taken\: **8.4 to 8.9 s**, allowed 60 s \(OR-1\) \(466 operations\) | **0.9 to 1.25 s**, allowed none \(IN-2\) \(1,904 writes\) |
| orders and prescriptions, from backup | restored from backup\: **2.5 to 3 s**, allowed 3 min 00 s \(RA-1\) \(1 drill\) | **nothing \(known to 2.65 s\)**, allowed 10 s \(RA-1\) \(318 writes\) |
| laboratory | analysers take tubes\: not measured \(no fault hit it\); results reach the ward\: **at least 15 s** \(12 operations\) | not measured \(nobody knows\: lis was not read to its end\) |
"""  # noqa: E501


def test_the_short_forms_tell_it_to_the_letter(judged: Judgement, history: History) -> None:
    """One line a system in plain text, one row in Markdown."""
    plain = report.plain(history, judged)
    lines = [line for line in plain.splitlines(keepends=True) if line.startswith("recovery")]
    assert "".join(lines) == GOLDEN
    assert GOLDEN_TABLE in report.markdown(history, judged)


def test_the_terminal_shows_the_table(judged: Judgement) -> None:
    """After the verdicts, with counts; without colour, too."""
    out = io.StringIO()
    run = Run("saint-luc", 7, "process", "ci", "2026-11-22T15:00:00+00:00", "run-7")
    print_judgement(Console(file=out, width=200, no_color=True), run, judged)
    text = squeezed(out.getvalue())
    assert "recovery objectives measured" in text
    assert "orders are taken: 8.4 to 8.9 s, allowed 60 s (OR-1) (466 operations)" in text
    assert "not measured: no fault hit it" in text


def test_a_run_that_proves_nothing_says_so_once(
    saint_luc: ModuleType, history: History
) -> None:  # fmt: skip
    """Not in every row and beside every claim."""
    why = "the run proves nothing"
    none = tuple(
        msgspec.structs.replace(
            one, rto=tuple(Figure(f.what, why) for f in one.rto), rpo=Figure(one.rpo.what, why)
        )
        for one in saint_luc.MEASURED
    )
    judged = msgspec.structs.replace(saint_luc.judgement(), objectives=none)
    assert squeezed(read(report.html(history, judged)).text).count(why) == 1
    assert report.plain(history, judged).count(why) == 1
    assert beside(judged, "OR-1") == ()
    out = io.StringIO()
    run = Run("saint-luc", 7, "process", "ci", "2026-11-22T15:00:00+00:00", "run-7")
    print_judgement(Console(file=out, width=200), run, judged)
    assert out.getvalue().count(why) == 1


def test_a_judgement_of_old_renders_as_before(saint_luc: ModuleType, history: History) -> None:
    """Without the field there is no section, no line and no table, and nothing fails."""
    old = msgspec.json.decode(msgspec.json.encode(saint_luc.judgement()))
    del old["objectives"]
    judged = msgspec.json.decode(msgspec.json.encode(old), type=Judgement)
    page = report.html(history, judged)
    assert "Recovery objectives" not in page
    assert 'class="measured"' not in page
    assert "recovery" not in report.plain(history, judged)
    assert "Service again" not in report.markdown(history, judged)


@pytest.mark.parametrize(
    ("least", "most", "failed", "away", "loss"),
    [
        (None, None, 0, "not measured", "not measured"),
        (None, 3.0, 2, "not measured", "not measured"),
        (0.0, 0.32, 0, "at most 0.32 s", "nothing (known to 0.32 s)"),
        (0.0, None, 0, "at least 0 s", "nothing"),
        (0.0, 0.5, 1, "at most 0.5 s", "0 to 0.5 s"),
        (19.4, 19.7, 3, "19.4 to 19.7 s", "19.4 to 19.7 s"),
        (19.44, 19.44, 3, "19.4 s", "19.4 s"),
        (95.0, 125.0, 3, "95 to 2 min 05 s", "95 s to 2 min 05 s"),
        (12.0, None, 3, "at least 12 s", "at least 12 s"),
    ],
)
def test_figures_read_well(
    least: float | None, most: float | None, failed: int, away: str, loss: str
) -> None:
    """An interval, a bound, or the want of both; never a zero that nobody measured."""
    figure = Figure("x", "y", least, most, 5, failed)
    assert time_away(figure) == away.replace("95 to", "95 s to")
    assert lost(figure) == loss


def test_hostile_and_endless_figures_stay_in_bounds(
    saint_luc: ModuleType, history: History
) -> None:
    """Texts stay texts, and numbers that no run can have still give a page of bounded size."""
    bad = "</svg><script>alert(1)</script>\x1b[31m\u202e|`" + "x" * 5_000
    figure = Figure(bad, bad, 1e308, None, 10**30, 1, (bad,), (bad,))
    wild = Objective(bad, bad, bad, (figure,) * 500, figure, (Bound(bad, bad, True, True, 1e308),))
    judged = msgspec.structs.replace(saint_luc.judgement(), objectives=(wild,) * 500)
    page = report.html(history, judged)
    assert "<script>" not in page
    assert "\x1b" not in page
    assert len(page) < 3_000_000
    assert len(system_rows(judged)) < 100
    report.markdown(history, judged)
    assert all(c.isprintable() or c == "\n" for c in report.plain(history, judged))
