"""What a scanner reports of an examination (modality performed procedure step), as values.

It refuses what cannot be kept: no study, an unknown state, values that are too long; each refusal
is a DIMSE status with one line that says why.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from stacks.hospital.imaging.ris_matching import IN_PROGRESS, Step
from stacks.hospital.imaging.worklist import Unfit, items, text

PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"
"""The SOP class of modality performed procedure steps."""
SUCCESS = 0x0000
INVALID_VALUE, PROCESSING_FAILURE, DUPLICATE = 0x0106, 0x0110, 0x0111
NO_SUCH_STEP, INVALID_UID, MISSING, LATER = 0x0112, 0x0117, 0x0120, 0x0213
STATES = {"IN PROGRESS": IN_PROGRESS, "COMPLETED": "completed", "DISCONTINUED": "discontinued"}
COMMENT_CHARS = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


class Refused(Exception):
    """The report is not taken: DIMSE status and one line for a person."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def refusal(status: int, reason: str) -> Dataset:
    """The status of an answer, with its error comment."""
    found = Dataset()
    found.Status = status
    found.ErrorComment = reason[:COMMENT_CHARS]
    return found


def step_uid(value: object) -> str:
    """The SOP instance UID of a step. Raises: Refused."""
    return _uid(str(value or ""), "the SOP instance UID", INVALID_UID)


def begun(uid: str, report: Dataset, station: str) -> Step:
    """The content of an N-CREATE. Raises: Refused."""
    try:
        scheduled = items(report, "ScheduledStepAttributesSequence")
        if not scheduled:
            raise Refused(MISSING, "ScheduledStepAttributesSequence has no item")
        if state_of(report) != IN_PROGRESS:
            raise Refused(INVALID_VALUE, "PerformedProcedureStepStatus must begin IN PROGRESS")
        modality = text(report, "Modality", 16)
        if not modality:
            raise Refused(MISSING, "Modality is missing")
        first = scheduled[0]
        study = text(first, "StudyInstanceUID")
        if not study:
            raise Refused(MISSING, "StudyInstanceUID is missing")
        return Step(
            uid=uid,
            study=_uid(study, "StudyInstanceUID", INVALID_VALUE),
            accession=text(first, "AccessionNumber", 16),
            placer=text(first, "PlacerOrderNumberImagingServiceRequest"),
            patient=text(report, "PatientID"),
            family=text(report, "PatientName", 3 * 64).partition("^")[0],
            modality=modality,
            station=text(report, "PerformedStationAETitle", 16) or station,
        )
    except Unfit as error:
        raise Refused(INVALID_VALUE, str(error)) from None


def state_of(report: Dataset, before: str = "") -> str:
    """Where the step stands; `before` when the report does not say. Raises: Refused."""
    try:
        said = text(report, "PerformedProcedureStepStatus", 16)
    except Unfit as error:
        raise Refused(INVALID_VALUE, str(error)) from None
    if not said and before:
        return before
    if not said:
        raise Refused(MISSING, "PerformedProcedureStepStatus is missing")
    if said not in STATES:
        raise Refused(INVALID_VALUE, f"PerformedProcedureStepStatus {said!r} is not known")
    return STATES[said]


def _uid(value: str, what: str, status: int) -> str:
    if len(value) > 64 or not _UID.fullmatch(value):
        raise Refused(status, f"{what} {value[:32]!r} is not a UID")
    return value
