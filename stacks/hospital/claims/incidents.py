"""The incidents of a run as the watcher saw them: declared, published, closed, opened, normal.

It judges nothing. An entry counts at the instant that it gives itself, yet never before the last
successful look that did not show it: a log that is written afterwards helps nobody.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from chaos.claims.back import TAKES_AWAY
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.spans import Injection, Seen

PREFIX = "incident."
KINDS = (
    "declared", "announced", "notice", "closed", "opened", "held", "released", "checked", "normal",
    "loss",
)  # fmt: skip
PLANNED = "planned"
LOOK_S = 1.5
"""The watcher looks at least so often."""
ASK_S = 1.0
"""So long may an answer have been under way when its look was written down."""


@dataclass(frozen=True, slots=True)
class Said:
    """One entry of the log; `at` in seconds of the journal's clock."""

    what: str
    at: float
    names: tuple[str, ...]
    text: str
    place: int

    @property
    def eta(self) -> float:
        """The estimate of a notice; infinite when it gives none."""
        try:
            return float(self.text.partition(" ")[0]) or inf
        except ValueError:
            return inf


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident from its declaration on; `normal` is None while it goes on."""

    declared: Said
    entries: tuple[Said, ...] = field(default=())

    def of(self, *whats: str) -> list[Said]:
        """Its entries of these sorts, in order."""
        return [one for one in self.entries if one.what in whats]

    @property
    def planned(self) -> bool:
        """Whether it is a stop on purpose."""
        return self.declared.text.startswith(PLANNED)

    @property
    def stops(self) -> list[Said]:
        """Stops on purpose that were announced: as this incident, or while it went on."""
        return [*([self.declared] if self.planned else []), *self.of("announced")]

    @property
    def normal(self) -> Said | None:
        """The all-clear."""
        return next(iter(self.of("normal")), None)

    def end(self, otherwise: float) -> float:
        """When it was over."""
        return self.normal.at if self.normal else otherwise

    def closed_at(self, at: float) -> set[str]:
        """Services that were closed and not opened yet."""
        shut: set[str] = set()
        for one in self.of("closed", "opened"):
            if one.at > at:
                break
            shut = shut | set(one.names) if one.what == "closed" else shut - set(one.names)
        return shut

    def last(self, *whats: str, before: float = inf) -> float:
        """The instant of the last of these entries, the declaration's when there is none."""
        times = [one.at for one in self.of(*whats) if one.at <= before]
        return max(times, default=self.declared.at)


def incidents(history: History) -> list[Incident]:
    """Every incident that was declared, in order."""
    said = sorted(_said(history), key=lambda one: (one.at, one.place))
    found: list[list[Said]] = []
    for one in said:
        if one.what == "declared":
            found.append([one])
        elif found:
            found[-1].append(one)
    return [Incident(group[0], tuple(group[1:])) for group in found]


def polls(history: History) -> list[float]:
    """When the log was looked at with success."""
    return [one.event.t for one in history.samples.get(f"{PREFIX}poll", ()) if one.event.ok]


def _said(history: History) -> Iterator[Said]:
    looked = polls(history)
    for what in KINDS:
        for one in history.samples.get(PREFIX + what, ()):
            before = bisect_right(looked, one.event.t - 1e-9)
            earliest = looked[before - 1] - ASK_S if before else -inf
            at = min(max(one.event.value, earliest), one.event.t)
            yield Said(what, at, tuple(one.event.subject.split()), one.event.text, one.place)


# ---------------------------------------------------------------- what others saw


def around(
    history: History, what: str, subject: str, at: float
) -> tuple[Seen[ev.Sample] | None, Seen[ev.Sample] | None]:
    """The last sample of a subject at or before an instant, and the first after it."""
    before = after = None
    for one in history.samples.get(what, ()):
        if one.event.subject != subject:
            continue
        if one.event.t <= at:
            before = one
        else:
            after = one
            break
    return before, after


def away(history: History, service: str, at: float) -> Injection | Seen[ev.Sample] | None:
    """What proves that a service was not healthy at an instant: a fault that held it, or looks
    before and after that both failed (or found it held)."""
    for fault in history.injections:
        if fault.kind in TAKES_AWAY and service in fault.targets and fault.began <= at < fault.over:
            return fault
    looks = around(history, "health", service, at)
    seen = [one for one in looks if one is not None]
    if seen and all(not one.event.ok for one in seen):
        return seen[0]
    return None


def unwatched(history: History, services: Iterable[str], at: float) -> list[str]:
    """Those whose health nobody looked at around an instant: of them nothing can be said."""
    near = within(history, "health", at - 2 * LOOK_S, at + 2 * LOOK_S)
    seen = {one.event.subject for one in near}
    return [name for name in services if name not in seen]


def within(
    history: History, what: str, start: float, end: float, prefixes: Iterable[str] = ()
) -> list[Seen[ev.Sample]]:
    """Samples in a span whose subject begins with one of the prefixes (any without)."""
    wanted = tuple(prefixes)
    return [
        one for one in history.samples.get(what, ())
        if start < one.event.t <= end and (not wanted or one.event.subject.startswith(wanted))
    ]  # fmt: skip
