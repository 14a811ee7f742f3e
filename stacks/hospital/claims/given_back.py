"""Part of BK-1: a system that lost its disk was given its copy back; what is missing since.

It refuses the word of vault and system: what went through the system must be where it was bound
for, once, but for what came between the copy and the loss; that is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.claims.doubled import unread
from chaos.claims.evidence import Citable, cited, clock_time, count, seconds
from chaos.claims.kept import NO_PROGRESS
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.journal.spans import Seen
from chaos.journal.stores import Stored
from chaos.systems import Home
from chaos.verdict import Finding, Verdict
from stacks.hospital.claims.backup_systems import copied_before, loss_before
from stacks.hospital.claims.places import ARCHIVES, MODALITIES, homes

ENGINE = "engine"
LISTED, DELETED = 3, "deleted"
HANDED_S = 5.0
"""So long after its acknowledgement a write may still be on its way to the system."""


@dataclass(frozen=True)
class GivenBack:
    """One restore for good. Evidence: writes that had gone through the system before the copy and
    are where they were bound for."""

    id: str
    statement: str
    system: str
    given: Seen[ev.Sample]

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        copy = self.given.event.value
        loss = loss_before(history, self.system, self.given.event.t)
        if loss is None or not copy or self.system not in (ENGINE, *ARCHIVES):
            reason = f"{self.system} was given a copy back, and nobody saw what it had lost."
            return self._verdict(history, Finding.INCONCLUSIVE, reason, 0, [])
        drained = history.drained
        # What was lost may leave its counterpart waiting for ever: that nothing moves is enough.
        if drained is None or not (
            drained.event.ok or drained.event.reason.startswith(NO_PROGRESS)
        ):
            reason = f"{self.system} was given a copy back; its backlog was not seen to end."
            return self._verdict(history, Finding.INCONCLUSIVE, reason, 0, [])
        assert loss.seen is not None
        cut = loss.seen
        if self.system in ARCHIVES:
            return self._images(history, copied_before(history, cut), cut)
        if missed := unread(history, tuple(sorted({one.store for _, one in self._bound(history)}))):
            reason = f"{self.system} was given a copy back; not read: {', '.join(missed)}."
            return self._verdict(history, Finding.INCONCLUSIVE, reason, 0, [])
        before, after, lost, twice = 0, list[Op](), list[Op](), list[Op]()
        for op, times in self._through(history):
            if times > 1:
                twice.append(op)
            elif times:
                before += op.ended <= copy - HANDED_S
            elif copy - HANDED_S < op.ended <= cut:
                after.append(op)
            else:
                lost.append(op)
        if twice:
            reason = f"After it was given back, {_named(twice)} arrived more than once."
            return self._verdict(history, Finding.BROKEN, reason, before, twice)
        if lost:
            reason = (
                f"{self.system} was given back what it had at {clock_time(history, copy)}, and "
                f"{count(len(lost), 'write')} from outside the time between that copy and the loss "
                f"are missing: {_named(lost)}."
            )
            return self._verdict(history, Finding.BROKEN, reason, before, lost)
        if not before:
            reason = f"Nothing had gone through {self.system} by the copy that it was given back."
            return self._verdict(history, Finding.INCONCLUSIVE, reason, 0, after)
        reason = (
            f"{self.system} was given its copy back: {count(before, 'write')} from before it "
            f"arrived; {count(len(after), 'write')} of the {seconds(max(0.0, cut - copy))} between "
            f"copy and loss are missing{': ' if after else ''}{_named(after)}."
        )
        return self._verdict(history, Finding.HELD, reason, before, after)

    def _images(self, history: History, copy: float, cut: float) -> Verdict:
        """Every image that a scanner has let go of, since an archive had vouched for it."""
        archive, scans = history.stores.get(self.system), history.stores.get(MODALITIES)
        if archive is None or scans is None or not (archive.complete and scans.complete and copy):
            reason = f"{self.system} was given images back; it or the scanners were not read."
            return self._verdict(history, Finding.INCONCLUSIVE, reason, 0, [])
        before, after, lost, unclear = 0, list[Stored](), list[Stored](), list[Stored]()
        for scan in scans.shelf("instance"):
            if scan.status != DELETED or not scan.at:
                continue
            there = archive.shelf("instance").get(scan.key)
            if there is not None and there.digest == scan.digest:
                before += scan.at <= copy - HANDED_S
            elif there is None and copy - HANDED_S < scan.at <= cut:
                after.append(scan)
            elif there is None and cut < scan.at <= self.given.event.t:
                # Vouched for before the cut, and the scanner heard of it when things were back? Or
                # taken by the archive since, and lost by the restore?
                unclear.append(scan)
            elif there is not None and not there.digest:
                unclear.append(scan)
            else:
                lost.append(scan)
        if lost:
            reason = (
                f"{self.system} was given its images back, and {count(len(lost), 'image')} from "
                f"outside the time between the last copy and the loss are missing or others: "
                f"{lost[0].key}."
            )
            return self._verdict(history, Finding.BROKEN, reason, before, lost)
        if unclear:
            reason = (
                f"{self.system} was given its images back; of {count(len(unclear), 'image')} it is "
                "not known when they were vouched for, or which pixels came back: "
                f"{unclear[0].key}."
            )
            return self._verdict(history, Finding.INCONCLUSIVE, reason, before, unclear)
        finding = Finding.HELD if before else Finding.INCONCLUSIVE
        reason = (
            f"{self.system} was given its images back: {count(before, 'image')} from before the "
            f"last copy are there with the scanners' pixels; {count(len(after), 'image')} of the "
            f"{seconds(max(0.0, cut - copy))} between copy and loss are missing"
            f"{': ' if after else ''}{', '.join(one.key for one in after[:LISTED])}."
        )
        return self._verdict(history, finding, reason, before, after)

    def _through(self, history: History) -> list[tuple[Op, int]]:
        """Acknowledged writes that others hear of over the engine, and how often they have: 0 when
        one of them has not, else the most."""
        bound: dict[str, list[Home]] = {}
        for kind, home in self._bound(history):
            bound.setdefault(kind, []).append(home)
        found = []
        for kind, places in bound.items():
            shelves = [history.stores[one.store].shelf(one.kind) for one in places]
            for op in history.ops(kind):
                if op.ok and op.key:
                    times = [shelf.copies(op.key) for shelf in shelves]
                    found.append((op, max(times) if min(times) else 0))
        return found

    def _bound(self, history: History) -> list[tuple[str, Home]]:
        """Kinds of operation, and where they must arrive over the engine, each by itself."""
        return [
            (kind, one) for kind, places in homes(history).items() for one in places
            if one.backlog and not one.announced_by and not one.after_s and not one.statuses
        ]  # fmt: skip

    def _verdict(
        self, history: History, finding: Finding, reason: str, evidence: int,
        ops: Sequence[Citable],
    ) -> Verdict:  # fmt: skip
        lines = cited(history, [self.given], ops)
        return Verdict(self.id, self.statement, finding, reason, evidence, 1, lines)


def _named(ops: list[Op]) -> str:
    more = f" and {len(ops) - LISTED:,} more" if len(ops) > LISTED else ""
    return ", ".join(f"{op.kind} {op.key}" for op in ops[:LISTED]) + more
