"""How numbers, durations and untrusted text are written in every report.

It decides nothing about a run and never lets a control character through.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta

CLIP_CHARS = 4_000
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str, limit: int = CLIP_CHARS) -> str:
    """The text with control, direction-changing and unassigned characters written as escapes.

    Journal text comes from systems under fault: it may hold anything. Longer than `limit`
    characters is cut in the middle, and says so.
    """
    if len(text) > limit:
        text = clip(text, limit)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if unicodedata.category(c) not in _HIDDEN else _escape(c) for c in text)


def _escape(char: str) -> str:
    if char in "\n\t":
        return " "
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, cut in the middle where names differ least."""
    if len(text) <= limit:
        return text
    tail = max(1, (limit - 1) // 3)
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"


def number(n: float) -> str:
    """12345 → `12,345`."""
    return f"{n:,.0f}"


def count(n: int, noun: str, plural: str = "") -> str:
    """`1 claim`, `2 claims`, `1,000 claims`."""
    return f"{number(n)} {noun if n == 1 else plural or noun + 's'}"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def because(text: str, reason: str) -> str:
    """`text: reason`, or the text alone when no reason was given."""
    return f"{text}: {reason}" if reason else text


def percent(part: float, whole: float) -> str:
    """`12.3 %`; never rounds something to 0 % nor less than all to 100 %."""
    if whole <= 0:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.1f}".removesuffix(".0") + " %"


def duration(s: float) -> str:
    """Seconds in words a person reads: `0.42 s`, `12.3 s`, `2 min 22 s`, `3 h 05 min`."""
    sign, s = ("-", -s) if s < 0 else ("", s)
    if s < 9.995:
        text = f"{s:.2f}".rstrip("0").rstrip(".") + " s"
    elif s < 99.95:
        text = f"{s:.1f}".removesuffix(".0") + " s"
    elif s < 3_599.5:
        whole = round(s)
        text = f"{whole // 60} min {whole % 60:02d} s"
    else:
        minutes = round(s / 60)
        text = f"{minutes // 60} h {minutes % 60:02d} min"
    return sign + text


def at(s: float) -> str:
    """An instant of the run as the time axis writes it: `118.4 s`."""
    return f"{s:,.1f}".removesuffix(".0") + " s"


def latency(ms: float | None) -> str:
    """Milliseconds: `0.4 ms`, `12 ms`, `1.24 s`, `2 min 22 s`; a dash when there is none."""
    if ms is None:
        return "–"
    if ms < 9.95:
        return f"{ms:.1f}".removesuffix(".0") + " ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    return duration(ms / 1_000)


def hospital_time(s: float, speed: float) -> str:
    """Real seconds as the hospital lived them: `40 s`, `1.5 min`, `38 min`, `2 h 05`."""
    lived = s * speed
    if lived < 59.95:
        return duration(lived)
    minutes = lived / 60
    if minutes < 9.95:
        return f"{minutes:.1f}".removesuffix(".0") + " min"
    if minutes < 59.5:
        return f"{minutes:.0f} min"
    whole = round(minutes)
    return f"{number(whole // 60)} h" + (f" {whole % 60:02d}" if whole % 60 else "")


def instant(utc: str, after_s: float = 0.0) -> str:
    """An RFC 3339 instant, `after_s` later, as `22 Nov 2026, 16:00:05 UTC`; verbatim if unclear."""
    try:
        at = datetime.fromisoformat(utc) + timedelta(seconds=after_s)
    except (ValueError, OverflowError):
        return visible(utc, 40) if after_s == 0 else ""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    zone = at.tzname() or "UTC"
    return f"{at.day} {months[at.month - 1]} {at.year}, {at:%H:%M:%S} {zone}"
