"""Claims about what is left when the rest is gone: backups restore, damage is found in time.

They refuse the vault's own word: what was restored is held against the clients' ledger, and what
was damaged against what the harness damaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from chaos.claims.evidence import (
    bounded,
    cited,
    clock_time,
    count,
    human,
    lowered,
    seconds,
    together,
)
from chaos.claims.subject import Merges
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.ops import Op
from chaos.journal.spans import Seen
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims.backup_systems import SystemRestored, backed
from stacks.hospital.claims.given_back import GivenBack
from stacks.hospital.claims.places import DATABASES, HOMES, there
from stacks.hospital.claims.takeovers import refused_clear, told_clear

VAULT = "backup"
AGE_S, FULL_S = 24 * 3_600.0, 6 * 3_600.0
LOST_S, LOST_FLOOR_S, RESTORED_FLOOR_S = 300.0, 10.0, 60.0
FLIPPED = re.compile(r"([^\s,]+) at (\d+)")
UNTOLD = re.compile(r" and (\d+) more$")
PAGE_BYTES = 8_192
ROT = "bit-rot"


@dataclass(frozen=True)
class BackupRestores:
    """BK-1. Every restore drill succeeds, having verified files, rows and the application's own
    reading (100 %); the restored record holds every write that clients had acknowledged by 5 min
    of hospital time (human bound, scaled; 10 real s are always allowed) before the point that was
    asked for, with their contents (RPO); it can be read within 6 h of the asking (scaled, 60 real
    s always allowed: RTO); the base backup is at most 24 h old (scaled); nobody with a database's
    passwords can delete or change a backup. Every other system whose files the vault keeps (engine
    queue, administration, laboratory, scheduling, billing, images) was restored for trial, too:
    readable within the same RTO, from a copy at most 2 h old (scaled, 30 real s always allowed;
    ours), which holds what clients were told and what the system had taken by then. Minimum
    evidence: 100 acknowledged writes looked for in the record (where it does not stand: records
    in all systems together; ours; the catalogue names none), one in every system. A system that
    was given its copy back for good has all that it had taken by the copy; missing is at most
    what came between the copy and the loss. Source: G (SAFER, HIPAA), B for 5 min."""

    need: Need = field(default=Need.full(100))
    id: str = "BK-1"
    statement: str = "We can restore from backup."
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        drills = history.samples.get("drill", ())
        others = [
            SystemRestored(self.id, self.statement, one).judge(history) for one in backed(history)
        ]
        if not there(history, DATABASES):
            parts = [self._together(others)]
        elif drills:
            parts = [self._content(history, drills[-1])]
            parts += [self._drill(history, one) for one in drills]
        else:
            reason = "No restore drill of the record was reported."
            parts = [self._part(Finding.INCONCLUSIVE, reason, 0, self.need.asked, ())]
        others += [
            GivenBack(self.id, self.statement, one.event.subject, one).judge(history)
            for one in history.samples.get("restore", ())
        ]
        return together(self.id, self.statement, [*parts, *others, self._kept(history)])

    def _together(self, others: list[Verdict]) -> Verdict:
        """Without a record: enough was looked for in all the others together."""
        found = sum(one.evidence for one in others)
        enough = found >= self.need.asked
        reason = f"{count(found, 'record')} found again in {count(len(others), 'system')}"
        reason += "." if enough else f"; {self.need.asked:,} are needed."
        finding = Finding.HELD if enough else Finding.INCONCLUSIVE
        return self._part(finding, reason, found, self.need.asked, ())

    def _drill(self, history: History, drill: Seen[ev.Sample]) -> Verdict:
        name = drill.event.subject
        said = {
            what: _of(history, f"drill.{what}", name)
            for what in ("files", "rows", "read", "rto_s", "asked", "base")
        }
        unread = [what for what in ("files", "rows", "read") if not said[what]]
        silent = [what for what in ("rto_s", "asked", "base") if not said[what]]
        rto_s, rto = bounded(FULL_S, RESTORED_FLOOR_S, history)
        age = said["asked"] - said["base"]
        wrong = ""
        if not drill.event.ok:
            wrong = f"the restore failed: {drill.event.text or 'it does not say why'}"
        elif unread:
            wrong = f"it was called good without having compared any {', '.join(unread)}"
        elif said["rto_s"] > rto_s:
            wrong = f"the record could be read after {seconds(said['rto_s'])}; {rto} allowed"
        elif said["base"] and age > AGE_S / history.speed:
            wrong = f"the base backup was {seconds(age)} old; {human(AGE_S, history)} allowed"
        lines = cited(history, [drill])
        if wrong:
            return self._part(Finding.BROKEN, f"{name}: {wrong}.", 1, 1, lines)
        if silent:  # a time that nobody took bounds nothing
            reason = f"{name} does not say {', '.join(silent)}: what it took is not known."
            return self._part(Finding.INCONCLUSIVE, reason, 1, 1, lines)
        reason = (
            f"{name} restored it in {seconds(said['rto_s'])} (RTO; {rto} allowed) from a base "
            f"{seconds(max(age, 0.0))} old: {said['files']:,.0f} files, {said['rows']:,.0f} rows "
            f"and {said['read']:,.0f} resources compared."
        )
        return self._part(Finding.HELD, reason, 1, 1, lines)

    def _content(self, history: History, drill: Seen[ev.Sample]) -> Verdict:
        """What the last drill restored against the ledger."""
        to = _of(history, "drill.to", drill.event.subject)
        store = history.stores.get(VAULT)
        if store is None or not store.complete:
            reason = "What the drill restored was not read to its end."
            return self._part(Finding.INCONCLUSIVE, reason, 0, self.need.asked, ())
        found, missing, changed = 0, list[Op](), list[Op]()
        merges = Merges(history)
        for kind, record in _written():
            for op in history.ops(kind):
                if not op.ok or not op.key or op.ended > to:
                    continue
                row = store.shelf(record).get(op.key)
                if row is None:
                    missing.append(op)
                elif op.value and row.digest not in ("", op.value) and not merges.touch(op.subject):
                    changed.append(op)
                else:
                    found += 1
        lost_s = max((to - op.ended for op in missing), default=0.0)
        allowed_s, allowed = bounded(LOST_S, LOST_FLOOR_S, history)
        told = (
            f"{count(found, 'acknowledged write')} found again; writes of {seconds(lost_s)} lost "
            f"(RPO; {allowed} allowed)"
        )
        lines = cited(history, missing, changed, [drill])
        if changed:
            op = changed[0]
            reason = f"{count(len(changed), 'record')} restored otherwise: {op.kind} {op.key}."
            return self._part(Finding.BROKEN, reason, found, self.need.asked, lines)
        if lost_s > allowed_s:
            first = min(missing, key=lambda op: op.ended)
            reason = (
                f"{count(len(missing), 'acknowledged write')} not in what was restored, from "
                f"{seconds(lost_s)} before the point that was asked for on ({first.kind} "
                f"{first.key}); {allowed} may be lost."
            )
            return self._part(Finding.BROKEN, reason, found, self.need.asked, lines)
        if found < self.need.asked:
            reason = f"Only {told}; {self.need.asked:,} are needed."
            return self._part(Finding.INCONCLUSIVE, reason, found, self.need.asked, lines)
        return self._part(Finding.HELD, f"{told}.", found, self.need.asked, lines)

    def _kept(self, history: History) -> Verdict:
        tries = history.samples.get("backup.intruder", ())
        obeyed = [one for one in tries if not one.event.ok]
        if obeyed:
            reason = f"The vault obeyed an intruder: {obeyed[0].event.text}."
            return self._part(Finding.BROKEN, reason, 1, 1, cited(history, obeyed))
        if not tries:
            reason = "Nobody tried to delete a backup with the database's passwords."
            return self._part(Finding.INCONCLUSIVE, reason, 0, 1, ())
        reason = f"{count(len(tries), 'try', 'tries')} to delete or change a backup were refused."
        return self._part(Finding.HELD, reason, len(tries), 1, cited(history, tries[:1]))

    def _part(
        self, finding: Finding, reason: str, evidence: int, needed: int, lines: tuple[str, ...]
    ) -> Verdict:
        told = reason + (lowered(self.need) if needed == self.need.asked else "")
        return Verdict(self.id, self.statement, finding, told, evidence, needed, lines)


@dataclass(frozen=True, slots=True)
class Plant:
    """One damage that the harness made: bit rot in one page of one file."""

    path: str
    page: int
    seen: Seen[ev.FaultSeen]

    def named_in(self, damage: str) -> bool:
        """Whether a reported damage is this one: its service, its file, its page (or the file as
        a whole)."""
        service, _, rest = self.path.partition("/")
        if not damage.startswith(service):
            return False
        file = rest.removeprefix("pgdata/")
        page = re.search(rf"{re.escape(file)}(?: page (\d+)|, \d+ pages|\b(?! page))", damage)
        return page is not None and page[1] in (None, str(self.page))


@dataclass(frozen=True)
class DamageFound:
    """IN-5. Every bit that the harness flipped in a store is named in a report of the integrity
    check before anybody says that all is clear: no check of the vault that began after the damage
    says `ok`, `normal` is not declared, and nobody who asks is told that all is clear, while one is
    not reported (BND). Values that were read damaged are IN-3's. Minimum evidence: 20 planted
    damages. Source: B (a practice group's all-clear in 2022, corruption seen 48 h later)."""

    need: Need = field(default=Need.full(20))
    id: str = "IN-5"
    statement: str = "Damaged data is found before we reopen."
    window: str = "run"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        plants = list(_plants(history))
        reports = history.samples.get("damage", ())
        reported = {
            plant: min(
                (one.event.t for one in reports if plant.named_in(one.event.text)), default=inf
            )
            for plant in plants
        }
        # The record's own check looks at rows; whoever stands for the disks is the vault.
        checks = [one for one in history.samples.get("integrity", ()) if one.event.subject == VAULT]
        clears = [
            one for one in (*checks, *history.samples.get("incident.normal", ())) if one.event.ok
        ]  # fmt: skip
        answered = [op for op in told_clear(history) if _unreported(plants, reported, op.ended)]
        if answered:
            early = _unreported(plants, reported, answered[0].ended)
            reason = (
                f"Who asked was told at {clock_time(history, answered[0].ended)} that all is "
                f"clear, and {count(len(early), 'damage')} had not been reported: "
                f"{early[0].path} page {early[0].page}."
            )
            lines = cited(history, answered, [plant.seen for plant in early])
            return self._verdict(Finding.BROKEN, reason, 0, lines)
        for clear in sorted(clears, key=lambda one: one.event.t):
            early = [
                plant for plant in plants
                if plant.seen.event.t < (clear.event.value or clear.event.t)
                and reported[plant] > clear.event.t
            ]  # fmt: skip
            if early:
                reason = (
                    f"All clear was given at {clock_time(history, clear.event.t)} "
                    f"({clear.event.what} of {clear.event.subject}), and "
                    f"{count(len(early), 'damage')} had not been reported: {early[0].path} page "
                    f"{early[0].page}."
                )
                lines = cited(history, [clear], [plant.seen for plant in early])
                return self._verdict(Finding.BROKEN, reason, 0, lines)
        named = [plant for plant in plants if reported[plant] < inf]
        first = [one for one in reports if any(plant.named_in(one.event.text) for plant in plants)]
        asked = refused_clear(history)
        lines = cited(history, [plant.seen for plant in plants], asked, first)
        return self._finding(history, plants, named, lines)

    def _finding(
        self, history: History, plants: list[Plant], named: list[Plant], lines: tuple[str, ...]
    ) -> Verdict:
        checks = [
            one for one in history.samples.get("integrity", ())
            if one.event.subject == VAULT and plants
            and one.event.value > max(plant.seen.event.t for plant in plants)
        ]  # fmt: skip
        silent = [plant for plant in plants if plant not in named]
        if silent and checks:
            reason = (
                f"{count(len(silent), 'damage')} of {len(plants)} not reported by a check that "
                f"began after them: {silent[0].path} page {silent[0].page}."
            )
            return self._verdict(Finding.BROKEN, reason, len(named), lines)
        if silent:
            reason = "No integrity check began after the damage, and nobody gave the all-clear."
            return self._verdict(Finding.INCONCLUSIVE, reason, len(named), lines)
        if untold := _untold(history):
            reason = f"{count(untold, 'planted damage')} more, and the journal does not say where."
            return self._verdict(Finding.INCONCLUSIVE, reason, len(named), lines)
        if len(named) < self.need.asked:
            reason = (
                f"Only {count(len(named), 'damage')} planted and reported; "
                f"{self.need.asked} are needed."
            )
            return self._verdict(Finding.INCONCLUSIVE, reason, len(named), lines)
        reason = f"All {len(named)} planted damages were reported before any all-clear."
        planted = max(plant.seen.event.t for plant in plants)
        if refused := [op for op in refused_clear(history) if op.ended > planted]:
            reason += (
                f" Who asked at {clock_time(history, refused[0].ended)} was refused: "
                f"{refused[0].reason}."
            )
        return self._verdict(Finding.HELD, reason, len(named), lines)

    def _verdict(
        self, finding: Finding, reason: str, evidence: int, lines: tuple[str, ...]
    ) -> Verdict:
        told = reason + lowered(self.need)
        return Verdict(self.id, self.statement, finding, told, evidence, self.need.asked, lines)


def _unreported(plants: list[Plant], reported: Mapping[Plant, float], at: float) -> list[Plant]:
    """Damages that were there at an instant, and in no report yet."""
    return [one for one in plants if one.seen.event.t < at and reported[one] > at]


def _plants(history: History) -> Iterable[Plant]:
    kinds = {fault.fault: fault.kind for fault in history.injections}
    found: dict[tuple[str, int], Plant] = {}
    for seen in history.of_type(ev.FaultSeen):
        if kinds.get(seen.event.fault) == ROT:
            for path, offset in FLIPPED.findall(seen.event.observation):
                plant = Plant(path, int(offset) // PAGE_BYTES, seen)
                found.setdefault((path, plant.page), plant)
    return found.values()


def _untold(history: History) -> int:
    """Damages that the harness planted and did not list one by one."""
    found = (UNTOLD.search(seen.event.observation) for seen in history.of_type(ev.FaultSeen))
    return sum(int(more[1]) for more in found if more)


def _written() -> list[tuple[str, str]]:
    """(operation, record kind) of what clients write into the record's database itself."""
    return [
        (kind, home.kind)
        for kind, homes in HOMES.items()
        for home in homes
        if home.store == DATABASES[0] and home.same_value and not home.backlog
    ]


def _of(history: History, what: str, subject: str) -> float:
    """The value of that sample of the drill; 0 when it does not say."""
    found = [one for one in history.samples.get(what, ()) if one.event.subject == subject]
    return found[-1].event.value if found else 0.0
