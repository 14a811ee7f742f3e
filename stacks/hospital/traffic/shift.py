"""One shift of traffic from opening the departments to the last word in the ledger.

It refuses to play a department that the topology does not have.
"""

from __future__ import annotations

import gc
import sys
import time

import msgspec
from gevent.event import Event
from gevent.pool import Group

from chaos.journal import events as ev
from stacks.hospital.traffic.appointments import Appointments
from stacks.hospital.traffic.callers import Callers
from stacks.hospital.traffic.config import Config, ConfigError
from stacks.hospital.traffic.crisis import CellAct, CrisisCell, arrivals_of
from stacks.hospital.traffic.department import Act, CannotOpen, Department
from stacks.hospital.traffic.generator import Generator
from stacks.hospital.traffic.imaging import Imaging
from stacks.hospital.traffic.ledger import Fire, Ledger, open_journal
from stacks.hospital.traffic.peak import Peak, PeakParams
from stacks.hospital.traffic.people import Census, Dice
from stacks.hospital.traffic.presets import Preset, preset
from stacks.hospital.traffic.schedule import Arrival, Flow, arrivals
from stacks.hospital.traffic.surroundings import Hospital
from stacks.hospital.traffic.telephone import Telephone
from stacks.hospital.traffic.wards import Wards

__all__ = ["FINISH_S", "ORPHAN_FINISH_S", "CannotOpen", "Params", "Shift"]

FINISH_S = 6.0  # operations under way when the traffic stops
ORPHAN_FINISH_S = 0.8  # when the harness is gone
OPEN_S = 30.0  # one department: patients readable in the record, bookings known to channels
SHOWN_BY = {"care": "ehr-a", "imaging": "modalities", "appointments": "scheduling"}
"""Department → the service by which a topology shows that it stands."""


class Params(msgspec.Struct, forbid_unknown_fields=True):
    """What an experiment chooses: a day, or one of the workloads that go on top of it.

    `rush`: only these flows (`kind/klass`, or `kind/klass batch`, → per second) of those who are
    here; `calls_per_s`: only patients who ask channels; `cell`: only these acts of the crisis
    cell; `peak`: only the morning peak of imaging.
    """

    preset: str = "smoke"
    patients: int = 4_000
    hour: float = 16.0
    load: float = 1.0
    inpatients: int = 0  # 0 = the preset's own number
    rush: dict[str, float] = {}
    calls_per_s: float = 0.0
    cell: tuple[CellAct, ...] = ()
    peak: PeakParams | None = None


class Shift:
    """One load generator: `open`, `play` until `stop`, `close`."""

    def __init__(
        self, config: Config, fire: Fire | None = None, number: int = 0, stop: Event | None = None
    ) -> None:
        self.config = config
        self.params = config.params_as(Params)
        self.stop = stop or Event()
        self.finish_s = FINISH_S
        self._size = _size(self.params)
        self._seed = f"{config.workload}/{config.seed}/{number}"
        self._ledger = Ledger(open_journal(config.journal), self._op_prefix(number), fire)
        self._callers = Callers(config, self._ledger, self._seed, self.stop)
        self._consoles: Callers | None = None
        self._followers = Group()
        self._suffix = self._key_suffix(number)
        self._hospital = Hospital(
            self._ledger, self._callers, Census(), self._key_prefix(), config.real_s,
            self._followers.spawn,
        )  # fmt: skip
        self._cell: CrisisCell | None = None
        self._departments = self._people()
        self._acts = {kind: act for one in self._departments for kind, act in one.acts.items()}
        self._flows = self._chosen_flows()
        self.generator = self._generator()
        self._started = self._closed = False

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Let every department open itself, one after the other. Raises CannotOpen."""
        for one in self._departments:
            one.open(time.monotonic() + OPEN_S)
        gc.collect()
        gc.freeze()  # what is here now stays: no long pauses of the generator's clock

    def play(self) -> None:
        """Run the schedule until `stop` is set."""
        planned = sum(flow.per_s for flow in self._flows)
        self._ledger.note(ev.WorkloadStarted(
            t=time.monotonic(), workload=self.config.workload, planned_per_s=round(planned, 3)
        ))  # fmt: skip
        self._started = True
        for one in self._departments:
            one.sit_down()
        self.generator.run(self.stop)
        self.stop.wait()  # a workload that has done everything still lasts until it is told

    def close(self) -> None:
        """End what is under way and write the last words; idempotent."""
        if self._closed:
            return
        self._closed = True
        self.stop.set()
        self.generator.finish(self.finish_s if self._started else 0.0)
        self._followers.kill(block=True, timeout=1.0)
        self._ledger.cut_short()
        if self._started:
            self._ledger.note(self._ended())
        self._ledger.close()
        for callers in (self._callers, self._consoles):
            if callers is not None:
                callers.close()

    def _ended(self) -> ev.WorkloadEnded:
        generator = self.generator
        p99, worst = generator.late_ms()
        reasons = list(self._cell.troubles) if self._cell else []
        if generator.overflowed:
            reasons.append(f"{generator.overflowed} not started: too many operations under way")
        if generator.failed:
            reasons.append(f"{generator.failed} failed inside the generator; see its log")
        return ev.WorkloadEnded(
            t=time.monotonic(), workload=self.config.workload, planned=generator.planned,
            started=generator.started, late_p99_ms=round(p99, 3), late_max_ms=round(worst, 3),
            ok=not reasons, reason="; ".join(reasons),
        )  # fmt: skip

    # ------------------------------------------------------------ who is there

    def standing(self) -> tuple[str, ...]:
        """The departments that the topology has."""
        return tuple(name for name, shown in SHOWN_BY.items() if self._callers.reaches(shown))

    def _people(self) -> list[Department]:
        params, hospital, size = self.params, self._hospital, self._size
        if params.cell:
            self._consoles = Callers(self.config, self._ledger, self._seed, self.stop, direct=True)
            self._cell = CrisisCell(hospital, self._consoles, params.cell)
            return [self._cell]
        if params.calls_per_s:
            return [Telephone(hospital)]
        if params.peak:
            return [Peak(hospital, params.peak)]
        standing = self.standing()
        inpatients = params.inpatients or size.inpatients
        people: list[Department] = [Wards(hospital, inpatients, rush=bool(params.rush))]
        if params.rush:
            return people
        if "imaging" in standing:
            people.append(Imaging(hospital, size.orders_ahead))
        if "appointments" in standing:
            people.append(Appointments(hospital, size, params.hour, self._suffix))
        return people

    # ------------------------------------------------------------ what happens when

    def _chosen_flows(self) -> tuple[Flow, ...]:
        params = self.params
        if params.cell:
            return ()
        if params.peak:
            return (params.peak.flow,)
        if params.calls_per_s:
            kept = params.calls_per_s / 4  # three in four ask about what may be called off
            return (
                Flow("appointment.ask", "P3", params.calls_per_s - kept),
                Flow("appointment.ask", "P2", kept),
            )
        if params.rush:
            flows = []
            for name, per_s in params.rush.items():
                kind, _, rest = name.partition("/")
                klass, _, shape = rest.partition(" ")
                flows.append(Flow(kind, klass, per_s, "batch" if shape == "batch" else "even"))
            return tuple(flows)
        return self._size.flows(params.patients, self.config.speed, params.load, self.standing())

    def _generator(self) -> Generator:
        params = self.params
        if params.cell:
            schedule = arrivals_of(params.cell)
        else:
            schedule = arrivals(self._flows, self._seed, params.hour, self.config.speed)
        return Generator(schedule, self._carry_out, _complain)

    def _carry_out(self, arrival: Arrival, intended: float) -> None:
        """Do what the arrival wants; `intended` in monotonic seconds."""
        act: Act | None = self._acts.get(arrival.kind)
        if act is None:
            raise ValueError(f"nobody knows what to do for arrivals of kind {arrival.kind!r}")
        act(arrival, intended, Dice(arrival.dice))

    # ------------------------------------------------------------ names

    def _op_prefix(self, number: int) -> str:
        return self.config.workload + (f".{number}" if number else "")

    def _key_prefix(self) -> str:
        word = "".join(c for c in self.config.workload if c.isalnum())[:8]
        return f"{word}{self.config.seed}{self._suffix}."

    def _key_suffix(self, number: int) -> str:
        """Keys are unique among workloads, users and (without a journal) repeated starts."""
        user = f"u{number}" if number else ""
        again = "" if self.config.journal else f"t{int(time.time()) % 10**7}"
        return f"{user}{again}"


def _size(params: Params) -> Preset:
    try:
        return preset(params.preset)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _complain(error: BaseException) -> None:
    print(f"operation failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
