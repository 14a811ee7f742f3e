"""Claims about appointments: channels say the same, and protected care is kept.

They refuse to take a machine's silence for agreement, and a decision for a patient's own wish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.claims.doubled import unread
from chaos.claims.evidence import (
    absent,
    cited,
    clock_time,
    count,
    decided,
    ends,
    fault_spans,
    lowered,
    ops_in,
    percent,
    together,
)
from chaos.claims.served import EPSILON
from chaos.claims.told import ToldAlike
from chaos.journal.history import History
from chaos.journal.ops import Outcome
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.called_off import EveryoneCalledBack, PatientsTold
from stacks.hospital.claims.places import (
    CALLED_OFF,
    CANCELLED,
    CHANNELS,
    SCHEDULING,
    called_off,
    stands,
    there,
)

PROTECTED = ("P0", "P1", "P2")
"""Vital emergencies, inpatients, protected day care."""
WORDS: Mapping[str, tuple[str, ...]] = {
    "booked": ("confirmed", "moved"),
    "cancelled": ("cancelled",),
}
"""State of an appointment in scheduling → the words that a channel may say of it."""


@dataclass(frozen=True)
class ChannelsAgree:
    """SC-1. At most 10 min of hospital time (human bound, scaled; 6 real s are always allowed for
    the machines' work) after an appointment was called off or cancelled, every channel that knows
    of it (website, call centre, text messages, printed clinic lists) says so, to those who ask and
    to a poll of each channel (at most one hospital minute apart; 5 real s are allowed), and in the
    end all agree with scheduling on every appointment: `confirmed` said later than that = 0 (INV).
    Words said inside the bound are counted and told. Minimum evidence: 200 appointments called off
    and watched. Source: S (Saint-Luc, 07:25: a clinic confirmed an appointment of a day that was
    being cancelled), A."""

    need: Need = field(default=Need.full(200))
    id: str = "SC-1"
    statement: str = "All our channels say the same thing."
    within_s: float = 600.0
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not stands(history, SCHEDULING):
            return absent(self.id, self.statement, self.need, "scheduling")
        channels = {name: CHANNELS[name] for name in there(history, tuple(CHANNELS))}
        return ToldAlike(
            self.id, self.statement, self.need, (CALLED_OFF, "appointment.cancel"), SCHEDULING,
            channels, states=WORDS, within_s=self.within_s, floor_s=6.0,
        ).judge(history)  # fmt: skip


@dataclass(frozen=True)
class ProtectedCareKept:
    """PR-2. Automatic cancellations of P0-P2 (vital surgery, inpatient examinations, chemotherapy,
    dialysis, radiotherapy) = 0, by the clients' ledger and by scheduling's own books (INV); ≥ 95 %
    of the protected sessions due during the faults are held the same day, from scheduling or from
    the printed list (SLO). Minimum evidence: 40 sessions. Source: S (Saint-Luc: chemotherapy,
    dialysis and vital surgery went on)."""

    need: Need = field(default=Need.full(40))
    id: str = "PR-2"
    statement: str = "Chemotherapy, dialysis, inpatient exams and vital surgery are kept."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not stands(history, SCHEDULING):
            return absent(self.id, self.statement, self.need, "scheduling")
        return together(self.id, self.statement, [self._sessions(history), self._kept(history)])

    def _sessions(self, history: History) -> Verdict:
        ops = decided(history, ops_in(history, ("session.held",), PROTECTED, fault_spans(history)))
        failed = [op for op in ops if not op.ok]
        paper = sum(op.ok and op.via == "clinic-lists" for op in ops)
        n, held = len(ops), len(ops) - len(failed)
        share = held / n if n else 0.0
        told = (
            f"{held:,} of {count(n, 'protected session')} were held ({percent(share)}, at least "
            f"95 % promised), {paper:,} of them from the printed list"
        )
        finding, reason = Finding.HELD, f"{told}."
        if failed:
            op = failed[0]
            told += f"; not held: {op.value or 'session'} {op.key} ({op.reason or 'no answer'})"
            reason = f"{told}."
        if len(failed) > 0.05 * max(n, self.need.claim) + EPSILON:
            finding = Finding.BROKEN
        elif n < self.need.asked:
            finding, reason = Finding.INCONCLUSIVE, f"{told}; {self.need.asked:,} are needed."
        elif len(failed) > 0.05 * n + EPSILON:
            finding = Finding.INCONCLUSIVE
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), n, self.need.asked,
            cited(history, failed, ends(ops)),
        )  # fmt: skip

    def _kept(self, history: History) -> Verdict:
        """No protected appointment was called off by anybody but its own clinic or patient."""
        off = [op for op in called_off(history).values() if op.klass in PROTECTED]
        own = {op.key for op in history.ops("appointment.cancel")
               if op.outcome is not Outcome.REFUSED}  # fmt: skip
        named = {op.key for op in off}
        store = history.stores.get(SCHEDULING)
        booked = {op.key: op for op in history.ops("appointment.book")
                  if op.ok and op.klass in PROTECTED}  # fmt: skip
        gone = [
            row for key in booked if store and key not in own and key not in named
            if (row := store.shelf("appointment").get(key)) and row.status == CANCELLED
        ]  # fmt: skip
        decisions = sum(op.ok for op in history.ops("decision.cancel"))
        finding, reason = (
            Finding.HELD,
            (
                f"None of {count(len(booked), 'protected appointment')} was called off by "
                f"{count(decisions, 'decision')}."
            ),
        )
        if off or gone:
            finding = Finding.BROKEN
            names = [f"{op.key} ({op.klass}, {op.subject}, decision {op.value}, at "
                     f"{clock_time(history, op.ended)})" for op in off[:3]]  # fmt: skip
            names += [f"{row.key} ({row.subject})" for row in gone[:3]]
            reason = (
                f"{count(len(off) + len(gone), 'protected appointment')} called off automatically: "
                f"{', '.join(names)}."
            )
        elif unread(history, (SCHEDULING,)):
            finding = Finding.INCONCLUSIVE
            reason = f"{SCHEDULING} was not read to its end after the run."
        return Verdict(
            self.id, self.statement, finding, reason, len(booked), 0, cited(history, off, gone)
        )


__all__ = ["ChannelsAgree", "EveryoneCalledBack", "PatientsTold", "ProtectedCareKept"]
