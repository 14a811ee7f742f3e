"""The claim about images: scanners go on, nothing they acquired is lost, nothing goes too early.

It refuses to believe the scanners' own word where the archives or the consoles can be asked, and
to praise scanners that nobody used while a fault lasted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from chaos.claims.evidence import (
    Span,
    absent,
    cited,
    count,
    ends,
    fault_spans,
    inside,
    merged,
    seconds,
    together,
)
from chaos.claims.subject import MERGE
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.journal.spans import Injection
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.integrity import images
from stacks.hospital.claims.places import ARCHIVES, MODALITIES, stands, there

DURING_MIN = 5
"""So many examinations, at least, must have been begun while a fault lasted."""
DELETED, UNCOMMITTED = "deleted", "deleted-uncommitted"
DOWN = frozenset({"kill", "pause", "stop", "room"})
"""Kinds of faults after which a service takes nothing at all."""
CLOCK_S = 0.25
"""Instants that two systems wrote down may differ by so many real seconds."""
COMMIT_S = 5.0
"""A commitment given before an outage may reach the scanner so many real seconds into it."""
RESTART_S = 5.0
"""A scanner that was hit itself may need so many real seconds after the heal."""


@dataclass(frozen=True)
class ImagesKept:
    """IM-1. Every instance that a scanner acquired lies in every archive of the topology exactly
    once with the scanner's pixels (CMP after the drain); no scanner deleted one before an archive
    held it (INV: status, the archives' own instants, and outages of all archives tell); no scanner
    that was not hit itself refused an examination (a full buffer is a refusal), lost a finished
    one, or holds fewer instances than its console showed. Minimum evidence: 500 instances in every
    archive, and 5 examinations begun during the faults (ours). Source: G, K (the 24 h of buffer
    are the scanner's own refusal when it is full)."""

    need: Need = field(default=Need.full(500))
    id: str = "IM-1"
    statement: str = "Scanners keep acquiring; no image is lost."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        this = (self.id, self.statement)
        if not stands(history, MODALITIES):
            return absent(*this, self.need, "scanner")
        parts = [
            images(this, self.need, history).judge(history),
            self._examinations(history),
            self._deletions(history),
        ]
        return together(*this, parts)

    # ------------------------------------------------------------ scanners go on

    def _examinations(self, history: History) -> Verdict:
        excused = _hit_itself(history)
        done = {op.key: op for op in history.ops("examination.done")}
        taken, stopped, unsure = [], [], []
        for op in history.ops("examination.start"):
            if op.outcome is Outcome.REFUSED:
                stopped += [] if inside(op.intended, excused) else [op]
            elif op.ok or (op.key in done and done[op.key].ok):
                taken.append(op)
            elif inside(op.intended, excused) or op.undecided:
                continue
            elif not op.pending or history.end - op.intended > COMMIT_S:
                unsure.append(op)
        for op in done.values():
            if op.ok or inside(op.intended, excused) or op.undecided or op.pending:
                continue
            (stopped if op.outcome is Outcome.REFUSED else unsure).append(op)
        lost, few = self._lost(history, done.values())
        during = [op for op in taken if inside(op.intended, fault_spans(history))]
        finding, reason = (
            Finding.HELD,
            (
                f"The scanners took all {count(len(taken), 'examination')}, "
                f"{len(during):,} of them while a fault lasted."
            ),
        )
        if stopped or lost or few:
            finding, reason = Finding.BROKEN, _stopped(stopped, lost, few)
        elif unsure:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"What became of {count(len(unsure), 'examination')} on the scanners is not known "
                f"(for example {unsure[0].key}: {unsure[0].reason or 'no answer'})."
            )
        elif len(during) < DURING_MIN:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"Only {count(len(during), 'examination')} begun while a fault lasted; "
                f"{DURING_MIN} are needed."
            )
        lines = cited(history, stopped, lost, unsure, ends(during))
        return self._part(finding, reason, len(during), DURING_MIN, lines)

    def _lost(self, history: History, done: Iterable[Op]) -> tuple[list[Op], list[str]]:
        """Finished examinations that the scanners do not know any more, and patients of whom they
        hold fewer instances than the console had shown."""
        store = history.stores.get(MODALITIES)
        if store is None or not store.complete:
            return [], []
        studies = store.shelf("study")
        merged_ = {name for op in history.ops(MERGE) for name in (op.key, op.subject)}
        lost = [
            op for op in done
            if op.ok and op.answer_value and store.read_from > op.ended
            and studies.get(op.answer_value) is None
        ]  # fmt: skip
        shown = {op.key: op for op in history.ops("study.view") if op.value.isdecimal()}
        wanted: Counter[str] = Counter()
        for op in shown.values():
            if op.intended < store.read_from and op.subject not in merged_:
                wanted[op.subject] += int(op.value)
        held = Counter(row.subject for row in store.shelf("instance"))
        few = [
            f"patient {patient}: {held[patient]} of {number}"
            for patient, number in sorted(wanted.items()) if held[patient] < number
        ]  # fmt: skip
        return lost, few

    # ------------------------------------------------------------ nothing deleted too early

    def _deletions(self, history: History) -> Verdict:
        store = history.stores.get(MODALITIES)
        gone = [r for r in store.shelf("instance") if r.status in (DELETED, UNCOMMITTED)] \
            if store else []  # fmt: skip
        blackout = _blackout(history)
        early: list[tuple[Stored, str]] = []
        for row in gone:
            if why := self._too_early(history, row, blackout):
                early.append((row, why))
        finding, reason = (
            Finding.HELD,
            (
                f"None of {count(len(gone), 'instance')} that the scanners deleted was deleted "
                "before an archive held it."
            ),
        )
        if early:
            row, why = early[0]
            finding = Finding.BROKEN
            reason = (
                f"{count(len(early), 'instance')} deleted on the scanners too early: {row.key} of "
                f"{row.subject} {why}."
            )
        lines = cited(history, [row for row, _ in early], gone[:1])
        return self._part(finding, reason, len(gone), 0, lines)

    @staticmethod
    def _too_early(history: History, row: Stored, blackout: list[Span]) -> str:
        if row.status == UNCOMMITTED:
            return "was deleted without any storage commitment"
        stores = [history.stores[n] for n in there(history, ARCHIVES) if n in history.stores]
        copies = [one for store in stores if (one := store.shelf("instance").get(row.key))]
        known = [one.at for one in copies if one.at > 0]
        if row.at <= 0:
            return ""  # says nothing; that it lies in the archives is judged apart
        if known and len(known) == len(copies) and row.at < min(known) - CLOCK_S:
            return f"was deleted {seconds(min(known) - row.at)} before any archive stored it"
        held_before = any(at <= row.at + CLOCK_S for at in known)
        if not held_before and any(s + COMMIT_S < row.at < e for s, e in blackout):
            return "was deleted while every archive was down"
        return ""

    def _part(
        self, finding: Finding, reason: str, evidence: int, needed: int, lines: tuple[str, ...]
    ) -> Verdict:
        return Verdict(self.id, self.statement, finding, reason, evidence, needed, lines)


def _stopped(stopped: list[Op], lost: list[Op], few: list[str]) -> str:
    parts = []
    if stopped:
        op = stopped[0]
        parts.append(
            f"{count(len(stopped), 'examination')} not done because a scanner stopped: {op.key} of "
            f"{op.subject} was refused ({op.reason or 'no reason given'})."
        )
    if lost:
        op = lost[0]
        parts.append(
            f"{count(len(lost), 'finished examination')} unknown to the scanners in the end: "
            f"{op.key} of {op.subject}, study {op.answer_value}."
        )
    if few:
        parts.append(
            f"The scanners hold fewer instances than their consoles showed of "
            f"{count(len(few), 'patient')} ({few[0]})."
        )
    return " ".join(parts)


def _called(target: str) -> str:
    """The service that a fault's target is, or the one that a link leads to."""
    return target.partition(">")[2].rpartition(".")[0] if ">" in target else target


def _hit_itself(history: History) -> list[Span]:
    """Spans in which the scanners or the way to their consoles were hit."""
    return merged(
        (fault.began, fault.healed + RESTART_S)
        for fault in history.injections
        if any(_called(t) == MODALITIES and not t.endswith(".dicom") for t in fault.targets)
    )


def _blackout(history: History) -> list[Span]:
    """Spans in which no archive of the topology could take anything."""
    left: list[Span] | None = None
    for name in there(history, ARCHIVES):
        spans = merged(
            (fault.began if fault.seen is None else fault.seen, min(fault.over, history.end))
            for fault in history.injections if takes_nothing(fault, name)
        )  # fmt: skip
        left = spans if left is None else _both(left, spans)
    return left or []


def _both(one: list[Span], other: list[Span]) -> list[Span]:
    """Where spans of both overlap; a run has few."""
    return merged((max(a, c), min(b, d)) for a, b in one for c, d in other)


def takes_nothing(fault: Injection, archive: str) -> bool:
    """Whether nothing can be stored in an archive while this fault lasts."""
    if fault.kind in DOWN and archive in fault.targets:
        return True
    return fault.kind == "cut" and any(t.endswith(f">{archive}.dicom") for t in fault.targets)
