"""Who plays: the departments that the topology has, or the one workload that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.workload import Workload
from stacks.hospital.day import (
    at,
    crisis_cell,
    elective_rush,
    hospital_day,
    imaging_peak,
    patients_calling,
)
from stacks.hospital.stack import hospital
from stacks.hospital.traffic.config import Config
from stacks.hospital.traffic.shift import Shift


def shift_of(workload: Workload, *departments: str) -> Shift:
    """The shift that a run of these departments would play; nothing is asked."""
    stack = hospital(departments=departments)
    links = {link.name: "127.0.0.1:1" for link in stack.links}
    return Shift(Config(workload.name, links=links, params=dict(workload.params)))


def people(shift: Shift) -> list[str]:
    """The departments by name."""
    return [type(one).__name__ for one in shift._departments]


@pytest.mark.parametrize(
    ("departments", "played", "kinds"),
    [
        (("care",), ["Wards"], {"chart.read", "admission"}),
        (("imaging",), ["Wards", "Imaging"], {"admission", "imaging.order", "examination"}),
        (("appointments",), ["Wards", "Appointments"], {"admission", "appointment.book"}),
        (("care", "imaging", "appointments"), ["Wards", "Imaging", "Appointments"],
         {"chart.read", "admission", "imaging.order", "appointment.book"}),
    ],
)  # fmt: skip
def test_a_day_plays_the_departments_that_stand(
    departments: tuple[str, ...], played: list[str], kinds: set[str]
) -> None:
    """Nobody reads charts where no record stands; every flow has somebody who carries it out."""
    shift = shift_of(hospital_day(), *departments)
    assert people(shift) == played
    flows = {flow.kind for flow in shift._flows}
    assert flows >= kinds
    assert ("chart.read" in flows) == ("care" in departments)
    assert flows <= set(shift._acts)


def test_flows_of_care_are_the_same_in_any_company() -> None:
    """Other departments change neither rate nor chance nor number of a flow of care."""
    alone = shift_of(hospital_day(), "care")._flows
    assert shift_of(hospital_day(), "care", "imaging", "appointments")._flows[: len(alone)] == alone


@pytest.mark.parametrize(
    ("workload", "played", "kinds"),
    [
        (imaging_peak("ci", instances=3_000), ["Peak"], {"examination"}),
        (patients_calling("ci"), ["Telephone"], {"appointment.ask"}),
        (crisis_cell(at(1, "decide"), at(0, "backup")), ["CrisisCell"], set()),
        (elective_rush(), ["Wards"], {"chart.read", "mass.report"}),
    ],
)  # fmt: skip
def test_other_workloads_play_nothing_but_their_own(
    workload: Workload, played: list[str], kinds: set[str]
) -> None:
    """What comes on top of a day brings no second day."""
    shift = shift_of(workload, "care", "imaging", "appointments")
    assert people(shift) == played
    assert {flow.kind for flow in shift._flows} == kinds


def test_a_peak_is_so_many_instances_in_a_fault_window() -> None:
    """3,000 instances are thirty studies, evenly over the window of preset ci, and its own peak."""
    shift = shift_of(imaging_peak("ci", instances=3_000), "imaging")
    assert imaging_peak("ci").params == imaging_peak("ci", instances=3_000).params
    (flow,) = shift._flows
    assert flow.per_s * 60 == pytest.approx(30)


@pytest.mark.parametrize(
    "make",
    [
        lambda: imaging_peak("ci", instances=0), lambda: imaging_peak("smok"),
        lambda: patients_calling("ci", calls_per_s=-1), lambda: at(-1, "backup"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(make: Any) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=r"not between|no preset"):
        make()
