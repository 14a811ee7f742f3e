"""Latency per priority class, and clinical turnaround in hospital time, as lanes of the timeline.

Quantiles come ready from `timeline`; this module only places them on a logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from chaos.report.drawing import Frame, Line, Path, Row, Shape, Text, fitted, px
from chaos.report.terms import Terms
from chaos.report.timeline import Bin, ClassLane, Timeline
from chaos.report.wording import latency, number, visible

TALL = 46.0
TOP = 12.0  # room above the scale for operations that were never answered
FONT, SMALL = 12.0, 10.5


def latency_rows(frame: Frame, timeline: Timeline, terms: Terms) -> list[Row]:
    """One lane per class: p50 solid, p95 dashed, a triangle on top where answers never came."""
    lanes = [lane for lane in timeline.classes if any(b.asked for b in lane.bins)]
    if not lanes:
        return []
    scale = _scale(_values(lanes))
    rows = [_heading(frame, "Answer time", "machine time, not compressed; counted from the"
                     " intended start; ▲ = never answered")]  # fmt: skip
    for lane in lanes:
        rows.append(_row(frame, lane, timeline.bin_s, scale, terms.klass(lane.name), latency))
    return rows


def turnaround_rows(frame: Frame, timeline: Timeline, terms: Terms) -> list[Row]:
    """One lane per kind that lasts as long as people and analysers take, in hospital time."""
    if not timeline.turnarounds:
        return []
    note = f"human time: shown as hospital time, {timeline.speed:g} × the seconds of the axis"
    rows = [_heading(frame, "Clinical turnaround", note)]
    lived = [_lived(lane, timeline.speed) for lane in timeline.turnarounds]
    scale = _scale(_values(lived))
    for lane in lived:
        rows.append(_row(frame, lane, timeline.bin_s, scale, terms.kind(lane.name), latency))
    return rows


def _lived(lane: ClassLane, speed: float) -> ClassLane:
    def times(ms: float | None) -> float | None:
        return None if ms is None else ms * speed

    return ClassLane(
        lane.name,
        tuple(
            Bin(b.answered, b.refused, b.unknown, times(b.p50_ms), times(b.p95_ms))
            for b in lane.bins
        ),
    )


def _values(lanes: Iterable[ClassLane]) -> list[float]:
    return [ms for lane in lanes for b in lane.bins for ms in (b.p50_ms, b.p95_ms) if ms]


def _scale(values: list[float]) -> tuple[int, int]:
    """Decades (powers of ten, in ms) that hold all values, at least one decade."""
    low, high = min(values, default=1.0), max(values, default=100.0)
    first = max(-1, math.floor(math.log10(max(low, 0.1))))
    return first, max(first + 1, math.ceil(math.log10(max(high, 0.2)) - 1e-9))


def _heading(frame: Frame, text: str, note: str) -> Row:
    shapes: list[Shape] = [Text(2 if frame.narrow else 4, 20, text, "h")]
    if not frame.narrow:
        shapes.append(Text(frame.left, 20, note, "note"))
    return Row(28, tuple(shapes), heading=True)


def _row(
    frame: Frame,
    lane: ClassLane,
    bin_s: float,
    scale: tuple[int, int],
    words: str,
    label: Callable[[float], str],
) -> Row:
    first, last = scale
    name = visible(lane.name, 40)
    full = f"{name} {words}".strip()
    shapes: list[Shape] = []
    y0 = 14.0 if frame.narrow else 0.0
    if frame.narrow:
        shapes.append(
            Text(frame.left, 11, fitted(full, frame.width - 8, SMALL), "name", title=full)
        )
    else:
        shapes.append(Text(12, 28, fitted(name, 92, FONT), "name", title=full))
        shapes.append(Text(12, 41, fitted(words, 98, SMALL), "words", title=full))

    def y(ms: float) -> float:
        share = (math.log10(max(ms, 10.0**first)) - first) / (last - first)
        return px(y0 + TOP + TALL * (1 - min(1.0, share)))

    stride = max(1, math.ceil((last - first) / 3))
    for decade in range(first, last + 1, stride):
        at = y(10.0**decade)
        shapes.append(Line(frame.left, at, frame.end_x, at, "grid"))
        x, anchor = (frame.end_x, "end") if frame.narrow else (frame.left - 5, "end")
        lift = -2 if frame.narrow else 3.5
        shapes.append(Text(x, px(at + lift), label(10.0**decade), "scale", anchor))
    for cls, values in (
        ("p95", [b.p95_ms for b in lane.bins]),
        ("p50", [b.p50_ms for b in lane.bins]),
    ):
        d = _steps(frame, values, bin_s, y)
        if d:
            shapes.append(Path(d, f"line {cls}"))
    shapes += _lost(frame, lane, bin_s, y0, name)
    return Row(y0 + TOP + TALL + 8, tuple(shapes))


def _steps(
    frame: Frame, values: list[float | None], bin_s: float, y: Callable[[float], float]
) -> str:
    """A stepped line with a hole wherever a bin has no answer."""
    parts: list[str] = []
    pen_down = False
    for i, ms in enumerate(values):
        if ms is None:
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{frame.x(i * bin_s):g} {y(ms):g}")
        parts.append(f"H{frame.x((i + 1) * bin_s):g}")
        pen_down = True
    return "".join(parts)


def _lost(frame: Frame, lane: ClassLane, bin_s: float, y0: float, name: str) -> list[Shape]:
    shapes: list[Shape] = []
    for i, b in enumerate(lane.bins):
        if b.unknown:
            x = (frame.x(i * bin_s) + frame.x((i + 1) * bin_s)) / 2
            title = f"{name}: {number(b.unknown)} never answered"
            d = f"M{px(x - 3.5):g} {px(y0 + 9):g}h7l-3.5 -7z"
            shapes.append(Path(d, "lostmark", title))
    return shapes
