"""Titles, lane names and remarks beside the lanes of the timeline.

It places text only, cut or wrapped to the room it has.
"""

from __future__ import annotations

from chaos.report.drawing import Frame, Row, Shape, Text, fitted, wrapped

FONT = 12.0
SMALL = 10.5
NAME_X = 12.0
NARROW_NAME_PX = 14.0
"""On a phone a lane's name stands above the lane, in a line of this height."""


def heading(frame: Frame, text: str, note: str = "") -> Row:
    """A band's title, with a remark behind it (wide) or below it (narrow)."""
    shapes: list[Shape] = [Text(4, 20, text, "h")]
    if not note:
        return Row(28, tuple(shapes), heading=True)
    if not frame.narrow:
        shapes.append(Text(frame.left, 20, fitted(note, frame.plot_w, SMALL), "note"))
        return Row(28, tuple(shapes), heading=True)
    lines = wrapped(note, frame.width - 12, SMALL, 3)
    shapes += [Text(4, 34 + 13 * i, line, "note") for i, line in enumerate(lines)]
    return Row(28 + 13 * len(lines), tuple(shapes), heading=True)


def lane_name(
    frame: Frame, middle_y: float, name: str, words: str = "", margin: float = 8.0
) -> tuple[float, list[Shape]]:
    """A lane's name, left of its middle (wide) or above it (narrow), and the y where the lane
    itself begins; `margin` keeps room for a scale between name and lane."""
    full = f"{name} {words}".strip()
    if frame.narrow:
        text = fitted(full, frame.width - 12, FONT)
        return NARROW_NAME_PX, [Text(frame.left, 11, text, "name", title=full)]
    room = frame.left - NAME_X - margin
    lines = wrapped(words, room, SMALL, 2)
    y = middle_y + 4 - 6.5 * len(lines)
    shapes: list[Shape] = [Text(NAME_X, y, fitted(name, room, FONT), "name", title=full)]
    for i, line in enumerate(lines):
        shapes.append(Text(NAME_X, y + 13 + 12 * i, line, "words", title=full))
    return 0.0, shapes


def remark(frame: Frame, text: str) -> Row:
    """A line of text instead of lanes."""
    return Row(20, (Text(frame.left + 4, 13, text, "none"),))
