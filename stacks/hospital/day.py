"""The hospital's traffic as values for experiments: a day, and what comes on top of it.

It starts nothing: chaos.workload runs these values in their own processes.

    with experiment.traffic(hospital_day("ci")):
        with experiment.inject(...), experiment.traffic(elective_rush("ci")):
            ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from chaos.workload import Workload
from stacks.hospital.traffic.consoles import AT_CONSOLE
from stacks.hospital.traffic.presets import preset as known_preset
from stacks.hospital.traffic.schedule import BATCH_EVERY_S

DEFAULT_PATIENTS = 4_000
DEFAULT_HOUR = 16.0  # Saint-Luc: a weekday afternoon
TRAFFIC = ("{python}", "-m", "stacks.hospital.traffic")
WATCH = ("{python}", "-m", "stacks.hospital.watch")
POISON = ("{python}", "-m", "stacks.hospital.poison")
BAD_INPUT = ("{python}", "-m", "stacks.hospital.bad_input")
ELECTIVE = ("consultation", "planned-surgery", "ambulatory-imaging", "endoscopy")
"""Services of class P3: what a decision by class may call off."""
UNTIL_TOMORROW_NIGHT_H = 48.0
CALLS_PER_S = {"smoke": 4.0, "ci": 6.0, "soak": 2.0}


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


def poison_message(name: str = "poison") -> Workload:
    """A partner sends one order and one report that the engine takes and nobody can use.

    Laboratory and record refuse them for good. When its block begins, the engine has them.
    """
    return Workload(name, POISON)


def bad_input(preset: str | Named = "smoke", times: int = 5, name: str = "strangers") -> Workload:
    """Everything that the hospital must refuse, `times` of each sort, over a fault window.

    Images that nobody can read, AE titles that nobody has, encodings that nobody takes, studies of
    unknown patients, slots that are gone, second cancellations, HL7 that is none: through the
    links by which sound input comes, shuffled by the seed. When its block begins, the sound
    neighbours stand that it might harm. Sorts of departments that do not stand are left out.
    """
    _within("times", times, 1, 100)
    window_s = float(known_preset(_name(preset)).window_s) * 0.8  # an answer takes its time
    return Workload(name, BAD_INPUT, {"times": times, "window_s": window_s})


def imaging_peak(
    preset: str | Named = "smoke", instances: int | None = None, name: str = "peak"
) -> Workload:
    """The morning peak: so many instances, in CT studies of 100, evenly over a fault window.

    Without `instances`: the preset's own number. It has patients and orders of its own; it may
    start before, in or after a fault.
    """
    known = known_preset(_name(preset))
    number = known.peak_instances if instances is None else instances
    _within("instances", number, 1, 100_000)
    peak = {"instances": number, "window_s": float(known.window_s)}
    return Workload(name, TRAFFIC, {"preset": _name(preset), "peak": peak})


def patients_calling(
    preset: str | Named = "smoke", calls_per_s: float = 0.0, name: str = "calls"
) -> Workload:
    """Patients ask website, call centre, text messages and lists about their appointments.

    Three in four ask about elective ones. Steadily, `calls_per_s` per real second (0: the
    preset's own), and only about appointments that a channel knows: start it after `hospital_day`.
    """
    _within("calls_per_s", calls_per_s, 0, 200)
    rate = calls_per_s or CALLS_PER_S[_name(preset)]
    return Workload(name, TRAFFIC, {"preset": _name(preset), "calls_per_s": float(rate)})


def crisis_cell(*acts: Mapping[str, Any], name: str = "cell") -> Workload:
    """What the crisis cell and the operators do, each act at its own instant; see `at`.

        crisis_cell(at(0, "backup"), at(2, "decide"), at(10, "read-only"), at(20, "restore"))

    An act that does not succeed ends the workload as failed, with the reason.
    """
    if not acts:
        raise ValueError("a crisis cell without acts: give at least one at(seconds, what)")
    ordered = sorted(acts, key=lambda act: float(act["at_s"]))
    return Workload(name, TRAFFIC, {"cell": [dict(act) for act in ordered]})


def at(
    at_s: float,
    do: str,
    services: tuple[str, ...] = ELECTIVE,
    from_h: float = 0.0,
    to_h: float = UNTIL_TOMORROW_NIGHT_H,
    reason: str = "reduced operation",
    decision: str = "",
) -> Mapping[str, Any]:
    """One act of the crisis cell, `at_s` real seconds after the workload's start.

    `do`: `decide` (call off all booked appointments of `services` that lie `from_h` to `to_h`
    hospital hours ahead), `read-only` or `open` (the mode of scheduling), `backup`, `restore`
    (scheduling's database), `bypass-on` or `bypass-off` (the image router's), `declare` (a
    downtime) or `announce-billing-stop` (to the incident system),
    `ask-all-clear` (of the incident system: it may be refused), `fail-back` (of the record's
    database to room A: it may be refused), `rebuild-spare` (its node in room B, from the primary),
    `restore-drill`, `restore-earlier` (to ten seconds ago), `restore-engine` (give the engine its
    queues back), `restore-images` (store in the archive again what it lacks) or
    `check-integrity` (the vault's).
    Raises ValueError.
    """
    _within("at_s", at_s, 0, 86_400)
    if do == "decide":
        return {
            "at_s": float(at_s), "do": do, "decision": decision, "services": list(services),
            "from_h": float(from_h), "to_h": float(to_h), "reason": reason,
        }  # fmt: skip
    if do not in AT_CONSOLE:
        raise ValueError(f"nobody knows how to {do!r} (known: decide, {', '.join(AT_CONSOLE)})")
    return {"at_s": float(at_s), "do": do}


def _name(preset: str | Named) -> str:
    return known_preset(preset if isinstance(preset, str) else preset.name).name


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is not between {low} and {high}")
