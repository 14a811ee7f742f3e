"""The bad input of the hand-written day, all refused, and the six cases of the claim about it."""

from __future__ import annotations

from tests.claims.appointments_day import DECIDED
from tests.claims.day import BACK, Day, Entry, Row
from tests.claims.imaging_day import study_of
from tests.claims.spoils import INCONCLUSIVE, Cases, Spoil, during, thin

EACH = 6
FROM = DECIDED + 2.0
TERMS = {
    "bad.image": ("C-STORE status C000: cannot understand", "dicom-router"),
    "bad.title": (
        "A-ASSOCIATE-RJ result 1 source 1 reason 7: called AE title not recognized", "pacs-a",
    ),
    "bad.syntax": ("presentation context rejected: transfer syntaxes not supported", "pacs-b"),
    "bad.patient": ("N-CREATE status 0106: study 2.25 was begun for another patient", "ris"),
    "bad.slot": ("409 OperationOutcome conflict: slot X is gone, AP0001 has it", "scheduling"),
    "bad.cancel": ("409 OperationOutcome conflict: AP0001 is cancelled already", "scheduling"),
    "bad.message": ("CR 200 no route for ZZZ^Z99", "engine"),
}  # fmt: skip
SORTS = tuple(TERMS)


def add_bad_input(day: Day) -> None:
    """Six of each sort, aimed at the day's own studies and called-off appointments."""
    for number in range(EACH):
        for place, (kind, (reason, via)) in enumerate(TERMS.items()):
            key, mrn = f"{kind}-{number}", ""
            if kind == "bad.cancel":
                key, mrn = f"AP{number:04}", f"M{number % 40:03}"
            elif kind == "bad.patient":
                key, mrn = study_of(number), f"M{number % 40:03}"
            at = FROM + number + place / 10
            assert at > BACK
            day.ops.append(Entry(kind, "P4", at, 0.05, "refused", key=key, subject=mrn, via=via,
                                 value="what is wrong with it", reason=reason))  # fmt: skip


def lies(store: str, record: str, kind: str) -> Spoil:
    """Something of it was stored all the same."""
    return lambda day: day.rows.append(Row(store, record, day.of(kind)[0].key, "M001"))


def aimed_at(kind: str, store: str, record: str, **values: object) -> Spoil:
    """What it was aimed at is not as it was."""

    def spoil(day: Day) -> None:
        key = day.of(kind)[0].key
        (row,) = (r for r in day.stored(store, record) if r.key == key)
        for name, value in values.items():
            setattr(row, name, value)

    return spoil


def gone(day: Day) -> None:
    """The neighbour's appointment is not in scheduling any more."""
    key = day.of("bad.cancel")[0].key
    day.forget(lambda r: (r.store, r.kind, r.key) != ("scheduling", "appointment", key))


def one_sort_missing(day: Day) -> None:
    day.ops = [o for o in day.ops if o.kind != "bad.syntax"]


def in_other_words(kind: str, reason: str) -> Spoil:
    return during((kind,), 0.2, reason=reason)


BAD_INPUT: dict[str, Cases] = {
    "BI-1": Cases(
        {
            **{f"{kind} taken": during((kind,), 0.2, outcome="ok") for kind in SORTS},
            "a processing failure for an image": in_other_words("bad.image", "C-STORE status 0110"),
            "the caller rejected": in_other_words(
                "bad.title", "A-ASSOCIATE-RJ result 1 source 1 reason 3: calling AE title"
            ),
            "a user rejection": in_other_words(
                "bad.syntax", "presentation context rejected: user rejection"
            ),
            "a slot without an OperationOutcome": in_other_words(
                "bad.slot", "409 without an OperationOutcome"
            ),
            "not found": in_other_words("bad.cancel", "404 OperationOutcome not-found: nobody"),
            "no HL7 code": in_other_words("bad.message", "no route"),
            "no words at all": in_other_words("bad.image", ""),
            "an image in the archive": lies("pacs-b", "instance", "bad.image"),
            "an image in the router": lies("dicom-router", "instance", "bad.title"),
            "an image on a scanner": lies("modalities", "instance", "bad.syntax"),
            "a booking in scheduling": lies("scheduling", "appointment", "bad.slot"),
            "a booking on the website": lies("website", "appointment", "bad.slot"),
            "a study under the stranger": aimed_at("bad.patient", "ris", "match", subject="M999"),
            "a stranger's study filed": aimed_at("bad.patient", "ris", "match", status="matched"),
            "cancelled once more": aimed_at("bad.cancel", "scheduling", "appointment", version=3),
            "told once more": aimed_at("bad.cancel", "sms", "appointment", version=3),
            "counted twice": aimed_at("bad.cancel", "callcentre", "appointment", count=2),
            "booked again": aimed_at("bad.cancel", "scheduling", "appointment", status="booked"),
            "gone": gone,
        },
        (during(("bad.slot",), 0.2, outcome="unknown"), INCONCLUSIVE),
        thin(*SORTS),
    ),
}
