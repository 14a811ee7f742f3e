"""The short forms: Markdown that cannot be tricked, plain text that fits a terminal."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from chaos import report
from chaos.journal.history import History
from chaos.report.wording import (
    clip,
    duration,
    hospital_time,
    instant,
    latency,
    listed,
    percent,
    visible,
)
from chaos.verdict import Finding, Judgement, Verdict


def test_markdown_holds_outcome_table_and_command(saint_luc: ModuleType, history: History) -> None:
    """One heading, one row per claim, one code block with the command."""
    text = report.markdown(history, saint_luc.judgement(), command=saint_luc.COMMAND)
    assert text.startswith("## ✘ Broken: 2 of 14 claims did not hold\n")
    assert len(re.findall(r"^\| [A-Z]{2}-\d \|", text, flags=re.M)) == 14
    assert f"```\n{saint_luc.COMMAND}\n```" in text


def test_markdown_of_hostile_text_has_no_markup(history: History) -> None:
    """A journal cannot add rows, links, mentions, HTML or a code fence."""
    bad = "a|b\n\n# [x](http://e) @all <img> `c` ``` www.e.com **d** \\|"
    claim = Verdict(bad, bad, Finding.BROKEN, bad, 1, 2)
    text = report.markdown(history, Judgement(bad, 1, bad, Finding.BROKEN, (claim,)), command=bad)
    rows = [line for line in text.splitlines() if line.startswith("| a")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0].replace("\\\\", ""))) == 6
    assert not re.search(r"(?<!\\)[<`\[@]", rows[0].replace("\\\\", ""))
    assert "www.e" not in rows[0]
    assert text.rstrip().endswith("````")  # the fence is longer than any in the command


def test_plain_text_is_short_and_without_control(saint_luc: ModuleType, history: History) -> None:
    """A dozen lines or so, outcome first, reproduction last, nothing a terminal would obey."""
    judged = saint_luc.judgement(reasons=("\x1b[31mred\x07",))
    text = report.plain(history, judged, command=saint_luc.COMMAND, folder="run-7")
    lines = text.splitlines()
    assert lines[0] == "✘ broken: 2 of 14 claims did not hold"
    assert lines[-1] == f"reproduce  {saint_luc.COMMAND}"
    assert len(lines) < 25
    assert all(c.isprintable() for line in lines for c in line)


def test_void_says_why_everywhere(saint_luc: ModuleType, history: History) -> None:
    """Each form names the reason for which nothing is proven."""
    judged = saint_luc.judgement(Finding.VOID, reasons=("fault 2 was never seen",))
    for form in (report.markdown, report.plain, report.html):
        text = form(history, judged)
        assert "This run proves nothing" in text
        assert "fault 2 was never seen" in text


@pytest.mark.parametrize(
    ("s", "words"),
    [(0, "0 s"), (0.042, "0.04 s"), (9.5, "9.5 s"), (28.35, "28.4 s"), (120, "2 min 00 s"),
     (142, "2 min 22 s"), (3_599.9, "1 h 00 min"), (11_100, "3 h 05 min"), (-3, "-3 s")],
)  # fmt: skip
def test_durations_read_well(s: float, words: str) -> None:
    """Seconds become the unit that a person would use."""
    assert duration(s) == words


@pytest.mark.parametrize(
    ("ms", "words"),
    [(None, "–"), (0.04, "0 ms"), (1.0, "1 ms"), (1.26, "1.3 ms"), (12.4, "12 ms"),
     (999.6, "1 s"), (8_900, "8.9 s")],
)  # fmt: skip
def test_latencies_read_well(ms: float | None, words: str) -> None:
    """Milliseconds up to a second, then seconds; no answer is a dash, not a zero."""
    assert latency(ms) == words


@pytest.mark.parametrize(
    ("s", "speed", "words"),
    [(1, 60, "1 min"), (0.5, 60, "30 s"), (38, 60, "38 min"), (60, 60, "1 h"),
     (142, 60, "2 h 22"), (1.5, 60, "1.5 min"), (10, 1, "10 s")],
)  # fmt: skip
def test_hospital_time_reads_well(s: float, speed: float, words: str) -> None:
    """Compressed seconds are told as the hospital lived them."""
    assert hospital_time(s, speed) == words


def test_shares_never_lie_by_rounding() -> None:
    """One failure in a million is not 0 %, and one success less than all is not 100 %."""
    assert percent(1, 1_000_000) == "< 0.1 %"
    assert percent(999_999, 1_000_000) == "> 99.9 %"
    assert (percent(0, 5), percent(5, 5), percent(1, 8)) == ("0 %", "100 %", "12.5 %")
    assert percent(0, 0) == "–"


def test_untrusted_text_is_made_visible() -> None:
    """Control, direction and zero-width characters are shown as escapes; letters stay."""
    assert visible("é病 ok") == "é病 ok"
    assert visible("a\x00\x1b\u202e\u200bb") == "a\\x00\\x1b\\u{202e}\\u{200b}b"
    assert visible("two\nlines") == "two lines"
    assert len(visible("x" * 10_000)) == 4_000
    assert clip("abcdefghij", 7) == "abcd…ij"


def test_an_instant_that_is_none_is_shown_as_it_is() -> None:
    """An RFC 3339 instant is written for people, anything else verbatim."""
    assert instant("2026-11-22T15:00:00+00:00") == "22 Nov 2026, 15:00:00 UTC"
    assert instant("2026-11-22T15:00:00Z", 65) == "22 Nov 2026, 15:01:05 UTC"
    assert instant("yesterday") == "yesterday"
    assert listed(["a", "b", "c"]) == "a, b and c"
