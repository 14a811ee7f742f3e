"""The schedule: decided by its seed alone, with the mix and the day's shape that it promises."""

from __future__ import annotations

from collections import Counter
from itertools import islice, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stacks.hospital.traffic.appointments import TODAY_SHARE
from stacks.hospital.traffic.presets import MINIMUM, PRESETS, preset
from stacks.hospital.traffic.rates import INSTANCES, MIX
from stacks.hospital.traffic.schedule import (
    BATCH_EVERY_S,
    DAY_S,
    HOUR_S,
    SHAPES,
    Arrival,
    Flow,
    arrivals,
    rate_at,
)


def first(seconds: float, flows: list[Flow], seed: str = "7", hour: float = 16) -> list[Arrival]:
    return list(takewhile(lambda a: a.at_s < seconds, arrivals(flows, seed, hour, 60.0)))


def test_the_same_seed_gives_the_same_day() -> None:
    """Every instant, class and die is the seed's; another seed gives another day."""
    flows = list(PRESETS["ci"].flows(4_000, 60.0))
    assert first(30, flows) == first(30, flows)
    assert first(30, flows) != first(30, flows, seed="8")


def test_a_flow_does_not_disturb_the_others() -> None:
    """Each flow has its own chance: taking one away leaves the others' instants as they were."""
    reads, orders = Flow("chart.read", "P0", 5), Flow("order.create", "P1", 3, "day")
    both = [a.at_s for a in first(60, [reads, orders]) if a.kind == "chart.read"]
    assert both == [a.at_s for a in first(60, [reads])]


def test_arrivals_come_in_order_of_time() -> None:
    """The merged schedule never goes back in time."""
    instants = [a.at_s for a in first(30, list(PRESETS["ci"].flows(4_000, 60.0)))]
    assert instants == sorted(instants)


@settings(max_examples=25)
@given(st.floats(0.2, 20), st.integers(0, 10_000))
def test_probes_are_even(per_s: float, seed: int) -> None:
    """A probe flow has one arrival in every 1/rate seconds: a window's count is sure to one."""
    count = len(first(40, [Flow("copy.write", "P3", per_s)], seed=str(seed)))
    assert abs(count - 40 * per_s) <= 1


def test_natural_arrivals_are_poisson() -> None:
    """Counts per second of a natural flow scatter like a Poisson process: variance near mean."""
    seconds = 600
    counts = Counter(int(a.at_s) for a in first(seconds, [Flow("x", "P1", 4, "flat")]))
    each = [counts[n] for n in range(seconds)]
    mean = sum(each) / seconds
    variance = sum((n - mean) ** 2 for n in each) / seconds
    assert mean == pytest.approx(4, rel=0.1)
    assert variance == pytest.approx(mean, rel=0.25)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_shapes_sum_to_a_day(shape: str) -> None:
    """The rate over a whole day, bursts included, averages to the flow's own."""
    flow = Flow("x", "P1", 2.0, shape)  # type: ignore[arg-type]
    mean = sum(rate_at(flow, s) for s in range(0, int(DAY_S), 60)) / (DAY_S / 60)
    assert mean == pytest.approx(2.0, rel=0.005)


def test_mornings_are_busy_and_rounds_burst() -> None:
    """09:00 is far busier than 03:00; doses come in rounds that begin with a burst."""
    day, rounds = Flow("x", "P1", 1, "day"), Flow("x", "P1", 1, "rounds")
    assert rate_at(day, 9.5 * HOUR_S) > 10 * rate_at(day, 3 * HOUR_S)
    assert rate_at(rounds, 18 * HOUR_S) > 5 * rate_at(rounds, 18.5 * HOUR_S)


@pytest.mark.parametrize(
    ("kind", "klasses", "per_s"),
    [
        ("chart.read", ("P0",), 6), ("chart.read", ("P1",), 8), ("order.create", ("P0", "P1"), 7),
        ("specimen", ("P1",), 11), ("copy.write", ("P3",), 1.2), ("chart.read", ("P3",), 2),
    ],
)  # fmt: skip
def test_preset_ci_reaches_its_rates(kind: str, klasses: tuple[str, ...], per_s: float) -> None:
    """In a window of 60 s preset ci brings at least the probes that claims need."""
    found = first(60, list(PRESETS["ci"].flows(4_000, 60.0)))
    assert sum(a.kind == kind and a.klass in klasses for a in found) >= 60 * per_s


def test_a_day_stays_within_what_two_cores_can_play() -> None:
    """Care alone stays near 50 arrivals per second at 16:00, and the others add little to it."""
    ci = PRESETS["ci"]
    care = len(first(60, list(ci.flows(4_000, 60.0, departments=("care",))))) / 60
    assert 35 < care < 55
    assert len(first(60, list(ci.flows(4_000, 60.0)))) / 60 < care + 8


def test_lowered_evidence_says_why() -> None:
    """Whatever a preset asks below a claim's own minimum is explained; ci lowers only FO-1."""
    for each in PRESETS.values():
        for claim, own in MINIMUM.items():
            need = each.need(claim)
            assert need.claim == own
            assert need.asked == own or need.why
    lowered = {c for c in MINIMUM if PRESETS["ci"].need(c).asked < MINIMUM[c]}
    assert lowered == {"FO-1"}


def test_an_unknown_preset_names_the_known_ones() -> None:
    """The error tells what could have been meant."""
    with pytest.raises(ValueError, match="smoke, ci, soak"):
        preset("smok")


def test_a_batch_asks_for_everything_at_once_and_again_ten_seconds_later() -> None:
    """A batch job's arrivals come together, so that no machine is fast enough to serve all."""
    flow = Flow("mass.report", "P4", per_s=4.0, shape="batch")
    first = list(islice(arrivals([flow], "seed", 16.0, 60.0), 80))
    assert [a.at_s for a in first] == [0.0] * 40 + [BATCH_EVERY_S] * 40


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_examines_what_it_asks_for(name: str) -> None:
    """Studies and instances of a fault window reach what IM-1, IM-2 and IM-3 ask for."""
    one = PRESETS[name]
    found = first(one.window_s, list(one.flows(4_000, one.speed)))
    examined = [a.klass for a in found if a.kind == "examination"]
    instances = sum(INSTANCES[kind] * share / 100 for kind, share in MIX.items())
    assert len(examined) * instances > one.need("IM-1").asked
    assert sum(klass in ("P0", "P1") for klass in examined) >= one.need("IM-2").asked
    assert len(examined) >= one.need("IM-3").asked
    # Without the record and with radiology's desk away, the stock lasts the window.
    assert one.orders_ahead >= len(examined)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_books_what_it_asks_for(name: str) -> None:
    """Elective appointments (more than twelve hours ahead) and sessions of a fault window."""
    one = PRESETS[name]
    elective = one.bookings
    assert elective >= max(one.need("SC-1").asked, one.need("SC-3").asked) * 1.1
    assert elective * (1 - TODAY_SHARE) >= one.need("SC-2").asked * 1.1
    assert one.window_s * one.sessions_per_s >= one.need("PR-2").asked * 1.1
    assert one.sessions_s > one.warmup_s + one.window_s + one.after_s


def test_without_the_record_administration_goes_on_alone() -> None:
    """No chart is read and no order made where none stands; more patients come instead."""
    ci = PRESETS["ci"]
    alone = ci.flows(4_000, 60.0, departments=("imaging",))
    assert {flow.kind for flow in alone} == {
        "admission", "patient.update", "encounter.finish", "duplicate", "imaging.order",
        "examination", "image.read",
    }  # fmt: skip
    admitted = sum(a.kind == "admission" for a in first(60, list(alone)))
    care = ci.flows(4_000, 60.0, departments=("care",))
    assert admitted > 3 * sum(a.kind == "admission" for a in first(60, list(care)))
