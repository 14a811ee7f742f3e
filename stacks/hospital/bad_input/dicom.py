"""Attempts at a DICOM service, and its refusals in the standard's own words.

    stored    an association and one C-STORE, to an AE title of the caller's choice
    offered   an association that offers images in an encoding
    reported  an association and one N-CREATE: an examination begins

It refuses to read a broken association as an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association

from stacks.hospital.bad_input.inputs import Heard, no_answer
from stacks.hospital.bad_input.neighbours import MODALITY
from stacks.hospital.imaging.association import (
    OUT_OF_RESOURCES,
    SUCCESS,
    VERIFICATION,
    AssociationError,
    AssociationLost,
    Bounds,
    association,
    contexts,
    refused_context,
    storage_contexts,
    store,
    title_of,
)
from stacks.hospital.imaging.instances import STORAGE, Encoded, uid
from stacks.hospital.imaging.mpps import LATER as NOT_NOW
from stacks.hospital.imaging.mpps import PERFORMED_STEP
from stacks.hospital.settings import Address
from stacks.hospital.traffic.people import Person

BOUNDS = Bounds(connect_s=2.0, negotiate_s=4.0, answer_s=4.0, idle_s=10.0, stall_s=5.0)
SCANNER = "CT1"
CT = STORAGE[MODALITY]
STATUS_WORDS = {
    0xA9: "data set does not match SOP class",
    0xC0: "cannot understand",
    0xC1: "another image under this UID",
}
"""First byte of a C-STORE status → its words (PS3.4 B.2.3)."""
TRANSIENT = "A-ASSOCIATE-RJ result 2"
DUPLICATE = 0x0111
LATER = frozenset({NOT_NOW, OUT_OF_RESOURCES})


@dataclass(frozen=True, slots=True)
class Way:
    """A DICOM service and the link to it: who is called there, who calls."""

    service: str
    address: Address
    calling: str

    @property
    def called(self) -> str:
        """Its AE title."""
        return title_of(self.service)


def stored(way: Way, sent: Encoded, called: str = "") -> Heard:
    """One association with one C-STORE."""

    def send(open_: Association) -> Heard:
        return _status(store(open_, sent))

    return _associated(way, called or way.called, storage_contexts(), send)


def offered(way: Way, sent: Encoded) -> Heard:
    """One association that offers images in an encoding; they are sent if it is accepted."""

    def send(open_: Association) -> Heard:
        for one in open_.rejected_contexts:
            if one.abstract_syntax == CT:
                return Heard(refused_context(one))
        return _status(store(open_, sent))

    asked = contexts([VERIFICATION]) + contexts([CT], [sent.transfer_syntax])
    return _associated(way, way.called, asked, send)


def _associated(
    way: Way, called: str, asked: list[Any], work: Callable[[Association], Heard]
) -> Heard:
    try:
        with association(way.address, called, way.calling, asked, bounds=BOUNDS) as open_:
            return work(open_)
    except AssociationError as error:
        if error.refused and not error.terms.startswith(TRANSIENT):
            return Heard(error.terms)
        return no_answer(error.terms or str(error), maybe=False)
    except (AssociationLost, ValueError, RuntimeError) as error:
        return no_answer(str(error), maybe=True)


def _status(status: int) -> Heard:
    if status == SUCCESS:
        return Heard("C-STORE status 0000", taken=True)
    if status in LATER:
        return no_answer(f"C-STORE status {status:04X}: out of resources", maybe=False)
    words = STATUS_WORDS.get(status >> 8, "refused")
    return Heard(f"C-STORE status {status:04X}: {words}")


def reported(way: Way, study: str, accession: str, one: Person) -> Heard:
    """MPPS N-CREATE: the examination of a patient begins."""

    def send(open_: Association) -> Heard:
        step = UID(uid("step", study, one.mrn))
        answer, _ = open_.send_n_create(_report(study, accession, one), PERFORMED_STEP, step)
        if "Status" not in answer:
            return no_answer("no answer to the N-CREATE", maybe=True)
        status = int(answer.Status)
        comment = str(answer.get("ErrorComment", "") or "")
        if status in LATER:
            return no_answer(f"N-CREATE status {status:04X}: {comment}", maybe=False)
        return Heard(f"N-CREATE status {status:04X}: {comment}", taken=status == SUCCESS)

    return _associated(way, way.called, contexts([PERFORMED_STEP]), send)


def _report(study: str, accession: str, one: Person) -> Dataset:
    scheduled, found = Dataset(), Dataset()
    scheduled.StudyInstanceUID, scheduled.AccessionNumber = study, accession
    found.SpecificCharacterSet = "ISO_IR 192"
    found.ScheduledStepAttributesSequence = [scheduled]
    found.PatientName, found.PatientID = f"{one.family}^{one.given}", one.mrn
    found.PatientBirthDate = one.birth_date.replace("-", "")
    found.PerformedProcedureStepID = one.mrn[:16]
    found.PerformedStationAETitle = SCANNER
    found.PerformedProcedureStepStatus = "IN PROGRESS"
    found.Modality = MODALITY
    found.PerformedSeriesSequence = []
    return found
