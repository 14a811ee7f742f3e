"""The claim about input that is wrong: what each system must say to it, and where nothing may lie.

It refuses to be content with any refusal: it must be the protocol's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaos.claims.refused import BadInput, Kept, RefusedInTerms
from chaos.journal.history import History
from chaos.verdict import Need, Verdict
from stacks.hospital.claims.places import (
    ARCHIVES,
    CHANNELS,
    MODALITIES,
    RIS,
    ROUTER,
    SCHEDULING,
    stands,
)

OUTCOME = r"(409|410|422) OperationOutcome \S"
_IMAGES = tuple((name, "instance") for name in (*ARCHIVES, ROUTER, MODALITIES))
_APPOINTMENTS = tuple((name, "appointment") for name in (SCHEDULING, *CHANNELS))
SORTS: Mapping[str, tuple[BadInput, ...]] = {
    ROUTER: (
        BadInput(
            "bad.image", "unreadable image", r"C-STORE status (A9|C[0-9A-F])[0-9A-F]{2}\b", _IMAGES
        ),
        BadInput(
            "bad.title", "unknown AE title",
            r"A-ASSOCIATE-RJ result 1 source 1 reason 7: called AE title not recognized", _IMAGES,
        ),
        BadInput(
            # Orthanc answers result 3 when it takes none of the transfer syntaxes, others 4.
            "bad.syntax", "refused encoding",
            r"presentation context rejected: (transfer syntaxes|abstract syntax) not supported",
            _IMAGES,
        ),
    ),
    RIS: (
        BadInput(
            "bad.patient", "study of an unknown patient", rf"N-CREATE status 0106\b|{OUTCOME}",
            kept=(Kept(RIS, "match", ("scheduled", "unmatched")),),
        ),
    ),
    SCHEDULING: (
        BadInput("bad.slot", "slot that is gone", OUTCOME, _APPOINTMENTS),
        BadInput(
            "bad.cancel", "second cancellation", OUTCOME,
            kept=tuple(Kept(name, kind, ("cancelled",), 2) for name, kind in _APPOINTMENTS),
        ),
    ),
    "engine": (
        # What the engine has kept and delivered is not in the final read: its answer must do.
        BadInput("bad.message", "stray HL7 message", r"[AC][ER] \d{3}\b"),
    ),
}  # fmt: skip
"""Service that must refuse → what it must refuse, and how."""


@dataclass(frozen=True)
class BadInputRefused:
    """BI-1. Malformed images, unknown AE titles, encodings that are not taken, studies of unknown
    patients, slots that are gone, second cancellations and stray HL7 messages: taken = 0, refused
    in other terms than DICOM's, FHIR's or HL7's = 0, stored = 0, records that they were aimed at
    changed = 0 (INV/CMP; an image in any archive, an appointment in scheduling or a channel, a
    version beyond the first cancellation's). A stranger's study is kept, filed under nobody; that
    nobody beside them is harmed, IN-1 to IN-3 and IM-1 say of the same run. Minimum evidence: 30
    refusals, three of each sort whose service stands (ours). The id is ours, too: the catalogue
    has no claim on bad input. Source: K, G (patient identification, PMC7647128)."""

    need: Need = field(default=Need.full(30))
    id: str = "BI-1"
    statement: str = "Wrong input is refused, and nothing comes of it."
    each: int = 3
    window: str = "fault"

    def judge(self, history: History) -> Verdict:
        """Pure: the same history always gives the same verdict."""
        found = tuple(
            _here(one, history)
            for service, sorts in SORTS.items() if stands(history, service)
            for one in sorts
        )  # fmt: skip
        return RefusedInTerms(self.id, self.statement, self.need, found, self.each).judge(history)


def _here(one: BadInput, history: History) -> BadInput:
    """The sort with those of its places that this run's topology has."""
    return BadInput(
        one.kind, one.words, one.terms,
        tuple(place for place in one.nowhere if stands(history, place[0])),
        tuple(kept for kept in one.kept if stands(history, kept.store)),
    )  # fmt: skip
