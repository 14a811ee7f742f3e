"""The experiment: the only place that decides to change the world, always under a lease.

It judges nothing itself: `expect` closes the journal, reads it back and hands it to the judge.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from chaos.archive import judge_run
from chaos.claims import Claim
from chaos.claims.judge import steady_reasons
from chaos.faults import Fault, Observation
from chaos.faults.targets import side_by_side
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.journal.writer import JournalError, Writer
from chaos.lease import Lease, LeaseError, Leases
from chaos.run import Run, why
from chaos.runtime import Runtime, RuntimeFailure
from chaos.stack import Stack
from chaos.verdict import Finding, Judgement, Verdict
from chaos.workload import Workload, WorkloadProcess

SEEN_WITHIN_S = 5.0  # a fault that shows no effect by then was not injected
GONE_WITHIN_S = 90.0  # a healed service must be ready again by then (a database rejoins)
LOOK_EVERY_S = 0.01
SLICE_S = 0.25  # how often a wait looks whether the run is still sound
AUDIT_GRACE_S = 45.0  # reading every store, beyond the time given for backlogs to drain
ABORT_GONE_S = 0.2  # in a run that is over healing is ordered, and not admired
LOST_EVERY_S = 1.0  # how often a wait looks whether somebody else has taken a part of the stack


class Teller(Protocol):
    """Where progress is told (a terminal, a log, nothing)."""

    def tell(self, phase: str, text: str, seconds: float = 0.0) -> None:
        """`seconds` > 0 announces how long this will take."""
        ...


class ExperimentVoid(RuntimeError):
    """The run cannot prove anything any more; the reason is for the report."""


class NotHeld(AssertionError):
    """Raised by `expect` when the outcome is anything but `held`."""

    def __init__(self, judgement: Judgement, folder: str) -> None:
        self.judgement = judgement
        super().__init__(_summary(judgement, folder))


class Experiment:
    """One run on a living stack: traffic, steady, inject, wait, settle, expect."""

    def __init__(
        self,
        run: Run,
        stack: Stack,
        runtime: Runtime,
        leases: Leases,
        teller: Teller,
        claims: Sequence[Claim] = (),
    ) -> None:
        """`claims` are those that `expect` will ask for (known from the rehearsal), so that a run
        which ends early is judged, too."""
        self.run = run
        self.stack = stack
        self.runtime = runtime
        self.judgement: Judgement | None = None
        self._leases = leases
        self._teller = teller
        self._journal = Writer(run.journal / "harness.jsonl")
        self._stack_lease: Lease | None = None
        self._workloads: list[WorkloadProcess] = []
        self._claims = tuple(claims)
        self._journal_failure = ""
        self._open_faults = 0
        self._injected = 0
        self._interrupted = False
        self._voided = ""  # why this run cannot prove anything any more, once that is known
        self._looked_t = 0.0
        self._ended = False

    # ------------------------------------------------------------ life of the stack

    def __enter__(self) -> Experiment:
        self._note(
            ev.RunStarted(
                t=_now(),
                name=self.run.name,
                seed=self.run.seed,
                runtime=self.run.runtime,
                utc=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
                preset=self.run.preset,
                speed=self.stack.speed,
                stack=self.stack.name,
                services={s.name: s.room for s in self.stack.services},
                defect=self.stack.defect,
            )
        )
        count = len(self.stack.services)
        self._teller.tell("raise", f"raising {count} services of {self.stack.name}")
        self._stack_lease = self._leases.grant("stack", self.runtime.undo_up())
        try:
            self.runtime.up(self._service_seen)
        except BaseException as error:
            self.conclude(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        self.conclude(error or ExperimentVoid("the experiment ended without expect()"))
        try:
            self.runtime.forget_remains()
        except RuntimeFailure as failure:  # the outcome says so already, and the lease file stays
            self._teller.tell("down", str(failure))

    def conclude(self, error: BaseException) -> None:
        """End a run whose body raised before `expect`: stack down, evidence so far judged."""
        if not self._ended:
            self._interrupted = isinstance(error, KeyboardInterrupt)
            self._finish(_outcome(error), _words(error))

    def _service_seen(self, service: str, state: str) -> None:
        if service in {s.name for s in self.stack.services}:  # not the runtime's own helpers
            self._note(ev.ServiceSeen(t=_now(), service=service, state=state))
        self._teller.tell("service", f"{service} {state}")

    # ------------------------------------------------------------ the verbs

    @contextmanager
    def traffic(self, *workloads: Workload) -> Iterator[None]:
        """Run these workloads, each in its own process, for as long as the block lasts."""
        links = {k.name: str(self.runtime.link_address(k.name)) for k in self.stack.links}
        direct = {
            f"{s.name}.{p.name}": str(self.runtime.address(s.name, p.name))
            for s in self.stack.services
            for p in s.ports
        }
        started: list[WorkloadProcess] = []
        with ExitStack() as children:
            for workload in workloads:
                self._teller.tell("traffic", f"starting workload {workload.name}")
                child = WorkloadProcess(
                    workload, self.run.path, seed=self.run.seed, speed=self.stack.speed,
                    links=links, direct=direct,
                )  # fmt: skip
                children.enter_context(child)
                started.append(child)
                self._workloads.append(child)
            try:
                yield
            finally:
                self._teller.tell("traffic", "stopping " + ", ".join(w.name for w in workloads))
                for child in started:
                    child.stop(abandon=self._interrupted)
                    self._workloads.remove(child)

    def steady(self, s: float, *claims: Claim) -> None:
        """The warm-up: without any fault the stack must serve; otherwise the run is void."""
        self._note(ev.WindowOpened(t=_now(), window="warmup"))
        try:
            self.wait(s, why="warm-up: is everything steady without a fault?")
        finally:
            history = History.read(self.run.journal)
            reasons = steady_reasons(history, claims)
            self._note(
                ev.WindowClosed(
                    t=_now(), window="warmup", ok=not reasons, reason="; ".join(reasons)
                )
            )
        if reasons:
            raise ExperimentVoid(f"the warm-up was not steady: {'; '.join(reasons)}")

    @contextmanager
    def inject(self, fault: Fault, lease_s: float) -> Iterator[None]:
        """Inject one fault for as long as the block lasts, `lease_s` seconds at most."""
        fault = fault.pinned(self.runtime)
        targets = fault.targets(self.stack)
        self._injected += 1
        name = f"{self._injected}-{fault.kind}"
        lease = self._leases.grant(name, fault.undo(self.runtime), deadline_s=lease_s)
        try:
            self._begin(name, fault, targets, lease_s)
            yield
        except KeyboardInterrupt:
            self._interrupted = True
            raise
        except (ExperimentVoid, RuntimeFailure) as error:
            self._voided = self._voided or str(error)
            raise
        finally:
            self._end(name, fault, lease)

    def wait(self, s: float, *, why: str = "watching") -> None:
        """Let `s` real seconds pass, looking all the while whether the run is still sound."""
        self._teller.tell("wait", why, s)
        end = _now() + s
        while (left := end - _now()) > 0:
            time.sleep(min(left, SLICE_S))
            self._sound()

    def until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait for a condition, `within_s` seconds at most; the run is void when it never holds."""
        self._teller.tell("wait", f"until {what}", within_s)
        end = _now() + within_s
        while not condition():
            if _now() > end:
                raise ExperimentVoid(f"{what}: not within {within_s:g} s")
            time.sleep(SLICE_S)
            self._sound()

    def settle(self, s: float = 60.0) -> None:
        """Let backlogs drain (`s` seconds at most), then read every store and every replica."""
        self._note(ev.WindowOpened(t=_now(), window="settle"))
        reason = ""
        if self.stack.audit:
            self._teller.tell("settle", "draining backlogs and reading every store", s)
            auditor = Workload(name="audit", command=self.stack.audit, params={"drain_s": s})
            with self.traffic(auditor):
                child = self._workloads[-1]
                if not child.wait(s + AUDIT_GRACE_S):
                    reason = f"the auditor did not finish within {s + AUDIT_GRACE_S:g} s"
        self._note(ev.WindowClosed(t=_now(), window="settle", ok=not reason, reason=reason))

    def expect(self, *claims: Claim) -> Judgement:
        """Take the stack down, close the journal, judge it; raises NotHeld unless all held."""
        self._teller.tell("judge", f"judging {len(claims)} claims")
        self._claims = claims
        lost = self.runtime.lost()  # settling looks at stores only
        self._finish("void" if lost else "completed", lost)
        assert self.judgement is not None
        if self.judgement.outcome is not Finding.HELD:
            raise NotHeld(self.judgement, self.run.folder)
        return self.judgement

    # ------------------------------------------------------------ how a fault begins and ends

    def _begin(self, name: str, fault: Fault, targets: tuple[str, ...], lease_s: float) -> None:
        if self._open_faults == 0:
            self._note(ev.WindowOpened(t=_now(), window="fault"))
        self._open_faults += 1
        self._teller.tell("inject", fault.story)
        began = _now()
        self._note(
            ev.FaultBegan(
                t=began, fault=name, kind=fault.kind, targets=targets, story=fault.story,
                rooms=_rooms(self.stack, targets),
            )
        )  # fmt: skip
        fault.begin(self.runtime, lease_s)
        look = self._look(lambda: fault.seen(self.runtime), SEEN_WITHIN_S)
        if not look.ok:
            self._note(ev.FaultUnseen(t=_now(), fault=name, reason=look.text))
            raise ExperimentVoid(f"{fault.story}: the effect was not seen: {look.text}")
        seen = _now()
        self._note(ev.FaultSeen(t=seen, fault=name, observation=look.text, ms=(seen - began) * 1e3))
        self._note_states(targets)

    def _end(self, name: str, fault: Fault, lease: Lease) -> None:
        self._open_faults -= 1
        if self._open_faults == 0:
            self._note(ev.WindowClosed(t=_now(), window="fault"))
        self._teller.tell("heal", f"undoing: {fault.story}")
        expired = lease.expired
        try:
            fault.end(self.runtime)
            lease.release()
        except (RuntimeFailure, LeaseError) as error:
            self._note(ev.FaultStuck(t=_now(), fault=name, reason=str(error)))
            words = f"{fault.story}: could not be undone: {error}"
            raise ExperimentVoid("; ".join(filter(None, (self._voided, words)))) from error
        ended = _now()
        self._note(ev.FaultEnded(t=ended, fault=name, by="deadline" if expired else "block"))
        over = self._interrupted or bool(self._voided)
        look = self._look(lambda: fault.gone(self.runtime), ABORT_GONE_S if over else GONE_WITHIN_S)
        if look.ok:
            gone = _now()
            self._note(
                ev.FaultGone(t=gone, fault=name, observation=look.text, ms=(gone - ended) * 1e3)
            )
            self._note_states(fault.targets(self.stack))
        elif not over:
            self._note(ev.FaultStuck(t=_now(), fault=name, reason=look.text))

    def _note_states(self, targets: Sequence[str]) -> None:
        """What the services that were hit are now: gone, paused, or what they say themselves."""
        hit = [s.name for s in self.stack.services if s.name in targets]
        states: dict[str, str] = {name: self.runtime.state(name) for name in hit}
        running = [name for name in hit if states[name] == "running"]
        states |= side_by_side(lambda name: (name, self.runtime.health(name).status), running)
        for name in hit:
            self._note(ev.ServiceSeen(t=_now(), service=name, state=states[name]))

    def _look(self, look: Callable[[], Observation], within_s: float) -> Observation:
        end = _now() + within_s
        while True:
            observation = look()
            if observation.ok or _now() > end:
                return observation
            time.sleep(LOOK_EVERY_S)

    # ------------------------------------------------------------ soundness and the end

    def _sound(self) -> None:
        for child in self._workloads:
            if not child.alive and child.workload.name != "audit":
                raise ExperimentVoid(f"workload {child.workload.name} died: {child.last_words()}")
        self._leases.check()
        if self._journal_failure:
            raise ExperimentVoid(self._journal_failure)
        if _now() - self._looked_t > LOST_EVERY_S:
            self._looked_t = _now()
            if lost := self.runtime.lost():
                raise ExperimentVoid(lost)

    def _finish(self, outcome: str, reason: str) -> None:
        self._ended = True
        for child in self._workloads:
            child.stop(abandon=True)
        self._teller.tell("down", "taking the stack down")
        try:
            if self._stack_lease is not None:
                self._stack_lease.release()
        except LeaseError as error:
            words = f"the stack could not be taken down: {error}"
            outcome, reason = "void", "; ".join(filter(None, (reason, words)))
        self._note(ev.RunEnded(t=_now(), outcome=outcome, reason=reason))
        self.judgement = self._judged()

    def _judged(self) -> Judgement:
        try:
            self._journal.close()
            return judge_run(self.run, self._claims, self.stack.systems)
        except (JournalError, OSError) as error:
            words = why(error) if isinstance(error, OSError) else str(error)
            return Judgement(
                name=self.run.name, seed=self.run.seed, runtime=self.run.runtime,
                outcome=Finding.VOID, claims=(), reasons=(f"{self.run.folder}: {words}",),
            )  # fmt: skip

    def _note(self, event: ev.Event) -> None:
        """Append; a journal that fails voids the run but never stops the healing."""
        if self._journal_failure:
            return
        try:
            self._journal.append(event)
        except JournalError as error:
            self._journal_failure = str(error)


def _rooms(stack: Stack, targets: Sequence[str]) -> tuple[str, ...]:
    names = {s.name: s.room for s in stack.services}
    rooms = {names[t] for t in targets if t in names}
    for link in stack.links:
        if link.name in targets:
            rooms |= {names[end] for end in (link.source, link.target) if end in names}
    return tuple(sorted(rooms))


def _outcome(error: BaseException) -> str:
    return "aborted" if isinstance(error, KeyboardInterrupt) else "void"


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by a person (Ctrl-C)"
    return str(error) or type(error).__name__


def _summary(judgement: Judgement, folder: str) -> str:
    bad: list[Verdict] = [v for v in judgement.claims if v.verdict is not Finding.HELD]
    lines = [f"outcome {judgement.outcome}; run folder {folder}", *judgement.reasons]
    lines += [f"{v.id} {v.verdict}: {v.reason}" for v in bad]
    return "\n".join(lines)


def _now() -> float:
    return time.monotonic()
