"""The hospital's traffic as values for experiments: a day, and a rush of elective work on top.

It starts nothing: chaos.workload runs these values in their own processes.

    with experiment.traffic(hospital_day("ci")):
        with experiment.inject(...), experiment.traffic(elective_rush("ci")):
            ...
"""

from __future__ import annotations

from typing import Protocol

from chaos.workload import Workload
from stacks.hospital.traffic.presets import preset as known_preset
from stacks.hospital.traffic.schedule import BATCH_EVERY_S

DEFAULT_PATIENTS = 4_000
DEFAULT_HOUR = 16.0  # Saint-Luc: a weekday afternoon
TRAFFIC = ("{python}", "-m", "stacks.hospital.traffic")
WATCH = ("{python}", "-m", "stacks.hospital.watch")


class Named(Protocol):
    """Anything with the name of a preset."""

    @property
    def name(self) -> str:
        """`smoke`, `ci` or `soak`."""
        ...


def hospital_day(
    preset: str | Named = "smoke",
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
    _within("patients", patients, 1, 100_000)
    _within("hour", hour, 0, 24)
    _within("load", load, 0.01, 10)
    _within("inpatients", inpatients, 0, 1_000)
    params = {
        "preset": _name(preset), "patients": patients, "hour": float(hour), "load": float(load),
        "inpatients": inpatients,
    }  # fmt: skip
    return Workload("day", TRAFFIC, params, beside=(Workload("watch", WATCH),))


def elective_rush(
    preset: str | Named = "smoke", factor: float = 1.0, name: str = "rush"
) -> Workload:
    """Everybody asks for everything at once: mass reports (P3, P4) and elective chart reads (P3).

    More than one node of the record can serve. It reads about those who are in the hospital:
    start it after `hospital_day`. `factor` multiplies its rates.
    """
    _within("factor", factor, 0.01, 10)
    rates = known_preset(_name(preset)).rush
    return Workload(name, TRAFFIC, {"rush": {flow: rate * factor for flow, rate in rates.items()}})


def statistics_batch(reports: int = 40, name: str = "batch") -> Workload:
    """A job of the back office that asks for `reports` mass reports at once, every ten seconds.

    More at once than one node of the record takes of this class, however fast the machine is: a
    batch shows who is shed, and costs little on average. Start it after `hospital_day`.
    """
    _within("reports", reports, 1, 500)
    return Workload(name, TRAFFIC, {"rush": {"mass.report/P4 batch": reports / BATCH_EVERY_S}})


def _name(preset: str | Named) -> str:
    return known_preset(preset if isinstance(preset, str) else preset.name).name


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is not between {low} and {high}")
