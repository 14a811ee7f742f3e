"""Services and faults as lanes: what state each service was in, and what was done to it.

It only places shapes for values that `timeline` already holds.
"""

from __future__ import annotations

from itertools import groupby

from chaos.report.drawing import Frame, Rect, Row, Shape, Text, fitted, px, text_width
from chaos.report.labels import FONT, SMALL, heading, lane_name, remark
from chaos.report.timeline import FaultLane, ServiceLane, Span, Timeline
from chaos.report.wording import duration, number, visible

FAULT_LANES_MAX = 40
KNOWN_STATES = ("ready", "degraded", "paused", "gone", "starting", "stopping")
QUIET_STATES = ("ready", "starting", "stopping")


def service_rows(frame: Frame, services: tuple[ServiceLane, ...]) -> list[Row]:
    rows = [heading(frame, "Services")]
    if not services:
        return [*rows, remark(frame, "The journal names no service.")]
    for room, lanes in groupby(services, key=lambda lane: lane.room):
        title = fitted(f"room {visible(room, 60)}" if room else "no room", frame.width - 20, FONT)
        rows.append(Row(17, (Text(frame.left if frame.narrow else 8, 13, title, "room"),), True))
        rows += [_service_row(frame, lane) for lane in lanes]
    return rows


def _service_row(frame: Frame, lane: ServiceLane) -> Row:
    y, shapes = lane_name(frame, 9.5, visible(lane.name, 80))
    if not lane.spans:
        shapes.append(Text(frame.left + 4, y + 13, "no state recorded", "none"))
    words: list[Shape] = []  # over all bands, or the next band would hide them
    for i, span in enumerate(lane.spans):
        after = lane.spans[i + 1] if i + 1 < len(lane.spans) else None
        drawn = _state(frame, lane.name, span, after, y)
        shapes.append(drawn[0])
        words += drawn[1:]
    return Row(19 + y, (*shapes, *words))


def _state(frame: Frame, name: str, span: Span, after: Span | None, y: float) -> list[Shape]:
    """A band, with its state in words inside it, or behind it when a ready band follows."""
    x, x2 = frame.x(span.start_s), frame.x(span.end_s)
    state, cls = visible(span.state, 40), span.state if span.state in KNOWN_STATES else "unknown"
    title = f"{visible(name, 80)} {state} {duration(span.start_s)} to {duration(span.end_s)}"
    title += f": {visible(span.reason, 300)}" if span.reason else ""
    w = px(max(1.5, x2 - x))
    shapes: list[Shape] = [Rect(x, y + 2.5, w, 14, f"state {cls}", title)]
    need = text_width(state, SMALL) + 6
    if cls == "ready" or (cls in QUIET_STATES and need > w):
        return shapes
    if need <= w:
        shapes.append(Text(px(x + w / 2), y + 13.3, state, f"statetext {cls}", "middle"))
    elif after and after.state == "ready" and frame.x(after.end_s) - x2 >= need:
        shapes.append(Text(px(x2 + 3), y + 13.3, state, "statetext after"))
    return shapes


def fault_rows(frame: Frame, timeline: Timeline) -> list[Row]:
    rows = [heading(frame, "Faults")]
    if not timeline.faults:
        return [*rows, remark(frame, "No fault was injected.")]
    shown = timeline.faults[:FAULT_LANES_MAX]
    rows += [_fault_row(frame, f, timeline.duration_s) for f in shown]
    more = len(timeline.faults) - len(shown)
    if more:
        rows.append(remark(frame, f"… and {number(more)} more, in the table above"))
    return rows


def _fault_row(frame: Frame, f: FaultLane, end_s: float) -> Row:
    y, shapes = lane_name(frame, 20, f"{f.number}  {visible(f.kind, 40)}")
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
