"""Images, pulled from the archive over DICOMweb, each once, and kept as files with their hashes.

    images = ImageCopies(place, settings, log); Face(background=[images.run])

What an archive shows later is held against what it gave then. It refuses to keep an answer that is
no DICOM, and to overwrite an image that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from stacks.hospital.bugs import planted
from stacks.hospital.imaging import dicomweb
from stacks.hospital.imaging.instances import pixel_digest, read_part10
from stacks.hospital.log import Log, describe
from stacks.hospital.records import Record
from stacks.hospital.recovery.backup_log import sha256_of
from stacks.hospital.recovery.backup_places import Place, append, keep
from stacks.hospital.settings import Address, Settings

ARCHIVES = ("pacs-a", "pacs-b")
IMAGES = "images"
EVERY_S, EVERY_FLOOR_S = 900.0, 10.0
"""Hospital seconds between two rounds; at least so many real ones."""
NOTE, ROUNDS = "images.jsonl", "rounds.jsonl"
ROUNDS_KEPT = 200
L = TypeVar("L")
_UID = re.compile(r"[0-9.]{1,64}")


class Kept(msgspec.Struct, frozen=True):
    """One image; `digest` of its pixels, `sha256` of the file; `at` in Unix seconds."""

    sop_uid: str
    study_uid: str
    patient: str
    digest: str
    sha256: str
    at: float


class Round(msgspec.Struct, frozen=True):
    """Everything that an archive showed at an instant (Unix seconds) is here."""

    archive: str
    at: float


@dataclass(frozen=True, slots=True)
class Restored:
    """What a trial restored: from which round, files compared, images in the catalogue by then."""

    archive: str
    at: float
    files: int
    images: int
    records: list[Record]
    troubles: list[str]


class ImageCopies:
    """Every image that an archive had when it was asked."""

    def __init__(self, place: Place, settings: Settings, log: Log) -> None:
        self._folder, self._log = place.files / "images", log
        self._every_s = max(EVERY_FLOOR_S, settings.real_s(EVERY_S))
        self._links: dict[str, Address] = {}
        self.dicom: dict[str, Address] = {}
        """Where archives take images; only to give back what they have lost."""
        for name in ARCHIVES:
            link = settings.optional_link(name, "http")
            if link is not None:
                self._links[name] = link
            storing = settings.optional_link(name, "dicom")
            if storing is not None:
                self.dicom[name] = storing
        self._folder.mkdir(exist_ok=True)
        self.all: dict[str, Kept] = {one.sop_uid: one for one in self._lines(NOTE, Kept)}
        self._whole: dict[str, int] = {}
        self.rounds: list[Round] = self._lines(ROUNDS, Round)
        self.trouble = ""

    @property
    def archives(self) -> tuple[str, ...]:
        """Which archives this hospital has."""
        return tuple(self._links)

    async def run(self, stop: asyncio.Event) -> None:
        """Background work: until told to stop; the mirror is asked when the archive is away."""
        while self._links and not stop.is_set():
            for name in self._links:
                try:
                    await asyncio.to_thread(self.take, name, stop)
                    self.trouble = ""
                    break
                except (dicomweb.DicomWebError, OSError) as error:
                    self.trouble = f"{name}: {describe(error)}"
                    self._log.warn_once_per(10.0, "images_not_copied", reason=self.trouble)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await stop.wait()

    def take(self, archive: str, stop: asyncio.Event | None = None) -> int:
        """Copy what is not here yet; how many. Raises DicomWebError, OSError."""
        where, new, at = self._links[archive], 0, time.time()
        for study in dicomweb.studies(where):
            if stop is not None and stop.is_set():
                return new
            if self._whole.get(study.study_uid) == study.instances:
                continue
            taken = list[Kept]()
            for one, content in dicomweb.files(where, study):
                if one.sop_uid not in self.all and _UID.fullmatch(one.sop_uid):
                    if not (taken and planted("backup-skips-images")):
                        keep(self._folder / f"{one.sop_uid}.dcm", content)
                    sha256 = hashlib.sha256(content).hexdigest()
                    taken.append(Kept(
                        one.sop_uid, one.study_uid, one.patient, one.digest, sha256, time.time()
                    ))  # fmt: skip
            self._note(taken)
            new += len(taken)
            self._whole[study.study_uid] = study.instances
        self.rounds = [*self.rounds, Round(archive, at)][-ROUNDS_KEPT:]
        keep(self._folder / ROUNDS, msgspec.json.Encoder().encode_lines(self.rounds), 0o600)
        return new

    def lacking(self, archive: str) -> tuple[list[Kept], int]:
        """(images that are here and that the archive does not show, how many it shows).

        Raises DicomWebError.
        """
        where, shown = self._links[archive], set[str]()
        for study in dicomweb.studies(where):
            shown |= {one.sop_uid for one, _ in dicomweb.files(where, study)}
        kept = list(self.all.values())
        return [one for one in kept if one.sop_uid not in shown], len(shown)

    def content(self, one: Kept) -> bytes:
        """The file of an image as it was received. Raises OSError, ValueError."""
        content = (self._folder / f"{one.sop_uid}.dcm").read_bytes()
        if hashlib.sha256(content).hexdigest() != one.sha256:
            raise ValueError(f"image {one.sop_uid} is not as it was received")
        return content

    def restore(self, folder: Path, by: float) -> Restored:
        """Restore into an empty folder what was here by that instant (Unix seconds), and read
        every image there again. Raises LookupError, OSError."""
        rounds = [one for one in self.rounds if one.at <= by]
        if not rounds:
            raise LookupError(f"no archive was read to its end by then; {self.trouble}")
        newest = rounds[-1]
        kept = [one for one in list(self.all.values()) if one.at <= by]
        records, troubles, files = list[Record](), list[str](), 0
        for one in kept:
            restored = folder / f"{one.sop_uid}.dcm"
            try:
                shutil.copyfile(self._folder / restored.name, restored)
                content = restored.read_bytes()
            except OSError as error:
                why = describe(error)
                troubles.append(f"image {one.sop_uid} is in the catalogue and not here: {why}")
                continue
            files += 1
            if hashlib.sha256(content).hexdigest() != one.sha256:
                troubles.append(f"image {one.sop_uid} is not as it was received")
            else:
                records += _read(one, content, troubles)
        records += _studies(records, kept)
        return Restored(newest.archive, newest.at, files, len(kept), records, troubles)

    def check(self) -> tuple[int, list[str]]:
        """(files read, damages) of the copies themselves."""
        damages = []
        kept = list(self.all.values())
        for one in kept:
            try:
                if sha256_of(self._folder / f"{one.sop_uid}.dcm") != one.sha256:
                    damages.append(f"images/{one.sop_uid}.dcm: is not as it was received")
            except OSError as error:
                damages.append(f"images/{one.sop_uid}.dcm: {error.strerror}")
        return len(kept), damages

    def compare(self) -> tuple[dict[str, int], list[str], list[str]]:
        """(images read by archive, damages, what could not be read) of the archives themselves."""
        looked, damages, unread = {}, list[str](), list[str]()
        for name, where in self._links.items():
            seen, wanted = set[str](), dict(self.all)
            try:
                for study in dicomweb.studies(where):
                    try:
                        for one, _ in dicomweb.files(where, study):
                            seen.add(one.sop_uid)
                            kept = wanted.get(one.sop_uid)
                            if kept is not None and kept.digest != one.digest:
                                damages.append(f"{name}: image {one.sop_uid} has other pixels")
                            if kept is not None and kept.patient != one.patient:
                                damages.append(f"{name}: image {one.sop_uid} is of another patient")
                    except dicomweb.DicomWebError as error:
                        damages.append(f"{name}: study {study.study_uid}: {describe(error)}")
            except dicomweb.DicomWebError as error:
                unread.append(f"{name}: {describe(error)}")
                continue
            looked[f"{name} images"] = len(seen)
        return looked, damages, unread

    def _note(self, taken: list[Kept]) -> None:
        if not taken:
            return
        append(self._folder / NOTE, msgspec.json.Encoder().encode_lines(taken))
        self.all.update({one.sop_uid: one for one in taken})

    def _lines(self, name: str, kind: type[L]) -> list[L]:
        """Every whole line; a torn last one is none."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self._folder / name).read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError):
                    found.append(msgspec.json.decode(line, type=kind))
        return found


def _read(one: Kept, content: bytes, troubles: list[str]) -> list[Record]:
    """As a viewer does: decode it, look at its pixels."""
    try:
        dataset = read_part10(content)
        sop_uid, digest = str(dataset.SOPInstanceUID), pixel_digest(dataset)
    except Exception as error:
        troubles.append(f"image {one.sop_uid} cannot be decoded: {describe(error)}")
        return []
    if (sop_uid, digest) != (one.sop_uid, one.digest):
        troubles.append(f"image {one.sop_uid} shows other pixels than the archive gave")
    return [Record("instance", sop_uid, one.patient, "stored", 0, digest, stored_at=one.at)]


def _studies(records: list[Record], kept: list[Kept]) -> list[Record]:
    """Each study of which an image was read; `version`: how many of its images were."""
    read = {one.key for one in records}
    number = Counter(one.study_uid for one in kept if one.sop_uid in read)
    patients = {one.study_uid: one.patient for one in kept}
    return [Record("study", uid, patients[uid], "stored", n, "") for uid, n in number.items()]
