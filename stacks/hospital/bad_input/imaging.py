"""What radiology must refuse, each over the link by which the like of it comes.

    scanner ──▶ dicom-router     a data set that nobody can read, an encoding that nobody takes
    router  ──▶ pacs-a, pacs-b   an AE title that nobody has, an encoding that nobody takes
    scanner ──▶ ris              a known study reported for a stranger
    desk    ──▶ ris              a stranger's own study filed under a neighbour's order

A stranger's own study is no refusal by itself: radiology keeps it as a task, and must file it
under nobody. This module refuses to send anything that the hospital should take.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import msgspec
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from stacks.hospital.bad_input import inputs
from stacks.hospital.bad_input.dicom import DUPLICATE, Way, offered, reported, stored
from stacks.hospital.bad_input.inputs import BadInput, Heard
from stacks.hospital.bad_input.neighbours import MODALITY, Neighbours, NoNeighbours, Ordered
from stacks.hospital.bad_input.web import Web
from stacks.hospital.imaging.instances import (
    Encoded,
    Examination,
    decode,
    encode,
    instance,
    uid,
)
from stacks.hospital.traffic.people import Person

NOISE_BYTES = 600


@dataclass(frozen=True, slots=True)
class Ways:
    """Where radiology's bad input goes in."""

    router: Way
    archives: tuple[Way, ...]
    ris: Way
    desk: Web  # radiology's, over HTTP


class Radiology:
    """Makes radiology's bad inputs; `dice` and the neighbours' prefix come from the seed."""

    def __init__(self, ways: Ways, neighbours: Neighbours, dice: Random) -> None:
        self._ways, self._neighbours, self._dice = ways, neighbours, dice

    def inputs(self, times: int, admission: Web) -> Iterator[BadInput]:
        """`times` of each sort; sets up their neighbours. Raises: NoNeighbours."""
        for number in range(times):
            yield self._image(number)
            yield self._title(number)
            yield self._syntax(number)
            one = self._neighbours.registered(admission, f"P{number}")
            yield self._patient(number, self._neighbours.ordered(self._ways.desk, one, number))

    # ------------------------------------------------------------ images

    def _of_stranger(self, sort: str, number: int) -> Encoded:
        """A sound image of somebody whom nobody knows."""
        exam = f"{self._neighbours.prefix}-{sort}{number}"
        one = self._neighbours.someone(f"{sort}{number}")
        return encode(instance(Examination(exam, MODALITY, one.mrn, one.family, one.given), 1))

    def _image(self, number: int) -> BadInput:
        sound, way = self._of_stranger("D", number), self._ways.router
        what, sent = self._spoilt(sound, number)
        return BadInput(
            inputs.IMAGE, sound.sop_uid, "", way.service, what, lambda: stored(way, sent)
        )

    def _spoilt(self, sound: Encoded, number: int) -> tuple[str, Encoded]:
        if number % 3 == 0:
            noise = self._dice.randbytes(NOISE_BYTES)
            return "an image of which the data set is noise", sound._replace(data=noise)
        changed = decode(sound)
        if number % 3 == 1:
            changed.StudyInstanceUID = ""
            return "an image that belongs to no study", encode(changed)
        changed.SOPInstanceUID = uid("another", sound.sop_uid)
        spoilt = encode(changed)._replace(sop_uid=sound.sop_uid)
        return "an image under another UID than its request names", spoilt

    def _title(self, number: int) -> BadInput:
        ways = (*self._ways.archives, self._ways.router)
        way, sound = ways[number % len(ways)], self._of_stranger("T", number)
        called = f"{way.called[:12]}_OLD"

        def attempt() -> Heard:
            return stored(way, sound, called)

        what = f"an image for {called}, an AE title that nobody has any more"
        return BadInput(inputs.TITLE, sound.sop_uid, "", way.service, what, attempt)

    def _syntax(self, number: int) -> BadInput:
        ways = (self._ways.router, *self._ways.archives)
        way, sound = ways[number % len(ways)], self._of_stranger("S", number)
        syntax = (JPEG2000Lossless, JPEGLSLossless)[number % 2]
        sent = sound._replace(transfer_syntax=str(syntax))
        what = f"images in {syntax.name}"
        return BadInput(
            inputs.SYNTAX, sound.sop_uid, "", way.service, what, lambda: offered(way, sent)
        )

    # ------------------------------------------------------------ patients

    def _patient(self, number: int, order: Ordered) -> BadInput:
        stranger = self._neighbours.someone(f"N{number}")
        _begin(self._ways.ris, order.study, order.accession, order.one)
        if number % 2 == 0:
            return BadInput(
                inputs.PATIENT, order.study, order.one.mrn, "ris",
                f"{order.one.mrn}'s study, reported for {stranger.mrn}, whom nobody knows",
                lambda: reported(self._ways.ris, order.study, order.accession, stranger),
            )  # fmt: skip
        study = uid("study", stranger.mrn)
        return BadInput(
            inputs.PATIENT, study, stranger.mrn, "ris",
            f"a study of {stranger.mrn}, whom nobody knows, for the order of {order.one.mrn}",
            lambda: self._filed(study, stranger, order.placer),
        )  # fmt: skip

    def _filed(self, study: str, stranger: Person, placer: str) -> Heard:
        """The study is reported, which radiology takes, and is to go to a neighbour's order."""
        told = reported(self._ways.ris, study, "", stranger)
        if not (told.taken or f"{DUPLICATE:04X}" in told.words):
            return told
        body = msgspec.json.encode({"placer": placer})
        return self._ways.desk.hear("POST", f"/tasks/{study}/match", body)


def _begin(way: Way, study: str, accession: str, one: Person) -> None:
    """A neighbour's examination begins, as it should. Raises: NoNeighbours."""
    heard = reported(way, study, accession, one)
    if not heard.taken:
        raise NoNeighbours(f"ris did not take the study of {one.mrn}: {heard.words}")
