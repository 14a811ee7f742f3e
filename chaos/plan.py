"""The rehearsal: an experiment whose verbs only write down what they would do.

It raises no stack, starts no traffic, changes nothing; every run is rehearsed before it begins, so
that a wrong target or a missing claim is found before anything is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec

from chaos.claims import Claim
from chaos.faults import Fault
from chaos.faults.fault import Prepared, TargetError
from chaos.planned import PlannedFault, PlannedProject, planned
from chaos.reaper import describe
from chaos.runtime import ABILITIES, Runtime
from chaos.runtime.fake import FakeRuntime
from chaos.stack import Stack
from chaos.workload import Workload


class PlannedStep(msgspec.Struct, frozen=True):
    """One line of the script, in order."""

    verb: Literal["traffic", "steady", "inject", "heal", "wait", "until", "settle", "expect"]
    text: str
    seconds: float = 0.0  # longest time this step is given; 0 when it has none of its own


class Plan(msgspec.Struct, frozen=True):
    """What an experiment would do: `hospital-chaos plan NAME`."""

    name: str
    story: str
    stack: str
    services: tuple[str, ...]
    untouched: tuple[str, ...]
    faults: tuple[PlannedFault, ...]
    script: tuple[PlannedStep, ...]
    claims: tuple[tuple[str, str], ...]  # (id, statement)
    project: PlannedProject | None = None  # of a stack that names an existing one

    @property
    def at_most_s(self) -> float:
        """Longest wall time of the experiment's own windows, in seconds."""
        return sum(step.seconds for step in self.script)


class Rehearsal:
    """The verbs of an Experiment, written down instead of done."""

    def __init__(
        self, name: str, story: str, stack: Stack, abilities: Iterable[str] = ABILITIES
    ) -> None:
        """`abilities`: what the runtime can do that the experiment will run on."""
        self.name = name
        self.story = story
        self.stack = stack
        self.runtime: Runtime = FakeRuntime(stack, abilities=abilities)
        self.prepared: tuple[Prepared, ...] = ()  # faults that need a stack raised for them
        self.claims: tuple[Claim, ...] = ()
        self._faults: list[PlannedFault] = []
        self._hit: list[str] = []  # services that are hit at this point of the script
        self._script: list[PlannedStep] = []

    @contextmanager
    def traffic(self, *workloads: Workload) -> Iterator[None]:
        """Note the workloads."""
        self._add("traffic", "start " + ", ".join(w.name for w in workloads))
        yield
        self._add("traffic", "stop")

    def steady(self, s: float, *claims: Claim) -> None:
        """Note the warm-up."""
        del claims
        self._add("steady", "watch the stack without any fault", s)

    @contextmanager
    def inject(self, fault: Fault, lease_s: float) -> Iterator[None]:
        """Resolve targets and undo against a fake runtime; TargetError when they do not resolve,
        RuntimeFailure when the runtime that is meant cannot do such a fault."""
        if isinstance(fault, Prepared):
            fault.prepare(self.runtime)
            self.prepared += (fault,)
        fault = fault.pinned(self.runtime)
        targets = fault.targets(self.stack)
        steps = fault.undo(self.runtime)
        hit = [self.stack.hit_by(target).name for target in targets]
        self._bounded({*self._hit, *hit})
        rooms = sorted({r for t in targets for r in self._rooms(t)})
        self._faults.append(
            PlannedFault(
                story=fault.story, kind=fault.kind, targets=targets, rooms=tuple(rooms),
                lease_s=lease_s, undo=tuple(describe(dict(step)) for step in steps),
            )
        )  # fmt: skip
        self._add("inject", f"{fault.story} (undone after {lease_s:g} s at the latest)")
        self._hit += hit
        yield
        del self._hit[len(self._hit) - len(hit) :]
        self._add("heal", f"undo: {fault.story}")

    def wait(self, s: float, *, why: str = "watching") -> None:
        """Note the wait."""
        self._add("wait", why, s)

    def until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        """Note the condition without asking it."""
        del condition
        self._add("until", what, within_s)

    def settle(self, s: float = 60.0) -> None:
        """Note the final read."""
        self._add("settle", "drain backlogs, then read every store and every replica", s)

    def expect(self, *claims: Claim) -> None:
        """Keep the claims; judge nothing."""
        self.claims = claims
        self._add("expect", ", ".join(claim.id for claim in claims))

    def blank(self) -> Rehearsal:
        """The same rehearsal with nothing written down yet."""
        return Rehearsal(self.name, self.story, self.stack, self.runtime.abilities)

    def plan(self) -> Plan:
        """All that was noted."""
        project = planned(self.runtime, self._faults)
        touched = {t for f in self._faults for t in f.targets}
        if project is not None:
            touched = {c.service for c in project.containers if c.changes}
        names = tuple(s.name for s in self.stack.services)
        return Plan(
            name=self.name,
            story=self.story,
            stack=self.stack.name,
            services=names,
            untouched=tuple(n for n in names if n not in touched),
            faults=tuple(self._faults),
            script=tuple(self._script),
            claims=tuple((c.id, c.statement) for c in self.claims),
            project=project,
        )

    def _bounded(self, hit: set[str]) -> None:
        """TargetError when more containers of an existing project are hit at once than may be."""
        project = self.stack.project
        if project is not None and len(hit) > project.most_targets:
            raise TargetError(
                f"{', '.join(sorted(hit))} would be hit at the same time, and at most "
                f"{project.most_targets} of project {project.name} may be (most_targets)"
            )

    def _add(self, verb: str, text: str, seconds: float = 0.0) -> None:
        step = {"verb": verb, "text": text, "seconds": seconds}
        self._script.append(msgspec.convert(step, PlannedStep))

    def _rooms(self, target: str) -> set[str]:
        services = {s.name: s.room for s in self.stack.services}
        if target in services:
            return {services[target]}
        ends = [(k.source, k.target) for k in self.stack.links if k.name == target]
        return {services[e] for pair in ends for e in pair if e in services}
