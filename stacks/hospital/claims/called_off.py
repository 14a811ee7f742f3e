"""Claims about those whose appointment was called off: told before they travel, and called back.

They refuse to take a message sent for a patient reached, and a decision for a call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from math import inf

from chaos.claims.doubled import unread
from chaos.claims.evidence import (
    absent,
    cited,
    clock_time,
    count,
    ends,
    human,
    lowered,
    percent,
)
from chaos.claims.served import EPSILON
from chaos.claims.subject import Merges
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.journal.stores import Store, Stored
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.places import CALLED_OFF, CANCELLED, SCHEDULING, called_off, stands

HOUR_S = 3600.0
REACHED = 0.95
LOOK_S = 1.0
"""The client wrote the decision down at most so many real seconds after it took effect."""
TRIES_S, TRIES_FLOOR_S = 32 * 60.0, 5.0
"""A message that is still pending so many human plus real seconds later is tried no more."""
STEPS = frozenset({"pending", "delivered", "unreachable"})
"""What a message may be; under any other status nobody tries it or calls the patient."""
NEWS_PATH = frozenset({SCHEDULING, "engine", "sms"})
"""Services on the way from a decision to a patient's phone."""


@dataclass(frozen=True)
class PatientsTold:
    """SC-2. Of the patients whose appointment was called off, with a slot more than 12 h after the
    decision, at least 95 % are reached at least 2 h before it (within 10 h when the slot's time is
    not known; human bounds, scaled); every one has been tried, and whom no message can reach is
    listed for a person to call while there is time (BND). Minimum evidence: 200 patients.
    Source: S (Saint-Luc), A."""

    need: Need = field(default=Need.full(200))
    id: str = "SC-2"
    statement: str = "Patients are told before they travel."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not stands(history, SCHEDULING) or not stands(history, "sms"):
            return absent(self.id, self.statement, self.need, "scheduling")
        tally = _Notices(history)
        missed = len(tally.late) + len(tally.listed)
        n = len(tally.reached) + missed
        share = len(tally.reached) / n if n else 0.0
        told = (
            f"{len(tally.reached):,} of {count(n, 'patient')} were reached in time "
            f"({percent(share)}, at least {percent(REACHED)} promised), {len(tally.listed):,} "
            f"whom no message reaches are listed for a person to call"
        )
        finding, reason = Finding.HELD, f"{told}; every one was tried."
        if tally.untried:
            op = tally.untried[0]
            finding = Finding.BROKEN
            reason = (
                f"{count(len(tally.untried), 'patient')} neither reached nor listed for a person "
                f"to call (for example {op.subject}, appointment {op.key}, called off at "
                f"{clock_time(history, op.ended)}); {told}."
            )
        elif missed > (1 - REACHED) * max(n, self.need.claim) + EPSILON:
            late = f"; for example appointment {tally.late[0].key}" if tally.late else ""
            finding, reason = Finding.BROKEN, f"{told}{late}."
        elif unread(history, ("sms",)):
            finding = Finding.INCONCLUSIVE
            reason = "sms was not read to its end after the run."
        elif tally.open:
            finding = Finding.INCONCLUSIVE
            reason = f"{told}; for {count(len(tally.open), 'patient')} it is still tried."
        elif n < self.need.asked:
            finding, reason = Finding.INCONCLUSIVE, f"{told}; {self.need.asked:,} are needed."
        elif missed > (1 - REACHED) * n + EPSILON:
            finding = Finding.INCONCLUSIVE
            reason = f"{told}: too few to condemn, too many to hold."
        lines = cited(history, tally.untried, tally.late, tally.open, ends(tally.reached))
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), n, self.need.asked,
            lines,
        )  # fmt: skip


class _Notices:
    """What became of the message to each patient whose appointment was called off."""

    def __init__(self, history: History) -> None:
        self.reached: list[Op] = []
        self.late: list[Op] = []
        self.listed: list[Op] = []
        self.open: list[Op] = []
        self.untried: list[Op] = []
        self._speed = history.speed
        self._offset = _unix_offset(history)
        self._healed = max(
            (f.healed for f in history.injections if any(_ends(t) & NEWS_PATH for t in f.targets)),
            default=-inf,
        )
        drained = history.drained
        self._still = drained.event.t if drained and drained.event.ok else inf
        store = history.stores.get("sms")
        for op in called_off(history).values() if store else ():
            if store is not None:
                self._one(op, store)

    def _one(self, op: Op, store: Store) -> None:
        last = self._last(op)
        rows = [
            row
            for row in store.shelf("notice").rows(op.key)
            if row.digest == CANCELLED or (not row.digest and row.at >= op.ended - LOOK_S)
        ]
        states = {row.status for row in rows}
        delivered = [row.at for row in rows if row.status == "delivered"]
        if not rows or states <= {"pending"}:
            gives_up = max(op.ended, self._healed) + TRIES_S / self._speed + TRIES_FLOOR_S
            over = store.read_from > gives_up or (not rows and store.read_from >= self._still)
            if store.complete and over:
                self.untried.append(op)
            elif last > -inf:
                self.open.append(op)
        elif last == -inf:
            return  # the slot came too soon after the decision to promise more than a try
        elif not states & STEPS:
            self.untried.append(op)  # it is tried no more, and on nobody's list
        elif any(0 < at <= last for at in delivered):
            self.reached.append(op)
        elif any(row.status == "unreachable" and row.at <= last for row in rows):
            self.listed.append(op)
        elif any(at > last for at in delivered) or "unreachable" in states:
            self.late.append(op)
        else:
            self.open.append(op)

    def _last(self, op: Op) -> float:
        """The last instant at which he can still be told; -inf when his slot was too near."""
        try:
            slot = datetime.fromisoformat(op.answer_value).timestamp() + self._offset
        except (ValueError, OverflowError):
            return op.ended + 10 * HOUR_S / self._speed
        if slot <= op.ended + 12 * HOUR_S / self._speed:
            return -inf
        return slot - 2 * HOUR_S / self._speed


def _ends(target: str) -> set[str]:
    """The service that a fault's target is, or the two ends of a link."""
    source, _, rest = target.partition(">")
    return {source, rest.rpartition(".")[0]} if rest else {source}


def _unix_offset(history: History) -> float:
    """Monotonic minus Unix seconds of the run."""
    run = history.run
    try:
        return run.t - datetime.fromisoformat(run.utc).timestamp() if run else 0.0
    except (ValueError, OverflowError):
        return 0.0


@dataclass(frozen=True)
class EveryoneCalledBack:
    """SC-3. Every appointment that was called off has exactly one open or closed task to find a
    new date, made within 24 h of hospital time (human bound, scaled) for the right patient; no
    calling off and no acknowledged booking is lost, and no slot is booked twice, also after a
    restore from the backup (CMP). Minimum evidence: 200 called-off appointments (ours, as for
    SC-1; the catalogue names none). Source: S (Saint-Luc)."""

    need: Need = field(default=Need.full(200))
    id: str = "SC-3"
    statement: str = "We will call every cancelled patient with a new date."
    within_s: float = 24 * HOUR_S
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not stands(history, SCHEDULING):
            return absent(self.id, self.statement, self.need, "scheduling")
        tally = _Agenda(self, history)
        n = len(tally.tasks)
        finding, reason = (
            Finding.HELD,
            (
                f"All {count(n, 'called-off appointment')} have one task to find a new date, made "
                f"within {human(self.within_s, history)}; none of {tally.slots:,} slots is booked "
                f"twice and none of {count(tally.bookings, 'booking')} is lost."
            ),
        )
        if tally.broken:
            finding = Finding.BROKEN
            reason = " ".join(
                f"{number:,} {what}: {example}." for what, (number, example) in tally.broken.items()
            )
        elif unread(history, (SCHEDULING,)):
            finding = Finding.INCONCLUSIVE
            reason = f"{SCHEDULING} was not read to its end after the run."
        elif tally.open:
            finding = Finding.INCONCLUSIVE
            reason = "Scheduling was read before the last decisions and bookings."
        elif n < self.need.asked:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"Only {count(n, 'called-off appointment')} to look for; {self.need.asked:,} are "
                "needed."
            )
        lines = cited(history, tally.proof, tally.open, tally.tasks[:1], tally.tasks[-1:])
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), n, self.need.asked,
            lines,
        )  # fmt: skip


class _Agenda:
    """What scheduling holds in the end against what clients were told."""

    def __init__(self, claim: EveryoneCalledBack, history: History) -> None:
        self.broken: dict[str, tuple[int, str]] = {}
        self.proof: list[Op | Stored] = []
        self.tasks: list[Stored] = []
        self.open: list[Op] = []
        self.slots = self.bookings = 0
        store = history.stores.get(SCHEDULING)
        if store is None:
            return
        self._store, self._merges = store, Merges(history)
        self._within_s = claim.within_s / history.speed
        off = called_off(history)
        for op in off.values():
            self._called_off(op)
        for slot in store.shelf("slot"):
            self.slots += 1
            if sum(row.count for row in store.shelf("slot").rows(slot.key)) > 1:
                self._say("slots booked twice", f"slot {slot.key}", slot)
        self._bookings(history)

    def _called_off(self, op: Op) -> None:
        store, key = self._store, op.key
        row, tasks = store.shelf("appointment").get(key), store.shelf("rebooking")
        task = tasks.get(key)
        if store.read_from < op.ended:
            self.open.append(op)
            return
        who = f"appointment {key} of {op.subject}"
        if row is not None and row.status != CANCELLED:
            self._say("decisions to call off lost", f"{who} is `{row.status}` again", op, row)
        if task is None:
            if store.complete:
                self._say("cancelled patients whom nobody will call", who, op)
        elif tasks.copies(key) > 1:
            self._say("cancelled patients with two tasks", who, op, task)
        elif task.subject and task.subject not in self._merges.ever(op.subject):
            self._say("tasks for another patient", f"{who} has one for {task.subject}", op, task)
        elif task.at > op.ended + self._within_s:
            self._say("tasks made too late", who, op, task)
        else:
            self.tasks.append(task)

    def _bookings(self, history: History) -> None:
        """Every acknowledged booking is there, and no two hold the slot of one."""
        store, holder = self._store, dict[str, Op]()
        left = {op.key for kind in ("appointment.cancel", "appointment.move", CALLED_OFF)
                for op in history.ops(kind) if op.outcome is not Outcome.REFUSED}  # fmt: skip
        for op in history.ops("appointment.book"):
            if not op.ok or not op.key:
                continue
            self.bookings += 1
            if store.read_from < op.ended:
                self.open.append(op)
            elif store.complete and store.shelf("appointment").get(op.key) is None:
                self._say("bookings lost", f"appointment {op.key} of {op.subject}", op)
            slot = store.shelf("slot").get(op.answer_value) if op.answer_value else None
            if op.key in left or slot is None:
                continue
            first = holder.setdefault(op.answer_value, op)
            if first.key != op.key:
                self._say("slots promised twice", f"slot {op.answer_value} to {first.subject} "
                          f"({first.key}) and {op.subject} ({op.key})", first, op)  # fmt: skip

    def _say(self, what: str, example: str, *proof: Op | Stored) -> None:
        number, first = self.broken.get(what, (0, example))
        self.broken[what] = (number + 1, first)
        self.proof += proof
