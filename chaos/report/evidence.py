"""The journal lines that a verdict cites, made readable without changing a character of them.

It opens no file: whoever has the history hands in the raw lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from chaos.report.wording import at, number, visible

LINES_MAX = 20
MORE_MAX = 60
LINE_CHARS = 1_600
_KEY = re.compile(r'("[A-Za-z_]\w*")(?=\s*:)')


@dataclass(frozen=True, slots=True)
class CitedLine:
    """One line of the journal: where it stands, when it happened, what it says."""

    ref: str
    at: str  # time since the run began, in words; empty when the line does not say
    event: str
    parts: tuple[tuple[str, bool], ...]  # text, and whether it is a key
    found: bool = True


@dataclass(frozen=True, slots=True)
class Cited:
    """All that one claim cites: the first LINES_MAX in full, further references by name."""

    lines: tuple[CitedLine, ...]
    more: tuple[str, ...] = ()
    unnamed: str = ""  # how many references are not even named


def cited(refs: Sequence[str], raw: Callable[[str], str | None], start_t: float) -> Cited:
    """Look up `file:line` references with `raw`; None or an error text never hides a reference."""
    distinct = list(dict.fromkeys(refs))
    rest = distinct[LINES_MAX:]
    unnamed = len(rest) - MORE_MAX
    return Cited(
        tuple(_line(ref, raw(ref), start_t) for ref in distinct[:LINES_MAX]),
        tuple(visible(ref, 120) for ref in rest[:MORE_MAX]),
        number(unnamed) if unnamed > 0 else "",
    )


def _line(ref: str, text: str | None, start_t: float) -> CitedLine:
    shown = visible(ref, 120)
    if text is None:
        missing = "this line is not in the journal that was read"
        return CitedLine(shown, "", "", ((missing, False),), found=False)
    when, event = _when(text, start_t)
    return CitedLine(shown, when, event, _parts(visible(text.strip("\r\n"), LINE_CHARS)))


def _when(text: str, start_t: float) -> tuple[str, str]:
    try:
        line = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return "", ""
    if not isinstance(line, dict):
        return "", ""
    t, event = line.get("t"), line.get("e")
    when = at(t - start_t) if isinstance(t, int | float) and abs(t) < 1e12 else ""
    return when, visible(event, 40) if isinstance(event, str) else ""


def _parts(text: str) -> tuple[tuple[str, bool], ...]:
    pieces = _KEY.split(text)
    return tuple((piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece)
