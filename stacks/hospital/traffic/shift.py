"""One shift of traffic from opening the wards to the last word in the ledger.

It refuses to begin before the people of its wards are readable in the record.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from random import Random

import gevent
import msgspec
from gevent.event import Event
from gevent.pool import Group, Pool

from chaos.journal import events as ev
from stacks.hospital.traffic import forms
from stacks.hospital.traffic.callers import READ_S, Ask, Callers
from stacks.hospital.traffic.config import Config, ConfigError
from stacks.hospital.traffic.desks import Desks
from stacks.hospital.traffic.generator import Generator
from stacks.hospital.traffic.http import NoAnswer
from stacks.hospital.traffic.ledger import Fire, Ledger, open_journal
from stacks.hospital.traffic.operations import Operations
from stacks.hospital.traffic.people import WARDS, Census, Dice, Person, TubeRack, person
from stacks.hospital.traffic.presets import preset
from stacks.hospital.traffic.schedule import Flow, arrivals
from stacks.hospital.traffic.surroundings import Hospital, create_ask

FINISH_S = 6.0  # operations under way when the traffic stops
ORPHAN_FINISH_S = 0.8  # when the harness is gone
OPEN_S = 30.0  # patients must be readable in the record by then
OPENING_HANDS = 12
EMERGENCIES, DAY_PATIENTS, OUTPATIENTS = 12, 6, 8
ALLERGIC_EVERY = 3
SUBSTANCES = ("penicillin", "latex", "iodine", "peanut")
OPENING_FLOW = 9_999


class CannotOpen(RuntimeError):
    """The wards could not be opened; the text says why and where to look."""


class Params(msgspec.Struct, forbid_unknown_fields=True):
    """What an experiment chooses.

    `rush`: only these flows (`kind/klass`, or `kind/klass batch`, → per second).
    """

    preset: str = "smoke"
    patients: int = 4_000
    hour: float = 16.0
    load: float = 1.0
    inpatients: int = 0  # 0 = the preset's own number
    rush: dict[str, float] = {}


class Shift:
    """One load generator: `open`, `play` until `stop`, `close`."""

    def __init__(
        self, config: Config, fire: Fire | None = None, number: int = 0, stop: Event | None = None
    ) -> None:
        self.config = config
        self.params = config.params_as(Params)
        self.stop = stop or Event()
        self.finish_s = FINISH_S
        seed = f"{config.workload}/{config.seed}/{number}"
        self._flows = self._chosen_flows()
        self._ledger = Ledger(open_journal(config.journal), self._op_prefix(number), fire)
        self._callers = Callers(config, self._ledger, seed, self.stop)
        self._followers = Group()
        self._census = Census()
        desks = Desks(self._callers, self._ledger, config.real_s)
        self._hospital = Hospital(
            self._ledger, self._callers, self._census, TubeRack(), desks,
            self._key_prefix(number), config.real_s, self._followers.spawn,
        )  # fmt: skip
        self._operations = Operations(self._hospital)
        self.generator = Generator(
            arrivals(self._flows, seed, self.params.hour, config.speed),
            self._operations.carry_out, _complain,
        )  # fmt: skip
        self._started = self._closed = False

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Admit the wards' population and wait until the record shows it. Raises CannotOpen."""
        end = time.monotonic() + OPEN_S
        if self.params.rush:
            self._take_census()
        else:
            people = self._population()
            self._all(people, self._admit, end)
            self._all(people, self._write_history, end)
        gc.collect()
        gc.freeze()  # what is here now stays: no long pauses of the generator's clock

    def play(self) -> None:
        """Run the schedule until `stop` is set."""
        planned = sum(flow.per_s for flow in self._flows)
        self._ledger.note(ev.WorkloadStarted(
            t=time.monotonic(), workload=self.config.workload, planned_per_s=round(planned, 3)
        ))  # fmt: skip
        self._started = True
        self._hospital.desks.sit_down(self._followers.spawn)
        self.generator.run(self.stop)

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
        self._callers.close()

    def _ended(self) -> ev.WorkloadEnded:
        generator = self.generator
        p99, worst = generator.late_ms()
        reasons = []
        if generator.overflowed:
            reasons.append(f"{generator.overflowed} not started: too many operations under way")
        if generator.failed:
            reasons.append(f"{generator.failed} failed inside the generator; see its log")
        return ev.WorkloadEnded(
            t=time.monotonic(), workload=self.config.workload, planned=generator.planned,
            started=generator.started, late_p99_ms=round(p99, 3), late_max_ms=round(worst, 3),
            ok=not reasons, reason="; ".join(reasons),
        )  # fmt: skip

    # ------------------------------------------------------------ opening the wards

    def _population(self) -> list[Person]:
        inpatients = self.params.inpatients or preset(self.params.preset).inpatients
        wanted = {"P1": inpatients, "P0": EMERGENCIES, "P2": DAY_PATIENTS, "P3": OUTPATIENTS}
        people = []
        for klass, count in wanted.items():
            for number in range(count):
                mrn = f"{self._hospital.prefix}S{klass}-{number}"
                one = person(mrn, klass, _dice_of(mrn))
                if klass == "P1":
                    one.ward = WARDS[number % len(WARDS)]
                people.append(one)
        return people

    def _all(self, people: list[Person], act: Callable[[Person, float], str], end: float) -> None:
        """Do something for everybody, several at a time; raises CannotOpen: the first trouble."""
        pool = Pool(OPENING_HANDS)
        works = [pool.spawn(act, one, end) for one in people]
        pool.join(timeout=max(0.0, end - time.monotonic()))
        troubles = [
            work.value if work.successful() else str(work.exception or "it takes too long")
            for work in works
        ]
        pool.kill(block=False)
        bad = [trouble for trouble in troubles if trouble]
        if bad:
            raise CannotOpen(
                f"the wards could not be opened within {OPEN_S:g} s: {len(bad)} of {len(people)}"
                f" patients are not ready, first: {bad[0]}; look at the logs of gam, engine, ehr"
            )

    def _admit(self, one: Person, end: float) -> str:
        if not self._operations.administration.register(one, time.monotonic()):
            return f"{one.mrn} was not admitted by gam"
        while not self._hospital.is_readable(one):
            if time.monotonic() > end:
                return f"{one.mrn} was admitted and cannot be read in the record"
            gevent.sleep(0.1)
        self._census.admit(one)
        return ""

    def _write_history(self, one: Person, end: float) -> str:
        """An inpatient's first hours: for some an allergy; a prescription, an order, a tube."""
        if one.klass not in ("P0", "P1"):
            return ""
        number = one.place
        if number % ALLERGIC_EVERY == 0:
            key = f"{one.mrn}-A"
            form = forms.allergy(one.mrn, key, SUBSTANCES[number % len(SUBSTANCES)])
            trouble = self._write_once_more(one, form, key, end)
            if trouble:
                return trouble
        return self._operations.care.first_day(one, _dice_of(f"{one.mrn}-first"))

    def _write_once_more(self, one: Person, form: forms.Form, key: str, end: float) -> str:
        ask = create_ask(form["resourceType"], key, forms.encode(form), one.klass, one.ward)
        trouble = "nobody was asked"
        while time.monotonic() < end:
            for node in self._callers.record_nodes(one.ward):
                try:
                    answer = self._callers.attempt(node, ask, READ_S)
                except NoAnswer as silence:
                    trouble = f"{node}: {silence.reason}"
                    continue
                if answer.good:
                    return ""
                trouble = f"{node}: {answer.status} {forms.refusal(answer.body)[1]}"
            gevent.sleep(0.1)
        return f"{key}: {trouble}"

    def _take_census(self) -> None:
        """A rush reads the charts of those who are here already."""
        try:
            answer = self._callers.attempt("gam", Ask("GET", "/census"), READ_S)
        except NoAnswer as silence:
            raise CannotOpen(f"gam does not tell its census: {silence.reason}") from None
        lines = msgspec.json.decode(answer.body).get("patients", []) if answer.good else []
        for line in lines:
            klass = "P0" if line.get("class") == "EMER" else "P1"
            self._census.admit(
                Person(line["mrn"], klass, line.get("ward", ""), "", "", "", aliases=None)
            )
        if not lines:
            raise CannotOpen("gam's census is empty: start hospital_day() first")

    # ------------------------------------------------------------ names and rates

    def _chosen_flows(self) -> tuple[Flow, ...]:
        params = self.params
        if params.rush:
            flows = []
            for name, per_s in params.rush.items():
                kind, _, rest = name.partition("/")
                klass, _, shape = rest.partition(" ")
                flows.append(Flow(kind, klass, per_s, "batch" if shape == "batch" else "even"))
            return tuple(flows)
        try:
            size = preset(params.preset)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return size.flows(params.patients, self.config.speed, params.load)

    def _op_prefix(self, number: int) -> str:
        return self.config.workload + (f".{number}" if number else "")

    def _key_prefix(self, number: int) -> str:
        """Keys are unique among workloads, users and (without a journal) repeated starts."""
        word = "".join(c for c in self.config.workload if c.isalnum())[:8]
        user = f"u{number}" if number else ""
        again = "" if self.config.journal else f"t{int(time.time()) % 10**7}"
        return f"{word}{self.config.seed}{user}{again}."


def _dice_of(text: str) -> Dice:
    return Dice(Random(text).getrandbits(63))


def _complain(error: BaseException) -> None:
    print(f"operation failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
