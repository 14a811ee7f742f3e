"""Whether `normal` was normal: what others saw of the hospital when the all-clear was given.

It refuses to accuse where nobody looked, and to praise it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from chaos.claims.evidence import Citable, cited, clock_time, count
from chaos.journal.events import Sample
from chaos.journal.history import History
from chaos.journal.spans import Seen as Look
from chaos.verdict import Finding, Verdict
from stacks.hospital.claims.incidents import (
    LOOK_S,
    Incident,
    Said,
    away,
    incidents,
    unwatched,
    within,
)
from stacks.hospital.claims.places import DATABASES, there
from stacks.hospital.claims.takeovers import lost_writes, takeovers, told_clear

SERVICES = (
    *DATABASES, "gam", "engine", "ehr-a", "ehr-b", "lis", "ris", "ro-copy", "scheduling", "billing",
)  # fmt: skip
QUEUED = ("gam", "engine", "ehr-a", "ehr-b", "scheduling")
QUEUES = tuple(f"{name}:" for name in QUEUED)
RECORD, VAULT = ("ehr-a", "ehr-b"), "backup"
LAG_BYTES = 65_536
OUTAGE_S = 60.0
"""A takeover so long before the declaration belongs to the incident, too: real seconds."""
DENIED = "none"
"""How a statement begins that says that nothing was lost."""
LOOKS_MIN = 3
"""So many looks at a queue, none of which found it empty, prove a backlog."""
HELD = "held:"


@dataclass(frozen=True, slots=True)
class Seen:
    """One criterion as others saw it; `wrong` and `unsure` are reasons, or empty."""

    wrong: str = ""
    unsure: str = ""
    places: tuple[Citable, ...] = ()


@dataclass(frozen=True)
class NormalSeen:
    """The exit criteria of one incident, at the instant of its all-clear; evidence: criteria that
    were seen to be met."""

    id: str
    statement: str
    incident: Incident

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        normal = self.incident.normal
        if early := self._told_early(history):
            return early
        if normal is None:
            reason = "Normal was not declared before the traffic ended."
            return self._verdict(Finding.INCONCLUSIVE, reason, 0, ())
        looks: list[Callable[[History, Said], Seen]] = [
            self._services, self._classes, self._queues, self._lag, self._integrity, self._copy,
            self._losses,
        ]  # fmt: skip
        seen = [look(history, normal) for look in looks]
        wrong = [one for one in seen if one.wrong]
        unsure = [one for one in seen if one.unsure and not one.wrong]
        met = len(seen) - len(wrong) - len(unsure)
        told = f"Normal was declared at {clock_time(history, normal.at)}"
        lines = cited(history, [p for one in wrong for p in one.places], [normal.place],
                      [p for one in seen for p in one.places])  # fmt: skip
        if wrong:
            reason = f"{told}, and {'; '.join(one.wrong for one in wrong)}."
            return self._verdict(Finding.BROKEN, reason, met, lines)
        if unsure:
            reason = f"{told}; {'; '.join(one.unsure for one in unsure)}."
            return self._verdict(Finding.INCONCLUSIVE, reason, met, lines)
        reason = f"{told}: {count(met, 'criterion', 'criteria')} seen to be met."
        return self._verdict(Finding.HELD, reason, met, lines)

    def _told_early(self, history: History) -> Verdict | None:
        """People who asked were told that all is clear, and it was not."""
        begin, end = self.incident.declared.at, self.incident.end(inf)
        early = [op for op in told_clear(history) if begin < op.ended < end]
        if not early:
            return None
        at = clock_time(history, early[0].ended)
        reason = f"Who asked was told at {at} that all is clear, and normal was not declared."
        return self._verdict(Finding.BROKEN, reason, 0, cited(history, early))

    def _verdict(
        self, finding: Finding, reason: str, evidence: int, lines: tuple[str, ...]
    ) -> Verdict:
        return Verdict(self.id, self.statement, finding, reason, evidence, 0, lines)

    def _changed(self, at: float) -> float:
        return self.incident.last("opened", "released", before=at)

    def _services(self, history: History, normal: Said) -> Seen:
        """Every service answers."""
        for name in there(history, SERVICES):
            found = away(history, name, normal.at)
            if found is not None:
                return Seen(f"{name} was away", places=(found,))
        if blind := unwatched(history, there(history, SERVICES), normal.at):
            return Seen(unsure=f"nobody looked at {', '.join(blind)}")
        return Seen()

    def _classes(self, history: History, normal: Said) -> Seen:
        """Nothing is closed or held any more, by the log and by what services say."""
        shut = sorted(self.incident.closed_at(normal.at))
        held: set[str] = set()
        for one in self.incident.of("held", "released"):
            held = held | set(one.names) if one.what == "held" else held - set(one.names)
        if shut or held:
            return Seen(f"{', '.join([*shut, *sorted(held)])} was not released")
        for look in within(history, "health", normal.at, normal.at + LOOK_S):
            if HELD in look.event.text:
                return Seen(f"{look.event.subject} says {look.event.text!r}", places=(look,))
        return Seen()

    def _queues(self, history: History, normal: Said) -> Seen:
        """Every queue was seen empty between the last change and the all-clear. Where too few
        looked until then to say so, the next looks count as well."""
        start = self._changed(normal.at)
        never: dict[str, list[float]] = {}
        for end in (normal.at + LOOK_S, normal.at + LOOKS_MIN * LOOK_S):
            found = within(history, "queue.depth", start, end, QUEUES)
            never = _never_empty(found)
            full = [f"{n} ({min(v):g})" for n, v in never.items() if len(v) >= LOOKS_MIN]
            if full:
                places = tuple(one for one in found if one.event.subject in never)
                return Seen(f"was never seen empty: {', '.join(full)}", places=places)
        systems = {one.event.subject.partition(":")[0] for one in found}
        blind = [name for name in there(history, QUEUED) if name not in systems]
        if blind:
            return Seen(unsure=f"nobody looked at the queues of {', '.join(blind)}")
        if never:
            return Seen(unsure=f"too few looks at {', '.join(never)}, and none found it empty")
        return Seen()

    def _lag(self, history: History, normal: Said) -> Seen:
        """The standby holds what the primary holds."""
        if len(there(history, DATABASES)) < 2:
            return Seen()
        found = within(history, "replication.lag", normal.at - 2 * LOOK_S, normal.at + LOOK_S)
        known = [one for one in found if one.event.ok]
        if not known:
            return Seen(unsure="nobody saw the standby's lag", places=tuple(found))
        least = min(one.event.value for one in known)
        if least > LAG_BYTES:
            return Seen(f"the standby was {least:.0f} bytes behind", places=tuple(known))
        return Seen()

    def _integrity(self, history: History, normal: Said) -> Seen:
        """The record was checked after the last opening, and nothing was found."""
        if not there(history, RECORD):
            return Seen()
        since = self.incident.last("opened", before=normal.at)
        checks = [
            one for one in history.samples.get("integrity", ())
            if one.event.value > since and one.event.t <= normal.at + 2 * LOOK_S
        ]  # fmt: skip
        vault = [one for one in checks if one.event.subject == VAULT]
        found = [one for one in checks if one.event.subject in RECORD]
        looked = within(history, "health", since, normal.at + 2 * LOOK_S, RECORD)
        if not found and not looked:
            return Seen(unsure="nobody asked the record for its check")
        if not found:
            return Seen(f"the record had not been checked since {clock_time(history, since)}")
        if not found[-1].event.ok:
            return Seen(f"the record's check said: {found[-1].event.text}", places=(found[-1],))
        if there(history, (VAULT,)) and not (vault and vault[-1].event.ok):
            told = vault[-1].event.text if vault else "not asked"
            return Seen(f"the vault's check: {told}", places=(*vault[-1:],))
        return Seen(places=(found[-1],))

    def _copy(self, history: History, normal: Said) -> Seen:
        """The read-only copy was made after the last opening."""
        if not there(history, ("ro-copy",)):
            return Seen()
        since = self.incident.last("opened", before=normal.at)
        found = [
            one for one in history.samples.get("copy.asof", ())
            if one.event.ok and one.event.t <= normal.at + LOOK_S
        ]  # fmt: skip
        if not found:
            return Seen(unsure="nobody saw the copy's time")
        if found[-1].event.value <= since:
            return Seen("the copy was older than the last opening", places=(found[-1],))
        return Seen(places=(found[-1],))

    def _losses(self, history: History, normal: Said) -> Seen:
        """What each takeover of the record's database lost was said, and was not denied."""
        begin = self.incident.declared.at - OUTAGE_S
        taken = [one for one in takeovers(history) if begin <= one.at <= normal.at]
        if not taken:
            return Seen()
        lost = lost_writes(history)
        said = [
            one for incident in incidents(history) for one in incident.of("loss")
            if one.at <= normal.at + LOOK_S
        ]  # fmt: skip
        since = -inf
        for one in taken:
            told = [word for word in said if one.node in word.names and word.at >= one.after]
            gone = [op for op in lost or () if since < op.ended <= one.at]
            since = one.at
            missing = f"{count(len(gone), 'acknowledged write')} made before are not in the record"
            places: tuple[Citable, ...] = (
                *(word.place for word in told), one.place, *gone[:3],
            )  # fmt: skip
            if not told:
                more = f", and {missing}" if gone else ""
                words = f"nobody said what was lost when {one.node} took over{more}"
                return Seen(words, places=places)
            if gone and told[-1].text.startswith(DENIED):
                first = f"{gone[0].kind} {gone[0].key}"
                words = f"of the takeover by {one.node} it said {told[-1].text!r}"
                return Seen(f"{words}, and {missing}, {first} for one", places=places)
        if lost is None:
            return Seen(unsure="nobody read the record to its end, to know what was lost")
        return Seen(places=tuple(word.place for word in said))


def _never_empty(found: list[Look[Sample]]) -> dict[str, list[float]]:
    """Depths of the queues that no look found empty."""
    looks: dict[str, list[float]] = {}
    for one in found:
        looks.setdefault(one.event.subject, []).append(one.event.value)
    return {name: values for name, values in looks.items() if min(values) > 0}
