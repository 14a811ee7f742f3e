"""The DICOMweb reader refuses what is not DICOMweb with one line, and never reads half."""

from __future__ import annotations

import pytest

from stacks.hospital.imaging import dicomweb
from stacks.hospital.imaging.dicomweb import DicomWebError, Study
from stacks.hospital.imaging.instances import decode, part10, pixel_digest
from stacks.hospital.settings import Address
from tests.hospital.imaging.archives import images
from tests.ports import free_port

KIND = 'multipart/related; type="application/dicom"; boundary="mark"'
STUDY = Study("1.2", "M1", "A1", 2)


def multipart(*contents: bytes, end: bytes = b"--mark--\r\n") -> bytes:
    head = b"--mark\r\nContent-Type: application/dicom\r\nX-Stored-At: 12.5\r\n\r\n"
    return b"".join(head + content + b"\r\n" for content in contents) + end


def test_images_are_read_from_their_own_bytes() -> None:
    """Digest and UIDs come from the image, patient and accession from the index."""
    sent = images("reader", 2, "MIMAGE")
    found = list(dicomweb.images_of(STUDY, KIND, multipart(*map(part10, sent))))
    assert [one.sop_uid for one in found] == [one.sop_uid for one in sent]
    assert [one.digest for one in found] == [pixel_digest(decode(one)) for one in sent]
    assert {(one.patient, one.image_patient, one.stored_at) for one in found} == {
        ("M1", "MIMAGE", 12.5)
    }


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html>"),
        ("multipart/related", b"--mark--"),
        (KIND, multipart(part10(images("cut", 1)[0]), end=b"")),
        (KIND, multipart(b"no dicom")),
        (KIND, b"--mark\r\nno headers\r\n--mark--\r\n"),
    ],
)
def test_what_is_no_dicomweb_is_refused(kind: str, body: bytes) -> None:
    """Another type, a cut answer, or a part that is no DICOM file raise DicomWebError."""
    with pytest.raises(DicomWebError):
        list(dicomweb.images_of(STUDY, kind, body))


@pytest.mark.parametrize("body", [b"<html>", b'{"a":1}', b"[1]", b"\xff\xfe"])
def test_a_wrong_study_list_is_refused(body: bytes) -> None:
    """A study list that is no DICOM JSON raises DicomWebError."""
    with pytest.raises(DicomWebError):
        dicomweb.studies_of(body)


def test_an_absent_archive_is_one_line() -> None:
    """Nobody listening: DicomWebError with the address in it."""
    port = free_port()
    with pytest.raises(DicomWebError, match=str(port)):
        dicomweb.studies(Address("127.0.0.1", port))
