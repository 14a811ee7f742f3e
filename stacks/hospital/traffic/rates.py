"""How often people want something of imaging and of appointments.

It plays nothing; the rates of care and administration are in presets.py.

A day of 4,000 patients: 800 studies (CT 136, MR 72, US 160, CR 360, others) that are opened 3,200
times, 15 % of the orders urgent; 3,100 appointments booked, 15 % changed, 8 % cancelled. A real
study has hundreds of instances of half a megabyte: here few of eight kilobytes, so that two cores
carry them, the numbers and the chain patient, order, study, picture being what counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from stacks.hospital.traffic.schedule import Shape

Rate = tuple[str, str, float, Shape]
"""(kind, class, arrivals per day of 4,000 patients, shape)"""

IMAGING_NATURAL: tuple[Rate, ...] = (
    ("imaging.order", "P0", 120, "flat"),
    ("imaging.order", "P1", 400, "day"),
    ("imaging.order", "P3", 280, "day"),
    ("examination", "P0", 120, "flat"),
    ("examination", "P1", 400, "day"),
    ("examination", "P3", 280, "day"),
    ("image.read", "P0", 480, "flat"),
    ("image.read", "P1", 1_600, "day"),
    ("image.read", "P3", 1_120, "day"),
)
# Probes per real second of preset ci.
IMAGING_PROBES: Mapping[tuple[str, str], float] = {
    ("imaging.order", "P0"): 0.6,
    ("imaging.order", "P1"): 0.65,
    ("imaging.order", "P3"): 0.15,
    ("examination", "P0"): 0.6,  # IM-2: 60 P0-P1 studies; all together IM-1: 500 instances
    ("examination", "P1"): 0.65,
    ("examination", "P3"): 0.15,
    ("image.read", "P0"): 0.3,
    ("image.read", "P1"): 0.4,
    ("image.read", "P3"): 0.2,
}
MIX: Mapping[str, int] = {"CT": 40, "CR": 35, "MR": 15, "US": 10}
"""Percent of examinations."""
INSTANCES: Mapping[str, int] = {"CT": 14, "MR": 6, "US": 4, "CR": 2}
"""Of a study, about; a real CT has a thousand."""
PEAK_INSTANCES = 100
"""Of a CT of the morning peak."""

APPOINTMENTS_NATURAL: tuple[Rate, ...] = (
    ("appointment.book", "P3", 2_900, "day"),
    ("appointment.book", "P2", 200, "day"),
    ("appointment.move", "P3", 600, "day"),
    ("appointment.cancel", "P3", 320, "day"),
    ("appointment.ask", "P3", 1_500, "day"),
)
APPOINTMENTS_PROBES: Mapping[tuple[str, str], float] = {
    ("appointment.book", "P3"): 0.8,
    ("appointment.book", "P2"): 0.15,
    ("appointment.move", "P3"): 0.15,
    ("appointment.cancel", "P3"): 0.1,
    ("appointment.ask", "P3"): 1.6,
    ("appointment.ask", "P2"): 0.4,
}
