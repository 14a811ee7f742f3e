"""Recovery objectives drawn: a bar for each figure, from none to the most it can have been.

It draws what `recovery` tells in words; a figure that was not measured has no bar but its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from chaos.objective import Figure, Objective
from chaos.report.drawing import (
    Frame,
    Line,
    Path,
    Rect,
    Row,
    Shape,
    Strip,
    Text,
    fitted,
    nice_step,
    px,
    stacked,
    strips,
    text_width,
)
from chaos.report.labels import SMALL, heading, lane_name
from chaos.report.recovery import (
    FACES_MAX,
    FROM_BACKUP,
    NAME_CHARS,
    NOT_MEASURED,
    SYSTEMS_MAX,
    allowances,
    lost,
    time_away,
)
from chaos.report.recovery import most as most_of
from chaos.report.wording import duration, visible
from chaos.verdict import Judgement

WIDE = (860.0, 250.0, 150.0)  # width, left, right: values stand right of the bars
NARROW = (380.0, 4.0, 118.0)
TALL = 12.0
BOUND_REACH = 4.0
"""A bound further away than so many times the longest bar is told in words only."""
SECONDS_MAX = 366 * 86_400.0

Bar = tuple[str, str, Figure, list[tuple[str, float]], str]
"""System, part, figure, bounds, the value in words."""


def recovery_bars(judgement: Judgement, *, narrow: bool = False) -> tuple[Strip, ...]:
    """Times until service and losses, each on its own axis; nothing where nothing was measured."""
    width, left, right = NARROW if narrow else WIDE
    done: list[Strip] = []
    for title, note, bars in (
        ("Time until service (RTO)", "longest interruption", _times(judgement)),
        ("Loss of data (RPO)", "age of the oldest lost write", _losses(judgement)),
    ):
        every = list(bars)
        if not any(figure.measured for _, _, figure, _, _ in every):
            continue
        frame = Frame(width, left, right, _reach(every), narrow)
        axis = _axis(frame)
        rows = [heading(frame, title, note), axis, *(_row(frame, bar) for bar in every)]
        done += [
            stacked(frame, height, packed, ()) for height, packed in strips([rows], axis)
        ]  # fmt: skip
    return tuple(done)


def _times(judgement: Judgement) -> Iterator[Bar]:
    for one in judgement.objectives[:SYSTEMS_MAX]:
        for figure in one.rto[:FACES_MAX]:
            allowed = allowances(figure, one.bounds, "rto")
            yield _name(one), visible(figure.what, NAME_CHARS), figure, allowed, time_away(figure)


def _losses(judgement: Judgement) -> Iterator[Bar]:
    for one in judgement.objectives[:SYSTEMS_MAX]:
        allowed = allowances(one.rpo, one.bounds, "rpo")
        yield _name(one), "", one.rpo, allowed, lost(one.rpo)


def _name(one: Objective) -> str:
    name = visible(one.words or one.system, NAME_CHARS)
    return f"{name}, {FROM_BACKUP}" if one.source == "backup" else name


def _reach(bars: Sequence[Bar]) -> float:
    """The end of the axis: the longest bar, and bounds that are not far beyond it."""
    longest = max(
        (_drawn(f.most_s if f.most_s is not None else f.least_s) for _, _, f, _, _ in bars),
        default=0.0,
    )
    longest = max(longest, 0.1)
    near = [s for _, _, _, allowed, _ in bars for _, s in allowed if s <= BOUND_REACH * longest]
    return _drawn(1.04 * max([longest, *near]))


def _drawn(s: float | None) -> float:
    return min(SECONDS_MAX, s) if s is not None and s > 0 and math.isfinite(s) else 0.0


def _row(frame: Frame, bar: Bar) -> Row:
    name, part, figure, allowed, value = bar
    title = f"{name}{f', {part}' if part else ''}: {value}. {visible(figure.text, 200)}"
    tall = 30.0 if part and not frame.narrow else 22.0
    y, shapes = lane_name(frame, tall / 2, name, part)
    y += (tall - TALL) / 2
    x0 = frame.left
    if not figure.measured:
        told = f"{NOT_MEASURED}: {visible(figure.text, 200)}"
        room = frame.width - x0 - 4
        shapes.append(Text(x0 + 4, px(y + 10), fitted(told, room, SMALL), "none", title=title))
        return Row(px(y + (tall + TALL) / 2), tuple(shapes))
    least = frame.x(_drawn(figure.least_s))
    most = frame.end_x if figure.most_s is None else frame.x(_drawn(figure.most_s))
    if least > x0:
        shapes.append(Rect(x0, px(y), px(least - x0), TALL, "recovery sure", title))
    shapes.append(Rect(px(least), px(y), px(max(1.5, most - least)), TALL, "recovery open", title))
    if figure.most_s is None:  # longer than the evidence
        shapes.append(Path(f"M{px(most)} {px(y)}l7 6l-7 6z", "recovery more", title))
    end = max(most, least + 1.5)
    for claim, s in allowed:
        x = frame.x(s)
        if s <= frame.duration_s:
            told = f"{visible(claim, 40)} allows {most_of(s)}"
            shapes.append(Rect(px(x - 1.2), px(y - 3), 2.4, TALL + 6, "recovery bound", told))
            end = max(end, x + 2) if x - end < text_width(value, SMALL) + 14 else end
    text = value + "".join(
        f"; {visible(claim, 12)}: {most_of(s)}" for claim, s in allowed if s > frame.duration_s
    )
    at = end + (11 if figure.most_s is None else 6)
    room = frame.width - at - 2
    shapes.append(Text(px(at), px(y + 10), fitted(text, room, SMALL), "value", title=title))
    return Row(px(y + (tall + TALL) / 2), tuple(shapes))


def _axis(frame: Frame) -> Row:
    step = nice_step(frame.duration_s, 3 if frame.narrow else 6)
    shapes: list[Shape] = [Line(frame.left, 16, frame.end_x, 16, "axis")]
    for i in range(int(frame.duration_s / step + 1e-9) + 1):
        x = frame.x(i * step)
        anchor = "start" if i == 0 else "middle"
        shapes.append(Line(x, 12, x, 16, "axis"))
        shapes.append(Text(x, 9, duration(i * step), "tick", anchor))
    return Row(22, tuple(shapes))
