"""Ways in which verdicts on imaging and appointments could lie, one test each."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from chaos.claims.judge import judge
from chaos.journal import events as ev
from chaos.verdict import Finding, Need, Verdict
from stacks.hospital.claims import CATALOGUE
from tests.claims.appointments_day import CHANNELS, DECIDED
from tests.claims.day import FAULT, T0, Day, Entry, Look, Row, good_day
from tests.claims.department_cases import (
    CHANNEL_SPOILS,
    archives_down,
    call,
    downtime,
    late_word,
    notice,
)
from tests.claims.spoils import BROKEN, HELD, INCONCLUSIVE, Spoil, during, merged

ONE = Need(claim=5, asked=1, why="one run sees one failover")


def found(ident: str, *spoils: Spoil, need: Need | None = None) -> Verdict:
    day = good_day()
    for spoil in spoils:
        spoil(day)
    make: Callable[..., object] = CATALOGUE[ident]
    (verdict,) = judge(day.history(), [make(need) if need else make()]).claims  # type: ignore[list-item]
    return verdict


def hit(*targets: str, kind: str = "kill", began: float = 41.0, over: float = 55.0) -> Spoil:
    """One more fault."""

    def spoil(day: Day) -> None:
        name = f"{kind}-{'-'.join(targets)}"
        day.extra += [
            ev.FaultBegan(t=T0 + began, fault=name, kind=kind, targets=targets, story=name),
            ev.FaultSeen(t=T0 + began + 0.1, fault=name, observation="gone"),
            ev.FaultEnded(t=T0 + over, fault=name),
            ev.FaultGone(t=T0 + over + 1, fault=name, observation="ready"),
        ]

    return spoil


# ---------------------------------------------------------------- SC-1


def test_a_wrong_word_on_the_phone_is_named_with_both_times() -> None:
    """Appointment, channel, the instant of the call and of the decision, in UTC and in seconds."""
    verdict = found("SC-1", call(DECIDED + 20))
    assert verdict.verdict is BROKEN
    for part in (
        "the call centre (callcentre) said `confirmed` of appointment AP0117",
        "at 15:01:08 UTC (68.3 s of the run), 20 s after it was called off at 15:00:48 UTC (48.2",
        "10 min of hospital time (10 s at this run's speed) allowed",
    ):
        assert part in verdict.reason, verdict.reason
    assert verdict.evidence == 230


def test_a_wrong_word_in_a_poll_is_named_with_both_times() -> None:
    """Nobody rang, but the website showed it to everybody."""
    verdict = found("SC-1", late_word("website", DECIDED + 20))
    for part in ("the website (website)", "AP0117", "15:00:59 UTC", "15:00:48 UTC", "website of 1"):
        assert part in verdict.reason, verdict.reason


def test_the_lagging_call_centre_is_the_only_one_accused() -> None:
    """It applies its feed twenty hospital minutes late; the others stay clean."""

    def lags(day: Day) -> None:
        for look in day.sampled("channel.word"):
            if look.subject == "callcentre":
                look.at += 20.0

    verdict = found("SC-1", lags, call(DECIDED + 15))
    assert verdict.verdict is BROKEN
    assert "callcentre of 230 appointments out of 230" in verdict.reason
    assert "website" not in verdict.reason.split("In the end")[0]


def test_words_inside_the_ten_minutes_are_counted_and_forgiven() -> None:
    """The patient who rang at once was told the old word; that is said."""
    verdict = found("SC-1", call(DECIDED + 9))
    assert verdict.verdict is HELD
    assert "9 of them still the old word within the time allowed" in verdict.reason


def test_a_call_that_began_in_time_is_forgiven() -> None:
    """The word may have been said at any moment of the call."""
    slow: Spoil = call(DECIDED + 9.9)

    def longer(day: Day) -> None:
        slow(day)
        day.ops[-1].took = 3.0

    assert found("SC-1", longer).verdict is HELD


@pytest.mark.parametrize("name", CHANNEL_SPOILS)
def test_agreement_that_nobody_polled_is_not_held(name: str) -> None:
    """Polls of each channel at most a hospital minute apart, until the end."""
    verdict = found("SC-1", CHANNEL_SPOILS[name])
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert "poll" in verdict.reason or "are needed" in verdict.reason


@pytest.mark.parametrize(("back", "expected"), [(58.0, HELD), (70.0, BROKEN)])
def test_a_channel_that_was_down_counts_for_what_it_says_when_it_is_back(
    back: float, expected: Finding
) -> None:
    """Silence misleads nobody; an old word from the grave does."""

    def down(day: Day) -> None:
        for look in day.sampled("channel.poll"):
            if look.subject == "website" and DECIDED < look.at < 62:
                look.ok = False
        for look in day.sampled("channel.word"):
            if look.subject == "website" and look.text.endswith("cancelled"):
                look.at = 62.3 if expected is HELD else back

    assert found("SC-1", down).verdict is expected


def test_a_poll_beside_the_change_it_saw_accuses_nobody() -> None:
    """The change and the poll that saw it are written in any order, at the very deadline."""

    def beside(day: Day) -> None:
        late_word("website", DECIDED + 11.15)(day)
        for look in day.sampled("channel.poll"):
            if look.subject == "website" and abs(look.at - 59.3) < 0.01:
                look.at = DECIDED + 11.14

    assert found("SC-1", beside).verdict is HELD


def test_a_channel_that_knows_none_of_them_agrees_with_nobody() -> None:
    """Its feed was dead from the beginning."""

    def deaf(day: Day) -> None:
        day.looks = [s for s in day.looks if s.what != "channel.word" or s.subject != "sms"]

    verdict = found("SC-1", deaf)
    assert verdict.verdict is INCONCLUSIVE
    assert "the text messages (sms) knew none" in verdict.reason


def test_a_patients_own_cancelling_binds_the_channels_too() -> None:
    """Not only a decision of the crisis cell."""

    def own(day: Day) -> None:
        day.ops.append(Entry("appointment.cancel", "P2", 45.0, key="AK0004", subject="M004",
                             via="scheduling"))  # fmt: skip

    verdict = found("SC-1", own)
    assert verdict.verdict is BROKEN
    assert "AK0004" in verdict.reason


# ---------------------------------------------------------------- SC-2, SC-3, PR-2


def test_a_slot_soon_after_the_decision_promises_only_a_try() -> None:
    """Who should come within twelve hours is tried, but is not among the 95 %."""

    def soon(day: Day) -> None:
        for op in day.of("appointment.calledoff")[:20]:
            op.answer = "2026-01-20T15:02:00+00:00"

    verdict = found("SC-2", soon, notice(slice(0, 20), at=DECIDED + 900))
    assert (verdict.verdict, verdict.evidence) == (HELD, 210)


def test_a_notice_of_something_else_tells_nobody() -> None:
    """The last message confirmed the appointment: of its calling off the patient knows nothing."""
    verdict = found("SC-2", notice(slice(117, 118), digest="confirmed"))
    assert verdict.verdict is BROKEN
    assert "neither reached nor listed" in verdict.reason


def test_a_message_that_is_still_tried_is_neither() -> None:
    """Pending when the store was read, and its tries are not over."""

    def early(day: Day) -> None:
        notice(slice(117, 118), status="pending")(day)
        for op in day.of("appointment.calledoff"):
            op.at += 78.0

    assert found("SC-2", early).verdict is INCONCLUSIVE


def test_a_decision_that_nobody_made_keeps_nothing() -> None:
    """PR-2 still holds on sessions alone, and says that nothing had been decided."""

    def calm(day: Day) -> None:
        day.ops = [o for o in day.ops if not o.kind.startswith("decision")]

    assert "by 0 decisions" in found("PR-2", calm).reason


def test_a_refused_move_leaves_the_appointment_where_it_is() -> None:
    """IN-1: the slot was gone, the patient was told so, and his old appointment is no phantom."""

    def moved(day: Day) -> None:
        day.ops.append(Entry(
            "appointment.move", "P2", 50.0, outcome="refused", key="AK0004", subject="M004",
            reason="scheduling: 409", via="scheduling",
        ))  # fmt: skip

    assert found("IN-1", moved).verdict is HELD


@pytest.mark.parametrize(("visit", "expected"), [(False, HELD), (True, BROKEN)])
def test_who_has_no_visit_is_known_to_administration_alone(visit: bool, expected: Finding) -> None:
    """IN-1: the record hears of a patient when a visit is opened, not when he is registered."""

    def registered(day: Day) -> None:
        day.ops.append(Entry("patient.create", "P3", 30.0, key="OUT1", subject="OUT1", via="gam"))
        day.rows.append(Row("gam", "patient", "OUT1", "OUT1"))
        if visit:
            day.ops.append(Entry("encounter.create", "P3", 31.0, key="OUT1-V", subject="OUT1",
                                 via="gam"))  # fmt: skip
            for store in ("gam", "ehr-db-a", "ehr-db-b"):
                day.rows.append(Row(store, "encounter", "OUT1-V", "OUT1", "in-progress"))

    assert found("IN-1", registered).verdict is expected


def test_landlines_are_for_people_to_call_and_no_excuse() -> None:
    """SC-2: 95 in 100 must be reached; who is only listed was not reached, in time or not."""
    assert found("SC-2", notice(slice(0, 7), status="unreachable")).verdict is HELD  # and 4 before
    assert found("SC-2", notice(slice(0, 8), status="unreachable")).verdict is BROKEN
    too_late = notice(slice(0, 14), status="unreachable", at=DECIDED + 901)
    assert found("SC-2", too_late).verdict is BROKEN


# ---------------------------------------------------------------- imaging


def test_the_images_are_counted_aloud() -> None:
    """The sentence that a chief medical officer looks for."""
    verdict = found("IM-1", archives_down)
    assert verdict.verdict is HELD
    assert "All 750 instances present once with equal pixel hashes in pacs-a and pacs-b." in (
        verdict.reason
    )


def test_emergency_images_say_where_they_were_seen_and_what_was_down() -> None:
    """Held in a run without any outage of the archive would otherwise promise too much."""
    assert "Down meanwhile: pacs-a and pacs-b." in found("IM-2", archives_down).reason
    assert "No archive was down." in found("IM-2").reason


def drained(reason: str) -> Spoil:
    def spoil(day: Day) -> None:
        day.drained = (False, reason)

    return spoil


def lost_image(day: Day) -> None:
    day.forget(lambda r: (r.store, r.key) != ("pacs-b", "2.25.00100.1"))


def owed_image(day: Day) -> None:
    day.rows.append(Row("dicom-router", "instance", "2.25.00100.1", "M020", "waiting"))


def unsent_image(day: Day) -> None:
    for row in day.stored("modalities", "instance"):
        row.status = "held" if row.key == "2.25.00100.1" else row.status


@pytest.mark.parametrize(
    ("spoils", "expected"),
    [
        ((lost_image, drained("not drained within 60 s: ...")), INCONCLUSIVE),
        ((lost_image, drained("no progress for 14 s: ...")), BROKEN),
        ((lost_image, owed_image, drained("no progress for 14 s: ...")), INCONCLUSIVE),
        ((lost_image, unsent_image, drained("no progress for 14 s: ...")), INCONCLUSIVE),
        ((lost_image, unsent_image), BROKEN),
    ],
)
def test_an_image_on_its_way_is_not_lost(spoils: tuple[Spoil, ...], expected: Finding) -> None:
    """It is when nothing moves any more and nobody holds it for sending."""
    assert found("IM-1", *spoils).verdict is expected


def test_scanners_that_nobody_used_while_a_fault_lasted_prove_nothing() -> None:
    """All examinations lay before it."""

    def calm(day: Day) -> None:
        for op in day.of("examination.start"):
            op.at -= 21.0 if FAULT[0] - 1 < op.at < FAULT[1] + 1 else 0.0

    assert found("IM-1", calm).verdict is INCONCLUSIVE


def test_a_scanner_that_was_hit_itself_may_refuse() -> None:
    """The claim is about archives, worklists and links that fail, not about the scanner."""
    refused = during(("examination.start",), 0.1, outcome="refused", reason="connection refused")
    assert found("IM-1", refused).verdict is BROKEN
    excused = hit("modalities", began=40.0, over=60.0)
    assert found("IM-1", refused, excused).verdict is HELD


def test_a_commitment_given_before_the_outage_may_arrive_in_it() -> None:
    """The archives say that they stored it before; the scanner deletes it while they are down."""

    def late(day: Day) -> None:
        archives_down(day)
        for name in ("pacs-a", "pacs-b"):
            for row in day.stored(name, "instance"):
                row.at = 40.9 if row.key == "2.25.00100.1" else row.at
        for row in day.stored("modalities", "instance"):
            row.at = 50.0 if row.key == "2.25.00100.1" else row.at

    assert found("IM-1", late).verdict is HELD


def test_a_merged_patient_is_found_again_under_his_new_name() -> None:
    """IM-3: the RIS followed the merge, the scanner could not."""

    def married(day: Day) -> None:
        day.ops.append(Entry("patient.merge", "P3", 62.0, key="M020", subject="M001", via="gam"))
        for row in downtime(day):
            row.subject = "M001" if row.subject == "M020" else row.subject

    assert found("IM-3", married).verdict is HELD


def test_channels_and_archives_that_never_hear_of_a_merge_mix_nobody_up() -> None:
    """IN-3: they keep the name of then; scheduling must follow."""
    carried_out = merged("ok", carried_out=True)

    def with_appointment(subject: str) -> Spoil:
        def spoil(day: Day) -> None:
            day.ops.append(Entry("appointment.book", "P3", 30.0, key="AM", subject="A0000",
                                 via="scheduling"))  # fmt: skip
            day.rows += [Row(c, "appointment", "AM", "A0000", "confirmed") for c in CHANNELS]
            day.rows.append(Row("scheduling", "appointment", "AM", subject, "booked"))

        return spoil

    assert found("IN-3", carried_out, with_appointment("M001")).verdict is HELD
    assert found("IN-3", carried_out, with_appointment("A0000")).verdict is BROKEN


# ---------------------------------------------------------------- spares and the rest


def image_reads_stop(until: float) -> Spoil:
    def spoil(day: Day) -> None:
        for op in day.of("image.read"):
            if 41 <= op.at < until:
                op.took = until - op.at

    return spoil


def only_archives(day: Day) -> None:
    """The database was never hit."""
    day.harness = [
        msgspec.structs.replace(e, targets=("lis",)) if isinstance(e, ev.FaultBegan) else e
        for e in day.harness
    ]


def test_the_mirror_takes_over() -> None:
    """FO-1: how long until images are read again, when one archive is lost."""
    one = (only_archives, hit("pacs-a", began=41.0, over=59.0))
    verdict = found("FO-1", *one, image_reads_stop(44.0), need=ONE)
    assert verdict.verdict is HELD
    assert "1 failover: service again after" in verdict.reason
    slow = found("FO-1", only_archives, hit("pacs-a", began=41, over=110),
                 image_reads_stop(104.0), need=ONE)  # fmt: skip
    assert slow.verdict is BROKEN


def test_without_any_archive_there_is_no_spare_to_praise() -> None:
    """FO-1: both were down at once."""
    verdict = found("FO-1", only_archives, hit("pacs-a"), hit("pacs-b"), need=ONE)
    assert verdict.verdict is INCONCLUSIVE
    assert found("FO-1", hit("pacs-a"), hit("pacs-b"), need=ONE).verdict is HELD  # the database


def asks(channel: str, **values: object) -> Spoil:
    def spoil(day: Day) -> None:
        for op in day.of("appointment.ask", during=True):
            if op.via == channel:
                for name, value in values.items():
                    setattr(op, name, value)

    return spoil


def test_patients_at_the_website_belong_to_the_rest() -> None:
    """FO-2: unless the website was hit itself, or another channel is meant."""
    slow = asks("website", took=1.0)
    assert found("FO-2", slow).verdict is BROKEN
    assert found("FO-2", slow, hit("website")).verdict is HELD
    assert found("FO-2", asks("sms", took=1.0)).verdict is HELD


def test_a_slot_that_is_gone_is_an_answer() -> None:
    """FO-2: scheduling worked; another patient was quicker. A 503 is a failure."""
    gone = during(("appointment.book",), 0.3, outcome="refused", reason="scheduling: 409 conflict")
    assert found("FO-2", gone).verdict is HELD
    away = during(("appointment.book",), 0.3, outcome="refused", reason="scheduling: 503 read-only")
    assert found("FO-2", away).verdict is BROKEN


def test_too_few_questions_before_are_no_baseline_and_it_is_said() -> None:
    """FO-2: their errors count, their times cannot be compared."""

    def few(day: Day) -> None:
        day.ops = [o for o in day.ops if o.kind != "appointment.ask" or o.at > FAULT[0]]

    verdict = found("FO-2", few)
    assert verdict.verdict is HELD
    assert "website, call centre: errors only, too few asked before" in verdict.reason


# ---------------------------------------------------------------- parts of the hospital

CARE = ("chart.", "order.", "medication.", "specimen.", "stat.", "critical.", "copy.", "back.",
        "imaging.", "examination.", "study.", "image.", "encounter.", "patient.")  # fmt: skip


def appointments_alone(day: Day) -> None:
    """Only patient administration, the engine, scheduling and its channels stand."""
    services = ("gam", "engine", "scheduling", *CHANNELS)
    day.ops = [o for o in day.ops if not o.kind.startswith(CARE)]
    day.rows = [r for r in day.rows if r.store in services]
    day.forget(lambda r: r.kind not in ("patient", "encounter"))
    day.read = {name: True for name in day.read if name in services}
    day.harness = [
        msgspec.structs.replace(e, services=dict.fromkeys(services, "A"))
        if isinstance(e, ev.RunStarted) else e
        for e in day.harness
    ]  # fmt: skip


def test_a_run_of_one_department_is_judged_on_what_it_has() -> None:
    """No claim asks for the stores of systems that do not stand."""
    lowered = Need(claim=1_000, asked=100, why="one department")
    assert found("IN-1", appointments_alone, need=lowered).verdict is HELD
    assert found("IN-2", appointments_alone).verdict is HELD
    assert found("IN-3", appointments_alone, need=lowered).verdict is HELD
    for ident in ("SC-1", "SC-2", "SC-3", "PR-2"):
        assert found(ident, appointments_alone).verdict is HELD, ident
    for ident in ("IM-1", "IM-2", "IM-3"):
        verdict = found(ident, appointments_alone)
        assert (verdict.verdict, "stands" in verdict.reason) == (INCONCLUSIVE, True)
    assert found("FO-1", appointments_alone).verdict is INCONCLUSIVE


def test_a_channel_that_stands_and_was_not_read_is_missed() -> None:
    """Only what the topology lacks is excused."""

    def unread(day: Day) -> None:
        appointments_alone(day)
        day.read["sms"] = False

    lowered = Need(claim=1_000, asked=100, why="one department")
    for ident in ("IN-1", "IN-2", "IN-3"):
        assert found(ident, unread, need=lowered).verdict is INCONCLUSIVE
    assert found("SC-1", unread).verdict is INCONCLUSIVE
    assert found("SC-2", unread).verdict is INCONCLUSIVE


def test_the_watchers_first_look_is_no_change_of_mind() -> None:
    """SC-1: an appointment that was called off before anybody polled is cancelled from then on."""

    def later(day: Day) -> None:
        day.looks = [
            s for s in day.looks if s.what != "channel.word" or s.text.endswith("cancelled")
        ]
        day.looks.append(Look("channel.word", "website", DECIDED + 1, 1, "AP0001 cancelled"))

    assert found("SC-1", later).verdict is HELD
