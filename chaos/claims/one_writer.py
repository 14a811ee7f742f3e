"""One truth: never two writable primaries, and replicas that hold the same in the end.

It refuses to take two brief answers around a handover for a split brain: only an older timeline
that accepts a write after a younger one did, or two nodes on one timeline, is proof. Nor is what
was written between two readings a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from chaos.claims.doubled import unread
from chaos.claims.evidence import cited, count, fault_spans, inside, lowered
from chaos.journal.events import Sample
from chaos.journal.history import History
from chaos.journal.spans import Seen
from chaos.journal.stores import Stored
from chaos.verdict import Finding, Need, Verdict

Look = Seen[Sample]
REPLAYED_S = 5.0
"""A standby that streams holds after so long what the primary has stored."""
APPLIED_S = 0.4
"""With backlogs empty: a synchronous standby has on disk what the primary acknowledged, and applies
it a moment later (seen: 0.16 s). A laboratory that corrects by itself writes then, too."""


@dataclass(frozen=True)
class OneWriter:
    """At most one of `nodes` accepts writes at any instant, and all hold the same records.

    `sample`: write attempts directly at a node; ok = commit acknowledged, `t` its instant,
    `value` the instant the attempt began, `text` the timeline. Evidence: attempts during faults.
    """

    id: str
    statement: str
    need: Need
    nodes: tuple[str, ...]
    sample: str = "db.writable"
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        looks = [s for s in history.samples.get(self.sample, ()) if s.event.subject in self.nodes]
        accepted = [s for s in looks if s.event.ok]
        spans = fault_spans(history)
        during = [s for s in looks if inside(s.event.t, spans)]
        unwatched = sorted(set(self.nodes) - {s.event.subject for s in during})
        splits, unclear = _splits(accepted)
        missing = unread(history, self.nodes)
        torn, moving, compared = self._divergence(history)
        finding, reason = (
            Finding.HELD,
            (
                f"{count(len(during), 'write attempt')} directly at "
                f"{' and '.join(self.nodes)} during "
                f"the faults: never two that accepted; {count(compared, 'record')} alike on both."
            ),
        )
        if splits:
            old, new = splits[0]
            finding, reason = (
                Finding.BROKEN,
                (
                    f"{count(len(splits), 'write')} accepted by a second primary: "
                    f"{new.event.subject} "
                    f"on timeline {new.event.text or '?'} accepted one after "
                    f"{old.event.subject} was "
                    f"already primary on timeline {old.event.text or '?'}."
                ),
            )
        elif torn and not missing:
            finding, reason = (
                Finding.BROKEN,
                (
                    f"After the healing {count(len(torn), 'record')} differ between the nodes: "
                    f"{torn[0].kind} {torn[0].key} (version {torn[0].version} in {torn[0].store})."
                ),
            )
        elif missing:
            finding = Finding.INCONCLUSIVE
            reason = f"Not read to the end after the run: {', '.join(missing)}."
        elif moving:
            finding = Finding.INCONCLUSIVE
            reason = (
                "The backlogs were not seen empty before the final read, or filled again: "
                f"{count(len(moving), 'record')} that differ may have changed between two readings."
            )
        elif unclear:
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    "Writes were accepted by both nodes in turns, and no "
                    "timeline says who was right."
                ),
            )
        elif not accepted or unwatched or len(during) < self.need.asked:
            finding, reason = (
                Finding.INCONCLUSIVE,
                (
                    f"Only {count(len(during), 'write attempt')} at the nodes during the faults "
                    f"({len(accepted):,} accepted in the whole run); {self.need.asked:,} are needed"
                    + (f", at {', '.join(unwatched)} as well." if unwatched else ".")
                ),
            )
        lines = cited(history, [s for pair in splits[:10] for s in pair], torn, moving, unclear,
                      during)  # fmt: skip
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), len(during),
            self.need.asked, lines,
        )  # fmt: skip

    def _divergence(self, history: History) -> tuple[list[Stored], list[Stored], int]:
        """Records that differ, records that may have changed while they were read, all."""
        stores = [history.stores[n] for n in self.nodes if n in history.stores]
        torn: list[Stored] = []
        moving: list[Stored] = []
        compared = 0
        drained = history.drained is not None and history.drained.event.ok
        read_from = min((store.read_from for store in stores), default=0.0)
        still = read_from - (APPLIED_S if drained else REPLAYED_S)
        for one, other in pairwise(stores):
            for left, right in ((one, other), (other, one)):
                for kind, shelf in left.shelves.items():
                    twin = right.shelf(kind)
                    for row in shelf:
                        compared += left is one
                        others = twin.rows(row.key)
                        if any(_alike(row, other_row) for other_row in others):
                            continue
                        stored = [one.at for one in (row, *others)]
                        known = drained or min(stored) > 0
                        (torn if known and max(stored) < still else moving).append(row)
        return torn, moving, compared


def _alike(one: Stored, other: Stored) -> bool:
    return (one.subject, one.status, one.version, one.digest, one.count) == (
        other.subject, other.status, other.version, other.digest, other.count,
    )  # fmt: skip


def _splits(accepted: list[Look]) -> tuple[list[tuple[Look, Look]], list[Look]]:
    """Proofs of two primaries (as pairs), and turns that nobody can interpret."""
    splits: list[tuple[Look, Look]] = []
    unclear: list[Look] = []
    owner: dict[int, Look] = {}
    newest: Look | None = None  # the highest timeline acknowledged so far
    last: Look | None = None
    turns = 0
    for look in accepted:
        timeline = _timeline(look)
        if last is not None and last.event.subject != look.event.subject:
            turns += 1
            if timeline is None or _timeline(last) is None:
                unclear.append(look)
        last = look
        if timeline is None:
            continue
        first = owner.setdefault(timeline, look)
        if first.event.subject != look.event.subject:
            splits.append((first, look))
        elif (
            newest is not None
            and timeline < (_timeline(newest) or 0)
            and look.event.value > newest.event.t
        ):
            splits.append((newest, look))
        if newest is None or timeline > (_timeline(newest) or 0):
            newest = look
    return splits, unclear if turns > 1 else []


def _timeline(look: Look) -> int | None:
    return int(look.event.text) if look.event.text.isdecimal() else None
