"""The right subject: no answer and no stored record belongs to another patient than the ledger has.

It refuses to accuse a patient who was merged into another, before or after his survivor is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.claims.evidence import cited, count, lowered, warmup_spans
from chaos.journal.history import History
from chaos.journal.ops import Op, Outcome
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict

MERGE = "patient.merge"
"""Operation that makes one subject (`key`) part of another (`subject`)."""


def right_answer(history: History, op: Op) -> bool:
    """Whether an answer names the subject asked for, or one he was (perhaps) merged into before
    the answer came. An answer that names nobody is not right."""
    found = op.answer_subject
    if not found or found == op.subject:
        return bool(found)
    names, wave = {op.subject}, {op.subject}
    merges = [m for m in history.ops(MERGE) if m.outcome is not Outcome.REFUSED]
    while wave:  # bounded: every round adds a new name
        wave = {m.subject for m in merges if m.key in wave and m.invoked <= op.ended} - names
        names |= wave
    return found in names


class Merges:
    """Who may stand for whom at the end of the run."""

    def __init__(self, history: History) -> None:
        self._sure: dict[str, set[str]] = {}
        self._perhaps: dict[str, set[str]] = {}
        for merge in history.ops(MERGE):
            if merge.outcome is not Outcome.REFUSED:
                self._perhaps.setdefault(merge.key, set()).add(merge.subject)
            if merge.ok:
                self._sure.setdefault(merge.key, set()).add(merge.subject)

    def touch(self, subject: str) -> bool:
        """Whether this subject was (perhaps) merged into another."""
        return subject in self._perhaps

    def right(self, subject: str) -> set[str]:
        """The names his records may carry when every acknowledged merge is carried out."""
        return {n for n in self.ever(subject) if n not in self._sure}

    def ever(self, subject: str) -> set[str]:
        """Those, and the names that an unfinished merge would leave behind."""
        names, wave = {subject}, {subject}
        while wave:
            wave = {n for w in wave for n in self._perhaps.get(w, ())} - names
            names |= wave
        return names


@dataclass(frozen=True)
class RightSubject:
    """Answers of `answers` kinds and records of `records` (operation kind → record kinds with the
    same key) name the ledger's patient. `stores` must have been read to their end; a store that
    is not among them may be behind (a copy), and is only asked for wrong patients. `by_answer`:
    the same as `records`, for operations whose answer names the record (its key is the answer's
    value). `labels`: stores that keep what is printed on the tube and never hear of a merge."""

    id: str
    statement: str
    need: Need
    answers: tuple[str, ...]
    records: Mapping[str, tuple[str, ...]]
    stores: tuple[str, ...]
    by_answer: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    own_kind: str = "patient"  # records whose key is itself a subject
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        answered, wrong_answers = self._answers(history)
        seen = _Records(self, history)
        evidence = answered + seen.looked_at
        unread = [n for n in self.stores if n not in history.stores
                  or not history.stores[n].complete]  # fmt: skip
        drained = history.drained is not None and history.drained.event.ok
        stale_counts = drained and bool(seen.stale)
        finding, reason = (
            Finding.HELD,
            (
                f"{count(answered, 'answer')} and "
                f"{count(seen.looked_at, 'stored record')} all belong "
                "to the patient they were asked or written for."
            ),
        )
        if wrong_answers or seen.wrong or stale_counts:
            finding, reason = Finding.BROKEN, self._accuse(wrong_answers, seen, stale_counts)
        elif unread:
            finding = Finding.INCONCLUSIVE
            reason = f"Not read to the end after the run: {', '.join(unread)}."
        elif seen.stale:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"{count(len(seen.stale), 'record')} of merged patients had not moved yet, and "
                "the backlogs were not seen empty."
            )
        elif evidence < self.need.asked or not seen.looked_at:
            finding = Finding.INCONCLUSIVE
            reason = (
                f"Only {count(answered, 'answer')} and {count(seen.looked_at, 'record')} could "
                f"be compared; {self.need.asked:,} are needed, records among them."
            )
        lines = cited(history, wrong_answers, seen.wrong, seen.stale, seen.some)
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), evidence,
            self.need.asked, lines,
        )  # fmt: skip

    def unsteady(self, history: History) -> list[str]:
        """A wrong patient before any fault."""
        close = max((end for _, end in warmup_spans(history)), default=history.start)
        wrong = [op for op in self._answers(history)[1] if op.ended <= close]
        return (
            [f"an answer showed another patient before any fault ({cited(history, wrong)[0]})"]
            if wrong
            else []
        )

    def _answers(self, history: History) -> tuple[int, list[Op]]:
        looked, wrong = 0, []
        for op in history.ops(*self.answers):
            if op.ok and op.subject and op.answer_subject:
                looked += 1
                if op.answer_subject != op.subject and not right_answer(history, op):
                    wrong.append(op)
        return looked, wrong

    @staticmethod
    def _accuse(answers: list[Op], seen: _Records, stale: bool) -> str:
        parts = []
        if answers:
            parts.append(
                f"{count(len(answers), 'answer')} showed another patient than the one asked for "
                f"(asked {answers[0].subject}, shown {answers[0].answer_subject})."
            )
        if seen.wrong:
            one, expected = seen.wrong[0], seen.expected
            parts.append(
                f"{count(len(seen.wrong), 'stored record')} lie under another patient "
                f"({one.kind} {one.key} in {one.store}: {one.subject} instead of {expected})."
            )
        if stale:
            one = seen.stale[0]
            parts.append(
                f"{count(len(seen.stale), 'record')} still carry a patient who was merged away "
                f"({one.kind} {one.key} in {one.store}: {one.subject})."
            )
        return " ".join(parts)


class _Records:
    def __init__(self, claim: RightSubject, history: History) -> None:
        self.looked_at, self.expected = 0, ""
        self._labels, self._current = claim.labels, claim.stores
        self.wrong: list[Stored] = []
        self.stale: list[Stored] = []
        self.some: list[Stored] = []
        self._merges = Merges(history)
        by_key = [(kind, kinds, False) for kind, kinds in claim.records.items()]
        by_answer = [(kind, kinds, True) for kind, kinds in claim.by_answer.items()]
        for kind, record_kinds, answered in (*by_key, *by_answer):
            shelves = [
                shelf for store in history.stores.values() for rk in record_kinds
                if len(shelf := store.shelf(rk))
            ]  # fmt: skip
            for op in history.ops(kind):
                key, subject = op.answer_value if answered else op.key, op.subject
                if not key or not subject:
                    continue
                merged = self._merges.touch(subject)
                for shelf in shelves:
                    for row in shelf.rows(key):
                        if row.subject == subject and not merged and self.some:
                            self.looked_at += 1  # as nearly always
                        else:
                            self._look(row, subject)
        for store in history.stores.values():
            for row in store.shelf(claim.own_kind):
                self._look(row, row.key)

    def _look(self, row: Stored, subject: str) -> None:
        if not row.subject:
            return
        self.looked_at += 1
        if self.looked_at <= 2:
            self.some.append(row)
        keeps = row.store in self._labels or not self._merges.touch(subject)
        if row.subject == subject and keeps:
            return
        if row.subject in self._merges.right(subject):
            return
        if row.subject in self._merges.ever(subject):
            self.stale += [row] if row.store in self._current else []
        else:
            self.expected = self.expected or subject
            self.wrong.append(row)
