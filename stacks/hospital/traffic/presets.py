"""How much traffic a run plays, and how much evidence that can give each claim.

It starts nothing and lowers nothing in silence: where a preset cannot reach a claim's own minimum
evidence, `need` says how much it asks for instead, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.verdict import Need
from stacks.hospital.traffic import rates
from stacks.hospital.traffic.schedule import DAY_S, Flow, Shape

REFERENCE_PATIENTS = 4_000

# Per day of a hospital with 4,000 patients (700 inpatients, 200 emergencies, 250 day patients).
NATURAL: tuple[tuple[str, str, float, Shape], ...] = (
    ("chart.read", "P0", 8_000, "flat"),  # 40 vital emergencies x 25 openings x 8 views
    ("chart.read", "P1", 168_000, "day"),  # 700 inpatients x 30 x 8
    ("chart.read", "P2", 24_000, "day"),  # 250 day patients x 12 x 8
    ("chart.read", "P3", 170_000, "day"),
    ("order.create", "P0", 600, "flat"),  # 5,500 laboratory orders a day
    ("order.create", "P1", 2_900, "day"),
    ("order.create", "P2", 600, "day"),
    ("order.create", "P3", 1_400, "day"),
    ("medication.create", "P0", 600, "flat"),  # 9,300 prescriptions
    ("medication.create", "P1", 6_600, "day"),
    ("medication.create", "P2", 700, "day"),
    ("medication.create", "P3", 1_400, "day"),
    ("administration.create", "P1", 8_400, "rounds"),  # 700 inpatients x 12 doses
    ("administration.create", "P2", 600, "day"),
    ("observation.create", "P0", 3_000, "flat"),  # vital signs
    ("observation.create", "P1", 18_000, "day"),
    ("admission", "P0", 40, "flat"),  # admissions, registrations
    ("admission", "P1", 260, "day"),
    ("admission", "P2", 250, "day"),
    ("admission", "P3", 2_850, "day"),
    ("patient.update", "P1", 1_300, "day"),
    ("patient.update", "P3", 2_000, "day"),
    ("encounter.finish", "P1", 260, "day"),
    ("encounter.finish", "P3", 3_100, "day"),
    ("duplicate", "P3", 30, "day"),  # registered twice, merged later
    ("back.office", "P4", 10_000, "flat"),  # statistics, billing lists
)
# Probes per real second of preset ci, so that every claim reaches its own minimum in 60 s.
PROBES: Mapping[tuple[str, str], float] = {
    ("chart.read", "P0"): 6.0,  # RA-1, PR-1: 300 in a window
    ("chart.read", "P1"): 8.0,
    ("chart.read", "P2"): 0.5,
    ("chart.read", "P3"): 2.0,
    ("order.create", "P0"): 1.6,  # OR-1: 300; all of P0 and a tenth of P1 are STAT: RS-3: 100
    ("order.create", "P1"): 5.6,
    ("order.create", "P3"): 0.9,
    ("medication.create", "P1"): 2.0,
    ("administration.create", "P1"): 1.5,
    ("observation.create", "P1"): 1.4,
    ("specimen", "P1"): 11.0,  # RS-1: 500; 6 % critical: RS-2: 20
    ("admission", "P0"): 0.15,
    ("admission", "P1"): 0.3,
    ("admission", "P3"): 0.35,
    ("patient.update", "P1"): 4.0,  # FO-2: a baseline of administration in a short warm-up
    ("encounter.finish", "P3"): 0.4,
    ("encounter.finish", "P1"): 0.2,
    ("duplicate", "P3"): 0.25,  # IN-3: merges in every window, also in the shortest
    ("copy.write", "P3"): 1.4,  # RA-3: 50
    ("back.office", "P4"): 0.2,
}
# What is played of care where the record does not stand: patient administration. More patients come
# then, so that there are writes enough to look for: IN-1.
ADMINISTRATION = ("admission", "patient.update", "encounter.finish", "duplicate")
ADMISSIONS_ALONE = 5.0
_ALONE = {
    (kind, klass): rate * (ADMISSIONS_ALONE if kind == "admission" else 1.0)
    for (kind, klass), rate in PROBES.items() if kind in ADMINISTRATION
}  # fmt: skip
DEPARTMENTS = ("care", "imaging", "appointments")
_NATURAL: Mapping[str, tuple[rates.Rate, ...]] = {
    "care": NATURAL, "administration": tuple(row for row in NATURAL if row[0] in ADMINISTRATION),
    "imaging": rates.IMAGING_NATURAL, "appointments": rates.APPOINTMENTS_NATURAL,
}  # fmt: skip
_PROBES: Mapping[str, Mapping[tuple[str, str], float]] = {
    "care": PROBES, "administration": _ALONE, "imaging": rates.IMAGING_PROBES,
    "appointments": rates.APPOINTMENTS_PROBES,
}  # fmt: skip
# A claim's own minimum evidence in one run (probes, writes, results, instances, failovers, ...).
MINIMUM: Mapping[str, int] = {
    "RA-1": 300, "RA-2": 10, "RA-3": 50, "OR-1": 300, "OR-2": 100, "RS-1": 500, "RS-2": 20,
    "RS-3": 100, "IN-1": 1_000, "IN-2": 1_000, "IN-3": 1_000, "IN-4": 20, "PR-1": 300, "FO-1": 5,
    "FO-2": 1_000, "IM-1": 500, "IM-2": 60, "IM-3": 30, "SC-1": 200, "SC-2": 200, "SC-3": 200,
    "PR-2": 40, "BI-1": 30,
    "BK-1": 100, "IN-5": 20, "RE-1": 5, "RE-2": 5,
}  # fmt: skip
# What more than one node can serve, per real second: a mass report reads the whole record.
RUSH: Mapping[str, float] = {
    "mass.report/P4": 50.0, "mass.report/P3": 25.0, "chart.read/P3": 25.0,
}  # fmt: skip
TURNAROUND_HOSPITAL_S = 97 * 60.0  # RS-3: urgent tests in degraded mode
CRITICAL_HOSPITAL_S = 30 * 60.0  # RS-2: until a carer knows
TOLD_HOSPITAL_S = 10 * 60.0  # SC-1: until all channels say the same
SESSIONS_MORE_S = 40.0  # clinics take their time to open, faults to be seen and healed
ONE_FAILOVER = "one run sees one failover; five runs of it make the claim's own minimum"


@dataclass(frozen=True, slots=True)
class Preset:
    """One size of run.

    `scale` is the share of the 4,000-patient hospital whose natural traffic is played, `load`
    multiplies the probes, `window_s` is the fault window that the evidence is reckoned for.
    """

    name: str
    scale: float
    load: float
    window_s: float
    warmup_s: float = 8.0  # the calm before, in which everything must already hold
    failover_s: float = 60.0  # window of a fault that Patroni must fail over (its floor is 20 s)
    after_s: float = 10.0  # traffic after the heal, so that recovery is seen, too
    settle_s: float = 60.0  # longest time for backlogs to drain
    speed: float = 60.0  # hospital seconds per real second
    asked: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    inpatients: int = 72
    orders_ahead: int = 96  # imaging orders made before the traffic begins: they last a window
    peak_instances: int = 3_000  # that the scanners make in an imaging peak
    bookings: int = 310  # elective appointments of today and, four in five, of tomorrow
    outpatients: int = 100  # who have them
    sessions_per_s: float = 0.85  # protected sessions held, per real second: PR-2
    share: Mapping[str, float] = field(default_factory=dict)  # of the probes of a kind
    rush: Mapping[str, float] = field(default_factory=lambda: dict(RUSH))

    @property
    def turnaround_s(self) -> float:
        """Real seconds of a window in which a late urgent test shows (97 min at this speed)."""
        return max(self.window_s, TURNAROUND_HOSPITAL_S / self.speed + 10.0)

    @property
    def critical_s(self) -> float:
        """Real seconds of a window in which a critical result that nobody is told of shows."""
        return max(self.window_s, CRITICAL_HOSPITAL_S / self.speed + 10.0)

    @property
    def told_s(self) -> float:
        """Real seconds after a decision in which a patient who was told wrongly shows."""
        return TOLD_HOSPITAL_S / self.speed + self.after_s

    @property
    def lease_s(self) -> float:
        """When a fault ends by itself at the latest: well after its window, in real seconds."""
        return 2 * max(self.window_s, self.failover_s, self.turnaround_s) + 60.0

    def need(self, claim: str) -> Need:
        """Evidence that a run of this preset asks of a claim; raises KeyError for an unknown id."""
        own = MINIMUM[claim]
        if claim not in self.asked:
            return Need.full(own)
        asked, why = self.asked[claim]
        return Need(claim=own, asked=min(own, asked), why=why)

    @property
    def sessions_s(self) -> float:
        """Real seconds of traffic for which protected sessions are booked before it begins."""
        return self.warmup_s + self.window_s + self.after_s + SESSIONS_MORE_S

    def flows(
        self, patients: int, speed: float, load: float = 1.0,
        departments: tuple[str, ...] = DEPARTMENTS,
    ) -> tuple[Flow, ...]:  # fmt: skip
        """The flows of a hospital with `patients` patients a day, at `speed`.

        Patient administration is played in any case: as part of care, or alone.
        """
        share = patients / REFERENCE_PATIENTS * self.scale * speed
        flows: list[Flow] = []
        first = "care" if "care" in departments else "administration"
        for department in (first, *(name for name in DEPARTMENTS[1:] if name in departments)):
            flows += [
                Flow(kind, klass, per_day / DAY_S * share, shape)
                for kind, klass, per_day, shape in _NATURAL[department]
            ]
            flows += [
                Flow(kind, klass, rate * self.load * load * self.share.get(kind, 1.0))
                for (kind, klass), rate in _PROBES[department].items()
            ]
        return tuple(flows)


_SHORT = "preset smoke keeps its fault window to 15-20 s, too short for the claim's own minimum"
_FEWER = "preset smoke books 80 elective appointments, so that it is open in a few seconds"
PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "smoke", speed=120, scale=1 / 400, load=0.65, window_s=15, inpatients=40,
            warmup_s=6, failover_s=35, after_s=5, settle_s=45,
            # Fewer tubes, so that several runs fit on two cores; more orders than amendments, so
            # that what befalls one message of a queue befalls an order.
            share={"specimen": 0.7, "patient.update": 0.9, "order.create": 1.3},
            # Batches: more at once than a node takes, however fast the machine is, and yet cheap.
            rush={"mass.report/P4 batch": 30.0, "mass.report/P3 batch": 2.0, "chart.read/P3": 5.0},
            asked={
                "RA-1": (40, _SHORT), "RA-3": (10, _SHORT), "OR-1": (40, _SHORT),
                "OR-2": (30, _SHORT), "RS-1": (40, _SHORT), "RS-2": (3, _SHORT),
                "RS-3": (6, _SHORT), "IN-1": (200, _SHORT), "IN-2": (200, _SHORT),
                "IN-3": (200, _SHORT), "PR-1": (40, _SHORT), "FO-1": (1, ONE_FAILOVER),
                "FO-2": (100, _SHORT), "RA-2": (3, _SHORT), "IN-4": (10, _SHORT),
                "IM-1": (60, _SHORT), "IM-2": (6, _SHORT), "IM-3": (5, _SHORT),
                "SC-1": (40, _FEWER), "SC-2": (30, _FEWER), "SC-3": (40, _FEWER),
                "PR-2": (8, _SHORT), "BK-1": (40, _SHORT),
            },
            orders_ahead=30, bookings=80, outpatients=40, peak_instances=1_000,
        ),
        Preset("ci", scale=1 / 100, load=1.0, window_s=60, asked={"FO-1": (1, ONE_FAILOVER)}),
        Preset(
            "soak", scale=1 / 20, load=0.5, window_s=600, failover_s=600, settle_s=300,
            orders_ahead=450, bookings=600, outpatients=200, sessions_per_s=0.2,
            asked={"FO-1": (1, ONE_FAILOVER)},
        ),
    )
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset of that name; raises ValueError that names the known ones."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r} (known: {', '.join(PRESETS)})")
    return PRESETS[name]
