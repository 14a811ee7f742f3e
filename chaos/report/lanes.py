"""The timeline put together: lanes of services, faults, operations and latency on one time axis.

It only places shapes for values that `timeline` already holds; it counts and judges nothing.
"""

from __future__ import annotations

import math

from chaos.report.drawing import (
    Frame,
    Line,
    Rect,
    Row,
    Shape,
    Strip,
    Text,
    nice_step,
    px,
    stacked,
    strips,
    text_width,
)
from chaos.report.labels import NAME_X, SMALL
from chaos.report.latency_lanes import latency_rows, turnaround_rows
from chaos.report.operation_lanes import operation_rows
from chaos.report.service_lanes import fault_rows, service_rows
from chaos.report.timeline import FaultLane, Timeline, Window
from chaos.report.wording import duration, hospital_time, number, visible
from chaos.terms import Terms

WIDE = (860.0, 178.0, 12.0)  # width, left, right: on A4 the small text is still 7 points high
NARROW = (380.0, 4.0, 10.0)
FLAG_LEVELS = 3
MARKED_FAULTS_MAX = 12
"""With more faults than these, marks would hide the lanes; the faults' own lanes show them all."""
WINDOW_WORDS = {"warmup": "warm-up", "fault": "fault window", "settle": "settling"}


def drawn(timeline: Timeline, terms: Terms, *, narrow: bool = False) -> tuple[Strip, ...]:
    """The whole timeline as strips on one shared time axis, wide (desk, paper) or for a phone."""
    width, left, right = NARROW if narrow else WIDE
    frame = Frame(width, left, right, max(timeline.duration_s, 1e-3), narrow)
    axis = _axis_row(frame, timeline.speed)
    bands = [
        [*_window_rows(frame, timeline.windows), *_flag_rows(frame, timeline.faults), axis],
        service_rows(frame, timeline.services),
        fault_rows(frame, timeline),
        operation_rows(frame, timeline, terms),
        latency_rows(frame, timeline, terms),
        turnaround_rows(frame, timeline, terms),
        [axis],
    ]
    return tuple(
        stacked(frame, height, packed, _ground(frame, timeline, height))
        for height, packed in strips(bands, axis)
    )


def _ground(frame: Frame, timeline: Timeline, height: float) -> tuple[Shape, ...]:
    shapes: list[Shape] = []
    for w in timeline.windows:
        x, x2 = frame.x(w.start_s), frame.x(w.end_s)
        shapes.append(Rect(x, 0, px(x2 - x), px(height), f"ground {_safe(w.name)}"))
    for f in timeline.faults if len(timeline.faults) <= MARKED_FAULTS_MAX else ():
        for at_s, cls in ((f.began_s, "began"), (f.seen_s, "seen"), (f.ended_s, "ended")):
            if at_s is not None:
                x = frame.x(at_s)
                shapes.append(Line(x, 0, x, px(height), f"mark {cls}"))
    return tuple(shapes)


def _safe(name: str) -> str:
    return name if name in WINDOW_WORDS else "other"


def _window_rows(frame: Frame, windows: tuple[Window, ...]) -> list[Row]:
    shapes: list[Shape] = []
    for w in windows:
        x, x2 = frame.x(w.start_s), frame.x(w.end_s)
        name = visible(WINDOW_WORDS.get(w.name, w.name), 40)
        state = (
            "" if w.ok and w.closed else " (never ended)" if not w.closed else " (not as wanted)"
        )
        title = f"{name}{state}: {duration(w.start_s)} to {duration(w.end_s)}"
        shapes.append(Rect(x, 3, px(max(1.5, x2 - x)), 17, f"window {_safe(w.name)}", title))
        for text in (name + state, name, name.split(" ")[0]):
            if text_width(text, SMALL) + 6 <= x2 - x:
                shapes.append(Text(px((x + x2) / 2), 15.5, text, "tag", "middle"))
                break
    return [Row(22, tuple(shapes))] if shapes else []


def _flag_rows(frame: Frame, faults: tuple[FaultLane, ...]) -> list[Row]:
    """A numbered flag where each fault began and a hollow one where it was undone."""
    ends = [-math.inf] * FLAG_LEVELS
    shapes: list[Shape] = []
    flags = [(f.began_s, f, "began") for f in faults]
    if len(faults) <= MARKED_FAULTS_MAX:
        flags += [(f.ended_s, f, "ended") for f in faults if f.ended_s is not None]
    used = 0
    for at_s, f, what in sorted(flags, key=lambda flag: (flag[0], flag[1].number, flag[2])):
        label = f"{f.number} {'begins' if what == 'began' else 'undone'}"
        w = text_width(label, SMALL) + 8
        x = min(frame.x(at_s), frame.end_x - w)
        level = next((i for i, end in enumerate(ends) if end <= x), None)
        if level is None:
            continue  # crowded: the line and the lane still show it
        ends[level] = x + w + 3
        used = max(used, level + 1)
        y = 2 + level * 17
        title = f"Fault {f.number} {what} at {duration(at_s)}: {visible(f.story, 200)}"
        shapes.append(Rect(px(x), y, px(w), 15, f"flag {what}", title))
        shapes.append(Text(px(x + w / 2), y + 11.2, label, f"flagtext {what}", "middle"))
    return [Row(2 + 17 * used, tuple(shapes))] if shapes else []


def _axis_row(frame: Frame, speed: float) -> Row:
    """Ticks in seconds; where time is compressed, hospital time below them."""
    lived = speed > 0 and not math.isclose(speed, 1.0)
    step = nice_step(frame.duration_s, 4 if frame.narrow else 9)
    shapes: list[Shape] = [Line(frame.left, 4, frame.end_x, 4, "axis")]
    if not frame.narrow:
        shapes.append(Text(NAME_X, 17, "seconds since start", "words"))
        if lived:
            shapes.append(Text(NAME_X, 30, f"hospital time (× {speed:g})", "words"))
    free = [-math.inf, -math.inf]
    for i in range(int(frame.duration_s / step + 1e-9) + 1):
        x = frame.x(i * step)
        shapes.append(Line(x, 1, x, 7, "axis"))
        labels = [f"{number(i * step) if step >= 1 else f'{i * step:.1f}'} s"]
        if lived:
            labels.append(f"+{hospital_time(i * step, speed)}" if i else "+0")
        for row, label in enumerate(labels):
            half = text_width(label, SMALL) / 2
            middle = min(max(x, half), frame.width - half)
            if middle - half > free[row]:
                free[row] = middle + half + 4
                cls = "tick lived" if row else "tick"
                shapes.append(Text(px(middle), 17 + 13 * row, label, cls, "middle"))
    return Row(36 if lived else 22, tuple(shapes))
