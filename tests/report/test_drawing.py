"""The drawing: everything inside its frame, nothing too tall for a page, nothing lost."""

from __future__ import annotations

from types import ModuleType

import pytest

from chaos.journal import events as e
from chaos.journal.history import History
from chaos.report.drawing import (
    STRIP_MAX_PX,
    Frame,
    Rect,
    Row,
    Strip,
    Text,
    fitted,
    nice_step,
    strips,
    text_width,
    wrapped,
)
from chaos.report.fold import timeline_of
from chaos.report.lanes import drawn
from chaos.report.operation_lanes import FAILED_MIN_PX
from stacks.hospital.terms import HOSPITAL


def crowd(saint_luc: ModuleType) -> History:
    """80 services in one room, 120 short faults."""
    services = {f"service-{i:02d}": "A" for i in range(80)}
    events: list[e.Event] = [saint_luc.run_started(services=services)]
    events += [e.ServiceSeen(5_000.5, name, "ready") for name in services]
    for i in range(120):
        t = 5_001 + i
        events.append(e.FaultBegan(t, str(i), "cut", ("a>b.c",), f"the link flaps, time {i}"))
        events.append(e.FaultSeen(t + 0.1, str(i), "refused"))
        events.append(e.FaultEnded(t + 0.5, str(i)))
        events.append(e.FaultGone(t + 0.6, str(i), "answers"))
    return History.of({"harness.jsonl": saint_luc.lines(events)})


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("which", ["day", "crowd", "empty"])
def test_shapes_stay_in_their_frame(
    saint_luc: ModuleType, history: History, which: str, narrow: bool
) -> None:
    """No box or text leaves its strip, and no strip is taller than a printed page allows."""
    one = {"day": history, "crowd": crowd(saint_luc), "empty": History.of({})}[which]
    for strip in drawn(timeline_of(one, HOSPITAL), HOSPITAL, narrow=narrow):
        assert 0 < strip.height <= STRIP_MAX_PX
        for y, row in strip.rows:
            assert y + row.height <= strip.height + 0.1
            for s in row.shapes:
                if isinstance(s, Rect):
                    assert s.x >= 0
                    assert s.w >= 0
                    assert s.x + s.w <= strip.width
                    assert 0 <= s.y <= s.y + s.h <= row.height + 0.1
                elif isinstance(s, Text):
                    assert 0 <= s.x <= strip.width
                    assert 0 <= s.y <= row.height
                    if s.anchor == "start":
                        assert s.x + text_width(s.text, 10.5) <= strip.width + 2


@pytest.mark.parametrize("narrow", [False, True])
def test_every_service_class_and_fault_has_its_lane(history: History, narrow: bool) -> None:
    """Names stand beside (or above) their lanes, once each."""
    texts = [
        t.text for t in all_texts(drawn(timeline_of(history, HOSPITAL), HOSPITAL, narrow=narrow))
    ]
    timeline = timeline_of(history, HOSPITAL)
    for service in timeline.services:
        assert texts.count(service.name) == 1
    for fault in timeline.faults:
        assert any(text.startswith(f"{fault.number}  {fault.kind}") for text in texts)
    for lane in timeline.classes:
        assert sum(text.split(" ")[0] == lane.name for text in texts) == 2  # count and latency


def test_one_failure_among_thousands_is_drawn(saint_luc: ModuleType) -> None:
    """A single lost operation beside 4,999 good ones has its visible mark."""
    events: list[e.Event] = [saint_luc.run_started()]
    for i in range(5_000):
        events.append(e.OpInvoked(5_001.0, str(i), "chart.read", "P0", 5_001.0))
        if i:
            events.append(e.OpOk(5_001.01, str(i), "200"))
    events.append(e.OpUnknown(5_006.0, "0", "time-out"))
    shapes = all_shapes(
        drawn(timeline_of(History.of({"a.jsonl": saint_luc.lines(events)})), HOSPITAL)
    )
    lost = [s for s in shapes if isinstance(s, Rect) and s.cls == "ops lost"]
    assert len(lost) == 1
    assert lost[0].h >= FAILED_MIN_PX
    assert any(getattr(s, "cls", "") == "lostmark" for s in shapes)


def test_fault_marks_cross_every_strip(history: History) -> None:
    """The shared time axis: each strip shows the same fault lines and shades."""
    found = drawn(timeline_of(history, HOSPITAL), HOSPITAL)
    assert len(found) > 1
    kinds = [[(s.cls, getattr(s, "x1", getattr(s, "x", 0))) for s in t.ground] for t in found]
    assert all(k == kinds[0] for k in kinds)
    assert sum(cls == "mark began" for cls, _ in kinds[0]) == 3


def test_a_heading_is_never_the_last_row_of_a_strip() -> None:
    """A title goes to the next strip together with its first lane."""
    axis = Row(20, ())
    band = [Row(28, (), heading=True), *[Row(STRIP_MAX_PX / 4, ()) for _ in range(9)]]
    packed = strips([[Row(STRIP_MAX_PX - 40, ())], band, [axis]], axis)
    assert all(not rows[-1].heading for _, rows in packed)
    assert sum(len(rows) for _, rows in packed) - (len(packed) - 1) == 1 + len(band) + 1
    assert all(height <= STRIP_MAX_PX for height, _ in packed)


def test_time_maps_onto_the_plot_and_never_beyond() -> None:
    """Instants before the start or after the end stick to the edges."""
    frame = Frame(860, 178, 12, 100)
    assert (frame.x(-5), frame.x(0), frame.x(100), frame.x(1e9)) == (178, 178, 848, 848)


@pytest.mark.parametrize(
    "text", ["", "a", "chemotherapy, dialysis, day care", "病" * 50, "x" * 999]
)
@pytest.mark.parametrize("width", [0, 10, 60, 400])
def test_fitted_text_fits(text: str, width: float) -> None:
    """Cut text is never wider than its room, as far as widths can be guessed."""
    assert text_width(fitted(text, width, 10.5), 10.5) <= width
    lines = wrapped(text, width, 10.5, 2)
    assert len(lines) <= 2
    assert all(text_width(line, 10.5) <= width for line in lines)


@pytest.mark.parametrize("span", [0.01, 1, 59, 142, 3_599, 86_400, 1e8])
def test_axis_steps_are_few(span: float) -> None:
    """An axis never has more ticks than asked."""
    assert span / nice_step(span, 9) <= 9


def all_shapes(found: tuple[Strip, ...]) -> list[object]:
    return [s for strip in found for _, row in strip.rows for s in row.shapes]


def all_texts(found: tuple[Strip, ...]) -> list[Text]:
    return [s for s in all_shapes(found) if isinstance(s, Text)]
