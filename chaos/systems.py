"""What a stack's owner calls its systems: what people ask of each, and where its writes must lie.

It is a vocabulary of values like `chaos.terms`; it measures nothing and knows no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Home:
    """A place where an acknowledged write must lie in the end.

    `backlog`: it gets there through queues, so that absence proves a loss only once the backlogs
    were seen empty. `statuses`: those that count (empty: any). `same_value`: the record's digest
    must be the one written. `after_s`: human seconds until it can be there at the earliest.
    `announced_by`: the kind of operation on the same subject whose acknowledgement sends it there
    (empty: its own does).
    """

    store: str
    kind: str
    backlog: bool = False
    statuses: tuple[str, ...] = ()
    same_value: bool = True
    after_s: float = 0.0
    announced_by: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A service that nobody asks directly: acknowledged operations of `kind` are served when
    `store` takes the `record` of their key."""

    kind: str
    store: str
    record: str


@dataclass(frozen=True, slots=True)
class Face:
    """One thing that people use a system for, served when any operation of `kinds` is
    acknowledged, or any of `arrivals` arrives.

    `services`: those whose loss may take it away; it stands in a run whose topology has the first
    of them. `lawful`: kind → what the reason of a refusal holds that is an answer all the same.
    """

    words: str
    services: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    lawful: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """Writes that a machine made and no client asked for: records of `kind` in `source`, which
    must lie in every one of `copies` with the same digest. `queues`: stores that show what is
    under way; `held`: states in which the source itself still has to send it."""

    source: str
    kind: str
    copies: tuple[str, ...]
    queues: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Drills:
    """Restore drills, as samples `sample` and `sample.<what>` report them: `asked`, `rto_s`, and
    under the name `to` the instant up to which everything should be there.

    What was restored is read as the store `store`: `records` (operation kind, record kind) are
    looked for in it, `same_value` also compared, and records of a live store that says when it
    took them (`taken`: store, kind there, kind in what was restored). `subject`: how the samples'
    subject begins (empty: any).
    """

    sample: str
    store: str
    records: tuple[tuple[str, str], ...] = ()
    taken: tuple[tuple[str, str, str], ...] = ()
    to: str = "to"
    subject: str = ""
    same_value: bool = False


@dataclass(frozen=True, slots=True)
class Promise:
    """What the claim of that id says of the system: which figures it speaks of, and bounds in
    seconds where it sets them. `human`: they are hospital time and shrink with the run's speed,
    never below the floors. `face`: the words of the one face that it means (empty: all).
    `backup`: it speaks of what a drill restored."""

    claim: str
    rto: bool = False
    rpo: bool = False
    rto_s: float | None = None
    rpo_s: float | None = None
    human: bool = False
    rto_floor_s: float = 0.0
    rpo_floor_s: float = 0.0
    face: str = ""
    backup: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """One system of a stack.

    `homes`: operation kind → where its acknowledged writes must lie. `updates`: operation kind →
    kind that may change its value later. `queues`: stores of what is still on its way to homes.
    """

    name: str
    words: str
    faces: tuple[Face, ...]
    homes: Mapping[str, tuple[Home, ...]] = field(default_factory=dict)
    updates: Mapping[str, str] = field(default_factory=dict)
    queues: tuple[str, ...] = ()
    made: Made | None = None
    drills: Drills | None = None
    promises: tuple[Promise, ...] = ()
