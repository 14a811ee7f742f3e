"""Synthetic DICOM instances: the same examination always gives the same UIDs and pixels.

It refuses to look like a real patient's picture: pixels are seeded noise, names are the caller's.
"""

from __future__ import annotations

import hashlib
import random
import struct
import time
from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

UID_ROOT = "2.25"
"""The root for UIDs made of a 128-bit number (DICOM PS3.5 B.2)."""
STORAGE = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}
"""Modality → SOP class of its images."""
SIDE_PIXELS = 64
PREAMBLE = b"\0" * 128 + b"DICM"
IMPLEMENTATION_UID = f"{UID_ROOT}.{0x686F73706974616C2D6368616F73}"
RAW_EXPLICIT = str(ExplicitVRLittleEndian)


class Encoded(NamedTuple):
    """One instance as it travels: `data` is the data set as encoded, without file header."""

    sop_class: str
    sop_uid: str
    transfer_syntax: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Examination:
    """What the scanner knows of an examination; `birth` is yyyy-mm-dd or empty."""

    exam: str
    modality: str
    patient: str
    family: str = ""
    given: str = ""
    birth: str = ""
    accession: str = ""
    placer: str = ""
    priority: str = "ROUTINE"
    """STAT, HIGH or ROUTINE: goes into RequestedProcedurePriority (0040,1003)."""
    study: str = ""
    """The study UID that the worklist gave; empty: the examination's own."""
    started_at: float = 0.0
    """Unix seconds; goes into the dates of study, series and image."""

    @property
    def study_uid(self) -> str:
        """The study UID of the worklist, else the examination's own."""
        return self.study or study_uid(self.exam)


def uid(*parts: str | int) -> str:
    """A UID under 2.25 derived from `parts`: the same parts give the same UID."""
    text = "\0".join(str(part) for part in parts)
    return f"{UID_ROOT}.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def study_uid(exam: str) -> str:
    """The study UID of an examination made without the worklist."""
    return uid("study", exam)


def series_uid(exam: str) -> str:
    """The UID of an examination's one series."""
    return uid("series", exam)


def sop_uid(exam: str, number: int) -> str:
    """The SOP instance UID of an examination's image `number` (from 1)."""
    return uid("instance", exam, number)


def pixels_of(sop: str, bits: int = 16) -> bytes:
    """The pixels of an image: noise seeded by its UID, little endian."""
    return random.Random(sop).randbytes(SIDE_PIXELS * SIDE_PIXELS * bits // 8)


def instance(examination: Examination, number: int) -> Dataset:
    """Image `number` (from 1) of an examination. Raises: KeyError for an unknown modality."""
    one, bits = examination, 8 if examination.modality == "US" else 16
    at = time.gmtime(one.started_at)
    day, clock = time.strftime("%Y%m%d", at), time.strftime("%H%M%S", at)
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.ImageType = ["ORIGINAL", "PRIMARY"]
    found.SOPClassUID = STORAGE[one.modality]
    found.SOPInstanceUID = sop_uid(one.exam, number)
    found.StudyDate = found.SeriesDate = found.ContentDate = day
    found.StudyTime = found.SeriesTime = found.ContentTime = clock
    found.AccessionNumber = one.accession
    found.Modality = one.modality
    found.Manufacturer = "Mock hospital"
    found.ReferringPhysicianName = ""
    found.StudyDescription = f"{one.modality} examination"
    found.PatientName = f"{one.family}^{one.given}"
    found.PatientID = one.patient
    found.PatientBirthDate = one.birth.replace("-", "")
    found.PatientSex = ""
    found.StudyInstanceUID = one.study_uid
    found.SeriesInstanceUID = series_uid(one.exam)
    found.StudyID = one.exam[:16]
    found.SeriesNumber, found.InstanceNumber = 1, number
    found.PlacerOrderNumberImagingServiceRequest = one.placer
    found.RequestedProcedurePriority = one.priority
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.Rows = found.Columns = SIDE_PIXELS
    found.BitsAllocated = found.BitsStored = bits
    found.HighBit, found.PixelRepresentation = bits - 1, 0
    found.add_new("PixelData", "OB" if bits == 8 else "OW", pixels_of(found.SOPInstanceUID, bits))
    return found


def encode(dataset: Dataset) -> Encoded:
    """A data set as it travels, in Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    return Encoded(
        str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), RAW_EXPLICIT, buffer.getvalue()
    )


def part10(encoded: Encoded) -> bytes:
    """The instance as a DICOM file: header in front of the untouched data set (PS3.10)."""
    meta = b"".join(
        (
            struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1"),
            _uid_element(0x02, encoded.sop_class),
            _uid_element(0x03, encoded.sop_uid),
            _uid_element(0x10, encoded.transfer_syntax),
            _uid_element(0x12, IMPLEMENTATION_UID),
        )
    )
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return b"".join((PREAMBLE, length, meta, encoded.data))


def _uid_element(number: int, text: str) -> bytes:
    """An element of group 0002 with VR UI, padded to an even length (PS3.5 6.2)."""
    value = text.encode("ascii", "replace")
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, b"UI", len(value)) + value


def decode(encoded: Encoded, *, pixels: bool = True) -> Dataset:
    """The data set of an instance; without `pixels` it stops before them.

    Raises: pydicom's and other errors for malformed bytes (catch Exception).
    """
    return dcmread(BytesIO(part10(encoded)), stop_before_pixels=not pixels)


def read_part10(data: bytes, *, pixels: bool = True) -> Dataset:
    """The data set of a DICOM file. Raises: like `decode`."""
    return dcmread(BytesIO(data), stop_before_pixels=not pixels)


def pixel_digest(dataset: Dataset) -> str:
    """The first 16 hex digits of SHA-256 of the PixelData bytes; empty without pixels."""
    data = dataset.get("PixelData", None)
    return hashlib.sha256(data).hexdigest()[:16] if data else ""
