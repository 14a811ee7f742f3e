"""The vocabulary of the journal: every event that may stand on one line of a journal file.

Events are plain values with a time; they decide nothing and hold no logic. `t` is always
CLOCK_MONOTONIC seconds of the machine the run took place on (one clock for every writer);
`run.started` anchors it to UTC.
"""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="e", omit_defaults=True, gc=False):
    """Base of all events; `t` in seconds of CLOCK_MONOTONIC."""

    t: float


# ---------------------------------------------------------------- the run, written by the harness


class RunStarted(Event, frozen=True, tag="run.started"):
    """First line of harness.jsonl: what is run, and how its clocks relate."""

    name: str
    seed: int
    runtime: str
    utc: str  # RFC 3339, the instant of `t`
    preset: str
    speed: float  # hospital seconds per real second (human durations only)
    stack: str
    services: dict[str, str]  # service → room
    defect: str = ""  # the planted defect, when one is switched on


class RunEnded(Event, frozen=True, tag="run.ended"):
    """Last line of harness.jsonl; absent when the harness was killed."""

    outcome: str  # "completed"; "aborted" (a person or stop rule); "void" (it proves nothing)
    reason: str = ""


class ServiceSeen(Event, frozen=True, tag="service.seen"):
    """A service changed its state as the harness saw it."""

    service: str
    state: str  # starting, ready, degraded, paused, stopping, gone
    reason: str = ""


class WindowOpened(Event, frozen=True, tag="window.opened"):
    """A judged span of time begins: `warmup`, `fault` or `settle`."""

    window: str


class WindowClosed(Event, frozen=True, tag="window.closed"):
    """The span ended; `ok` is False when its condition was not met (not steady, not settled)."""

    window: str
    ok: bool = True
    reason: str = ""


class FaultBegan(Event, frozen=True, tag="fault.began"):
    """The undo is on disk and the world is about to be changed."""

    fault: str  # unique within the run: "1-kill-ehr-a"
    kind: str  # kill, pause, stop, crash-loop, latency, bandwidth, cut, reset, ...
    targets: tuple[str, ...]  # services, or links as source>target.port
    story: str  # one sentence for the report
    rooms: tuple[str, ...] = ()


class FaultSeen(Event, frozen=True, tag="fault.seen"):
    """An effect probe saw the fault; `ms` after `fault.began` ended its injection."""

    fault: str
    observation: str
    ms: float = 0.0


class FaultUnseen(Event, frozen=True, tag="fault.unseen"):
    """The effect probe never saw the fault: the run is void."""

    fault: str
    reason: str


class FaultEnded(Event, frozen=True, tag="fault.ended"):
    """The undo was played."""

    fault: str
    by: str = "block"  # block, deadline, reaper, proxy, heal


class FaultGone(Event, frozen=True, tag="fault.gone"):
    """The heal was seen."""

    fault: str
    observation: str
    ms: float = 0.0


class FaultStuck(Event, frozen=True, tag="fault.stuck"):
    """The undo failed or its effect could not be seen: the run is void."""

    fault: str
    reason: str


# ---------------------------------------------------------------- traffic, written by workloads


class WorkloadStarted(Event, frozen=True, tag="workload.started"):
    """A load generator begins its schedule."""

    workload: str
    planned_per_s: float = 0.0


class WorkloadEnded(Event, frozen=True, tag="workload.ended"):
    """A load generator finished; absent when it was abandoned.

    `late_p99_ms` and `late_max_ms`: how far the generator itself fell behind its schedule when
    *starting* operations (not how slow the system was).
    """

    workload: str
    planned: int
    started: int
    late_p99_ms: float
    late_max_ms: float
    ok: bool = True
    reason: str = ""


class OpInvoked(Event, frozen=True, tag="op.invoked"):
    """A client begins one clinical operation; latency counts from `intended`, not from `t`."""

    op: str
    kind: str  # chart.read, order.create, ...
    klass: str  # P0..P4
    intended: float
    key: str = ""  # business key (placer number, specimen, visit, mrn)
    subject: str = ""  # the patient's mrn as the client knows it
    ward: str = ""
    target: str = ""  # the service first asked
    value: str = ""  # digest of what is written, when it is a write


class OpOk(Event, frozen=True, tag="op.ok"):
    """Acknowledged. `strength` is the acknowledgement: 201, 200, AA, CA, seen, ..."""

    op: str
    strength: str
    via: str = ""  # the service that answered
    subject: str = ""  # the patient in the answer, when there is one
    value: str = ""
    attempts: int = 1


class OpRefused(Event, frozen=True, tag="op.refused"):
    """Did not happen, and the client was told so."""

    op: str
    reason: str
    via: str = ""
    attempts: int = 1


class OpUnknown(Event, frozen=True, tag="op.unknown"):
    """Time-out or broken connection: may have happened."""

    op: str
    reason: str
    via: str = ""
    attempts: int = 1


class Shed(Event, frozen=True, tag="shed"):
    """One attempt was refused for overload (503 with Retry-After) and may be tried again later."""

    op: str
    klass: str
    via: str
    retry_after_s: float = 0.0
    reason: str = ""


class Sample(Event, frozen=True, tag="sample"):
    """One look at the system: `what` of `subject` was `value` (text in `text`)."""

    what: str
    subject: str
    value: float = 0.0
    text: str = ""
    ok: bool = True


# ---------------------------------------------------------------- the final read, by the auditor


class Record(Event, frozen=True, tag="record"):
    """One stored record as the auditor read it after everything had settled."""

    store: str  # ehr-db-a, ehr-db-b, lis, analysers, gam, ro-copy, ...
    kind: str  # order, medication, administration, report, specimen, patient, encounter, ...
    key: str
    subject: str = ""
    status: str = ""
    version: int = 0
    digest: str = ""
    count: int = 1
    at: float = 0.0  # when the store took it, seconds of CLOCK_MONOTONIC; 0 when it does not say


class StoreRead(Event, frozen=True, tag="store.read"):
    """A store was read to its end (`complete`), or could not be."""

    store: str
    complete: bool
    records: int = 0
    reason: str = ""


class Drained(Event, frozen=True, tag="drained"):
    """Backlogs were seen empty after the faults (`ok`), or the wait for it ran out."""

    ok: bool
    reason: str = ""


AnyEvent = (
    RunStarted | RunEnded | ServiceSeen | WindowOpened | WindowClosed
    | FaultBegan | FaultSeen | FaultUnseen | FaultEnded | FaultGone | FaultStuck
    | WorkloadStarted | WorkloadEnded
    | OpInvoked | OpOk | OpRefused | OpUnknown | Shed | Sample
    | Record | StoreRead | Drained
)  # fmt: skip
