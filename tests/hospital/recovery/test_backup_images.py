"""Images in the vault: each once, with its hash; an archive that shows other pixels is named."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from stacks.hospital.bugs import VARIABLE
from stacks.hospital.imaging import dicomweb
from stacks.hospital.imaging.dicomweb import DicomWebError
from stacks.hospital.log import Log
from stacks.hospital.recovery.backup_back import NotGiven, give_images_back
from stacks.hospital.recovery.backup_images import ImageCopies
from stacks.hospital.recovery.backup_places import Place
from stacks.hospital.settings import read
from tests.hospital.imaging.archives import KINDS, Archive, images, send, usable

STUDIES, EACH, SLICE = 4, 5, 64


def vault(folder: Path, archive: Archive) -> ImageCopies:
    (folder / "files").mkdir(parents=True, exist_ok=True)
    environment = {
        "SERVICE_NAME": "backup", "SERVICE_ROOM": "vault", "DATA_DIR": str(folder),
        "LINK_PACS_A_HTTP": str(archive.http), "LINK_PACS_A_DICOM": str(archive.dicom),
    }  # fmt: skip
    return ImageCopies(Place(folder, Path("/nowhere"), ()), read(environment), Log("backup"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_rotten_images_are_all_named(kind: str, tmp_path: Path) -> None:
    """Every image is copied once; bits flip in the pixels of all of them on the archive's disk,
    and each is named, by image or by study where the archive itself refuses to read it."""
    with Archive(usable(kind), tmp_path / "archive") as archive:
        sent = [one for n in range(STUDIES) for one in images(f"E{n}", EACH, f"M{n}")]
        assert send(archive, sent) == [0] * len(sent)
        copies = vault(tmp_path / "vault", archive)
        assert copies.take("pacs-a") == len(sent) == 20
        assert copies.take("pacs-a") == 0
        assert copies.check() == (20, [])
        assert copies.compare() == ({"pacs-a images": 20}, [], [])
        again = vault(tmp_path / "vault", archive)
        assert again.all == copies.all, "a vault that starts again knows its images"
        archive.end(signal.SIGTERM)  # what it keeps in memory would hide its disk
        for one in sent:
            _rot(archive.folder, one.data)
        archive.start()
        _, damages, unread = again.compare()
        assert unread == []
        told = " ".join(damages)
        missed = [
            one.sop_uid for one in again.all.values()
            if one.sop_uid not in told and f"study {one.study_uid}" not in told
        ]  # fmt: skip
        assert missed == []
        assert again.check() == (20, []), "the copies themselves are as they were"
        kept = tmp_path / "vault" / "files" / "images" / f"{sent[0].sop_uid}.dcm"
        _flip(kept, 5_000)
        assert len(again.check()[1]) == 1


@pytest.mark.slow
def test_a_lost_archive_is_restored_image_by_image(tmp_path: Path) -> None:
    """Both archives are gone: every image that was there in the last round comes back with its
    pixels; what came after it does not, and a file that rotted in the vault is named."""
    with Archive("archive", tmp_path / "archive") as archive:
        sent = [one for n in range(STUDIES) for one in images(f"E{n}", EACH, f"M{n}")]
        assert send(archive, sent) == [0] * len(sent)
        copies = vault(tmp_path / "vault", archive)
        before = time.time()
        with pytest.raises(LookupError, match="no archive was read"):
            copies.restore(clean(tmp_path), before)
        assert copies.take("pacs-a") == len(sent)
        taken = time.time()
        later = images("late", EACH, "M9")
        assert send(archive, later) == [0] * EACH
    again = vault(tmp_path / "vault", archive)
    found = again.restore(clean(tmp_path), time.time())
    assert (found.files, found.images, found.troubles) == (20, 20, [])
    assert (found.archive, before <= found.at <= taken) == ("pacs-a", True)
    shown = {one.key: one for one in found.records if one.kind == "instance"}
    assert set(shown) == {one.sop_uid for one in sent}
    assert {one.digest for one in shown.values()} == {one.digest for one in copies.all.values()}
    assert [one.version for one in found.records if one.kind == "study"] == [EACH] * STUDIES
    _flip(tmp_path / "vault" / "files" / "images" / f"{sent[3].sop_uid}.dcm", 5_000)
    (tmp_path / "vault" / "files" / "images" / f"{sent[4].sop_uid}.dcm").unlink()
    found = again.restore(clean(tmp_path), time.time())
    assert (found.files, found.images, len(found.troubles)) == (19, 20, 2)
    assert {one for one in (sent[3].sop_uid, sent[4].sop_uid) if one in str(found.troubles)} == {
        sent[3].sop_uid, sent[4].sop_uid,
    }  # fmt: skip


@pytest.mark.slow
def test_a_catalogue_without_files_restores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted defect: every image is entered, each study's first only is kept."""
    with Archive("archive", tmp_path / "archive") as archive:
        sent = [one for n in range(STUDIES) for one in images(f"E{n}", EACH, f"M{n}")]
        send(archive, sent)
        monkeypatch.setenv(VARIABLE, "backup-skips-images")
        copies = vault(tmp_path / "vault", archive)
        assert copies.take("pacs-a") == len(sent)
    found = copies.restore(clean(tmp_path), time.time())
    assert (found.files, found.images, len(found.troubles)) == (STUDIES, 20, 20 - STUDIES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_lost_everything_gets_its_images_back(kind: str, tmp_path: Path) -> None:
    """Its disk is gone for good and it begins empty: the vault stores every image that it had in
    the last round, with the same pixels; missing is exactly what came after that round. A second
    time there is nothing to send, and what rotted in the vault is left out and named."""
    sent = [one for n in range(STUDIES) for one in images(f"E{n}", EACH, f"M{n}")]
    later = images("late", EACH, "M9")
    archive = Archive(usable(kind), tmp_path / "archive")
    with archive:
        assert send(archive, sent) == [0] * len(sent)
        copies = vault(tmp_path / "vault", archive)
        copies.take("pacs-a")
        assert send(archive, later) == [0] * EACH
    shutil.rmtree(tmp_path / "archive")
    _flip(tmp_path / "vault" / "files" / "images" / f"{sent[3].sop_uid}.dcm", 5_000)
    with archive:
        made = give_images_back(copies, "pacs-a")
        assert (made.answer["images"], made.answer["known"]) == (len(sent) - 1, 0)
        assert (made.answer["damaged"], made.answer["refused"]) == (1, 0)
        assert sent[3].sop_uid in made.answer["troubles"][0]
        shown = {one.sop_uid: one for one in dicomweb.instances(archive.http)}
        there = {one.sop_uid for one in [*sent, *later]} - set(shown)
        assert there == {sent[3].sop_uid, *(one.sop_uid for one in later)}
        for one in shown.values():
            kept = copies.all[one.sop_uid]
            assert (one.digest, one.study_uid, one.patient) == (
                kept.digest, kept.study_uid, kept.patient,
            )  # fmt: skip
        again = give_images_back(copies, "pacs-a")
        assert (again.answer["images"], again.answer["known"]) == (0, len(sent) - 1)
    with pytest.raises(NotGiven, match="pacs-a did not take them"):
        give_images_back(copies, "pacs-a")
    with pytest.raises(NotGiven, match="is no archive"):
        give_images_back(copies, "pacs-b")


def clean(folder: Path) -> Path:
    """An empty place to restore to."""
    place = folder / f"scratch-{time.monotonic_ns()}"
    place.mkdir()
    return place


@pytest.mark.slow
def test_an_absent_archive_is_unread_and_not_sound(tmp_path: Path) -> None:
    """Nobody answers: what was not read is said to be unread."""
    archive = Archive("archive", tmp_path / "archive")
    copies = vault(tmp_path / "vault", archive)
    with pytest.raises(DicomWebError):
        copies.take("pacs-a")
    looked, damages, unread = copies.compare()
    assert (looked, damages, len(unread)) == ({}, [], 1)


def _rot(folder: Path, image: bytes) -> None:
    """Flip one bit of this image's pixels, wherever the archive keeps them."""
    for start in range(len(image) - 6_000, len(image) - SLICE, SLICE):
        piece = image[start : start + SLICE]
        for path in folder.rglob("*"):
            found = path.read_bytes().find(piece) if path.is_file() else -1
            if found >= 0:
                _flip(path, found + SLICE // 2)
                return
    raise AssertionError("the archive does not keep this image's pixels as they are")


def _flip(path: Path, offset: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
