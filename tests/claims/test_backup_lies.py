"""Ways in which BK-1 could lie about systems other than the record, one test each."""

from __future__ import annotations

import pytest

from chaos.claims.judge import judge
from chaos.journal import events as ev
from chaos.verdict import Verdict
from stacks.hospital.claims import CATALOGUE
from tests.claims.backups_day import COPIED, SYSTEMS, trial
from tests.claims.day import T0, Day, Entry, Look, Row, good_day
from tests.claims.spoils import BROKEN, HELD, INCONCLUSIVE, Spoil, change, unread


def found(*spoils: Spoil) -> Verdict:
    day = good_day()
    for spoil in spoils:
        spoil(day)
    (verdict,) = judge(day.history(), [CATALOGUE["BK-1"]()]).claims  # type: ignore[call-arg]
    return verdict


def untried(system: str) -> Spoil:
    """Nobody restored it for trial."""

    def spoil(day: Day) -> None:
        day.looks = [look for look in day.looks if look.subject != f"{system} 1"]

    return spoil


def without(*services: str) -> Spoil:
    """The run's topology has not got them."""

    def spoil(day: Day) -> None:
        for number, event in enumerate(day.harness):
            if isinstance(event, ev.RunStarted):
                kept = {k: v for k, v in event.services.items() if k not in services}
                day.harness[number] = ev.RunStarted(
                    t=event.t, name=event.name, seed=event.seed, runtime=event.runtime,
                    utc=event.utc, preset=event.preset, speed=event.speed, stack=event.stack,
                    services=kept,
                )  # fmt: skip

    return spoil


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_that_nobody_restored_is_not_known_to_restore(system: str) -> None:
    """However well all the others were restored."""
    verdict = found(untried(system))
    assert verdict.verdict is INCONCLUSIVE
    assert f"Nobody restored {system} for trial" in verdict.reason


def test_a_system_that_does_not_stand_needs_no_trial() -> None:
    """Billing is not raised: nobody asks for its backup; the verdict does not speak of it."""
    verdict = found(untried("billing"), without("billing"))
    assert verdict.verdict is HELD, verdict.reason
    assert "billing" not in verdict.reason


def test_without_the_record_all_others_are_judged_and_their_records_counted() -> None:
    """A hospital of departments: a drill of the record is not asked for, enough evidence is."""
    gone = without("ehr-db-a", "ehr-db-b")
    verdict = found(gone)
    assert verdict.verdict is HELD, verdict.reason
    assert "in 6 systems" in verdict.reason
    few = found(gone, *(untried(system) for system in SYSTEMS if system != "billing"))
    assert few.verdict is INCONCLUSIVE


@pytest.mark.parametrize("what", ["rto_s", "asked", "copy"])
@pytest.mark.parametrize("system", ["engine", "images"])
def test_a_trial_that_does_not_say_how_long_proves_no_bound(system: str, what: str) -> None:
    """A time that was not taken is not a short one."""
    verdict = found(trial(system, what, 0.0))
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert f"{system} 1: it does not say {what}" in verdict.reason


def test_what_was_restored_and_not_read_is_not_known() -> None:
    """The auditor could not read it: neither held nor broken."""
    verdict = found(unread("backup.gam"))
    assert verdict.verdict is INCONCLUSIVE
    assert "restored of gam was not read" in verdict.reason


def test_an_empty_copy_proves_nothing() -> None:
    """Nothing had come yet when it was made: no praise."""
    verdict = found(trial("images", "copy", T0 - 1.0), trial("images", "asked", T0))
    assert verdict.verdict is INCONCLUSIVE
    assert "images: nothing was in it yet" in verdict.reason


def test_what_came_after_the_copy_is_counted_and_not_missed() -> None:
    """Three messages between copy and drill: the loss that a real restore would have, said aloud;
    one that the engine had three seconds and more before the copy must be in it."""

    def later(*at: float) -> Spoil:
        def spoil(day: Day) -> None:
            day.rows += [
                Row("engine.received", "kept.message", f"L{i}", "M001", "delivered", at=one)
                for i, one in enumerate(at)
            ]  # fmt: skip

        return spoil

    verdict = found(later(COPIED + 1, COPIED + 2, COPIED + 3, COPIED - 1))
    assert verdict.verdict is HELD, verdict.reason
    assert "8.00 s since the copy would be lost (RPO: 3 records)" in verdict.reason
    verdict = found(later(COPIED - 4))
    assert verdict.verdict is BROKEN
    assert "engine: 1 of" in verdict.reason
    assert "message L0" in verdict.reason


def test_another_version_is_another_time_and_no_other_content() -> None:
    """Amended after the copy: the copy's older content is right."""

    def amended(day: Day) -> None:
        row = next(r for r in day.stored("gam", "patient") if r.key == "A0003")
        row.version, row.digest, row.at = 2, "amended", COPIED + 1

    assert found(amended).verdict is HELD


def test_images_are_held_against_the_archive_that_was_copied() -> None:
    """Seen at the mirror only: the vault read the other archive, and is not accused."""

    def at_the_mirror(day: Day) -> None:
        for op in day.of("study.view")[:20]:
            op.via = "pacs-b"
            day.rows = [
                row for row in day.rows
                if (row.store, row.kind, row.key) != ("backup.images", "kept.study", op.key)
            ]  # fmt: skip

    assert found(at_the_mirror).verdict is HELD


# -- given back for good --------------------------------------------------------------------------

ARMED, CUT, OF_COPY, GIVEN = 20.0, 39.0, 36.0, 45.0
"""The engine's disk lies, its power is cut, the copy that it gets back, and when it got it."""


def lost_and_given(day: Day) -> None:
    name = "2-lost-writes"
    day.extra += [
        ev.FaultBegan(t=T0 + ARMED, fault=name, kind="lost-writes", targets=("engine",), story="x"),
        ev.FaultSeen(t=T0 + CUT, fault=name, observation="gone"),
        ev.FaultEnded(t=T0 + CUT + 2, fault=name),
        ev.FaultGone(t=T0 + CUT + 3, fault=name, observation="ready"),
    ]  # fmt: skip
    day.looks.append(Look("restore", "engine", GIVEN, T0 + OF_COPY, "from 17.db: messages 9"))


def never_came(start: float, end: float, number: int = 3) -> Spoil:
    """Orders of that time did not reach the laboratory."""

    def spoil(day: Day) -> None:
        some: list[Entry] = [
            o for o in day.of("order.create") if start < o.at < o.at + o.took < end
        ]
        gone = {op.key for op in some[:number]}
        assert len(gone) == number
        day.forget(lambda row: row.store not in ("lis", "backup.lis") or row.key not in gone)

    return spoil


def test_a_system_that_was_given_back_lacks_only_what_came_after_its_copy() -> None:
    """Everything arrived; or what is missing came after the copy, and is listed by name."""
    verdict = found(lost_and_given)
    assert verdict.verdict is HELD, verdict.reason
    assert "0 writes of the 3.00 s between copy and loss are missing." in verdict.reason
    verdict = found(lost_and_given, never_came(OF_COPY, CUT))
    assert verdict.verdict is HELD, verdict.reason
    assert "3 writes of the 3.00 s between copy and loss are missing: order.create O" in (
        verdict.reason
    )


@pytest.mark.parametrize("when", [(20.0, 30.0), (CUT + 0.1, GIVEN)])
def test_what_the_copy_had_and_what_came_when_all_was_well_must_arrive(
    when: tuple[float, float],
) -> None:
    """One order from before the copy, or from after the loss: the restore was none."""
    verdict = found(lost_and_given, never_came(*when, number=1))
    assert verdict.verdict is BROKEN, verdict.reason
    assert "1 write from outside the time between that copy and the loss" in verdict.reason


def test_nobody_praises_a_restore_of_which_the_loss_or_the_end_was_not_seen() -> None:
    """No fault of the disk; a backlog not seen empty; nothing had gone through by then."""

    def unseen(day: Day) -> None:
        day.extra = [one for one in day.extra if getattr(one, "fault", "") != "2-lost-writes"]

    def undrained(day: Day) -> None:
        day.drained = (False, "engine holds 30 for lis")

    def too_early(day: Day) -> None:
        day.sampled("restore")[0].value = T0 + 1.0

    def stuck(day: Day) -> None:
        day.drained = (False, "no progress for 10 s: lis: 9 reports are registered")

    assert found(lost_and_given, stuck).verdict is HELD, "what was lost may leave others waiting"
    for spoil, words in (
        (unseen, "nobody saw what it had lost"), (undrained, "was not seen to end"),
        (too_early, "Nothing had gone through engine"),
    ):  # fmt: skip
        verdict = found(lost_and_given, spoil)
        assert verdict.verdict is INCONCLUSIVE, verdict.reason
        assert words in verdict.reason


@pytest.mark.parametrize("store", ["lis", "website"])
def test_a_receiver_that_was_not_read_cannot_acquit_the_restore(store: str) -> None:
    """What should have arrived there may be missing."""
    verdict = found(lost_and_given, unread(store))
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert f"engine was given a copy back; not read: {store}." in verdict.reason


@pytest.mark.parametrize(
    ("system", "store"),
    [("engine", "engine.received"), ("gam", "gam"), ("billing", "billing"), ("images", "pacs-a")],
)
def test_a_source_that_was_not_read_cannot_acquit_its_copy(system: str, store: str) -> None:
    """What it had by then, and nobody was told of, is not known."""
    verdict = found(unread(store))
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert f"{system}: {store} was not read" in verdict.reason


def test_what_comes_back_must_not_arrive_twice() -> None:
    """A receiver that does not know what it has had already."""
    verdict = found(lost_and_given, change("lis", "order", count=2))
    assert verdict.verdict is BROKEN, verdict.reason
    assert "arrived more than once" in verdict.reason


def test_a_trial_between_a_loss_and_its_mending_proves_nothing() -> None:
    """The copy lacks what the system lacked then, and gets back later: no accusation."""

    def then(day: Day) -> None:
        (given,) = day.sampled("restore")
        given.at = 75.0
        for event in day.extra:
            if isinstance(event, ev.FaultSeen) and event.fault == "2-lost-writes":
                day.extra[day.extra.index(event)] = ev.FaultSeen(
                    t=T0 + COPIED - 5, fault=event.fault, observation="gone"
                )
                break

    verdict = found(lost_and_given, then)
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert "engine: the copy is from after a loss" in verdict.reason


def images_lost_and_given(day: Day) -> None:
    """The archive's disk lied; the vault had copied images for the last time three seconds before
    the cut, and gave back what it had."""
    name = "2-lost-writes"
    day.extra += [
        ev.FaultBegan(t=T0 + ARMED, fault=name, kind="lost-writes", targets=("pacs-a",), story="x"),
        ev.FaultSeen(t=T0 + CUT, fault=name, observation="gone"),
        ev.FaultEnded(t=T0 + CUT + 2, fault=name),
        ev.FaultGone(t=T0 + CUT + 3, fault=name, observation="ready"),
    ]  # fmt: skip
    for at in (OF_COPY - 10, OF_COPY, CUT + 5):
        day.looks.append(Look("backup.copy", "images", at + 0.5, 0.5))
    day.looks.append(Look("restore", "pacs-a", GIVEN, T0 + CUT + 5, "from pacs-a: images 9"))


def images_gone(start: float, end: float, number: int = 2) -> Spoil:
    """Images that scanners let go of in that time are not in the archive."""

    def spoil(day: Day) -> None:
        rows = [row for row in day.stored("modalities", "instance") if start < row.at < end]
        gone = {row.key for row in rows[:number]}
        assert len(gone) == number
        day.forget(lambda row: row.store != "pacs-a" or row.key not in gone)

    return spoil


def test_an_archive_that_was_given_back_lacks_only_what_came_after_the_last_copy() -> None:
    """Counted from the last copy before the cut, not from one that was made after it."""
    verdict = found(images_lost_and_given)
    assert verdict.verdict is HELD, verdict.reason
    assert "0 images of the 3.00 s between copy and loss are missing." in verdict.reason
    verdict = found(images_lost_and_given, images_gone(OF_COPY, CUT))
    assert verdict.verdict is HELD, verdict.reason
    assert "2 images of the 3.00 s between copy and loss are missing: " in verdict.reason


@pytest.mark.parametrize("when", [(20.0, 30.0), (70.0, 90.0)])
def test_an_image_that_was_copied_or_came_later_must_be_there(when: tuple[float, float]) -> None:
    """From before the last copy, or from when all was well again."""
    verdict = found(images_lost_and_given, images_gone(*when, number=1))
    assert verdict.verdict is BROKEN, verdict.reason
    assert "1 image from outside the time between the last copy and the loss" in verdict.reason


def test_other_pixels_are_not_given_back() -> None:
    """The archive shows another picture under the image's name."""
    verdict = found(images_lost_and_given, change("pacs-a", "instance", digest="another"))
    assert verdict.verdict is BROKEN, verdict.reason


def test_pixels_that_nobody_compared_are_not_praised() -> None:
    """The archive does not say which picture it has."""
    verdict = found(images_lost_and_given, change("pacs-a", "instance", digest=""))
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert "which pixels came back" in verdict.reason


def test_images_vouched_for_while_the_archive_was_empty_are_not_excused() -> None:
    """Let go of between the cut and the restore, and gone: by the cut, or by the restore?"""
    verdict = found(images_lost_and_given, images_gone(CUT, GIVEN, number=1))
    assert verdict.verdict is INCONCLUSIVE, verdict.reason
    assert "not known when they were vouched for" in verdict.reason


def test_without_a_copy_or_a_reading_nobody_knows_what_came_back() -> None:
    """No copy was seen before the cut; the archive was not read to its end."""

    def uncopied(day: Day) -> None:
        day.looks = [look for look in day.looks if look.what != "backup.copy"]

    for spoil in (uncopied, unread("pacs-a")):
        verdict = found(images_lost_and_given, spoil)
        assert verdict.verdict is INCONCLUSIVE, verdict.reason
        assert "pacs-a was given images back; it or the scanners were not read" in verdict.reason


def test_a_study_that_archive_and_copy_have_both_lost_is_not_asked_of_the_next_copy() -> None:
    """Seen between the last copy and the cut: it is listed as lost, and not held against a trial
    that came after; one that was seen before that copy must be in it."""

    def vanished(start: float, end: float) -> Spoil:
        def spoil(day: Day) -> None:
            seen = [op for op in day.of("study.view") if op.via == "pacs-a"]
            some = {op.key for op in seen if start < op.at < op.at + op.took < end}
            others = {op.key for op in seen if not start < op.at < op.at + op.took < end}
            gone = sorted(some - others)[:1]
            assert gone
            day.rows = [
                row for row in day.rows
                if (row.store, row.kind) != ("backup.images", "kept.study") or row.key not in gone
            ]  # fmt: skip

        return spoil

    assert found(images_lost_and_given, vanished(OF_COPY, CUT)).verdict is HELD
    assert found(images_lost_and_given, vanished(ARMED, OF_COPY)).verdict is BROKEN
    assert found(vanished(OF_COPY, CUT)).verdict is BROKEN
