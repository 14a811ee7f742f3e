"""Claims about going on: elective work is shed first, spares take over, the rest is unaffected.

They refuse to praise a spare that was not needed, and order in a hospital that was never full.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chaos.claims.back import BackWithin
from chaos.claims.evidence import together
from chaos.claims.shed import ShedInOrder
from chaos.claims.unaffected import Unaffected
from chaos.journal.history import History
from chaos.verdict import Need, Verdict
from stacks.hospital.claims.places import ARCHIVES, DATABASES, SCHEDULING, stands, there

NODES = ("ehr-a", "ehr-b")
RECORD_WRITES = (
    "order.create", "medication.create", "administration.create", "observation.create",
)  # fmt: skip
RECORD_KINDS = ("chart.read", *RECORD_WRITES, "back.office")
PATIENTS, CLINICS = "website, call centre", "scheduling"
REST = {
    "gam": ("patient.create", "patient.update", "encounter.create", "encounter.finish"),
    "analysers": ("specimen.load", "specimen.result"),
    PATIENTS: ("appointment.ask",),
    CLINICS: ("appointment.book", "appointment.move", "appointment.cancel"),
}
"""Services declared independent of the record and of one another → their operations."""
ALIKE = {PATIENTS: ("website", "callcentre"), CLINICS: (SCHEDULING,)}
"""Names in REST → the services that share their operations with others, or with each other."""


SLOT_GONE = dict.fromkeys(REST[CLINICS], ": 409")
"""Another patient has the slot, or it is cancelled already: an answer."""


@dataclass(frozen=True)
class ElectiveShedFirst:
    """PR-1. While capacity is short P0-P1 are served (≥ 99.0 %), and at most 1 % of their
    requests are refused while P3-P4 are accepted by the same service in the same 10 s. Minimum
    evidence: 300 requests of P0-P1, and at least one elective request shed (`shed`), or nothing
    was shown. Source: S (Saint-Luc: vital emergencies and inpatients first), A."""

    need: Need = field(default=Need.full(300))
    shed: Need = field(default=Need.full(1))
    id: str = "PR-1"
    statement: str = "When capacity drops, elective work is shed first."
    window: str = "fault"

    @property
    def _order(self) -> ShedInOrder:
        return ShedInOrder(self.id, self.statement, self.need, RECORD_KINDS, self.shed)

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        return self._order.judge(history)

    def unsteady(self, history: History) -> list[str]:
        """Urgent requests that failed before any fault."""
        return self._order.unsteady(history)


@dataclass(frozen=True)
class SpareTakesOver:
    """FO-1. When the database's primary or an application node is lost, the record takes writes
    again within 60 s; when one image archive is lost, its mirror serves images again within 60 s
    (hot pairs; machine bound, never scaled). The worst failover counts, and a service that came
    back only with the lost server proves nothing; nor does the loss of both archives at once.
    Minimum evidence: 5 failovers of the database's primary, or of an archive where only archives
    were hit. Source: S, G (tiers of a university health system)."""

    need: Need = field(default=Need.full(5))
    id: str = "FO-1"
    statement: str = "The spare takes over quickly."
    within_s: float = 60.0
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        hit = {target for fault in history.injections for target in fault.targets}
        archives, need, parts = there(history, ARCHIVES), self.need, []
        record = bool(hit & {*DATABASES, *NODES}) or not hit & set(archives)
        if record and any(stands(history, node) for node in DATABASES):
            parts.append(self._back(DATABASES, RECORD_WRITES, need, "db.writable"))
            need = Need.full(1)
        if hit & set(NODES):
            parts.append(self._back(NODES, RECORD_WRITES, Need.full(1)))
        mirror = self._back(archives or ARCHIVES, ("image.read",), need, all_hit=False)
        if not parts or mirror.hits(history):
            parts.append(mirror)
        return together(self.id, self.statement, [part.judge(history) for part in parts])

    def _back(
        self, spared: tuple[str, ...], kinds: tuple[str, ...], need: Need, in_charge: str = "",
        all_hit: bool = True,
    ) -> BackWithin:  # fmt: skip
        return BackWithin(
            self.id, self.statement, need, spared, kinds, within_s=self.within_s,
            in_charge=in_charge, all_hit=all_hit,
        )  # fmt: skip


@dataclass(frozen=True)
class RestUnaffected:
    """FO-2. Services that no fault hits (administration, analysers, website, call centre,
    scheduling) fail at most 0.1 percentage points more often than before the faults, and their p95
    is at most twice the former (delays under 0.25 s, which nobody notices, count as none; machine
    bounds, never scaled). Minimum evidence: 1,000 requests during the faults. Source: S
    (Saint-Étienne)."""

    need: Need = field(default=Need.full(1_000))
    id: str = "FO-2"
    statement: str = "The rest is unaffected."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        return Unaffected(
            self.id,
            self.statement,
            self.need,
            REST,
            untimed=("specimen.result",),
            alike=ALIKE,
            lawful=SLOT_GONE,
        ).judge(history)
