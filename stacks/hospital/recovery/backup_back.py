"""Gives a copy back to the system that has lost its own for good.

    made = give_back(copies, "engine")                 # POST /restore at the engine
    made = give_images_back(images, "pacs-a")          # C-STORE of every image that it lacks

It refuses a copy that is not as it was received, and a system that cannot take one while it runs.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import msgspec

from stacks.hospital.bugs import planted
from stacks.hospital.imaging.dicomweb import DicomWebError
from stacks.hospital.imaging.instances import encode, read_part10
from stacks.hospital.log import describe
from stacks.hospital.recovery.backup_files import Copied, FileCopies, sound
from stacks.hospital.recovery.backup_images import ImageCopies
from stacks.hospital.recovery.backup_log import sha256_of
from stacks.hospital.recovery.backup_systems import system

TAKES_BACK = ("engine",)
"""Who takes a copy back while it runs. Scheduling restores from its own backup and log; the others
while they are down."""
GIVE_S = 30.0
TITLE = "BACKUP"
TROUBLES_MAX = 10


class NotGiven(RuntimeError):
    """Nothing was given back; `status` is the HTTP answer for it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Given(msgspec.Struct, frozen=True):
    """What was given back: what the system had acknowledged by `copy_at` (Unix seconds) and no
    later; `answer` is what the system itself says that it did."""

    at: float
    system: str
    copy: str
    copy_at: float
    sha256: str
    answer: dict[str, Any]


def give_back(copies: FileCopies, name: str, to: float = 0.0) -> Given:
    """The newest sound copy by `to` (Unix seconds); 0: the newest from before the system lost
    something, for what it has lost it must not be given back as the loss. Blocking; from a thread.
    Raises NotGiven.
    """
    if name not in TAKES_BACK or name not in copies.services:
        raise NotGiven(422, f"{name[:40]!r} does not take a copy back while it runs")
    found = _newest_sound(copies, name, to)
    content = copies.path(found).read_bytes()
    try:
        answer = httpx.post(
            f"http://{copies.address(name)}/restore", content=content, timeout=GIVE_S,
            headers={"X-SHA256": found.sha256, "X-Priority": "P1"},
        )  # fmt: skip
        answer.raise_for_status()
        said = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise NotGiven(503, f"{name} did not take it: {describe(error)}") from None
    return Given(time.time(), name, found.name, found.at, found.sha256, said)


def before_loss(some: Sequence[Copied], lost: Callable[[Copied, Copied], int]) -> list[Copied]:
    """The copies (oldest first) from before the last one that lacks what the one before it has;
    all, when none does. `lost(older, newer)` counts what is lacking."""
    if planted("restore-latest"):
        return list(some)
    for number in range(len(some) - 1, 0, -1):
        if lost(some[number - 1], some[number]):
            return list(some[:number])
    return list(some)


def give_images_back(images: ImageCopies, archive: str) -> Given:
    """Every image that is here and not there, stored as any sender does; one that is not as it was
    received is left out and counted. Blocking; from a thread. Raises NotGiven."""
    from stacks.hospital.imaging import association as dicom  # slow to import, and rarely needed

    where = images.dicom.get(archive)
    if where is None:
        raise NotGiven(422, f"{archive[:40]!r} is no archive that takes images from here")
    if not images.rounds:
        raise NotGiven(503, f"no archive was copied yet; {images.trouble}")
    sent, refused, damaged = 0, list[str](), list[str]()
    try:
        lacking, had = images.lacking(archive)
        with dicom.association(
            where, dicom.title_of(archive), TITLE, dicom.storage_contexts()
        ) as open_:
            for number, one in enumerate(lacking, 1):
                try:
                    encoded = encode(read_part10(images.content(one)))
                except (OSError, ValueError) as error:
                    damaged.append(describe(error))
                    continue
                status = dicom.store(open_, encoded, number)
                sent += status == 0
                refused += [f"{one.sop_uid}: {status:#06x}"] if status else []
    except (
        dicom.AssociationError, dicom.AssociationLost, DicomWebError, OSError, ValueError,
    ) as error:  # fmt: skip
        told = f"{archive} did not take them ({sent} sent): {describe(error)}"
        raise NotGiven(503, told) from None
    answer = {
        "images": sent, "known": had, "refused": len(refused), "damaged": len(damaged),
        "troubles": [*refused, *damaged][:TROUBLES_MAX],
    }  # fmt: skip
    newest = images.rounds[-1]
    return Given(time.time(), archive, newest.archive, newest.at, "", answer)


def _newest_sound(copies: FileCopies, name: str, to: float) -> Copied:
    some, wrong = list[Copied](), "there is none"
    for one in copies.of(name):
        if to and one.at > to:
            continue
        try:
            if sha256_of(copies.path(one)) == one.sha256:
                sound(copies.path(one))
                some.append(one)
            else:
                wrong = f"{one.name} is not as it was received"
        except (OSError, sqlite3.Error) as error:
            wrong = f"{one.name}: {describe(error)}"
    lost = None if to else system(name).lost
    try:
        if lost is not None:
            some = before_loss(
                some, lambda older, newer: lost(copies.path(older), copies.path(newer))
            )
    except (OSError, sqlite3.Error) as error:
        some, wrong = [], describe(error)
    if not some:
        raise NotGiven(503, f"no copy of {name} can be given back: {wrong}")
    return some[-1]
