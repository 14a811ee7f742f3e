"""Claims about coming back: in stages, in the planned order, and normal only when it is.

They refuse to take the incident system's word alone: health, queues, the record's check, the copy
and the stores are what others saw. The planned order is written down here once more, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from chaos.claims.back import TAKES_AWAY
from chaos.claims.evidence import (
    Citable,
    absent,
    bounded,
    cited,
    clock_time,
    count,
    lowered,
    seconds,
    together,
)
from chaos.journal.history import History
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.incidents import (
    Incident,
    Said,
    away,
    incidents,
    polls,
    unwatched,
)
from stacks.hospital.claims.normal import NormalSeen
from stacks.hospital.claims.places import DATABASES, INCIDENT, stands

NODES = ("ehr-a", "ehr-b")
NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "engine": (("gam",),),
    **dict.fromkeys(NODES, (DATABASES, ("gam",), ("engine",))),
    "lis": (("gam",), ("engine",)),
    "ris": (("gam",), ("engine",)),
    "scheduling": (("gam",), ("engine",)),
    "billing": (("gam",), ("engine",)),
}
"""Service → what it must find healthy before it opens, each as services that stand in for
each other."""
LATER = ("scheduling", "billing")
"""P3 and P4: after all others."""
CORE = ("gam", "engine", *NODES)
REPLAY = (("ADT",), ("OML", "OMI"), ("ORU",), ("SIU",), ("DFT",))
REPLAYED = (
    ("movements", "encounter.create", DATABASES, "encounter"),
    ("orders", "order.create", ("lis",), "order"),
    ("charges", "encounter.create", ("billing",), "charge"),
)
"""What a store's own clock shows of the replay: words, operation kind, stores, kind of record."""
AFTER_S = 1.0
"""Real seconds by which a replayed message may seem early: two machines' work in one look."""
WRITES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        NODES,
        ("order.create", "medication.create", "administration.create", "observation.create"),
    ),
    "gam": ("patient.create", "patient.update", "encounter.create", "encounter.finish"),
    "scheduling": ("appointment.book", "appointment.move", "appointment.cancel"),
}
"""Service → writes that people make there."""
MINUTE = 60.0
FLOOR_S = 6.0
"""Real seconds that machines may take for what people may take minutes for."""


@dataclass(frozen=True)
class StagedReturn:
    """RE-1. During an incident: services opened for writes (or taking a write) before what they
    need is healthy = 0; services of planned care and back office before emergency and inpatient
    systems = 0; the engine's queues held until administration, engine and record are open; replay
    order movements → orders → results → charges, in the incident system's releases, and of
    movements, orders and charges by the receivers' own clocks (ORD). Minimum evidence: 5 openings
    and releases. Source: S (Saint-Luc: return in stages), G, K (recovery orders of HSE, BIDMC)."""

    need: Need = field(default=Need.full(5))
    id: str = "RE-1"
    statement: str = "We return in stages, in the planned order."
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not stands(history, INCIDENT):
            return absent(self.id, self.statement, self.need, "incident system")
        found = incidents(history)
        wrong: list[tuple[str, list[Citable]]] = []
        for one in found:
            wrong += _early(history, one) + _written(history, one) + _queues(one)
            wrong += _replayed(history, one)
        steps = [said for one in found for said in one.of("opened", "released")]
        told = (
            f"{count(len([s for s in steps if s.what == 'opened']), 'opening')} and "
            f"{count(len([s for s in steps if s.what == 'released']), 'release')} of queued "
            f"messages in {count(len(found), 'incident')}"
        )
        finding, reason = Finding.HELD, f"{told}, all in the planned order."
        if wrong:
            finding = Finding.BROKEN
            reason = f"{told}; {'; '.join(text for text, _ in wrong[:4])}."
        elif len(steps) < self.need.asked:
            finding = Finding.INCONCLUSIVE
            reason = f"{told}; {self.need.asked:,} are needed."
        elif blind := sorted({name for one in found for name in _unseen(history, one)}):
            finding = Finding.INCONCLUSIVE
            reason = f"{told}; nobody looked at {', '.join(blind)} when what needs it was opened."
        lines = cited(history, [item for _, places in wrong for item in places],
                      [said.place for said in steps])  # fmt: skip
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), len(steps),
            self.need.asked, lines,
        )  # fmt: skip


def _unseen(history: History, incident: Incident) -> list[str]:
    """What openings depended on and nobody looked at then."""
    return [
        name
        for said in incident.of("opened")
        for opened in said.names
        for need in NEEDS.get(opened, ())
        for name in unwatched(history, [one for one in need if stands(history, one)], said.at)
    ]


def _early(history: History, incident: Incident) -> list[tuple[str, list[Citable]]]:
    """Openings before what they need was healthy, or before more urgent systems."""
    wrong: list[tuple[str, list[Citable]]] = []
    for said in incident.of("opened"):
        for name in said.names:
            for need in NEEDS.get(name, ()):
                here = [one for one in need if stands(history, one)]
                gone = [found for one in here if (found := away(history, one, said.at))]
                if here and len(gone) == len(here):
                    text = (
                        f"{name} was opened at {clock_time(history, said.at)} while "
                        f"{' and '.join(here)} was away"
                    )
                    wrong.append((text, [said.place, *gone]))
            shut = sorted(incident.closed_at(said.at) - set(LATER))
            urgent = [one for one in shut if one not in NODES or set(NODES) <= set(shut)]
            if name in LATER and urgent:
                text = f"{name} was opened before {', '.join(urgent)}"
                wrong.append((text, [said.place]))
    return wrong


def _written(history: History, incident: Incident) -> list[tuple[str, list[Citable]]]:
    """Writes that a service took after its return and before it was opened."""
    wrong: list[tuple[str, list[Citable]]] = []
    end = incident.end(history.end)
    for fault in history.injections:
        if fault.kind not in TAKES_AWAY or not incident.declared.at < fault.over < end:
            continue
        for name in (one for one in fault.targets if one in WRITES):
            opened = min((one.at for one in incident.of("opened")
                          if name in one.names and one.at >= fault.over), default=end)  # fmt: skip
            ops = [
                op for op in history.ops(*WRITES[name])
                if op.ok and op.via == name and fault.over < op.ended < opened
            ]  # fmt: skip
            if ops:
                text = (
                    f"{name} took {count(len(ops), 'write')} before it was opened, the first at "
                    f"{clock_time(history, ops[0].ended)}"
                )
                wrong.append((text, [*ops[:3]]))
    return wrong


def _queues(incident: Incident) -> list[tuple[str, list[Citable]]]:
    """Queues not held although the core was closed, released too early, or in a wrong order."""
    wrong: list[tuple[str, list[Citable]]] = []
    shut = [one for one in incident.of("closed") if set(one.names) & set(CORE)]
    held = {kind for one in incident.of("held") for kind in one.names}
    releases = incident.of("released")
    hold = [system for system in (("gam",), ("engine",), NODES)
            if set(system) <= {name for one in shut for name in one.names}]  # fmt: skip
    if hold and not {"ADT", "OML", "ORU"} <= held:
        wrong.append(("the engine's queues were not held", [shut[0].place]))
    for one in releases:
        closed = incident.closed_at(one.at)
        still = [name for system in hold for name in system if set(system) <= closed]
        if still:
            text = f"{' '.join(one.names)} was released before {', '.join(still)} was open"
            wrong.append((text, [one.place]))
    stages = [(_stage(kind), one) for one in releases for kind in one.names]
    for (before, first), (after, second) in pairwise(stages):
        if after < before and not _held_between(incident, first, second):
            names = f"{' '.join(first.names)} before {' '.join(second.names)}"
            wrong.append((f"replayed in a wrong order: {names}", [first.place, second.place]))
    return wrong


def _held_between(incident: Incident, first: Said, second: Said) -> bool:
    return any(first.at < one.at <= second.at for one in incident.of("held"))


def _stage(kind: str) -> int:
    return next((number for number, kinds in enumerate(REPLAY) if kind in kinds), len(REPLAY))


def _replayed(history: History, incident: Incident) -> list[tuple[str, list[Citable]]]:
    """By the receivers' own clocks: no later stage's message before an earlier stage's last one.

    Only what was acknowledged before the first release and stored after it: the backlog.
    """
    releases = incident.of("released")
    if not releases or len({kind for one in releases for kind in one.names}) <= 1:
        return []
    start = releases[0].at
    seen: list[tuple[str, float, int, float, int]] = []
    for words, kind, stores, record in REPLAYED:
        times: list[tuple[float, int]] = []
        for name in stores:
            store = history.stores.get(name)
            for op in history.ops(kind) if store else ():
                row = store.shelf(record).get(op.key) if store and op.ok else None
                late = row is not None and row.version <= 1 and row.at > start
                if row is not None and late and op.ended < start - AFTER_S:
                    times.append((row.at, row.place))
        if times:
            seen.append((words, *min(times), *max(times)))
    wrong: list[tuple[str, list[Citable]]] = []
    for number, (words, _, _, last, place) in enumerate(seen):
        for later, first, early, _, _ in seen[number + 1 :]:
            if first < last - AFTER_S:
                text = (
                    f"{later} of the backlog arrived {seconds(last - first)} before the last of "
                    f"its {words}"
                )
                wrong.append((text, [early, place]))
    return wrong


# ---------------------------------------------------------------- RE-2


@dataclass(frozen=True)
class NormalIsNormal:
    """RE-2. `normal` is declared only when, as others saw it: every service answers and none is
    closed, all queues were seen empty since the last release, replication lag 0 (64 KiB of
    heartbeats allowed), the record's integrity check began after the last opening and passed, the
    copy is fresh, everything held is released, and of each takeover of the record's database in it
    was said what it lost (never `none` where acknowledged writes are missing in the end). Nobody
    who asks before is told that all is clear. The first notice within 30 min of the downtime's
    beginning, updates at most 60 min apart (human bounds, scaled; 6 real s are always allowed),
    and each expected time of return is given anew, or normal declared, before it passes (ORD/BND).
    Paper forms are not part of this hospital. Minimum evidence: 5 notices and criteria. Source: S
    (Saint-Luc: the date given slipped), B (a practice group's false all-clear), A."""

    need: Need = field(default=Need.full(5))
    id: str = "RE-2"
    statement: str = "Normal means normal, on the date given."
    first_s: float = 30 * MINUTE
    apart_s: float = 60 * MINUTE
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        if not stands(history, INCIDENT):
            return absent(self.id, self.statement, self.need, "incident system")
        found = incidents(history)
        if not found:
            return self._undeclared(history)
        parts = [self._told(history, found)]
        parts += [NormalSeen(self.id, self.statement, one).judge(history) for one in found]
        both = together(self.id, self.statement, parts)
        evidence = sum(part.evidence for part in parts)
        finding, reason = both.verdict, both.reason
        if finding is Finding.HELD and evidence < self.need.asked:
            finding, reason = Finding.INCONCLUSIVE, f"{reason} {self.need.asked:,} are needed."
        return Verdict(
            self.id, self.statement, finding, reason + lowered(self.need), evidence,
            self.need.asked, both.lines,
        )  # fmt: skip

    def _undeclared(self, history: History) -> Verdict:
        """Nothing was declared: wrong, if somebody would have had to."""
        bound_s, words = bounded(self.first_s, FLOOR_S, history)
        hit = [
            fault for fault in history.injections
            if fault.kind in TAKES_AWAY and fault.over - fault.began > bound_s
            and set(NODES) <= set(fault.targets) | set(_hit_with(history, fault.began))
        ]  # fmt: skip
        finding, reason = Finding.INCONCLUSIVE, "No incident was declared."
        if hit and polls(history):
            finding = Finding.BROKEN
            reason = f"No incident was declared, although the record was away for over {words}."
        return Verdict(
            self.id, self.statement, finding, reason, 0, max(1, self.need.asked),
            cited(history, hit),
        )  # fmt: skip

    def _told(self, history: History, found: Sequence[Incident]) -> Verdict:
        """First notice, updates, estimates."""
        first_s, first_words = bounded(self.first_s, FLOOR_S, history)
        apart_s, apart_words = bounded(self.apart_s, FLOOR_S, history)
        last_look = max(polls(history), default=history.end)
        wrong: list[tuple[str, list[Citable]]] = []
        notices: list[Said] = []
        for one in found:
            told = one.of("notice")
            notices += told
            end = one.end(last_look)
            begin = _began(history, one)
            first = told[0].at if told else inf
            if first - begin > first_s:
                text = f"the first notice came {seconds(first - begin)} after the beginning"
                wrong.append((f"{text}, {first_words} allowed", [one.declared.place]))
            for said, after in zip(told, [*(n.at for n in told[1:]), end], strict=True):
                until = clock_time(history, after)
                if after - said.at > apart_s:
                    text = f"no update from {clock_time(history, said.at)} to {until}"
                    wrong.append((f"{text}, {apart_words} allowed", [said.place]))
                if said.eta < after - AFTER_S:
                    text = (
                        f"the expected return {clock_time(history, said.eta)} passed without a "
                        f"word until {until}"
                    )
                    wrong.append((text, [said.place]))
        finding = Finding.BROKEN if wrong else Finding.HELD
        reason = f"{count(len(notices), 'notice')}, each in time, no estimate passed in silence."
        if not wrong and not any(said.eta < inf for said in notices):
            finding = Finding.INCONCLUSIVE
            reason = f"{count(len(notices), 'notice')}, and none said when normal is expected."
        if wrong:
            reason = f"{count(len(notices), 'notice')}; {'; '.join(t for t, _ in wrong[:4])}."
        lines = cited(history, [p for _, places in wrong for p in places],
                      [said.place for said in notices])  # fmt: skip
        return Verdict(self.id, self.statement, finding, reason, len(notices), 0, lines)


def _hit_with(history: History, at: float) -> list[str]:
    """Every service that a fault keeps away around an instant."""
    return [
        name for fault in history.injections
        if fault.kind in TAKES_AWAY and fault.began <= at + FLOOR_S and fault.over > at
        for name in fault.targets
    ]  # fmt: skip


def _began(history: History, incident: Incident) -> float:
    """When the downtime itself began: the first fault that lasted at its declaration."""
    if incident.planned:
        return incident.declared.at
    return min(
        (fault.began for fault in history.injections
         if fault.kind in TAKES_AWAY and fault.began <= incident.declared.at < fault.over),
        default=incident.declared.at,
    )  # fmt: skip
