"""Claims about imaging: emergency images are readable, patients are found again, no image is lost.

They refuse to count a study that shows another patient, and to guess whose a study is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf

import msgspec

from chaos.claims.evidence import (
    absent,
    cited,
    count,
    fault_spans,
    human,
    inside,
    lowered,
    seconds,
)
from chaos.claims.in_time import InTime
from chaos.claims.subject import Merges
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.images import ImagesKept, takes_nothing
from stacks.hospital.claims.places import ARCHIVES, MODALITIES, RIS, stands, there

DAY_S = 24 * 3600.0


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
            return absent(self.id, self.statement, self.need, "scanner")
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
                if any(takes_nothing(f, name) for f in history.injections)]  # fmt: skip
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
            return absent(self.id, self.statement, self.need, "scanner with a worklist")
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
        strange = {
            one for one in others - self._merges.ever(subject)
            if subject not in self._merges.ever(one)
        }  # fmt: skip
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


__all__ = ["EmergencyImagesReadable", "ImagesKept", "PatientsFoundAgain"]
