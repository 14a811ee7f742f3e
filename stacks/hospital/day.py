"""The hospital's traffic as values for experiments: a day, and a rush of elective work on top.

It starts nothing: chaos.workload runs these values in their own processes.

    with experiment.traffic(hospital_day(preset="ci")):
        with experiment.inject(...), experiment.traffic(elective_rush(chart_reads_per_s=60)):
            ...
"""

from __future__ import annotations

from chaos.workload import Workload
from stacks.hospital.traffic.presets import preset as known_preset

DEFAULT_PATIENTS = 4_000
DEFAULT_HOUR = 16.0  # Saint-Luc: a weekday afternoon
TRAFFIC = ("{python}", "-m", "stacks.hospital.traffic")
WATCH = ("{python}", "-m", "stacks.hospital.watch")


def hospital_day(
    preset: str = "smoke",
    patients: int = DEFAULT_PATIENTS,
    hour: float = DEFAULT_HOUR,
    load: float = 1.0,
    inpatients: int = 0,
) -> Workload:
    """A day of a hospital with `patients` patients a day, from `hour` o'clock on.

    `load` multiplies the preset's probes; `inpatients` (0 = the preset's number) lie on the wards
    when the traffic begins. A watcher runs beside it and takes samples (see watch.py). How fast
    the hospital's clock runs is the stack's `speed`. Raises ValueError for an unknown preset or a
    number out of range.
    """
    known_preset(preset)
    _within("patients", patients, 1, 100_000)
    _within("hour", hour, 0, 24)
    _within("load", load, 0.01, 10)
    _within("inpatients", inpatients, 0, 1_000)
    params = {
        "preset": preset, "patients": patients, "hour": float(hour), "load": float(load),
        "inpatients": inpatients,
    }  # fmt: skip
    return Workload("day", TRAFFIC, params, beside=(Workload("watch", WATCH),))


def elective_rush(
    chart_reads_per_s: float = 40.0, back_office_per_s: float = 10.0, name: str = "rush"
) -> Workload:
    """Mass reads of elective care (P3) and statistics (P4), for as long as it is started.

    It reads the charts of those who are in the hospital: start it after `hospital_day`.
    """
    _within("chart_reads_per_s", chart_reads_per_s, 0, 500)
    _within("back_office_per_s", back_office_per_s, 0, 500)
    rush = {"chart.read/P3": float(chart_reads_per_s), "back.office/P4": float(back_office_per_s)}
    return Workload(name, TRAFFIC, {"rush": rush})


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is not between {low} and {high}")
