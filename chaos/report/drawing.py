"""Shapes on paper: the few SVG forms the timeline needs, rows of them, and strips of rows.

It knows the geometry and nothing of what is drawn; colours live in the template's style sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STRIP_MAX_PX = 660
"""No strip is taller: pages break between strips, so a strip must leave room on an A4 page."""


@dataclass(frozen=True, slots=True)
class Rect:
    """A box; `title` is shown on hover and read aloud."""

    x: float
    y: float
    w: float
    h: float
    cls: str
    title: str = ""
    shape: str = "rect"


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    cls: str
    shape: str = "line"


@dataclass(frozen=True, slots=True)
class Path:
    """Any outline, in SVG path language."""

    d: str
    cls: str
    title: str = ""
    shape: str = "path"


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; `anchor` start, middle or end."""

    x: float
    y: float
    text: str
    cls: str = ""
    anchor: str = "start"
    title: str = ""
    shape: str = "text"


Shape = Rect | Line | Path | Text


@dataclass(frozen=True, slots=True)
class Row:
    """Shapes in a band of its own, y counted from its top; `heading` stays with the next row."""

    height: float
    shapes: tuple[Shape, ...]
    heading: bool = False


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows drawn in one SVG; `rows` with the y at which each begins."""

    width: float
    height: float
    rows: tuple[tuple[float, Row], ...]
    ground: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """The shared time axis: seconds → x. `narrow` puts names above their lanes (phones)."""

    width: float
    left: float
    right: float
    duration_s: float
    narrow: bool = False

    @property
    def plot_w(self) -> float:
        """Width of the part that carries time."""
        return self.width - self.left - self.right

    @property
    def end_x(self) -> float:
        """x of the end of the run."""
        return self.width - self.right

    def x(self, at_s: float) -> float:
        """x of an instant, kept inside the plot."""
        share = at_s / self.duration_s if self.duration_s > 0 else 0.0
        return px(self.left + min(1.0, max(0.0, share)) * self.plot_w)


def px(value: float) -> float:
    """A tenth of a pixel is enough, and keeps the page small."""
    rounded = round(value, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def text_width(text: str, size_px: float) -> float:
    """A careful guess of how wide a line of text is drawn, whatever the reader's font."""
    return sum(1.05 if ord(c) > 0x2E7F else 0.58 for c in text) * size_px


def fitted(text: str, width: float, size_px: float) -> str:
    """The text, cut with an ellipsis so that it fits; empty when not even two letters do."""
    if text_width(text, size_px) <= width:
        return text
    room = width - text_width("…", size_px)
    kept = []
    for char in text:
        room -= text_width(char, size_px)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…" if len(kept) >= 2 else ""


def nice_step(span: float, ticks: int) -> float:
    """A round step that divides `span` into at most `ticks` parts."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600):
        if span <= step * ticks:
            return float(step)
    step = 7_200.0
    while span > step * ticks:
        step *= 2
    return step


def wrapped(text: str, width: float, size_px: float, lines: int) -> list[str]:
    """The text in at most `lines` lines of `width`; the last one is cut when it does not fit."""
    done: list[str] = []
    rest = text.split()
    while rest and len(done) < lines - 1:
        line = rest.pop(0)
        while rest and text_width(f"{line} {rest[0]}", size_px) <= width:
            line = f"{line} {rest.pop(0)}"
        done.append(fitted(line, width, size_px))
    if rest:
        done.append(fitted(" ".join(rest), width, size_px))
    return done


def strips(bands: Sequence[Sequence[Row]], axis: Row) -> list[tuple[float, list[Row]]]:
    """Pack bands of rows into as few strips as fit; each strip after the first begins with the
    axis. A band is only cut when it is taller than a whole strip, and never after a heading."""
    packed: list[tuple[float, list[Row]]] = []
    current: list[Row] = []
    height = 0.0
    for band in bands:
        whole = sum(row.height for row in band)
        fresh = whole + axis.height <= STRIP_MAX_PX  # fits on a strip of its own
        for i, row in enumerate(band):
            need = whole if fresh and i == 0 else _with_next(band, i)
            if current and height + need > STRIP_MAX_PX and not (fresh and i):
                packed.append((height, current))
                current, height = [axis], axis.height
            current.append(row)
            height += row.height
    packed.append((height, current))
    return packed


def _with_next(band: Sequence[Row], i: int) -> float:
    """The height of a row and of all that must follow it on the same strip."""
    need = band[i].height
    while band[i].heading and i + 1 < len(band):
        i += 1
        need += band[i].height
    return need


def stacked(frame: Frame, height: float, rows: Iterable[Row], ground: tuple[Shape, ...]) -> Strip:
    """Rows one under the other in one strip over its `ground` (shading and marker lines)."""
    y, placed = 0.0, []
    for row in rows:
        placed.append((px(y), row))
        y += row.height
    return Strip(frame.width, px(height), tuple(placed), ground)
