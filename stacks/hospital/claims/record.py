"""Claims about the patient record: charts can be read, orders are taken and reach the laboratory.

They refuse to count an answer about another patient, and an order that nobody acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chaos.claims.delivered import DeliveredWithin
from chaos.claims.served import Served
from chaos.journal.history import History
from chaos.verdict import Need, Verdict

VITAL = ("P0", "P1")
"""Vital emergencies and inpatients."""
CHART_PATHS = ("ehr-a", "ehr-b", "ro-copy")
"""The sanctioned ways to a chart; primary or standby database behind the nodes."""
CHART_GAP_S, ORDER_GAP_S = 300.0, 60.0
"""The longest time without a chart, or without an order taken."""


@dataclass(frozen=True)
class ChartReadable:
    """RA-1. Chart reads of P0 and of P1 are served by any sanctioned path: at least 99.0 % of
    each class, p95 ≤ 5 s from the intended start (unanswered = infinitely late), no ward without
    an answer for more than 300 s. Machine bounds, never scaled. Minimum evidence: 300 reads of
    each class in the fault windows. Source: S (Saint-Luc, inpatients cared for normally), A."""

    need: Need = field(default=Need.full(300))
    id: str = "RA-1"
    statement: str = "Carers of inpatients and vital emergencies can always read the record."
    window: str = "fault"

    @property
    def _served(self) -> Served:
        return Served(
            self.id, self.statement, "chart reads", ("chart.read",), VITAL, self.need,
            at_least=0.99, within_s=5.0, gap_s=CHART_GAP_S, by_ward=True, right_subject=True,
            services=CHART_PATHS, window=self.window,
        )  # fmt: skip

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        return self._served.judge(history)

    def unsteady(self, history: History) -> list[str]:
        """Charts that could not be read before any fault."""
        return self._served.unsteady(history)


@dataclass(frozen=True)
class OrdersAccepted:
    """OR-1. Orders and prescriptions of P0-P1 are acknowledged: at least 99.0 %, longest
    interruption ≤ 60 s (machine bound, never scaled). Minimum evidence: 300 in the fault windows.
    Source: S (Saint-Étienne: prescription and record were not interrupted), A."""

    need: Need = field(default=Need.full(300))
    id: str = "OR-1"
    statement: str = "Prescription and patient record are not interrupted."
    window: str = "fault"

    @property
    def _served(self) -> Served:
        return Served(
            self.id, self.statement, "orders", ("order.create", "medication.create"), VITAL,
            self.need, at_least=0.99, gap_s=ORDER_GAP_S, pooled=True, window=self.window,
        )  # fmt: skip

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        return self._served.judge(history)

    def unsteady(self, history: History) -> list[str]:
        """Orders that were not taken before any fault."""
        return self._served.unsteady(history)


@dataclass(frozen=True)
class OrdersDelivered:
    """OR-2. Every accepted laboratory order lies in the LIS exactly once, at most 15 min of
    hospital time (human bound, scaled; 15 real s are always allowed for the machines' work) after
    it was accepted or after LIS and engine were healthy again. Minimum evidence: 100 orders
    accepted during the faults. Source: A."""

    need: Need = field(default=Need.full(100))
    id: str = "OR-2"
    statement: str = "An order accepted while the laboratory is down will reach it."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        return DeliveredWithin(
            self.id, self.statement, self.need, kind="order.create", store="lis",
            record_kind="order", path=("lis", "engine"), within_s=15 * 60.0,
            floor_s=15.0,
        ).judge(history)  # fmt: skip
