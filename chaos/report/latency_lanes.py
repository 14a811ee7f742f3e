"""Answer times per priority class, and clinical turnaround in hospital time, as lanes.

Quantiles come ready from `timeline`; this module only places them on a logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chaos.report.drawing import Frame, Line, Path, Rect, Row, Shape, Text, px
from chaos.report.labels import heading, lane_name
from chaos.report.timeline import Bin, ClassLane, Timeline
from chaos.report.wording import duration, hospital_time, latency, number, visible
from chaos.terms import Terms

TALL = 46.0
TOP = 12.0  # room above the scale for operations that were never answered
MARGIN = 52.0  # room for the scale's labels
TICKS_MAX = 3
MACHINE_MS = (0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0)
HUMAN_MS = tuple(
    s * 1_000.0
    for s in (0.01, 0.1, 1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic scale from `low_ms` to `high_ms` with its labelled lines."""

    low_ms: float
    high_ms: float
    ticks: tuple[tuple[float, str], ...]

    def share(self, ms: float) -> float:
        """0 at the low end, 1 at the high end, kept inside."""
        span = math.log(self.high_ms / self.low_ms)
        return min(1.0, max(0.0, math.log(max(ms, self.low_ms) / self.low_ms) / span))


def latency_rows(frame: Frame, timeline: Timeline, terms: Terms) -> list[Row]:
    """One lane per class: p50 thick, p95 thin, a triangle on top where answers never came."""
    lanes = timeline.classes
    if not lanes:
        return []
    note = "machine time, not compressed; from the intended start; ▲ never answered"
    scale = _scale(lanes, MACHINE_MS, human=False)
    rows = [heading(frame, "Answer time", note)]
    return rows + [_row(frame, k, timeline.bin_s, scale, terms.klass(k.name)) for k in lanes]


def turnaround_rows(frame: Frame, timeline: Timeline, terms: Terms) -> list[Row]:
    """One lane per kind that lasts as long as people and analysers take, in hospital time."""
    if not timeline.turnarounds:
        return []
    note = "human time, in hospital minutes and hours"
    if timeline.speed != 1:
        note += f": {timeline.speed:g} × the seconds of the axis"
    lanes = [_lived(lane, timeline.speed) for lane in timeline.turnarounds]
    scale = _scale(lanes, HUMAN_MS, human=True)
    rows = [heading(frame, "Clinical turnaround", note)]
    return rows + [_row(frame, k, timeline.bin_s, scale, terms.kind(k.name)) for k in lanes]


def _lived(lane: ClassLane, speed: float) -> ClassLane:
    def times(ms: float | None) -> float | None:
        return None if ms is None else ms * speed

    bins = (
        Bin(b.answered, b.refused, b.unknown, times(b.p50_ms), times(b.p95_ms)) for b in lane.bins
    )
    return ClassLane(lane.name, tuple(bins))


def _scale(lanes: Iterable[ClassLane], marks: Sequence[float], *, human: bool) -> Scale:
    """From the last mark below all values to the first one above them."""
    values = [ms for lane in lanes for b in lane.bins for ms in (b.p50_ms, b.p95_ms) if ms]
    low, high = min(values, default=marks[1]), max(values, default=marks[3])
    first = max((i for i, ms in enumerate(marks) if ms <= low), default=0)
    last = min((i for i, ms in enumerate(marks) if ms >= high), default=len(marks) - 1)
    last = max(last, first + 1) if first + 1 < len(marks) else last
    first = min(first, last - 1)
    stride = math.ceil((last - first) / (TICKS_MAX - 1))
    shown = range(last, first - 1, -stride)
    return Scale(
        marks[first],
        marks[last],
        tuple((marks[i], hospital_time(marks[i] / 1e3, 1) if human else latency(marks[i]))
              for i in shown),
    )  # fmt: skip


def _row(frame: Frame, lane: ClassLane, bin_s: float, scale: Scale, words: str) -> Row:
    name = visible(lane.name, 40)
    y0, shapes = lane_name(frame, TOP + TALL / 2, name, words, MARGIN)
    top = y0 + TOP

    def y(ms: float) -> float:
        return px(top + TALL * (1 - scale.share(ms)))

    for ms, label in scale.ticks:
        shapes.append(Line(frame.left, y(ms), frame.end_x, y(ms), "grid"))
        if frame.narrow:
            shapes.append(Text(frame.end_x, px(y(ms) - 2), label, "scale", "end"))
        else:
            shapes.append(Text(frame.left - 5, px(y(ms) + 3.5), label, "scale", "end"))
    upper: list[float | None] = []
    lower: list[float | None] = []
    for i, b in enumerate(lane.bins):
        upper.append(None if b.p95_ms is None else y(b.p95_ms))
        lower.append(None if b.p50_ms is None else y(b.p50_ms))
        shapes += _bin(frame, b, i * bin_s, bin_s, (upper[-1], lower[-1]), (y0, name))
    for cls, ys in (("p95", upper), ("p50", lower)):
        if d := _steps(frame, ys, bin_s):
            shapes.append(Path(d, f"line {cls}"))
    return Row(top + TALL + 8, tuple(shapes))


def _bin(
    frame: Frame,
    b: Bin,
    at_s: float,
    bin_s: float,
    ys: tuple[float | None, float | None],
    lane: tuple[float, str],
) -> list[Shape]:
    """The band between p50 and p95, and a triangle for operations without an answer."""
    x, x2 = frame.x(at_s), frame.x(at_s + bin_s)
    (upper, lower), (y0, name) = ys, lane
    shapes: list[Shape] = []
    if upper is not None and lower is not None:
        title = (
            f"{name}, {duration(at_s)}: half within {latency(b.p50_ms)},"
            f" 19 of 20 within {latency(b.p95_ms)}"
        )
        shapes.append(Rect(x, upper, px(x2 - x), px(max(0.5, lower - upper)), "band", title))
    if b.unknown:
        title = f"{name}, {duration(at_s)}: {number(b.unknown)} never answered"
        middle = (x + x2) / 2
        shapes.append(Path(f"M{px(middle - 3.5):g} {px(y0 + 9):g}h7l-3.5 -7z", "lostmark", title))
    return shapes


def _steps(frame: Frame, ys: Sequence[float | None], bin_s: float) -> str:
    """A stepped line with a hole wherever a bin has no answer."""
    parts: list[str] = []
    pen_down = False
    for i, y in enumerate(ys):
        if y is not None:
            parts.append(f"{'L' if pen_down else 'M'}{frame.x(i * bin_s):g} {y:g}")
            parts.append(f"H{frame.x((i + 1) * bin_s):g}")
        pen_down = y is not None
    return "".join(parts)
