"""The six cases of every claim about imaging and appointments, and the ways to break it."""

from __future__ import annotations

from dataclasses import replace

from chaos.journal import events as ev
from tests.claims.appointments_day import DECIDED
from tests.claims.day import FAULT, T0, Day, Entry, Look, Row
from tests.claims.spoils import (
    BROKEN,
    HELD,
    INCONCLUSIVE,
    Cases,
    Spoil,
    again,
    change,
    during,
    looks,
    lose,
    thin,
    without_looks,
)

# ---------------------------------------------------------------- imaging


def archives_down(day: Day) -> None:
    """Both archives are killed from 41 to 55; what was made meanwhile is stored after that."""
    for name in ("pacs-a", "pacs-b"):
        fault = f"kill-{name}"
        day.extra += [
            ev.FaultBegan(t=T0 + 41, fault=fault, kind="kill", targets=(name,), story=fault),
            ev.FaultSeen(t=T0 + 41.1, fault=fault, observation="gone"),
            ev.FaultEnded(t=T0 + 55, fault=fault),
            ev.FaultGone(t=T0 + 56, fault=fault, observation="ready"),
        ]
        for row in day.stored(name, "instance"):
            row.at = 57.0 if 41 < row.at < 57 else row.at
    for row in day.stored("modalities", "instance"):
        row.at = 58.0 if 41 < row.at < 58 else row.at


def deleted_in_the_dark(day: Day) -> None:
    """The archives do not say when they stored; the scanner deleted while both were down."""
    archives_down(day)
    for name in ("pacs-a", "pacs-b"):
        for row in day.stored(name, "instance"):
            row.at = 0.0
    row = next(r for r in day.stored("modalities", "instance") if r.at == 58.0)
    row.at = 50.0


def deleted_before_stored(day: Day) -> None:
    archives_down(day)
    late = {r.key for r in day.stored("pacs-a", "instance") if r.at == 57.0}
    row = next(r for r in day.stored("modalities", "instance") if r.key in late)
    row.at = 56.0


def uncommitted(day: Day) -> None:
    day.stored("modalities", "instance")[90].status = "deleted-uncommitted"


def other_pixels(day: Day) -> None:
    day.stored("pacs-b", "instance")[90].digest = "other"


def console_forgets(day: Day) -> None:
    gone = day.stored("modalities", "study")[90]
    day.forget(lambda r: r is not gone)


def fewer_than_shown(day: Day) -> None:
    """An instance that the console had counted is nowhere any more."""
    gone = day.stored("modalities", "instance")[90].key
    day.forget(lambda r: r.key != gone)


def few_examinations(day: Day) -> None:
    kept = {f"2.25.{i:05}" for i in range(20)}
    day.forget(lambda r: r.kind != "instance" or r.key.rpartition(".")[0] in kept)
    day.ops = [o for o in day.ops if o.kind != "study.view" or o.key in kept]


def downtime(day: Day) -> list[Row]:
    keys = {r.key for r in day.stored("modalities", "study") if r.status == "downtime"}
    return [r for r in day.stored("ris", "match") if r.key in keys]


def no_match(day: Day) -> None:
    gone = downtime(day)[3]
    day.forget(lambda r: r is not gone)


def match(**values: object) -> Spoil:
    def spoil(day: Day) -> None:
        for name, value in values.items():
            setattr(downtime(day)[3], name, value)

    return spoil


def order_of_another(day: Day) -> None:
    """The RIS names the right patient, but the order is another's."""
    study = next(r for r in day.stored("modalities", "study") if r.key == downtime(day)[3].key)
    study.digest = ""
    downtime(day)[3].digest = "I0001"


def still_waiting(day: Day) -> None:
    """A person has not come to it yet, and the 24 hours are not over."""
    downtime(day)[3].status = "unmatched"


def few_downtime(day: Day) -> None:
    keys = {r.key for r in downtime(day)[20:]}
    for row in day.rows:
        if row.key in keys and row.kind == "study":
            row.status = "scheduled"


START, VIEW = ("examination.start",), ("study.view",)
IMAGING: dict[str, Cases] = {
    "IM-1": Cases(
        {
            "lost in one archive": lose("pacs-b", "instance"),
            "lost in both": lambda d: d.forget(
                lambda r: r.store not in ("pacs-a", "pacs-b") or r.key != "2.25.00100.1"
            ),
            "stored twice": again("pacs-a", "instance"),
            "other pixels": other_pixels,
            "deleted without commitment": uncommitted,
            "deleted before stored": deleted_before_stored,
            "deleted while every archive was down": deleted_in_the_dark,
            "a scanner stopped": during(START, 0.1, outcome="refused", reason="no worklist"),
            "an examination given up": during(
                ("examination.done",), 0.1, outcome="refused", reason="aborted"
            ),
            "a finished examination forgotten": console_forgets,
            "fewer than the console showed": fewer_than_shown,
        },
        (during(("examination.done",), 0.1, outcome="unknown", reason="no answer"), INCONCLUSIVE),
        few_examinations,
    ),
    "IM-2": Cases(
        {
            "not viewable": during(VIEW, 0.1, outcome="unknown", took=16.0),
            "late": during(VIEW, 0.1, took=16.0),
            "another patient's": during(VIEW, 0.1, found="M999"),
            "refused": during(VIEW, 0.1, outcome="refused", reason="no such study"),
        },
        (during(VIEW, 0.02, outcome="unknown", reason="cut short: x", took=3.0), HELD),
        thin("study.view"),
        HELD,
    ),
    "IM-3": Cases(
        {
            "forgotten": no_match,
            "another patient": match(subject="M999"),
            "another patient's order": order_of_another,
            "another order than was written down": match(digest="I9999"),
            "to nobody": match(subject=""),
            "too late": match(at=60 + 24 * 60 + 10.0),
        },
        (still_waiting, INCONCLUSIVE),
        few_downtime,
    ),
}

# ---------------------------------------------------------------- appointments


def call(at: float, word: str = "confirmed", **values: str) -> Spoil:
    """Somebody asks the call centre about an appointment that was called off."""

    def spoil(day: Day) -> None:
        day.ops.append(replace(
            Entry("appointment.ask", "P3", at, key="AP0117", subject="M037", via="callcentre",
                  answer=word, strength="200"), **values,
        ))  # fmt: skip

    return spoil


def late_word(channel: str, at: float) -> Spoil:
    """The channel hears of the calling off only at `at` (never: beyond the polls)."""
    return looks(
        "channel.word",
        lambda s: s.subject == channel and s.text == "AP0117 cancelled",
        at=at,
    )


def confirmed_again(day: Day) -> None:
    """An older booking overwrites the cancellation on one channel."""
    day.looks.append(Look("channel.word", "clinic-lists", 70.0, 1, "AP0117 confirmed"))


def in_the_end(store: str, key: str, status: str) -> Spoil:
    def spoil(day: Day) -> None:
        (row,) = (r for r in day.stored(store, "appointment") if r.key == key)
        row.status = status

    return spoil


def unpolled(start: float, end: float) -> Spoil:
    """Nobody looks at the website for a while."""

    def spoil(day: Day) -> None:
        day.looks = [
            s for s in day.looks
            if s.what != "channel.poll" or s.subject != "website" or not start < s.at < end
        ]  # fmt: skip

    return spoil


def notice(index: slice, **values: object) -> Spoil:
    """Change notices of called-off appointments."""

    def spoil(day: Day) -> None:
        rows = [r for r in day.stored("sms", "notice") if r.digest == "cancelled"]
        for row in rows[index]:
            for name, value in values.items():
                setattr(row, name, value)

    return spoil


def no_notice(day: Day) -> None:
    """The message to one patient was never made."""
    day.forget(lambda r: (r.store, r.kind, r.key) != ("sms", "notice", "AP0117"))


def few_called_off(day: Day) -> None:
    day.ops = [o for o in day.ops if o.kind != "appointment.calledoff" or o.key < "AP0050"]


def promised_twice(day: Day) -> None:
    """After a restore a slot that one patient holds is given to another: both were told so."""
    for op in day.of("appointment.book"):
        if op.key == "AK0011":
            op.answer = "inpatient-exam-north-AK0010"


def protected_called_off(day: Day) -> None:
    day.ops.append(Entry("appointment.calledoff", "P2", DECIDED, 0.0, key="AK0004",
                         subject="M004", value="D1", via="scheduling"))  # fmt: skip


def unknown_cancels(day: Day) -> None:
    """A clinic asked to cancel one; whether it did is not known, and it may have."""
    day.ops.append(Entry("appointment.cancel", "P2", 45.0, 5.0, "unknown", key="AK0004",
                         subject="M004", via="scheduling"))  # fmt: skip
    for row in day.rows:
        if row.kind == "appointment" and row.key == "AK0004":
            row.status = "cancelled"


HOLD = ("session.held",)
APPOINTMENTS: dict[str, Cases] = {
    "SC-1": Cases(
        {
            "a call confirms": call(DECIDED + 20),
            "polls confirm": late_word("website", DECIDED + 20),
            "a cancellation is overwritten": confirmed_again,
            "a call says moved": call(DECIDED + 20, "moved"),
            "a channel is wrong in the end": in_the_end("clinic-lists", "AP0117", "confirmed"),
            "scheduling is wrong in the end": in_the_end("scheduling", "AP0117", "booked"),
            "called off on the website only": in_the_end("website", "AK0004", "cancelled"),
        },
        (call(DECIDED + 20, "", outcome="unknown"), HELD),
        few_called_off,
    ),
    "SC-2": Cases(
        {
            "never tried": no_notice,
            "pending for ever": notice(slice(117, 118), status="pending"),
            "given up in silence": notice(slice(117, 118), status="given-up"),
            "too few reached": notice(slice(0, 30), status="unreachable"),
            "too late": notice(slice(0, 30), at=DECIDED + 601, status="delivered"),
        },
        (notice(slice(117, 118), at=0.0), INCONCLUSIVE),
        few_called_off,
    ),
    "SC-3": Cases(
        {
            "no task": lose("scheduling", "rebooking"),
            "two tasks": change("scheduling", "rebooking", count=2),
            "two rows": again("scheduling", "rebooking"),
            "for another patient": change("scheduling", "rebooking", subject="M999"),
            "too late": change("scheduling", "rebooking", at=DECIDED + 24 * 60 + 1),
            "double-booked": change("scheduling", "slot", count=2),
            "promised twice": promised_twice,
            "booking lost": lambda d: d.forget(
                lambda r: (r.store, r.key, r.kind) != ("scheduling", "AK0010", "appointment")
            ),
            "calling off lost": in_the_end("scheduling", "AP0117", "booked"),
        },
        (during(("appointment.book",), 0.2, outcome="unknown"), HELD),
        few_called_off,
    ),
    "PR-2": Cases(
        {
            "dialysis called off": protected_called_off,
            "cancelled without a word": in_the_end("scheduling", "AK0004", "cancelled"),
            "not held": during(HOLD, 0.1, outcome="refused", reason="unknown there"),
        },
        (unknown_cancels, HELD),
        thin("session.held"),
    ),
}
CHANNEL_SPOILS = {
    "nobody polls the website": without_looks("channel.poll"),
    "a pause between polls": unpolled(50, 60),
    "the polls stop": unpolled(DECIDED + 3, 1e9),
}
__all__ = ["APPOINTMENTS", "BROKEN", "CHANNEL_SPOILS", "FAULT", "IMAGING"]
