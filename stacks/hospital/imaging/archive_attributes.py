"""The DICOM attributes by which the archive finds images: which level, how matched, how shown.

It refuses to invent: what an image does not carry is an empty text in its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

LEVELS = ("PATIENT", "STUDY", "SERIES", "IMAGE")
KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
"""The unique key of each level (PS3.4 C.6)."""
ATTRIBUTES = {
    "PATIENT": ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    "STUDY": (
        "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
        "StudyDescription", "ReferringPhysicianName",
    ),
    "SERIES": ("SeriesInstanceUID", "Modality", "SeriesNumber", "RequestedProcedurePriority"),
    "IMAGE": (
        "SOPInstanceUID", "SOPClassUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated",
        "NumberOfFrames",
    ),
}  # fmt: skip
"""What is kept in the index, per level; each is a column of that name."""
COUNTS = {
    "NumberOfStudyRelatedInstances": ("STUDY", "count(*)"),
    "NumberOfStudyRelatedSeries": ("STUDY", "count(DISTINCT SeriesInstanceUID)"),
    "ModalitiesInStudy": ("STUDY", "group_concat(DISTINCT Modality)"),
    "NumberOfSeriesRelatedInstances": ("SERIES", "count(*)"),
}
"""Computed attributes: level and SQL."""
COLUMNS = tuple(name for level in LEVELS for name in ATTRIBUTES[level])
_WHOLE = frozenset({"IS", "US", "UL", "SS", "SL"})


@dataclass(frozen=True, slots=True)
class _Shown:
    tag: int
    vr: str


_SHOWN = {
    name: _Shown(tag, dictionary_VR(tag))
    for name in (*COLUMNS, *COUNTS)
    if (tag := tag_for_keyword(name)) is not None
}


def values_of(dataset: Dataset) -> tuple[str, ...]:
    """The row of an image, in the order of COLUMNS."""
    return tuple(_text(dataset.get(name)) for name in COLUMNS)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip("\0 ")
    if isinstance(value, Sequence):
        return "\\".join(_text(one) for one in value)
    return str(value)


def shown_at(level: str) -> tuple[str, ...]:
    """Names of the attributes that an answer at `level` can hold: its own and those above."""
    above = LEVELS[: LEVELS.index(level) + 1]
    kept = tuple(name for one in above for name in ATTRIBUTES[one])
    return kept + tuple(name for name, (where, _) in COUNTS.items() if where == level)


def keyword(text: str) -> str:
    """The keyword of an attribute given as keyword or as 8 hex digits; itself if unknown."""
    if len(text) == 8:
        try:
            tag = int(text, 16)
        except ValueError:
            return text
        return next((name for name, one in _SHOWN.items() if one.tag == tag), text)
    return text


def vr_of(name: str) -> str:
    """The value representation of a kept attribute."""
    return _SHOWN[name].vr


def tag_of(name: str) -> int:
    """The tag of a kept or computed attribute."""
    return _SHOWN[name].tag


def as_json(found: Mapping[str, str]) -> dict[str, object]:
    """One match in the DICOM JSON model (PS3.18 F)."""
    return {f"{_SHOWN[name].tag:08X}": _json(_SHOWN[name].vr, text) for name, text in found.items()}


def _json(vr: str, text: str) -> dict[str, object]:
    if not text:
        return {"vr": vr}
    parts = text.split("\\")
    if vr == "PN":
        return {"vr": vr, "Value": [{"Alphabetic": one} for one in parts]}
    if vr in _WHOLE and all(one.lstrip("+-").isdecimal() for one in parts):
        return {"vr": vr, "Value": [int(one) for one in parts]}
    return {"vr": vr, "Value": parts}


def as_dataset(found: Mapping[str, str], asked: Sequence[int], level: str) -> Dataset:
    """One match as a C-FIND answer: the `asked` tags, the level and its unique key."""
    answer = Dataset()
    answer.SpecificCharacterSet = "ISO_IR 192"
    answer.QueryRetrieveLevel = level
    wanted = {*asked, _SHOWN[KEYS[level]].tag}
    for name, text in found.items():
        shown = _SHOWN[name]
        if shown.tag in wanted:
            value: object = text
            if shown.vr in _WHOLE and text.lstrip("+-").isdecimal():
                value = int(text)
            elif not text and shown.vr in _WHOLE:
                value = None
            answer.add_new(shown.tag, shown.vr, value)
    return answer
