"""Claims about data: nothing lost, nothing twice or out of order, nobody mixed up, one truth.

They refuse to be content with one replica, and to accuse where the final read failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chaos.claims.doubled import DrainedInTime, InOrder, NoDoubles, NoRegression
from chaos.claims.evidence import together
from chaos.claims.kept import WritesKept
from chaos.claims.mirrored import Mirrored
from chaos.claims.one_writer import OneWriter
from chaos.claims.same_content import SameContent
from chaos.claims.same_subject import SameSubject
from chaos.claims.subject import RightSubject
from chaos.journal.history import History
from chaos.verdict import Need, Verdict
from stacks.hospital.claims.places import (
    ANSWERED,
    ARCHIVES,
    CHANGES,
    DATABASES,
    ENGINE,
    FILED,
    LABELS,
    MODALITIES,
    RANKS,
    ROUTER,
    STORES,
    UPDATES,
    homes,
    stands,
    there,
)


def images(this: tuple[str, str], need: Need, history: History, once: bool = True) -> Mirrored:
    """Every instance that a scanner acquired, in every archive of the topology."""
    return Mirrored(
        *this, need, "instance", "pixel hashes", MODALITIES, "instance",
        there(history, ARCHIVES), queues=(ROUTER,), held=("held",), once=once,
    )  # fmt: skip


@dataclass(frozen=True)
class NothingLost:
    """IN-1. Acknowledged writes missing or changed in any store where they must be = 0; refused
    writes stored = 0 (CMP; copies are IN-2's). A result of which only a preliminary state is left
    is lost, and so is an image that an archive does not hold with the scanner's pixels, and a
    called-off appointment that scheduling or a channel still has. Minimum evidence: 1,000
    acknowledged writes. Source: S (Saint-Luc: no data lost), G."""

    need: Need = field(default=Need.full(1_000))
    id: str = "IN-1"
    statement: str = "No data was lost."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        this = (self.id, self.statement)
        parts = [
            WritesKept(
                *this, self.need, homes(history), queues=ENGINE, updates=UPDATES,
                changes=CHANGES, once=False,
            ).judge(history)
        ]  # fmt: skip
        if stands(history, MODALITIES):
            parts.append(images(this, Need.full(0), history, once=False).judge(history))
        return together(*this, parts)


@dataclass(frozen=True)
class NothingTwice:
    """IN-2. No business key (order, report, appointment, image) lies twice in a store, no slot is
    booked twice; no preliminary result stands over a final one, no older one over a corrected;
    orders reach the LIS in the order of their making; backlogs are empty within half the outage
    (30 real s are always allowed: machine time is not compressed), 4 h of hospital time at most
    (CMP/BND). Minimum evidence: 1,000 records (ours; the catalogue names none). Source: K,
    interface-engine defects (Mirth #1314)."""

    need: Need = field(default=Need.full(1_000))
    id: str = "IN-2"
    statement: str = "Nothing is entered twice or out of order."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        this = (self.id, self.statement)
        parts = [
            NoDoubles(*this, self.need, there(history, STORES), (ROUTER,)).judge(history),
            DrainedInTime(*this, most_s=4 * 3600.0 / history.speed).judge(history),
        ]
        if stands(history, "lis"):
            nodes = there(history, DATABASES)
            parts += [
                NoRegression(*this, "report", "lis", nodes, RANKS).judge(history),
                InOrder(*this, "order.create", "lis", "order").judge(history),
            ]
        return together(*this, parts)


@dataclass(frozen=True)
class NobodyMixedUp:
    """IN-3. Answers and stored records that belong to another patient than the clients' ledger
    says = 0, merged patients included; results with another content than the analyser measured
    = 0, images archived under another patient than the scanner had = 0 (INV). Minimum evidence:
    1,000 answers and records (the catalogue says all).
    Source: G (patient identification is the recurring hazard of downtime, PMC7647128)."""

    need: Need = field(default=Need.full(1_000))
    id: str = "IN-3"
    statement: str = "No patient gets another patient's data."
    answers: tuple[str, ...] = (
        "chart.read", "order.create", "medication.create", "administration.create",
        "observation.create", "specimen.result", "stat.turnaround", "critical.ack",
        "imaging.order", "examination.start", "examination.done", "study.view", "image.read",
        "appointment.book", "appointment.move", "appointment.cancel", "appointment.ask",
        "session.held",
    )  # fmt: skip
    window: str = "fault"

    def _subjects(self, history: History) -> RightSubject:
        return RightSubject(
            self.id, self.statement, self.need, self.answers, FILED, there(history, STORES),
            by_answer=ANSWERED, labels=LABELS,
        )  # fmt: skip

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        this = (self.id, self.statement)
        parts = [self._subjects(history).judge(history)]
        if stands(history, "analysers"):
            copies = tuple((store, "report") for store in there(history, ("lis", *DATABASES)))
            parts.append(
                SameContent(
                    *this, ("analysers", "specimen"), copies, states=("final",)
                ).judge(history)
            )  # fmt: skip
        if stands(history, MODALITIES):
            archives = there(history, ARCHIVES)
            parts.append(
                SameSubject(
                    *this, Need.full(0), (MODALITIES, "instance"), archives
                ).judge(history)
            )  # fmt: skip
        return together(*this, parts)

    def unsteady(self, history: History) -> list[str]:
        """A wrong patient before any fault."""
        return self._subjects(history).unsteady(history)


@dataclass(frozen=True)
class OneTruth:
    """IN-4. At most one database node accepts writes at any instant, an older timeline never
    again after a younger one did, and both nodes hold the same after the healing (INV).
    Minimum evidence: 20 write attempts at the nodes during the faults (ours; the catalogue names
    none). Source: K."""

    need: Need = field(default=Need.full(20))
    id: str = "IN-4"
    statement: str = "There is one truth."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        return OneWriter(self.id, self.statement, self.need, DATABASES).judge(history)
