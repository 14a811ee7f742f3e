"""Reads an archive over DICOMweb, whichever kind it is: what studies, what images, whose.

    for one in instances(Address("127.0.0.1", 8042)):
        print(one.sop_uid, one.patient, one.digest)

It refuses to guess: an answer that is no DICOMweb raises DicomWebError with one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import httpx
import msgspec

from stacks.hospital.imaging.archive_attributes import tag_of
from stacks.hospital.imaging.instances import pixel_digest, read_part10
from stacks.hospital.log import describe
from stacks.hospital.settings import Address

ANSWER_S = 10.0
PAGE_STUDIES = 200
MAX_BYTES = 256 * 1024 * 1024
"""Most bytes of one study that are read; a larger one is an error, never half read in silence."""
ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'
STORED_AT = "x-stored-at"
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


class DicomWebError(Exception):
    """The archive does not answer, refuses, or answers no DICOMweb."""


class Study(msgspec.Struct, frozen=True):
    """One study as the archive's index shows it."""

    study_uid: str
    patient: str
    accession: str
    instances: int
    modalities: tuple[str, ...] = ()


class Instance(msgspec.Struct, frozen=True):
    """One image as the archive gives it."""

    sop_uid: str
    study_uid: str
    patient: str
    """The patient under whom the archive files the study."""
    accession: str
    digest: str
    """Of the pixels in the WADO-RS bytes."""
    stored_at: float = 0.0
    """Unix seconds; 0 where the archive does not say (Orthanc)."""
    image_patient: str = ""
    """The patient whom the image itself names."""


def studies_of(body: bytes) -> list[Study]:
    """The studies in a QIDO-RS answer. Raises: DicomWebError."""
    try:
        found = msgspec.json.decode(body or b"[]", type=list[dict[str, dict[str, Any]]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DicomWebError(f"no DICOM JSON: {describe(error)}") from None
    return [
        Study(
            _first(one, "StudyInstanceUID"), _first(one, "PatientID"),
            _first(one, "AccessionNumber"), int(_first(one, "NumberOfStudyRelatedInstances") or 0),
            tuple(map(str, _values(one, "ModalitiesInStudy"))),
        )
        for one in found
    ]  # fmt: skip


def _values(one: dict[str, dict[str, Any]], name: str) -> Sequence[Any]:
    values = one.get(f"{tag_of(name):08X}", {}).get("Value", ())
    return values if isinstance(values, list) else ()


def _first(one: dict[str, dict[str, Any]], name: str) -> str:
    values = _values(one, name)
    return str(values[0]) if values else ""


def parts(content_type: str, body: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
    """Headers (lower case) and content of each part of multipart/related. Raises: DicomWebError."""
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/related") or found is None:
        raise DicomWebError(f"no multipart/related answer but {content_type[:60]!r}")
    mark = b"--" + found.group(1).encode()
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if not pieces[-1].startswith(b"--"):
        raise DicomWebError("the answer ends before its last part: it was cut")
    for piece in pieces[1:-1]:
        head, blank, content = piece.partition(b"\r\n\r\n")
        if not blank:
            raise DicomWebError("a part without headers")
        lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
        yield {name.strip().lower(): value.strip() for name, _, value in lines if name}, content


def images_of(study: Study, content_type: str, body: bytes) -> Iterator[Instance]:
    """The images in a WADO-RS answer of a study. Raises: DicomWebError."""
    for one, _ in files_of(study, content_type, body):
        yield one


def files_of(study: Study, content_type: str, body: bytes) -> Iterator[tuple[Instance, bytes]]:
    """The same with the bytes of each file. Raises: DicomWebError."""
    for headers, content in parts(content_type, body):
        try:
            dataset = read_part10(content)
            sop_uid, study_uid = str(dataset.SOPInstanceUID), str(dataset.StudyInstanceUID)
        except Exception as error:
            raise DicomWebError(f"a part is no DICOM file: {describe(error)}") from None
        yield Instance(
            sop_uid, study_uid, study.patient, study.accession, pixel_digest(dataset),
            float(headers.get(STORED_AT, "0") or 0), str(dataset.get("PatientID", "") or ""),
        ), content  # fmt: skip


def studies(where: Address, **filters: str) -> list[Study]:
    """All studies that match, e.g. PatientID="M1". Raises: DicomWebError."""
    with _client(where) as client:
        return list(_studies(client, filters))


def instances(where: Address, **filters: str) -> Iterator[Instance]:
    """Every image of the archive, study by study, digests from the images' own bytes.

    A study that vanishes between the list and its retrieval is left out. Raises: DicomWebError.
    """
    with _client(where) as client:
        for study in list(_studies(client, filters)):
            found = _get(client, f"studies/{study.study_uid}", {}, ANY_SYNTAX)
            if found is not None:
                yield from images_of(study, *found)


def files(where: Address, study: Study) -> Iterator[tuple[Instance, bytes]]:
    """Every image of one study with the bytes of its file; none when the study is gone.

    Raises: DicomWebError.
    """
    with _client(where) as client:
        found = _get(client, f"studies/{study.study_uid}", {}, ANY_SYNTAX)
        if found is not None:
            yield from files_of(study, *found)


def _client(where: Address) -> httpx.Client:
    return httpx.Client(base_url=f"http://{where}/dicom-web/", timeout=ANSWER_S)


def _studies(client: httpx.Client, filters: dict[str, str]) -> Iterable[Study]:
    seen: set[str] = set()
    offset = 0
    while True:
        asked: dict[str, str | int] = {**filters, "limit": PAGE_STUDIES, "offset": offset}
        found = _get(client, "studies", asked, "application/dicom+json")
        page = studies_of(found[1]) if found else []
        yield from (one for one in page if one.study_uid not in seen)
        seen.update(one.study_uid for one in page)
        if len(page) < PAGE_STUDIES:
            return
        offset += len(page)


def _get(
    client: httpx.Client, path: str, asked: dict[str, str | int], accept: str
) -> tuple[str, bytes] | None:
    try:
        with client.stream("GET", path, params=asked, headers={"Accept": accept}) as answer:
            if answer.status_code in (204, 404):
                return None
            if answer.status_code != 200:
                raise DicomWebError(f"{answer.url} answers {answer.status_code}")
            body = bytearray()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise DicomWebError(f"{answer.url} answers more than {MAX_BYTES} bytes")
            return answer.headers.get("content-type", ""), bytes(body)
    except httpx.HTTPError as error:
        raise DicomWebError(f"{client.base_url}{path}: {describe(error)}") from None
