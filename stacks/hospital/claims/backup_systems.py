"""Part of BK-1: every system but the record, restored for trial from the vault's newest copy.

It refuses the vault's word for what a copy holds: what clients were told and what the system itself
had taken by the instant of the copy must be in what was restored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.claims.doubled import unread
from chaos.claims.evidence import Citable, bounded, cited, count, seconds
from chaos.claims.subject import Merges
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.spans import Injection, Seen
from chaos.journal.stores import Store, Stored
from chaos.verdict import Finding, Verdict
from stacks.hospital.claims.places import ARCHIVES, HOMES, MODALITIES, there

FILES = ("engine", "gam", "lis", "scheduling", "billing")
IMAGES = "images"
COPY_S, COPY_FLOOR_S = 2 * 3_600.0, 30.0
RTO_S, RTO_FLOOR_S = 6 * 3_600.0, 60.0
CLOCK_S = 0.1
"""Two clocks of one machine; an answer and a copy that are nearer are not told apart."""
STAMPED_S = 3.0
"""A store stamps what it takes before it commits it: so long before the copy counts as in it."""
BESIDE = "kept."
LOSSES = ("lost-writes", "lost-array")
TOLD = ("files", "rto_s", "asked", "copy")


def backed(history: History) -> tuple[str, ...]:
    """The systems of this run's topology that the vault keeps copies of, the record apart."""
    return (*there(history, FILES), *((IMAGES,) if there(history, ARCHIVES) else ()))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that was there at the instant of the copy; `digest` empty: whatever content."""

    kind: str
    key: str
    what: str
    place: Citable
    digest: str = ""
    subject: str = ""
    least: int = 0
    """The restored version at least."""


@dataclass(frozen=True)
class SystemRestored:
    """One system: every trial of it succeeded, from a copy that was young enough, in time; and
    what the last one restored holds all that was there. Evidence: things found again."""

    id: str
    statement: str
    system: str

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        trials = [
            one for one in history.samples.get("trial", ())
            if one.event.subject.partition(" ")[0] == self.system
        ]  # fmt: skip
        if not trials:
            reason = f"Nobody restored {self.system} for trial: whether it can be is not known."
            return self._verdict(Finding.INCONCLUSIVE, reason, 0, ())
        for trial in trials:
            wrong, silent = self._failed(history, trial)
            if wrong or silent:
                finding = Finding.BROKEN if wrong else Finding.INCONCLUSIVE
                reason = f"{trial.event.subject}: {wrong or silent}."
                return self._verdict(finding, reason, 0, cited(history, [trial]))
        return self._content(history, trials[-1])

    def _failed(self, history: History, trial: Seen[ev.Sample]) -> tuple[str, str]:
        """(what is wrong, what is not known) of one report."""
        said = {what: told(history, trial, what) for what in TOLD}
        if not trial.event.ok:
            return f"the restore failed: {trial.event.text or 'it does not say why'}", ""
        if not said["files"]:
            return "it was called good without having compared any file", ""
        silent = [what for what in ("rto_s", "asked", "copy") if not said[what]]
        if silent:
            return "", f"it does not say {', '.join(silent)}: what it took is not known"
        rto_s, rto = bounded(RTO_S, RTO_FLOOR_S, history)
        if said["rto_s"] > rto_s:
            return f"it could be read after {seconds(said['rto_s'])}; {rto} allowed", ""
        age_s, age = bounded(COPY_S, COPY_FLOOR_S, history)
        old = said["asked"] - said["copy"]
        if old > age_s:
            return f"the newest copy was {seconds(old)} old; {age} allowed", ""
        return "", ""

    def _content(self, history: History, trial: Seen[ev.Sample]) -> Verdict:
        store = history.stores.get(f"backup.{self.system}")
        if store is None or not store.complete:
            reason = f"What was restored of {self.system} was not read to its end."
            return self._verdict(Finding.INCONCLUSIVE, reason, 0, cited(history, [trial]))
        source = self._source(trial)
        if unread(history, (source,)):
            reason = f"{self.system}: {source} was not read; what it had by then is not known."
            return self._verdict(Finding.INCONCLUSIVE, reason, 0, cited(history, [trial]))
        copy = told(history, trial, "copy")
        if self._between(history, copy):
            reason = f"{self.system}: the copy is from after a loss and before what came back."
            return self._verdict(Finding.INCONCLUSIVE, reason, 0, cited(history, [trial]))
        missing, changed, found = list[Wanted](), list[Wanted](), 0
        merges = Merges(history)
        for one in self._wanted(history, trial, copy):
            row = store.shelf(f"{BESIDE}{one.kind}").get(one.key)
            if row is None or row.version < one.least:
                missing.append(one)
            elif _differs(one, row, merges):
                changed.append(one)
            else:
                found += 1
        lines = cited(
            history, [one.place for one in missing], [one.place for one in changed], [trial]
        )
        for some, words in ((missing, "not in it"), (changed, "in it with another content")):
            if some:
                reason = (
                    f"{self.system}: {len(some)} of {found + len(missing) + len(changed)} that "
                    f"were there before the copy are {words}: {some[0].what}."
                )
                return self._verdict(Finding.BROKEN, reason, found, lines)
        if not found:
            reason = f"{self.system}: nothing was in it yet that could be found again."
            return self._verdict(Finding.INCONCLUSIVE, reason, 0, lines)
        asked = told(history, trial, "asked")
        reason = (
            f"{self.system}: {count(found, 'record')} found again, readable after "
            f"{seconds(told(history, trial, 'rto_s'))} (RTO); what came in the "
            f"{seconds(max(0.0, asked - copy))} since the copy would be lost (RPO"
            f"{self._after(history, trial, copy, asked)})."
        )
        return self._verdict(Finding.HELD, reason, found, lines)

    def _between(self, history: History, copy: float) -> bool:
        """Whether the system had lost what it was given back only after that copy."""
        return any(
            one.event.subject == self.system and copy < one.event.t
            and (loss := loss_before(history, self.system, one.event.t)) is not None
            and loss.seen is not None and loss.seen < copy
            for one in history.samples.get("restore", ())
        )  # fmt: skip

    def _after(
        self, history: History, trial: Seen[ev.Sample], copy: float, asked: float
    ) -> str:  # fmt: skip
        """What had come since, as far as the system says when."""
        if self.system == IMAGES:
            return ""
        after = sum(copy < row.at <= asked for row in _rows(history, self._source(trial)))
        return f": {count(after, 'record')}"

    # -- what must be in it -----------------------------------------------------------------------

    def _source(self, trial: Seen[ev.Sample]) -> str:
        """The store in which the final read found all that the system holds; of images, the archive
        that was copied."""
        if self.system == IMAGES:
            return trial.event.text.rpartition(" ")[2]
        return "engine.received" if self.system == "engine" else self.system

    def _wanted(
        self, history: History, trial: Seen[ev.Sample], copy: float
    ) -> Iterator[Wanted]:  # fmt: skip
        if self.system == IMAGES:
            yield from _taken(history, self._source(trial), copy)
            yield from _viewed(history, self._source(trial), copy)
            return
        for row in _rows(history, self._source(trial)):
            if 0 < row.at <= copy - STAMPED_S:
                kind = row.kind.removeprefix(BESIDE)
                yield Wanted(
                    kind, row.key, f"{kind} {row.key}", row, row.digest, row.subject, row.version
                )
        for kind, homes in HOMES.items():
            for home in homes:
                if home.store != self.system or home.backlog:
                    continue
                for op in history.ops(kind):
                    if op.ok and op.key and op.ended <= copy - CLOCK_S:
                        yield Wanted(home.kind, op.key, f"{kind} {op.key}", op)

    def _verdict(
        self, finding: Finding, reason: str, evidence: int, lines: tuple[str, ...]
    ) -> Verdict:
        return Verdict(self.id, self.statement, finding, reason, evidence, 1, lines)


def loss_before(history: History, system: str, t: float) -> Injection | None:
    """The last fault before `t` that took from the system's disk what lay on it."""
    found = [
        one for one in history.injections
        if system in one.targets and one.kind in LOSSES and one.seen is not None and one.began < t
    ]  # fmt: skip
    return found[-1] if found else None


def copied_before(history: History, cut: float) -> float:
    """When the last copy of images before that instant was begun; 0 when none was seen."""
    begun = [
        one.event.t - one.event.value for one in history.samples.get("backup.copy", ())
        if one.event.subject == IMAGES and one.event.ok
    ]  # fmt: skip
    return max((at for at in begun if at < cut), default=0.0)


def told(history: History, trial: Seen[ev.Sample], what: str) -> float:
    """What the report says under that name; 0 when it does not."""
    found = [
        one for one in history.samples.get(f"trial.{what}", ())
        if one.event.subject == trial.event.subject
    ]  # fmt: skip
    return found[-1].event.value if found else 0.0


def _rows(history: History, name: str) -> Iterator[Stored]:
    store: Store | None = history.stores.get(name)
    for shelf in store.shelves.values() if store is not None else ():
        yield from shelf


def _differs(one: Wanted, row: Stored, merges: Merges) -> bool:
    """The same version with another content; a merge changes names, and no version."""
    if not one.digest or not row.digest or row.version != one.least:
        return False
    if merges.touch(row.subject) or row.subject != one.subject:
        return False
    return row.digest != one.digest


def _taken(history: History, archive: str, copy: float) -> Iterator[Wanted]:
    """Images that the archive had by then, where it says when; with the scanner's pixels."""
    acquired = history.stores.get(MODALITIES)
    pixels = acquired.shelf("instance") if acquired is not None else None
    for row in _rows(history, archive):
        if row.kind == "instance" and 0 < row.at <= copy - STAMPED_S:
            scan = pixels.get(row.key) if pixels is not None else None
            digest = scan.digest if scan is not None else row.digest
            yield Wanted("instance", row.key, f"image {row.key}", row, digest, row.subject)


def _viewed(history: History, archive: str, copy: float) -> Iterator[Wanted]:
    """Studies that somebody had seen there by then, with so many images."""
    gone = [
        (copied_before(history, loss.seen), loss.seen)
        for one in history.samples.get("restore", ()) if one.event.subject == archive
        if (loss := loss_before(history, archive, one.event.t)) is not None and loss.seen
    ]  # fmt: skip
    for op in history.ops("study.view"):
        if any(since - CLOCK_S < op.ended <= cut for since, cut in gone):
            continue  # neither the vault nor, since then, the archive has it: that is listed
        if op.ok and op.key and op.via == archive and op.ended <= copy - CLOCK_S:
            least = int(op.value) if op.value.isdecimal() else 1
            yield Wanted("study", op.key, f"study {op.key}", op, least=least)
