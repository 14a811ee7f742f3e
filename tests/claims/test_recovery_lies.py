"""Ways in which verdicts on coming back could lie, one test each."""

from __future__ import annotations

import msgspec
import pytest

from chaos.claims.judge import judge
from chaos.journal import events as ev
from chaos.verdict import Finding, Verdict
from stacks.hospital.claims import CATALOGUE
from tests.claims.day import BACK, T0, Day, Look, good_day
from tests.claims.recovery_day import (
    CHECKED,
    DECLARED,
    NORMAL,
    NOTICES_TEXT,
    OPENED,
    RELEASED,
    asked,
    killed,
    lost_before,
    moved,
    nothing_declared,
    said_of_the_takeover,
    say,
    unwell,
)
from tests.claims.spoils import (
    BROKEN,
    HELD,
    INCONCLUSIVE,
    Spoil,
    looks,
    unread,
    without_looks,
)


def found(ident: str, *spoils: Spoil) -> Verdict:
    day = good_day()
    for spoil in spoils:
        spoil(day)
    (verdict,) = judge(day.history(), [CATALOGUE[ident]()]).claims  # type: ignore[call-arg]
    return verdict


def stopped(*names: str, began: float = 46.0, over: float = 55.0) -> Spoil:
    def spoil(day: Day) -> None:
        fault = "stop-" + "-".join(names)
        day.extra += [
            ev.FaultBegan(t=T0 + began, fault=fault, kind="stop", targets=names, story=fault),
            ev.FaultSeen(t=T0 + began + 0.1, fault=fault, observation="gone"),
            ev.FaultEnded(t=T0 + over, fault=fault),
            ev.FaultGone(t=T0 + over + 1, fault=fault, observation="ready"),
        ]

    return spoil


def announced(at: float, *names: str) -> Spoil:
    """The day's incident is a planned stop, announced at another instant."""

    def spoil(day: Day) -> None:
        moved("declared", "incident", at)(day)
        for look in day.sampled("incident.declared"):
            look.subject, look.text = " ".join(names), "planned by crisis cell: storage"

    return spoil


@pytest.mark.parametrize(
    ("spoils", "expected"),
    [
        ((announced(42.0, "billing"),), HELD),
        ((announced(50.0, "billing"),), BROKEN),
        ((announced(42.0, "scheduling"),), BROKEN),
        ((), BROKEN),
        ((without_looks("incident.poll"),), INCONCLUSIVE),
    ],
    ids=["before", "after", "another", "never", "nobody looked"],
)
def test_a_stop_on_purpose_is_announced_before_it_begins(
    spoils: tuple[Spoil, ...], expected: Finding
) -> None:
    """FO-2: by name, and not afterwards."""
    verdict = found("FO-2", stopped("billing"), *spoils)
    assert verdict.verdict is expected, verdict.reason


def test_a_crash_needs_no_announcement() -> None:
    """FO-2: nobody can announce what nobody chose."""
    assert found("FO-2", killed("billing", 46.0, 55.0)).verdict is HELD


def test_a_need_that_recovers_between_two_looks_is_no_accusation() -> None:
    """RE-1: the watcher looks once a second; the incident system may have seen it first."""
    just = unwell("gam", OPENED["engine"] - 1.0, OPENED["engine"])
    assert found("RE-1", just).verdict is HELD


def test_one_of_a_pair_is_enough() -> None:
    """RE-1: the record needs one database node, not both."""
    assert found("RE-1", unwell("ehr-db-a", 55.0, 80.0)).verdict is HELD


def test_what_was_stored_before_the_replay_is_no_backlog() -> None:
    """RE-1: charges that arrived before the outage say nothing of the replay's order."""

    def before(day: Day) -> None:
        for row in day.stored("billing"):
            row.at = 30.0
        for row in day.stored("ehr-db-a", "encounter"):
            row.at = RELEASED["ADT"] + 1.0

    assert found("RE-1", before).verdict is HELD


def test_two_incidents_are_judged_each_for_itself() -> None:
    """RE-2: the second one has its own notices, openings and all-clear."""

    def again(day: Day) -> None:
        say(day, "declared", 80.0, text="downtime by monitoring: record")
        say(day, "notice", 80.0, text=f"{T0 + 81.0:.3f} record")

    verdict = found("RE-2", again)
    assert verdict.verdict is BROKEN
    assert "passed without a word" in verdict.reason


def test_silence_about_a_record_that_was_away_is_broken() -> None:
    """RE-2: no declaration at all, for longer than the first notice may take."""
    away = [killed(name, 40.5, 59.9) for name in ("ehr-a", "ehr-b")]
    short = found("RE-2", nothing_declared, *away)
    assert short.verdict is INCONCLUSIVE

    def looked(day: Day) -> None:
        for look in day.looks:
            if look.what == "copy.marker":
                look.what, look.subject = "incident.poll", "incident"

    day = good_day()
    nothing_declared(day)
    looked(day)
    for spoil in away:
        spoil(day)
    started = day.harness[0]
    assert isinstance(started, ev.RunStarted)
    day.harness[0] = msgspec.structs.replace(started, preset="smoke", speed=600.0)
    (verdict,) = judge(day.history(), [CATALOGUE["RE-2"]()]).claims  # type: ignore[call-arg]
    assert verdict.verdict is BROKEN, verdict.reason
    assert "No incident was declared" in verdict.reason


def test_the_declaration_s_instant_is_in_the_verdict() -> None:
    """RE-1 names service, instant and what was away."""
    verdict = found("RE-1", killed("engine", DECLARED + 1, 59.0), moved("opened", "lis", 58.0))
    for part in ("lis was opened at", "58.0 s of the run", "engine was away"):
        assert part in verdict.reason, verdict.reason


@pytest.mark.parametrize(("ok", "expected"), [(True, HELD), (False, BROKEN), (None, BROKEN)])
def test_where_a_vault_stands_its_check_counts_as_well(ok: bool | None, expected: Finding) -> None:
    """RE-2: the record's own reading hides what its buffers hide; the vault reads the disks."""

    def stands(day: Day) -> None:
        started = day.harness[0]
        assert isinstance(started, ev.RunStarted)
        services = {**started.services, "backup": "vault"}
        day.harness[0] = msgspec.structs.replace(started, services=services)
        if ok is not None:
            day.looks.append(Look("integrity", "backup", CHECKED + 1, T0 + CHECKED, "7 files", ok))

    verdict = found("RE-2", stands)
    assert verdict.verdict is expected, verdict.reason


def unlooked(what: str, start: float, end: float, *subjects: str) -> Spoil:
    """Nobody looked at these in that span."""

    def spoil(day: Day) -> None:
        gone = [
            s for s in day.sampled(what)
            if start < s.at < end and (not subjects or s.subject in subjects)
        ]  # fmt: skip
        assert gone
        day.looks = [s for s in day.looks if s not in gone]

    return spoil


def filled(start: float, end: float) -> Spoil:
    """The engine's queue to the laboratory holds a message in that span."""
    return looks(
        "queue.depth", lambda s: s.subject == "engine:lis" and start < s.at < end, value=1.0
    )


def without_estimates(day: Day) -> None:
    """Notices that say what is, and not until when."""
    for look in day.sampled("incident.notice"):
        look.text = f"0 {NOTICES_TEXT}"


NEAR = (NORMAL - 4.0, NORMAL + 6.0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (unlooked("health", *NEAR, "lis"), "nobody looked at lis"),
        (unlooked("queue.depth", RELEASED["DFT"], 90.0, "gam:engine"), "queues of gam"),
        (without_estimates, "none said when"),
    ],
    ids=["a service", "a queue", "no estimate"],
)
def test_what_nobody_saw_at_the_all_clear_is_no_praise(spoil: Spoil, words: str) -> None:
    """RE-2: a criterion counts as met only where somebody looked."""
    verdict = found("RE-2", spoil)
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert words in verdict.reason


def test_a_queue_that_two_looks_found_full_was_not_seen_empty() -> None:
    """RE-2: too few looks to accuse are too few to praise; the next looks decide, either way."""
    full = filled(RELEASED["DFT"], 90.0)
    few = found("RE-2", full, unlooked("queue.depth", 67.2, 90.0, "engine:lis"))
    assert few.verdict is INCONCLUSIVE, few.reason
    assert "none found it empty" in few.reason
    assert found("RE-2", full).verdict is BROKEN
    late = unlooked("queue.depth", RELEASED["DFT"], NORMAL - 0.5, "engine:lis")
    assert found("RE-2", filled(RELEASED["DFT"], NORMAL + 2.0), late).verdict is HELD


def test_an_opening_is_in_order_only_if_somebody_saw_what_it_needs() -> None:
    """RE-1: nobody looked at the engine while others were opened on it."""
    verdict = found("RE-1", unlooked("health", 57.0, 68.0, "engine"))
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert "nobody looked at engine" in verdict.reason


@pytest.mark.parametrize("what", ["rto_s", "asked", "base"])
def test_a_drill_that_does_not_say_how_long_proves_no_bound(what: str) -> None:
    """BK-1: a time that was not taken is not a short one."""
    verdict = found("BK-1", without_looks(f"drill.{what}"))
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert what in verdict.reason


@pytest.mark.parametrize(
    ("text", "spoils", "expected"),
    [
        ("lost: 4096 bytes of log that ehr-db-b never had", (lost_before,), HELD),
        ("unknown: ehr-db-b was not synchronous", (lost_before,), HELD),
        ("none: ehr-db-b was the synchronous standby", (lost_before,), BROKEN),
        ("none: ehr-db-b was the synchronous standby", (), HELD),
        ("lost: 300 bytes of log that nobody waited for", (), HELD),
        ("none: ehr-db-b was the synchronous standby", (unread(),), INCONCLUSIVE),
    ],
    ids=["told", "not known", "denied", "none", "too careful", "not read"],
)
def test_what_a_takeover_lost_is_not_denied(
    text: str, spoils: tuple[Spoil, ...], expected: Finding
) -> None:
    """RE-2: held against the record in the end, not against what anybody says of the log."""
    verdict = found("RE-2", said_of_the_takeover(text), *spoils)
    assert verdict.verdict is expected, verdict.reason


def test_what_was_lost_after_the_takeover_is_not_its_loss() -> None:
    """RE-2: a write that was acknowledged by the new primary and is gone is IN-1's."""

    def later(day: Day) -> None:
        gone = {op.key for op in day.of("medication.create") if op.at > BACK + 1.0}
        first = min(gone)
        day.forget(lambda row: row.key != first)

    assert found("RE-2", later).verdict is HELD
    assert found("IN-1", later).verdict is BROKEN


def test_the_verdict_names_the_lost_write_and_the_statement() -> None:
    """RE-2: which write, which node took over, and what was said of it."""
    verdict = found("RE-2", lost_before)
    for part in ("medication.create", "ehr-db-b", "'none: ", "2 acknowledged writes"):
        assert part in verdict.reason, verdict.reason


@pytest.mark.parametrize(
    ("at", "outcome", "expected"),
    [(66.5, "ok", BROKEN), (66.5, "refused", HELD), (NORMAL + 1.0, "ok", HELD)],
    ids=["too early", "refused", "after normal"],
)
def test_nobody_is_told_that_all_is_clear_before_it_is(
    at: float, outcome: str, expected: Finding
) -> None:
    """RE-2: the answer to a question is an all-clear, too."""
    verdict = found("RE-2", asked(at, outcome))
    assert verdict.verdict is expected, verdict.reason


@pytest.mark.parametrize(
    ("at", "outcome", "expected"),
    [(60.0, "ok", BROKEN), (60.0, "refused", HELD), (80.0, "ok", HELD)],
    ids=["before the report", "refused", "after the report"],
)
def test_an_answered_question_is_an_all_clear(at: float, outcome: str, expected: Finding) -> None:
    """IN-5: twenty damages lie there from 58 on and are reported at 61."""
    verdict = found("IN-5", asked(at, outcome))
    assert verdict.verdict is expected, verdict.reason
    assert ("was refused" in verdict.reason) == (outcome == "refused"), verdict.reason
