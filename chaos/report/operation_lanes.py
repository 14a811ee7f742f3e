"""Clinical operations per priority class as bars over time: answered, refused, not answered.

It counts nothing: the bins come ready from `timeline`.
"""

from __future__ import annotations

from chaos.report.drawing import Frame, Line, Rect, Row, Shape, px
from chaos.report.labels import heading, lane_name, remark
from chaos.report.timeline import Bin, ClassLane, Timeline
from chaos.report.wording import duration, number, visible
from chaos.terms import Terms

TALL = 36.0
FAILED_MIN_PX = 2.5


def operation_rows(frame: Frame, timeline: Timeline, terms: Terms) -> list[Row]:
    note = f"one bar = {timeline.bin_s:g} s; each class has its own height scale"
    rows = [heading(frame, "Clinical operations", note)]
    if not timeline.classes:
        return [*rows, remark(frame, "No operation was recorded.")]
    return rows + [_operation_row(frame, lane, timeline.bin_s, terms) for lane in timeline.classes]


def _operation_row(frame: Frame, lane: ClassLane, bin_s: float, terms: Terms) -> Row:
    name = visible(lane.name, 40)
    y, shapes = lane_name(frame, 20, name, terms.klass(lane.name))
    top = max(b.asked for b in lane.bins) or 1
    base = y + TALL + 2
    for i, b in enumerate(lane.bins):
        if b.asked:
            shapes += _bar(frame, b, i * bin_s, bin_s, base, TALL / top, name)
    shapes.append(Line(frame.left, px(base), frame.end_x, px(base), "base"))
    return Row(TALL + 8 + y, tuple(shapes))


def _bar(
    frame: Frame, b: Bin, at_s: float, bin_s: float, base: float, per_op: float, name: str
) -> list[Shape]:
    """One bin: answered at the bottom, then refused, then unanswered; a failure is never thinner
    than 2.5 px, so that one lost operation among thousands can still be seen."""
    x = frame.x(at_s)
    w = px(max(0.8, frame.x(at_s + bin_s) - x - 0.4))
    title = (
        f"{name}, {duration(at_s)}: {number(b.answered)} answered,"
        f" {number(b.refused)} refused, {number(b.unknown)} not answered"
    )
    failed = [(b.refused, "refused"), (b.unknown, "lost")]
    heights = [(max(FAILED_MIN_PX, n * per_op), cls) for n, cls in failed if n]
    bad = sum(h for h, _ in heights)
    good = max(0.0, b.asked * per_op - bad)
    shapes: list[Shape] = []
    y = base
    for h, cls in [(good, "answered"), *heights]:
        if h > 0:
            y -= h
            shapes.append(Rect(x, px(y), w, px(h), f"ops {cls}", title))
    return shapes
