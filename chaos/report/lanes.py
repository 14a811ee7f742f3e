"""The timeline as lanes: windows, services, faults, failed operations and latency, drawn.

It only places shapes for values that `timeline` already holds; it counts and judges nothing.
"""

from __future__ import annotations

import math
from itertools import groupby

from chaos.report.drawing import (
    Frame,
    Line,
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
from chaos.report.latency_lanes import latency_rows, turnaround_rows
from chaos.report.terms import Terms
from chaos.report.timeline import Bin, ClassLane, FaultLane, ServiceLane, Timeline, Window
from chaos.report.wording import clip, duration, hospital_minutes, number, visible

FONT = 12.0
SMALL = 10.5
WIDE = (860.0, 150.0, 12.0)  # width, left, right
NARROW = (380.0, 4.0, 10.0)
FAULT_LANES_MAX = 40
FLAG_LEVELS = 3
KNOWN_STATES = ("ready", "degraded", "paused", "gone", "starting", "stopping")
WINDOW_WORDS = {"warmup": "warm-up", "fault": "fault window", "settle": "settling"}


def drawn(timeline: Timeline, terms: Terms, *, narrow: bool = False) -> tuple[Strip, ...]:
    """The whole timeline as strips on one shared time axis, wide (desk, paper) or for a phone."""
    width, left, right = NARROW if narrow else WIDE
    frame = Frame(width, left, right, max(timeline.duration_s, 1e-3), narrow)
    axis = _axis_row(frame, timeline.speed)
    rows = [
        *_window_rows(frame, timeline.windows),
        *_flag_rows(frame, timeline.faults),
        axis,
        *_service_rows(frame, timeline.services),
        *_fault_rows(frame, timeline),
        *_operation_rows(frame, timeline, terms),
        *latency_rows(frame, timeline, terms),
        *turnaround_rows(frame, timeline, terms),
        axis,
    ]
    return tuple(
        stacked(frame, height, packed, _ground(frame, timeline, height))
        for height, packed in strips(rows, axis)
    )


def heading(frame: Frame, text: str, note: str = "") -> Row:
    """A band's title, with an optional remark behind it."""
    shapes: list[Shape] = [Text(2 if frame.narrow else 4, 20, text, "h")]
    if note and not frame.narrow:
        shapes.append(Text(frame.left, 20, note, "note"))
    return Row(28, tuple(shapes), heading=True)


def name_shapes(frame: Frame, y: float, name: str, words: str = "") -> tuple[float, list[Shape]]:
    """A lane's name, left of it or (narrow) above it, and the y where the lane itself begins."""
    full = f"{name} {words}".strip()
    if frame.narrow:
        text = fitted(full, frame.width - 8, SMALL)
        return 14.0, [Text(frame.left, 11, text, "name", title=full)]
    if not words:
        return 0.0, [Text(12, y, fitted(name, frame.left - 20, FONT), "name", title=name)]
    return 0.0, [
        Text(12, y - 6, fitted(name, frame.left - 20, FONT), "name", title=full),
        Text(12, y + 7, fitted(words, frame.left - 18, SMALL), "words", title=full),
    ]


# ---------------------------------------------------------------- the ground all strips share


def _ground(frame: Frame, timeline: Timeline, height: float) -> tuple[Shape, ...]:
    shapes: list[Shape] = []
    for w in timeline.windows:
        x, x2 = frame.x(w.start_s), frame.x(w.end_s)
        shapes.append(Rect(x, 0, px(x2 - x), px(height), f"ground {_safe(w.name)}"))
    for f in timeline.faults[:FAULT_LANES_MAX]:
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
    step = nice_step(frame.duration_s, 4 if frame.narrow else 9)
    shapes: list[Shape] = [Line(frame.left, 4, frame.end_x, 4, "axis")]
    lived = speed > 0 and not math.isclose(speed, 1.0)
    if not frame.narrow:
        shapes.append(Text(12, 17, "seconds since start", "words"))
        if lived:
            shapes.append(Text(12, 30, f"hospital time (× {speed:g})", "words"))
    for i in range(int(frame.duration_s / step + 1e-9) + 1):
        at_s = i * step
        x = frame.x(at_s)
        anchor = "middle"
        if frame.narrow and i == 0:
            anchor = "start"
        if x > frame.end_x - 16:
            anchor = "end"
        shapes.append(Line(x, 1, x, 7, "axis"))
        label = f"{number(at_s) if step >= 1 else f'{at_s:.1f}'} s"
        shapes.append(Text(x, 17, label, "tick", anchor))
        if lived:
            label = "+" + hospital_minutes(at_s, speed) if i else "0"
            shapes.append(Text(x, 30, label, "tick lived", anchor))
    return Row(36 if lived else 22, tuple(shapes))


# ---------------------------------------------------------------- services and faults


def _service_rows(frame: Frame, services: tuple[ServiceLane, ...]) -> list[Row]:
    rows = [heading(frame, "Services")]
    if not services:
        return [*rows, _empty(frame, "The journal names no service.")]
    for room, lanes in groupby(services, key=lambda lane: lane.room):
        title = fitted(f"room {visible(room, 60)}" if room else "no room", frame.width - 20, SMALL)
        rows.append(Row(17, (Text(frame.left if frame.narrow else 8, 13, title, "room"),), True))
        rows += [_service_row(frame, lane) for lane in lanes]
    return rows


def _service_row(frame: Frame, lane: ServiceLane) -> Row:
    y, shapes = name_shapes(frame, 13.5, visible(lane.name, 80))
    if not lane.spans:
        shapes.append(Text(frame.left + 4, y + 13, "no state recorded", "none"))
    for span in lane.spans:
        x, x2 = frame.x(span.start_s), frame.x(span.end_s)
        state = visible(span.state, 40)
        cls = span.state if span.state in KNOWN_STATES else "unknown"
        title = f"{visible(lane.name, 80)} {state} {duration(span.start_s)} to "
        title += duration(span.end_s) + (f": {visible(span.reason, 300)}" if span.reason else "")
        w = px(max(1.5, x2 - x))
        shapes.append(Rect(x, y + 2.5, w, 14, f"state {cls}", title))
        if cls != "ready" and text_width(state, SMALL) + 6 <= w:
            shapes.append(Text(px(x + w / 2), y + 13.3, state, f"statetext {cls}", "middle"))
    return Row(19 + y, tuple(shapes))


def _fault_rows(frame: Frame, timeline: Timeline) -> list[Row]:
    rows = [heading(frame, "Faults")]
    if not timeline.faults:
        return [*rows, _empty(frame, "No fault was injected.")]
    shown = timeline.faults[:FAULT_LANES_MAX]
    rows += [_fault_row(frame, f, timeline.duration_s) for f in shown]
    more = len(timeline.faults) - len(shown)
    if more:
        rows.append(_empty(frame, f"… and {number(more)} more, in the table above"))
    return rows


def _fault_row(frame: Frame, f: FaultLane, end_s: float) -> Row:
    y, shapes = name_shapes(frame, 24, f"{f.number}  {visible(f.kind, 40)}")
    story = visible(f.story, 300)
    until_s = f.until_s(end_s)
    x, x2 = frame.x(f.began_s), frame.x(until_s)
    text = fitted(story, frame.plot_w, SMALL)
    start = max(frame.left, min(x, frame.end_x - text_width(text, SMALL)))
    shapes.append(Text(px(start), y + 11, text, "story", title=story))
    title = f"Fault {f.number}: {story}; {duration(f.began_s)} to {duration(until_s)}"
    stop_s = f.ended_s if f.ended_s is not None else until_s
    parts = [
        (f.began_s, min(stop_s, f.seen_s if f.seen_s is not None else stop_s), "arming"),
        (f.seen_s if f.seen_s is not None else stop_s, stop_s, "acting"),
        (stop_s, until_s, "healing"),
    ]
    shapes.append(Rect(x, y + 15, px(max(2, x2 - x)), 10, "fault frame", title))
    for start_s, to_s, cls in parts:
        a, b = frame.x(start_s), frame.x(max(start_s, to_s))
        if b > a:
            shapes.append(Rect(a, y + 15, px(b - a), 10, f"fault {cls}"))
    if f.trouble:
        note = fitted(visible(f.trouble, 200), frame.end_x - x2 - 4, SMALL)
        shapes.append(Text(px(x2 + 4), y + 24, note, "trouble", title=visible(f.trouble, 300)))
    return Row(29 + y, tuple(shapes))


# ---------------------------------------------------------------- operations per class


def _operation_rows(frame: Frame, timeline: Timeline, terms: Terms) -> list[Row]:
    note = f"one bar = {timeline.bin_s:g} s; each class has its own height scale"
    rows = [heading(frame, "Clinical operations", note)]
    if not timeline.classes:
        return [*rows, _empty(frame, "No operation was recorded.")]
    return rows + [_operation_row(frame, lane, timeline.bin_s, terms) for lane in timeline.classes]


def _operation_row(frame: Frame, lane: ClassLane, bin_s: float, terms: Terms) -> Row:
    tall = 34.0
    name = visible(lane.name, 40)
    y, shapes = name_shapes(frame, 22, name, terms.klass(lane.name))
    top = max(b.asked for b in lane.bins) or 1
    base = y + tall + 2
    for i, b in enumerate(lane.bins):
        if b.asked:
            shapes += _bar(frame, b, i * bin_s, bin_s, base, tall / top, name)
    shapes.append(Line(frame.left, px(base), frame.end_x, px(base), "base"))
    return Row(tall + 8 + y, tuple(shapes))


def _bar(
    frame: Frame, b: Bin, at_s: float, bin_s: float, base: float, per_op: float, name: str
) -> list[Shape]:
    """One bin: answered at the bottom, then refused, then unanswered; a failure is never thinner
    than 2.5 px, so that one lost operation among thousands can still be seen."""
    x = frame.x(at_s)
    w = px(max(0.8, frame.x(at_s + bin_s) - x - 0.4))
    title = (
        f"{name}, {clip(duration(at_s), 20)}: {number(b.answered)} answered,"
        f" {number(b.refused)} refused, {number(b.unknown)} not answered"
    )
    failed = [(b.refused, "refused"), (b.unknown, "lost")]
    heights = [(max(2.5, n * per_op), cls) for n, cls in failed if n]
    bad = sum(h for h, _ in heights)
    good = max(0.0, b.asked * per_op - bad)
    shapes: list[Shape] = []
    y = base
    for h, cls in [(good, "answered"), *heights]:
        if h > 0:
            y -= h
            shapes.append(Rect(x, px(y), w, px(h), f"ops {cls}", title))
    return shapes


def _empty(frame: Frame, text: str) -> Row:
    return Row(20, (Text(frame.left + 4, 13, text, "none"),))
