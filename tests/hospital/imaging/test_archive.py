"""Both kinds of archive keep what they acknowledged, and refuse nonsense in DICOM's terms."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom.uid import JPEGBaseline8Bit

from stacks.hospital.imaging import dicomweb
from stacks.hospital.imaging.association import (
    AssociationError,
    AssociationLost,
    Bounds,
    association,
    contexts,
    store,
)
from stacks.hospital.imaging.instances import STORAGE, Encoded, decode, part10, pixel_digest
from tests.hospital.imaging.archives import (
    KINDS,
    TITLE,
    Archive,
    images,
    in_background,
    send,
    send_until_lost,
    usable,
)
from tests.hospital.programs import until

BEFORE_KILL, EACH = 25, 100
TOLERATED_GAIN = 1.5


@pytest.fixture(scope="module", params=KINDS)
def pacs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    kind = usable(request.param)
    with Archive(kind, tmp_path_factory.mktemp(kind) / "data") as archive:
        yield archive
        assert "Traceback" not in archive.lines()


def kept_of(archive: Archive, **filters: str) -> dict[str, str]:
    """SOP UID → digest of what the archive gives; fails on an image that it gives twice."""
    found = list(dicomweb.instances(archive.http, **filters))
    assert len({one.sop_uid for one in found}) == len(found)
    return {one.sop_uid: one.digest for one in found}


@pytest.mark.parametrize("modality", sorted(STORAGE))
def test_images_come_back_unchanged(pacs: Archive, modality: str) -> None:
    """Every modality's image is given back with the same pixels, under its own patient."""
    sent = images(f"back-{modality}", 3, f"MBACK{modality}", modality)
    assert send(pacs, sent) == [0, 0, 0]
    found = list(dicomweb.instances(pacs.http, PatientID=f"MBACK{modality}"))
    want = {one.sop_uid: pixel_digest(decode(one)) for one in sent}
    assert {one.sop_uid: one.digest for one in found} == want
    assert {(one.patient, one.image_patient) for one in found} == {(f"MBACK{modality}",) * 2}
    assert {one.accession for one in found} == {f"Aback-{modality}"}


def test_resending_changes_nothing(pacs: Archive) -> None:
    """The same image sent again is acknowledged and kept once."""
    sent = images("again", 2, "MAGAIN")
    assert send(pacs, sent) + send(pacs, sent) == [0] * 4
    assert set(kept_of(pacs, PatientID="MAGAIN")) == {one.sop_uid for one in sent}


def test_wrong_called_title_is_rejected(pacs: Archive) -> None:
    """An association for another AE title is rejected, and the log says so in one line."""
    with pytest.raises(AssociationError) as caught:
        with association(pacs.dicom, "SOMEBODY", "CT1", contexts(list(STORAGE.values()))):
            pass
    assert caught.value.refused
    until("a line in the log", 5, lambda: "SOMEBODY" in pacs.lines())


def test_compressed_images_are_refused_at_the_association(pacs: Archive) -> None:
    """A transfer syntax that is not offered is no accepted context; nothing hangs."""
    with pytest.raises(AssociationError) as caught:
        with association(
            pacs.dicom, TITLE, "CT1", contexts([STORAGE["CT"]], [str(JPEGBaseline8Bit)])
        ):
            pass
    assert caught.value.refused


def test_nonsense_is_refused_and_service_goes_on(pacs: Archive) -> None:
    """A malformed data set gets a failure status, nothing of it is kept, the next image is."""
    good, bad = images("nonsense", 2, "MNONSENSE")
    broken = bad._replace(data=b"\x08\x00\x18\x00UI\xff\xff" + b"\x99" * 60)
    with contextlib.suppress(AssociationLost):  # Orthanc does not answer at all
        assert send(pacs, [broken], Bounds(answer_s=1.0)) != [0]
    assert send(pacs, [good]) == [0]
    assert set(kept_of(pacs, PatientID="MNONSENSE")) == {good.sop_uid}


def test_a_stream_of_garbage_harms_nobody(pacs: Archive) -> None:
    """Bytes that are no DICOM at all are hung up on; others are served meanwhile."""
    with socket.create_connection(pacs.dicom, 5) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\n\r\n" * 20)
        assert send(pacs, images("garbage", 1)) == [0]
        caller.settimeout(10)
        try:
            while caller.recv(1000):
                pass
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("kind", KINDS)
def test_kill_loses_nothing_acknowledged(kind: str, tmp_path: Path) -> None:
    """After SIGKILL in the middle of a stream every acknowledged image is there, unchanged."""
    sent = [images(f"kill{number}", EACH, f"MK{number}") for number in range(2)]
    with Archive(usable(kind), tmp_path / "data") as archive:
        kept: list[Encoded] = []
        senders = [in_background(send_until_lost, archive, one, kept) for one in sent]
        until("acknowledged images", 20, lambda: len(kept) >= BEFORE_KILL)
        archive.end(signal.SIGKILL)
        for sender in senders:
            sender.join(30)
        assert BEFORE_KILL <= len(kept) < 2 * EACH
        archive.start()
        lying = kept_of(archive)
        assert all(lying.get(one.sop_uid) == pixel_digest(decode(one)) for one in kept)
        everything = [one for study in sent for one in study]
        assert send(archive, everything) == [0] * (2 * EACH)
        assert len(kept_of(archive)) == 2 * EACH


@pytest.mark.parametrize("kind", KINDS)
def test_deliberate_stop_is_clean(kind: str, tmp_path: Path) -> None:
    """SIGTERM with an open association ends with status 0; what was stored is there afterwards."""
    with Archive(usable(kind), tmp_path / "data") as archive:
        sent = images("stop", 2)
        with association(archive.dicom, TITLE, "CT1", contexts([STORAGE["CT"]])) as open_:
            assert [store(open_, one) for one in sent] == [0, 0]
            started = time.monotonic()
            assert archive.end(signal.SIGTERM) == 0
            assert time.monotonic() - started < 6
            open_.abort()
        archive.start()
        assert len(kept_of(archive)) == 2


def test_small_messages_leave_at_once(pacs: Archive) -> None:
    """TCP_NODELAY at both ends: a sender without it is clearly slower."""
    rates = []
    for nodelay in (True, False):
        took = []
        for number in range(3):
            sent = images(f"delay-{nodelay}-{number}", 20)
            started = time.monotonic()
            assert send(pacs, sent, Bounds(nodelay=nodelay)) == [0] * 20
            took.append(time.monotonic() - started)
        rates.append(20 / min(took))  # a busy machine only adds to it
    assert rates[0] > TOLERATED_GAIN * rates[1], rates


def test_web_shows_studies_series_and_images(pacs: Archive) -> None:
    """QIDO-RS finds at each level, page by page; WADO-RS gives one image and its frame."""
    sent = images("web", 3, "MWEB")
    send(pacs, sent)
    (study,) = dicomweb.studies(pacs.http, PatientID="MWEB")
    assert (study.patient, study.accession, study.instances) == ("MWEB", "Aweb", 3)
    assert study.modalities == ("CT",)
    assert dicomweb.studies(pacs.http, AccessionNumber="Aweb") == [study]
    assert dicomweb.studies(pacs.http, StudyInstanceUID=study.study_uid) == [study]
    assert dicomweb.studies(pacs.http, PatientID="NOBODY") == []
    json = {"Accept": "application/dicom+json"}
    path = f"/dicom-web/studies/{study.study_uid}"
    (series,) = pacs.get(f"{path}/series", **json).json()
    assert len(pacs.get(f"{path}/instances", **json).json()) == 3
    assert len(pacs.get("/dicom-web/instances?limit=2&offset=0", **json).json()) == 2
    image = f"{path}/series/{series['0020000E']['Value'][0]}/instances/{sent[0].sop_uid}"
    answer = pacs.get(image, Accept=dicomweb.ANY_SYNTAX)
    ((_, content),) = dicomweb.parts(answer.headers["content-type"], answer.content)
    assert content[128:132] == part10(sent[0])[128:132]
    answer = pacs.get(
        f"{image}/frames/1", Accept='multipart/related; type="application/octet-stream"'
    )
    ((_, pixels),) = dicomweb.parts(answer.headers["content-type"], answer.content)
    assert pixels == decode(sent[0]).PixelData
    assert pacs.get("/dicom-web/studies/1.2.3", Accept=dicomweb.ANY_SYNTAX).status_code == 404


def test_web_deletes_and_uploads_nothing(pacs: Archive) -> None:
    """Over HTTP the archive is read-only."""
    url = f"http://{pacs.http}/dicom-web/studies"
    assert httpx.post(url, content=b"x").status_code in (403, 405)
    assert httpx.delete(f"{url}/1.2.3").status_code in (403, 405)
