"""The modality worklist as DICOM data sets: what a scanner asks for, what an entry says.

It refuses a question without a scheduled procedure step (it is no worklist question), and answers
only the attributes that were asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from stacks.hospital.imaging.ris_book import Entry

TEXT_MAX = 64
UTF8 = "ISO_IR 192"


class Unfit(Exception):
    """The identifier is no worklist question; the text says why in one line."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a scanner asks: the exact keys, the keys with wildcards, and which attributes."""

    patient: str
    modality: str
    exact: tuple[tuple[str, tuple[str, ...]], ...]
    patterns: tuple[tuple[str, str], ...]
    date: str
    asked: Dataset


def text(dataset: Dataset, keyword: str, longest: int = TEXT_MAX) -> str:
    """One value as text; empty when absent. Raises: Unfit for several values or a long one."""
    value: Any = dataset.get(keyword)
    if value is None:
        return ""
    if isinstance(value, MultiValue | list | bytes | Dataset):
        raise Unfit(f"{keyword} must have one value")
    found = str(value).strip()
    if len(found) > longest or not found.isprintable():
        raise Unfit(f"{keyword} is not 1 to {longest} printable characters")
    return found


def items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; empty when absent. Raises: Unfit when it is no sequence."""
    value: Any = dataset.get(keyword)
    if value is None:
        return ()
    if not all(isinstance(one, Dataset) for one in value):
        raise Unfit(f"{keyword} is not a sequence")
    return list(value)


def question(identifier: Dataset) -> Question:
    """Read the identifier of a worklist C-FIND. Raises: Unfit."""
    steps = items(identifier, "ScheduledProcedureStepSequence")
    if len(steps) != 1:
        raise Unfit("ScheduledProcedureStepSequence with exactly one item is required")
    step = steps[0]
    exact = [
        ("accession", _several(identifier, "AccessionNumber")),
        ("study", _several(identifier, "StudyInstanceUID")),
        ("placer", _several(identifier, "PlacerOrderNumberImagingServiceRequest")),
        ("procedure", _several(identifier, "RequestedProcedureID")),
        ("procedure", _several(step, "ScheduledProcedureStepID")),
        ("station", _several(step, "ScheduledStationAETitle")),
    ]
    patient, patterns = text(identifier, "PatientID"), [("name", text(identifier, "PatientName"))]
    if "*" in patient or "?" in patient:
        patient, patterns = "", [*patterns, ("patient", patient)]
    return Question(
        patient=patient,
        modality=text(step, "Modality", 16),
        exact=tuple((name, values) for name, values in exact if values),
        patterns=tuple(patterns),
        date=text(step, "ScheduledProcedureStepStartDate", 18),
        asked=identifier,
    )


def _several(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    value: Any = dataset.get(keyword)
    if isinstance(value, MultiValue):
        return tuple(str(one).strip() for one in value)
    found = text(dataset, keyword)
    return (found,) if found and found != "*" else ()


def fits(asked: Question, one: Entry, today: str) -> bool:
    """Whether an open order answers the question; patient and modality are the book's to find."""
    has = {
        "accession": one.accession,
        "study": one.study,
        "placer": one.placer,
        "procedure": one.accession,
        "station": station(one),
        "name": name_of(one),
        "patient": one.patient,
    }
    return (
        all(has[key] in values for key, values in asked.exact)
        and all(_like(pattern, has[key]) for key, pattern in asked.patterns)
        and _on(asked.date, today)
    )


def _like(pattern: str, value: str) -> bool:
    """DICOM wildcards `*` and `?`, without regard to case; an empty pattern fits everything."""
    if not pattern:
        return True
    pattern = pattern.rstrip("^").casefold().replace("[", "[[]")
    return fnmatchcase(value.rstrip("^").casefold(), pattern)


def _on(wanted: str, day: str) -> bool:
    """A date, or a range `from-`, `-to`, `from-to`."""
    if wanted in ("", "*"):
        return True
    first, dash, last = wanted.partition("-")
    for one in (first, last):
        if one and not (one.isascii() and one.isdecimal() and len(one) == 8):
            raise Unfit("ScheduledProcedureStepStartDate is not a date or a range of dates")
    if not dash:
        return first == day
    return (not first or first <= day) and (not last or day <= last)


def name_of(one: Entry) -> str:
    """The patient's name as DICOM writes it; empty when administration has not told it yet."""
    return f"{one.family}^{one.given}" if one.family else ""


def station(one: Entry) -> str:
    """The scanner of a modality: CT1, MR1, CR1, US1."""
    return f"{one.modality}1"


def today_of(now: float) -> str:
    """The day on which an open order is due: always today, so that none falls off the list."""
    return time.strftime("%Y%m%d", time.gmtime(now))


def answer(asked: Question, one: Entry, now: float) -> Dataset:
    """The entry of an order with the attributes that were asked for."""
    found = _chosen(asked.asked, _whole(one, now))
    found.SpecificCharacterSet = UTF8
    return found


def _whole(one: Entry, now: float) -> Dataset:
    step = Dataset()
    step.Modality = one.modality
    step.ScheduledStationAETitle = station(one)
    step.ScheduledProcedureStepStartDate = today_of(now)
    same_day = today_of(one.received_at) == today_of(now)
    clock = time.strftime("%H%M%S", time.gmtime(one.received_at)) if same_day else "000000"
    step.ScheduledProcedureStepStartTime = clock
    step.ScheduledPerformingPhysicianName = ""
    step.ScheduledProcedureStepDescription = f"{one.modality} examination"
    step.ScheduledProcedureStepID = one.accession
    step.ScheduledProcedureStepStatus = "SCHEDULED"
    whole = Dataset()
    whole.ScheduledProcedureStepSequence = [step]
    whole.AccessionNumber = one.accession
    whole.StudyInstanceUID = one.study
    whole.PatientID = one.patient
    whole.PatientName = name_of(one)
    whole.PatientBirthDate = one.birth
    whole.PatientSex = one.sex if one.sex in ("M", "F", "O") else ""
    whole.ReferringPhysicianName = ""
    whole.RequestedProcedureID = one.accession
    whole.RequestedProcedureDescription = f"{one.modality} examination"
    whole.RequestedProcedurePriority = one.priority
    whole.AdmissionID = one.visit
    whole.PlacerOrderNumberImagingServiceRequest = one.placer
    whole.FillerOrderNumberImagingServiceRequest = one.accession
    return whole


def _chosen(asked: Dataset, whole: Dataset) -> Dataset:
    """Attribute by attribute what was asked for; empty where we do not know it."""
    found = Dataset()
    for element in asked:
        if element.tag.is_private or element.keyword in ("", "SpecificCharacterSet"):
            continue
        if element.tag not in whole:
            found.add_new(element.tag, element.VR, [] if element.VR == "SQ" else None)
        elif element.VR == "SQ":
            inner = whole[element.tag].value[0]
            keys = element.value[0] if element.value else Dataset()
            chosen = _chosen(keys, inner) if len(keys) else inner
            found.add_new(element.tag, "SQ", [chosen])
        else:
            found.add(whole[element.tag])
    return found
