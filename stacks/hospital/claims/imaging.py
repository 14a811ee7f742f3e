"""Claims about imaging: no image is lost, emergency images are readable, patients are found again.

They refuse to believe the scanners' and the archives' own word where the other side can be asked,
and to praise scanners that nobody used while a fault lasted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

import msgspec

from chaos.claims.evidence import (
    Span,
    cited,
    count,
    ends,
    fault_spans,
    human,
    inside,
    lowered,
    merged,
    seconds,
    together,
)
from chaos.claims.in_time import InTime
from chaos.claims.subject import Merges
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.journal.spans import Injection
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.integrity import images
from stacks.hospital.claims.places import ARCHIVES, MODALITIES, RIS, stands, there

DAY_S = 24 * 3600.0
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
            return _absent(*this, self.need, "scanner")
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
        studies, merges = store.shelf("study"), Merges(history)
        lost = [
            op for op in done
            if op.ok and op.answer_value and store.read_from > op.ended
            and studies.get(op.answer_value) is None
        ]  # fmt: skip
        shown = {op.key: op for op in history.ops("study.view") if op.value.isdecimal()}
        wanted: Counter[str] = Counter()
        for op in shown.values():
            if op.intended < store.read_from and not merges.touch(op.subject):
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


def _absent(ident: str, statement: str, need: Need, what: str) -> Verdict:
    reason = f"No {what} stands in this run's topology."
    return Verdict(ident, statement, Finding.INCONCLUSIVE, reason, 0, max(1, need.asked))


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
            for fault in history.injections if _takes_nothing(fault, name)
        )  # fmt: skip
        left = spans if left is None else _both(left, spans)
    return left or []


def _takes_nothing(fault: Injection, archive: str) -> bool:
    if fault.kind in DOWN and archive in fault.targets:
        return True
    return fault.kind == "cut" and any(t.endswith(f">{archive}.dicom") for t in fault.targets)


def _both(one: list[Span], other: list[Span]) -> list[Span]:
    """Where spans of both overlap; a run has few."""
    return merged((max(a, c), min(b, d)) for a, b in one for c, d in other)


@dataclass(frozen=True)
class EmergencyImagesReadable:
    """IM-2. A study of P0-P1 can be viewed with all its images, by any sanctioned path (archive,
    mirror, emergency viewer), at most 15 min of hospital time after the last image (human bound,
    scaled; 10 real s are always allowed), ≥ 95 % of those finished during the faults (SLO).
    Minimum evidence: 60 studies. Source: B (order-to-view in emergencies), A."""

    need: Need = field(default=Need.full(60))
    id: str = "IM-2"
    statement: str = "Emergency images are readable when the image archive (PACS) is down."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not stands(history, MODALITIES):
            return _absent(self.id, self.statement, self.need, "scanner")
        verdict = InTime(
            self.id, self.statement, "urgent studies", ("study.view",), ("P0", "P1"), self.need,
            at_least=0.95, within_s=15 * 60.0, floor_s=10.0, window=self.window,
        ).judge(history)  # fmt: skip
        told = f"{verdict.reason} {self._paths(history)}"
        return msgspec.structs.replace(verdict, reason=told)

    @staticmethod
    def _paths(history: History) -> str:
        """Where the images were seen, and what was down meanwhile: for the reader."""
        spans = fault_spans(history)
        seen = Counter(
            op.via
            for op in history.ops("study.view")
            if op.ok and op.klass in ("P0", "P1") and inside(op.intended, spans)
        )
        down = [name for name in there(history, ARCHIVES)
                if any(_takes_nothing(f, name) for f in history.injections)]  # fmt: skip
        told = f"Down meanwhile: {' and '.join(down)}." if down else "No archive was down."
        if not seen:
            return told
        return f"Seen at {', '.join(f'{n} ({c:,})' for n, c in sorted(seen.items()))}. {told}"


@dataclass(frozen=True)
class PatientsFoundAgain:
    """IM-3. Every study made under a downtime accession is matched to an order of the patient who
    lay on the table, within 24 h of hospital time after the last fault (human bound, scaled):
    orphans = 0, forgotten = 0, wrong patient = 0, another order than the radiographer wrote down =
    0 (CMP of scanners, RIS and the clients' ledger). One that still waits for a person before that
    time leaves the claim open. Minimum evidence: 30 matched downtime studies. Source: G (patient
    identification is the recurring hazard of downtime, PMC7647128)."""

    need: Need = field(default=Need.full(30))
    id: str = "IM-3"
    statement: str = "Examinations made without the worklist find their patient."
    within_s: float = DAY_S
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not stands(history, MODALITIES) or not stands(history, RIS):
            return _absent(self.id, self.statement, self.need, "scanner with a worklist")
        tally = _Matches(self, history)
        n = len(tally.matched)
        finding, reason = (
            Finding.HELD,
            (
                f"All {count(n, 'study', 'studies')} made without the worklist were matched to an "
                f"order of the patient on the table ({human(self.within_s, history)} allowed)."
            ),
        )
        if tally.broken:
            finding = Finding.BROKEN
            reason = " ".join(
                text + (f" ({number:,} such.)" if number > 1 else "")
                for number, text in tally.broken.values()
            )
        elif tally.unread:
            finding = Finding.INCONCLUSIVE
            reason = f"Not read to the end after the run: {', '.join(tally.unread)}."
        elif tally.waiting:
            finding = Finding.INCONCLUSIVE
            rows = count(len(tally.waiting), "downtime study", "downtime studies")
            reason = (
                f"{rows} not matched yet (for example {tally.waiting[0].key}), and "
                f"{human(self.within_s, history)} are not over."
            )
        elif n < self.need.asked:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"Only {count(n, 'study', 'studies')} made without the worklist and matched; "
                f"{self.need.asked:,} are needed."
            )
        lines = cited(history, tally.proof, tally.waiting, tally.matched[:1], tally.matched[-1:])
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), n, self.need.asked,
            lines,
        )  # fmt: skip


class _Matches:
    """Every downtime study of the scanners against what the RIS and the ledger say of it."""

    def __init__(self, claim: PatientsFoundAgain, history: History) -> None:
        self.broken: dict[str, tuple[int, str]] = {}  # kind → how many, the first in words
        self.proof: list[Stored | Op] = []
        self.matched: list[Stored] = []
        self.waiting: list[Stored] = []
        self._history = history
        self._merges = Merges(history)
        self._orders = {op.key: op for op in history.ops("imaging.order")}
        done = {op.answer_value: op.key for op in history.ops("examination.done") if op.ok}
        starts = {op.key: op for op in history.ops("examination.start")}
        stores = {name: history.stores.get(name) for name in (MODALITIES, RIS)}
        self.unread = [n for n, store in stores.items() if store is None or not store.complete]
        drained = history.drained
        self._drained_at = drained.event.t if drained and drained.event.ok else inf
        healed = max((f.healed for f in history.injections), default=history.start)
        self._deadline = healed + claim.within_s / history.speed
        scanners, ris = stores[MODALITIES], stores[RIS]
        for study in scanners.shelf("study") if scanners else ():
            if study.status != "downtime" or ris is None:
                continue
            start = starts.get(done.get(study.key, ""))
            row = ris.shelf("match").get(study.key)
            if row is not None and row.status != "unmatched":
                self._match(study, row, start)
            elif ris.complete:
                self._none(study, row, ris.read_from)

    def _none(self, study: Stored, row: Stored | None, read_from: float) -> None:
        """No order yet: forgotten, an orphan, or in time."""
        if row is None and read_from >= self._drained_at:
            self._say("forgotten", f"Study {study.key} of {study.subject} was made without the "
                      "worklist and the RIS knows nothing of it.", study)  # fmt: skip
        elif read_from > max(self._deadline, study.at):
            self._say("orphan", f"Study {study.key} of {study.subject} still belongs to no order "
                      "after the time allowed.", study, row)  # fmt: skip
        else:
            self.waiting.append(study)

    def _match(self, study: Stored, row: Stored, start: Op | None) -> None:
        subject = start.subject if start and start.subject else study.subject
        placer = study.digest  # empty when the radiographer did not write it down
        order = self._orders.get(row.digest)
        others = {row.subject, order.subject if order else ""} - {""}
        strange = others - self._merges.ever(subject)
        if strange:
            self._say("wrong", f"Study {study.key} of {subject} was matched to order "
                      f"{row.digest} of another patient ({', '.join(sorted(strange))}).",
                      row, start)  # fmt: skip
        elif not row.subject:
            self._say("nobody", f"Study {study.key} of {subject} is matched to nobody.", row)
        elif placer and row.digest and row.digest != placer:
            self._say("order", f"Study {study.key} of {subject} was made for order {placer} and "
                      f"matched to {row.digest}.", row, start)  # fmt: skip
        elif row.at > self._deadline:
            self._say("late", f"Study {study.key} of {subject} was matched "
                      f"{seconds(row.at - self._deadline)} after its time.", row)  # fmt: skip
        else:
            self.matched.append(row)

    def _say(self, kind: str, sentence: str, *proof: Stored | Op | None) -> None:
        number, first = self.broken.get(kind, (0, sentence))
        self.broken[kind] = (number + 1, first)
        self.proof += [one for one in proof if one is not None]
