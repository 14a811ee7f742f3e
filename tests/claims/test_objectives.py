"""Recovery objectives: the truth lies between the bounds, and a want of evidence is never zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chaos.claims.judge import judge
from chaos.claims.objectives import objectives
from chaos.journal import events as ev
from chaos.journal.history import History
from chaos.objective import Figure, Objective
from chaos.systems import Drills, Made, System
from chaos.verdict import Judgement
from stacks.hospital.claims import CATALOGUE, NothingLost
from stacks.hospital.claims.places import HOMES
from stacks.hospital.departments import CORE, IMAGING
from stacks.hospital.stack import DEPARTMENTS, ON_REQUEST, hospital
from stacks.hospital.systems import SYSTEMS
from stacks.hospital.terms import HOSPITAL
from tests.claims.day import Day, good_day
from tests.claims.recovery_runs import (
    BEGAN,
    DESK,
    HEALED,
    OVER,
    POST,
    T0,
    Asked,
    Run,
    fault,
    outage,
)

# The same examples every time: what stands in nobody's way today must not tomorrow.
many = settings(max_examples=150, derandomize=True)
few = settings(max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))


def measure(run: Run, system: System = DESK) -> Objective:
    (one,) = objectives(run.history(), (system,), ("CL-1", "CL-2"))
    return one


def rto(run: Run, system: System = DESK) -> Figure:
    return measure(run, system).rto[0]


def rpo(run: Run, system: System = DESK) -> Figure:
    return measure(run, system).rpo


# ------------------------------------------------------------ the truth lies between


@example(down=40.0, lasted=2.0, every=3.8482999852220643, took=0.001, patience=1.0)
@given(
    down=st.floats(BEGAN, 50.0), lasted=st.floats(0.0, 30.0), every=st.floats(0.05, 6.0),
    took=st.floats(0.001, 2.0), patience=st.floats(0.5, 60.0),
)  # fmt: skip
@many
def test_the_true_interruption_lies_between_the_bounds(
    down: float, lasted: float, every: float, took: float, patience: float
) -> None:
    """However seldom people ask, however slow answers are, whether they wait or give up. Who waits
    sees it for one answer longer than it lasts."""
    run = outage(down, down + lasted, every, took)
    for i, one in enumerate(run.asked):
        if one.done is not None and one.done - one.at > took + patience:
            run.asked[i] = Asked(one.at, one.at + took + patience, "unknown")
    figure = rto(run)
    assert figure.least_s is not None
    assert figure.least_s <= lasted + took + 1e-6
    if figure.most_s is not None:
        assert figure.most_s >= lasted - 1e-6
        assert figure.least_s <= figure.most_s


@example(horizon=21.0, every=1.3)
@example(horizon=39.5, every=0.65)
@given(horizon=st.floats(12.0, BEGAN), every=st.floats(0.05, 4.0))
@many
def test_the_true_loss_lies_between_the_bounds(horizon: float, every: float) -> None:
    """Whatever was acknowledged between the horizon and the fault is gone."""
    run = outage(every=every)
    acknowledged = {i: one.done for i, one in enumerate(run.asked) if one.done is not None}
    gone = {i for i, done in acknowledged.items() if horizon < done <= BEGAN}
    run.kept -= gone
    figure = rpo(run)
    assert figure.failed == len(gone)
    assert figure.least_s is not None
    assert figure.most_s is not None
    assert figure.least_s <= BEGAN - horizon + 1e-6 <= figure.most_s + 2e-6
    at_once = any(abs(done - BEGAN) < 1e-9 for done in acknowledged.values())
    assert (figure.least_s > 0) == bool(gone) or at_once


@given(lost=st.sets(st.integers(0, 170), min_size=1))
@many
def test_no_loss_is_ever_called_nothing(lost: set[int]) -> None:
    """Before, during or after the fault, one or many: it is counted, and older than nothing."""
    run = outage()
    gone = {i for i in lost if i in run.kept}
    run.kept -= gone
    figure = rpo(run)
    assert figure.failed == len(gone)
    assert figure.least_s is not None
    assert figure.least_s > 0
    assert figure.lines


def test_a_changed_write_is_a_lost_one() -> None:
    """What lies there with another content is not what was acknowledged."""
    run = outage()
    run.other = {30}
    assert rpo(run).failed == 1


def test_an_ordinary_pause_is_no_sure_interruption() -> None:
    """Where everybody was served as ever, nobody was surely away, however seldom people ask."""
    figure = rto(outage(90.0, 90.0, every=3.0))
    assert figure.least_s == 0.0
    assert figure.most_s is not None
    assert 2.5 < figure.most_s < 3.5


def test_slow_answers_are_not_missed_before_their_time() -> None:
    """Where an answer takes 12 s on a good day, 12 s without one prove nothing."""
    figure = rto(outage(90.0, 90.0, every=1.0, took=12.0))
    assert figure.least_s == 0.0


def test_a_service_that_never_comes_back_has_no_upper_bound() -> None:
    """It is away for as long as somebody asked, at least."""
    run = outage(BEGAN, 200.0)
    run.asked = [one if one.at < BEGAN - 1 else Asked(one.at, one.at + 2, "unknown")
                 for one in run.asked]  # fmt: skip
    figure = rto(run)
    assert figure.most_s is None
    assert figure.least_s is not None
    assert figure.least_s > 55
    assert "nobody was served again" in figure.text


def test_lawful_refusals_and_other_peoples_answers() -> None:
    """A refusal that is an answer is service; an answer about another patient is not."""
    face = replace(DESK.faces[0], lawful={"paper.create": ": 409"})
    refused = outage(BEGAN, 55.0)
    for one in refused.asked:
        if BEGAN <= one.at < 55.0:
            one.done, one.outcome, one.reason = one.at + 0.1, "refused", "desk: 409 gone"
    lenient = rto(refused, replace(DESK, faces=(face,)))
    assert lenient.most_s is not None
    assert lenient.most_s < 1
    assert (rto(refused).least_s or 0) > 14
    wrong = outage(90.0, 90.0)
    for one in wrong.asked:
        one.found = "somebody else" if BEGAN <= one.at < 55.0 else ""
    assert (rto(wrong).least_s or 0) > 13


def test_back_only_with_the_undo_is_said() -> None:
    """Who was served again only after the undo did not recover by himself."""
    assert "after the fault was undone" in rto(outage(BEGAN, OVER + 0.5)).text
    assert "after the fault was undone" not in rto(outage(BEGAN, 50.0)).text


def test_what_takes_nothing_away_is_no_recovery() -> None:
    """A slow disk that nobody felt has no recovery time; one that everybody felt has."""
    felt = outage(BEGAN, 55.0)
    felt.faults = fault(kind="slow-storage")
    assert (rto(felt).least_s or 0) > 14
    unfelt = outage(90.0, 90.0)
    unfelt.faults = fault(kind="slow-storage")
    assert rto(unfelt).least_s is None
    assert "took nothing away" in rto(unfelt).text


def test_a_link_is_a_way_to_its_target() -> None:
    """Cutting the way to a system is hitting it; cutting its way to others is not."""
    run = outage(BEGAN, 55.0)
    run.faults = fault(kind="cut", targets=("ward>desk.http",))
    assert rto(run).measured
    run.faults = fault(kind="cut", targets=("desk>engine.mllp",))
    assert not rto(run).measured


def test_arrivals_stand_for_a_service_that_nobody_asks() -> None:
    """From the acknowledgement to the arrival in the store, by the store's own time."""
    run = outage(90.0, 90.0)
    run.faults = fault(targets=("post",))
    for i, at in run.posted.items():
        run.posted[i] = at if not BEGAN <= at < 58.0 else 58.0
    figure = rto(run, POST)
    assert figure.least_s is not None
    assert figure.most_s is not None
    assert figure.least_s <= 18.0 <= figure.most_s
    assert figure.least_s > 16


def test_two_faults_one_silence() -> None:
    """It counts from the earlier of the faults that met it, once, and names both."""
    run = outage(BEGAN, 55.0)
    run.faults += fault(BEGAN + 1, OVER, HEALED, name="2-kill")
    figure = rto(run)
    assert figure.faults == ("1-kill", "2-kill")
    assert figure.most_s is not None
    assert 15 <= figure.most_s < 15.6
    assert figure.n == sum(BEGAN <= one.at < HEALED for one in run.asked)


# ------------------------------------------------------------ no evidence, no figure


def spoiled(change: Callable[[Run], None]) -> Run:
    run = outage()
    change(run)
    return run


def alter(**what: object) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        for name, value in what.items():
            setattr(run, name, value)

    return change


def silence(run: Run) -> None:
    run.asked = [one for one in run.asked if not BEGAN <= one.at < HEALED]
    run.kept = set(range(len(run.asked)))


def cut_short(run: Run) -> None:
    for one in run.asked:
        if BEGAN <= one.at < HEALED:
            one.outcome, one.reason = "unknown", "cut short: the traffic was stopped"


RTO_LIES: dict[str, tuple[Callable[[Run], None], str]] = {
    "no fault": (alter(faults=[]), "no fault"),
    "a fault elsewhere": (alter(faults=fault(targets=("engine",))), "no fault"),
    "a fault nobody saw": (alter(faults=fault(seen=False)), "no fault"),
    "nobody asked": (silence, "nobody asked"),
    "all cut short": (cut_short, "nobody asked"),
    "no traffic at all": (alter(asked=[]), "nobody asked"),
}
RPO_LIES: dict[str, tuple[Callable[[Run], None], str]] = {
    "never read": (alter(stored=False), "not read to its end"),
    "read in part": (alter(complete=False), "not read to its end"),
    "read in part, half of it there": (alter(complete=False, kept={1, 2}), "not read to its end"),
    "read too early": (alter(read=50.0, kept=set(range(60))), "before the last writes"),
    "nothing written": (alter(asked=[], kept=set(), posted={}), "nobody wrote"),
    "no fault": (alter(faults=[]), "no fault"),
    "nothing before the fault": (alter(faults=fault(5.0)), "nothing had been written"),
}


@pytest.mark.parametrize("case", RTO_LIES)
def test_a_time_that_nobody_measured_is_none(case: str) -> None:
    """The reason stands in its place."""
    change, why = RTO_LIES[case]
    figure = rto(spoiled(change))
    assert figure.least_s is None
    assert figure.most_s is None
    assert why in figure.text


@pytest.mark.parametrize("case", RPO_LIES)
def test_a_loss_that_nobody_looked_for_is_not_nothing(case: str) -> None:
    """The reason stands in its place."""
    change, why = RPO_LIES[case]
    figure = rpo(spoiled(change))
    assert figure.least_s is None
    assert why in figure.text


def test_queues_that_were_not_seen_empty_leave_a_loss_open() -> None:
    """What may still be under way is neither there nor lost."""
    run = outage()
    run.faults = fault(targets=("post",))
    run.drained = False
    del run.posted[50]
    assert rpo(run, POST).least_s is None
    run.drained = True
    assert rpo(run, POST).failed == 1


def test_arrivals_in_a_store_that_was_not_read_measure_nothing() -> None:
    """Half of the arrivals would make a long silence."""
    run = outage()
    run.faults, run.complete = fault(targets=("post",)), False
    assert rto(run, POST).least_s is None


@pytest.mark.parametrize("case", ["void", "killed", "torn", "no claims"])
def test_a_run_that_proves_nothing_has_no_figures(case: str) -> None:
    """However good it looks: void, killed, with a torn journal, or without any claim."""
    run = outage()
    run.ended = {"void": "void", "killed": ""}.get(case, "completed")
    files = run.files()
    if case == "torn":
        lines = files["traffic.jsonl"].splitlines(keepends=True)
        files["traffic.jsonl"] = b"".join([*lines[:9], b'{"e":"op.inv\n', *lines[10:]])
    (one,) = judge(History.of(files), [], (DESK,)).objectives
    assert all(not figure.measured for figure in (*one.rto, one.rpo))
    assert "proves nothing" in one.rpo.text


def test_a_measurement_that_fails_says_so() -> None:
    """A mistake of ours neither stops the judge nor looks like a figure."""
    broken = replace(DESK, homes={"paper.create": (None,)})  # type: ignore[dict-item]
    (one,) = objectives(outage().history(), (broken,), ())
    assert not one.rpo.measured
    assert "measuring itself failed" in one.rpo.text


# ------------------------------------------------------------ from backup


DRILLED = replace(DESK, drills=Drills("drill", "vault", (("paper.create", "paper"),)))


def drilled(held: set[int], to: float = 50.0, **report: float) -> Run:
    run = outage(90.0, 90.0)
    said = {"to": T0 + to, "asked": T0 + 51.0, "rto_s": 2.5, **report}
    run.seen = [
        *(ev.Sample(t=T0 + 54.0, what=f"drill.{what}", subject="d 1", value=value)
          for what, value in said.items() if value),
        ev.Sample(t=T0 + 54.0, what="drill", subject="d 1"),
    ]  # fmt: skip
    t = T0 + 121.0
    run.seen += [ev.Record(t=t, store="vault", kind="paper", key=f"K{i}") for i in sorted(held)]
    run.seen.append(ev.StoreRead(t=t, store="vault", complete=True, records=len(held)))
    return run


def restored(run: Run, system: System = DRILLED) -> Objective:
    return next(one for one in objectives(run.history(), (system,), ()) if one.source == "backup")


def test_a_drill_is_measured_against_the_ledger() -> None:
    """Its own clock bounds the time from below, the harness's from above; the loss is what
    clients were told and what is not in it."""
    due = {i for i, one in enumerate(outage(90.0, 90.0).asked) if (one.done or 0) <= 50.0}
    whole = restored(drilled(due))
    assert (whole.rto[0].least_s, whole.rto[0].most_s) == (2.5, 3.0)
    assert whole.rpo.failed == 0
    assert whole.rpo.n == len(due)
    assert whole.rpo.least_s == 0.0
    late = restored(drilled({i for i in due if i < 60}))
    assert late.rpo.failed == len(due) - 60
    assert late.rpo.least_s == pytest.approx(50.0 - (10.0 + 60 * 0.5 + 0.1))
    assert late.rpo.most_s == pytest.approx(50.0 - (10.0 + 59 * 0.5 + 0.1))


@pytest.mark.parametrize("case", ["no instant", "no time", "failed", "unread", "empty"])
def test_a_drill_that_says_too_little_measures_nothing(case: str) -> None:
    """Nothing that a drill keeps quiet about becomes a zero."""
    run = drilled({1, 2}, to=0.0 if case == "no instant" else 50.0)
    if case == "no instant":
        run = drilled({1, 2}, to=-T0)
    if case == "no time":
        run = drilled({1, 2}, rto_s=0.0)
    if case == "failed":
        run.seen[3] = msgspec.structs.replace(run.seen[3], ok=False, text="disk full")
    if case == "unread":
        run.seen[-1] = msgspec.structs.replace(run.seen[-1], complete=False)
    if case == "empty":
        run.asked = []
    one = restored(run)
    figures = {"no time": one.rto, "failed": (*one.rto, one.rpo)}.get(case, (one.rpo,))
    assert all(figure.least_s is None for figure in figures)


def test_without_a_drill_nothing_is_said_of_backups() -> None:
    """No row, rather than an empty one."""
    found = objectives(outage().history(), (DRILLED,), ())
    assert [one.source for one in found] == ["faults"]


def test_what_a_machine_made_counts_as_written() -> None:
    """A record that its source holds and a copy does not is lost from the instant it was made."""
    made = replace(DESK, homes={}, made=Made("post", "paper", ("desk",)))
    run = outage()
    assert rpo(run, made).failed == 0
    run.kept -= {55, 56}
    figure = rpo(run, made)
    assert figure.failed == 2
    assert figure.least_s == pytest.approx(BEGAN - run.posted[55])


# ------------------------------------------------------------ bounds and the hospital


def test_only_bounds_of_claims_that_were_judged_are_told() -> None:
    """A claim that this run did not ask for promises nothing in it."""
    assert [(b.claim, b.rto_s, b.rpo_s) for b in measure(outage()).bounds] == [
        ("CL-1", 30.0, None), ("CL-2", None, 0.0),
    ]  # fmt: skip


def measured(day: Day) -> dict[str, Objective]:
    found = objectives(day.history(), SYSTEMS, tuple(CATALOGUE))
    return {f"{one.system}/{one.source}": one for one in found}


def test_the_good_day_loses_nothing_and_writes_wait_for_the_spare() -> None:
    """The primary dies at 40 and the standby takes over at 45; charts are read all the while."""
    found = measured(good_day())
    record, orders = found["record/faults"], found["orders/faults"]
    reading, _ = record.rto
    (ordering,) = orders.rto
    assert ordering.least_s is not None
    assert ordering.most_s is not None
    assert ordering.least_s <= 5.1 <= ordering.most_s + 0.1
    assert ordering.least_s > 4.8
    assert (reading.most_s or 9) < 1
    assert orders.rpo.least_s == 0.0
    assert orders.rpo.n > 500
    assert {b.claim for b in orders.bounds} >= {"OR-1", "FO-1", "IN-1"}
    assert found["record/backup"].rto[0].least_s == 3.2
    assert found["record/backup"].rpo.failed == 0
    admitted = found["admissions/backup"].rpo  # copied eight seconds before the trial
    assert admitted.failed > 0
    assert admitted.least_s is not None
    assert admitted.most_s is not None
    assert admitted.least_s <= 8.0 <= admitted.most_s + 0.2
    assert found["imaging/backup"].rpo.least_s is None


@given(data=st.data())
@few
def test_a_loss_is_seen_wherever_in_1_sees_it(data: st.DataObject) -> None:
    """Whichever write is missing in whichever home: the claim breaks, and a system lost it."""
    day = good_day()
    kinds = {home.kind for homes in HOMES.values() for home in homes}
    homes = {home.store for homes in HOMES.values() for home in homes}
    rows = [row for row in day.rows if row.kind in kinds and row.store in homes
            and row.store != "billing"]  # fmt: skip
    gone = data.draw(st.sampled_from(rows))
    day.forget(lambda row: row is not gone)
    broken = NothingLost().judge(day.history()).verdict == "broken"
    assert broken == any(one.rpo.failed for one in measured(day).values() if one.source == "faults")


def test_every_write_of_the_hospital_belongs_to_a_system() -> None:
    """No acknowledged write is left out of what is measured, and none has other homes there."""
    for kind, homes in HOMES.items():
        places = [system.homes[kind] for system in SYSTEMS if kind in system.homes]
        assert places, kind
        assert {home for place in places for home in place} == set(homes), kind


def test_systems_speak_of_what_there_is() -> None:
    """Services, operations, claims and faces exist under those names."""
    stack = hospital(departments=(*DEPARTMENTS, *ON_REQUEST), defect="")
    names = {service.name for service in stack.services}
    for system in SYSTEMS:
        words = {face.words for face in system.faces}
        for face in system.faces:
            assert set(face.services) <= names, face
            assert {*face.kinds, *(a.kind for a in face.arrivals)} <= set(HOSPITAL.kinds), face
        for promise in system.promises:
            assert promise.claim in CATALOGUE
            assert promise.face in ("", *words), promise
    assert stack.systems == SYSTEMS


def test_only_systems_that_stand_are_measured() -> None:
    """A run without care says nothing of orders."""
    day = good_day()
    known = {service.name for part in (CORE, IMAGING) for service in part.services}
    started = day.harness[0]
    assert isinstance(started, ev.RunStarted)
    day.harness[0] = msgspec.structs.replace(started, services=dict.fromkeys(known, "A"))
    assert {name.partition("/")[0] for name in measured(day)} == {"admissions", "imaging"}


def test_verdicts_of_old_have_no_objectives() -> None:
    """A file from before they were measured is read as it is; a new one comes back unchanged."""
    old = b'{"name":"x","seed":1,"runtime":"process","outcome":"held","claims":[]}'
    assert msgspec.json.decode(old, type=Judgement).objectives == ()
    history = outage().history()
    judged = judge(history, [], ())
    made = msgspec.structs.replace(judged, objectives=objectives(history, (DESK,), ()))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Judgement) == made


def test_measuring_is_deterministic() -> None:
    """The same journal gives the same figures to the last letter."""
    one, other = (
        msgspec.json.encode(objectives(good_day().history(), SYSTEMS, tuple(CATALOGUE)))
        for _ in range(2)
    )
    assert one == other
