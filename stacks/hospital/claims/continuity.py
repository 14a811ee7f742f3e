"""Claims about going on: elective work is shed first, spares take over, the rest is unaffected.

They refuse to praise a spare that was not needed, and order in a hospital that was never full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from chaos.claims.back import TAKES_AWAY, BackWithin
from chaos.claims.evidence import cited, clock_time, count, together
from chaos.claims.shed import ShedInOrder
from chaos.claims.unaffected import Unaffected
from chaos.journal.history import History
from chaos.journal.spans import Injection
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.incidents import incidents, polls
from stacks.hospital.claims.places import ARCHIVES, DATABASES, INCIDENT, SCHEDULING, stands, there

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
        lost = (fault for fault in history.injections if fault.kind in TAKES_AWAY)
        hit = {target for fault in lost for target in fault.targets}
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
    bounds, never scaled). Where an incident system stands, a stop on purpose is announced before it
    begins (in an incident of its own, or in the one that goes on); that it drains, IN-1 says.
    `named`: services that the experiment declares independent by name; each is judged alone,
    also where a fault hits it after all, and needs requests of its own before and during the
    faults. Minimum evidence: 1,000 requests during the faults. Source: S (Saint-Étienne)."""

    need: Need = field(default=Need.full(1_000))
    named: tuple[str, ...] = ()
    id: str = "FO-2"
    statement: str = "The rest is unaffected."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        rest = Unaffected(
            self.id,
            self.statement,
            self.need,
            REST,
            untimed=("specimen.result",),
            alike=ALIKE,
            lawful=SLOT_GONE,
            named=self.named,
        ).judge(history)
        stops = [fault for fault in history.injections if fault.kind == "stop"]
        if not stops or not stands(history, INCIDENT):
            return rest
        return together(self.id, self.statement, [rest, self._announced(history, stops)])

    def _announced(self, history: History, stops: list[Injection]) -> Verdict:
        """Every deliberate stop was published before it began."""
        planned = [(said, one) for one in incidents(history) for said in one.stops]
        finding, reason = Finding.HELD, f"{count(len(stops), 'stop')} on purpose, each announced."
        silent = [
            (fault, name) for fault in stops for name in fault.targets
            if not any(
                name in said.names and said.at < fault.began < one.end(inf)
                for said, one in planned
            )
        ]  # fmt: skip
        if silent and not polls(history):
            finding, reason = Finding.INCONCLUSIVE, "Nobody looked at what was announced."
        elif silent:
            fault, name = silent[0]
            at = clock_time(history, fault.began)
            finding = Finding.BROKEN
            reason = f"{name} was stopped on purpose at {at}, and nobody had announced it."
        lines = cited(history, [fault for fault, _ in silent],
                      [said.place for said, _ in planned])  # fmt: skip
        return Verdict(self.id, self.statement, finding, reason, 0, 0, lines)
