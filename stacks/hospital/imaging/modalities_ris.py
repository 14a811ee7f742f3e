"""What the scanners say to radiology: worklist questions, reports of examinations (MPPS).

It refuses to guess: an order of the worklist is taken when it is the one on the request, or the
only one of this patient and modality. Reports are retried for ever, in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association

from stacks.hospital.imaging import modalities_book as book
from stacks.hospital.imaging.association import (
    PENDING,
    AssociationError,
    Bounds,
    associate,
    association,
    contexts,
)
from stacks.hospital.imaging.buffer import (
    BOUNDS,
    FIRST_PAUSE_S,
    IDLE_S,
    LONGEST_PAUSE_S,
    POLL_S,
    Route,
    Trip,
)
from stacks.hospital.imaging.buffer_threads import Desk, Duty
from stacks.hospital.imaging.instances import Examination, series_uid, uid
from stacks.hospital.log import Log

WORKLIST = "1.2.840.10008.5.1.4.31"
PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"
WORKLIST_S = 2.0
WORKLIST_BOUNDS = Bounds(connect_s=1.5, negotiate_s=1.5, answer_s=1.5, idle_s=5.0, stall_s=2.0)
DUPLICATE, NO_SUCH_STEP = 0x0111, 0x0112
FOR_GOOD = frozenset({0x0105, 0x0106, 0x0115, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121})
"""Statuses that a second attempt does not change: no such attribute, invalid value, ..."""


class Scheduled(NamedTuple):
    """An entry of the worklist, as far as the scanner needs it."""

    accession: str
    study: str
    placer: str


def worklist(route: Route, patient: str, modality: str) -> list[Scheduled]:
    """The patient's open orders for this modality. Raises: AssociationError."""
    question = Dataset()
    question.SpecificCharacterSet = "ISO_IR 192"
    question.PatientID, question.PatientName = patient, ""
    question.AccessionNumber = question.StudyInstanceUID = ""
    question.PlacerOrderNumberImagingServiceRequest = question.RequestedProcedureID = ""
    step = Dataset()
    step.Modality, step.ScheduledStationAETitle = modality, ""
    step.ScheduledProcedureStepID = ""
    question.ScheduledProcedureStepSequence = [step]
    found = []
    with association(
        route.address, route.called, route.calling, contexts([WORKLIST]), bounds=WORKLIST_BOUNDS
    ) as open_:
        for status, entry in open_.send_c_find(question, WORKLIST):
            if "Status" not in status:
                raise AssociationError(f"{route.called} did not answer the worklist question")
            if status.Status & 0xFFFE == PENDING and entry is not None:
                found.append(_scheduled(entry))
            elif status.Status != 0:
                raise AssociationError(f"{route.called} answers with {status.Status:04X}")
    return [one for one in found if one.accession and one.study]


def _scheduled(entry: Dataset) -> Scheduled:
    def text(keyword: str) -> str:
        return str(entry.get(keyword, "") or "").strip()

    placer = text("PlacerOrderNumberImagingServiceRequest")
    return Scheduled(text("AccessionNumber"), text("StudyInstanceUID"), placer)


def choose(entries: list[Scheduled], placer: str) -> Scheduled | None:
    """The order on the request, or the only one; None means manual entry."""
    if placer:
        return next((one for one in entries if one.placer == placer), None)
    return entries[0] if len(entries) == 1 else None


class Teller:
    """One thread that reports examinations to radiology from the durable list."""

    def __init__(self, route: Route, desk: Desk, log: Log) -> None:
        self.trip = Trip()
        self.duty = Duty("mpps", self._step, log, self._release)
        self._route, self._desk, self._log = route, desk, log
        self._open: Association | None = None
        self._used_at = 0.0
        self._attempt = 0

    def _step(self) -> float:
        step = self._desk.read(book.next_step)
        if step is None:
            if self._open is not None and time.monotonic() - self._used_at > IDLE_S:
                self._release()
            return POLL_S
        began_at = time.time()
        try:
            status = self._tell(self._association(), step)
            refusal = None if status in (0, DUPLICATE) else f"radiology answers {status:04X}"
            if refusal and status not in FOR_GOOD:
                raise AssociationError(refusal)
        except AssociationError as error:
            return self._failed(str(error), began_at)
        self._attempt = 0
        self._used_at = time.monotonic()
        self.trip.succeeded()
        self.trip.delivered += 1
        if refusal:
            self._log.error("report_parked", exam=step.of.examination.exam, reason=refusal)
        self._desk.write(lambda connection: book.told(connection, step.id, refusal))
        return 0.0

    def _failed(self, reason: str, began_at: float) -> float:
        self.trip.failed(reason, began_at)
        self._log.warn_once_per(10.0, "delivery_failed", destination="ris", reason=reason)
        open_, self._open = self._open, None
        if open_ is not None and open_.is_established:
            open_.abort()
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._attempt, 10))
        self._attempt += 1
        self.duty.pause(pause)
        return 0.0

    def _tell(self, open_: Association, step: book.Step) -> int:
        one = step.of.examination
        instance = uid("step", one.exam)
        if step.kind == book.CREATE:
            return _sent(lambda: open_.send_n_create(_begun(one), PERFORMED_STEP, UID(instance)))
        status = _sent(lambda: open_.send_n_set(_ended(step), PERFORMED_STEP, UID(instance)))
        if status == NO_SUCH_STEP:  # radiology was restored from a backup: tell it from the start
            status = _sent(lambda: open_.send_n_create(_begun(one), PERFORMED_STEP, UID(instance)))
            if status == 0:
                status = _sent(
                    lambda: open_.send_n_set(_ended(step), PERFORMED_STEP, UID(instance))
                )
        return status

    def _association(self) -> Association:
        if self._open is not None and not self._open.is_established:
            self._open = None
        if self._open is None:
            self.trip.associations += 1
            self._open = associate(
                self._route.address, self._route.called, self._route.calling,
                contexts([PERFORMED_STEP]), bounds=BOUNDS,
            )  # fmt: skip
        return self._open

    def _release(self) -> None:
        open_, self._open = self._open, None
        if open_ is not None and open_.is_established:
            open_.release()


def _sent(send: Callable[[], tuple[Dataset, Any]]) -> int:
    try:
        status, _ = send()
    except (ValueError, RuntimeError) as error:
        raise AssociationError(f"radiology cannot be told: {error}") from None
    if "Status" not in status:
        raise AssociationError("radiology did not answer a report")
    return int(status.Status)


def _begun(one: Examination) -> Dataset:
    at = time.gmtime(one.started_at)
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    scheduled = Dataset()
    scheduled.StudyInstanceUID = one.study_uid
    scheduled.AccessionNumber = one.accession
    scheduled.PlacerOrderNumberImagingServiceRequest = one.placer
    scheduled.RequestedProcedureID = scheduled.RequestedProcedureDescription = ""
    scheduled.ScheduledProcedureStepID = scheduled.ScheduledProcedureStepDescription = ""
    found.ScheduledStepAttributesSequence = [scheduled]
    found.PatientName = f"{one.family}^{one.given}"
    found.PatientID = one.patient
    found.PatientBirthDate = one.birth.replace("-", "")
    found.PatientSex = ""
    found.PerformedProcedureStepID = one.exam[:16]
    found.PerformedStationAETitle = book.scanner_of(one.modality)
    found.PerformedStationName = found.PerformedLocation = ""
    found.PerformedProcedureStepStartDate = time.strftime("%Y%m%d", at)
    found.PerformedProcedureStepStartTime = time.strftime("%H%M%S", at)
    found.PerformedProcedureStepStatus = "IN PROGRESS"
    found.PerformedProcedureStepEndDate = found.PerformedProcedureStepEndTime = ""
    found.Modality = one.modality
    found.StudyID = one.exam[:16]
    found.PerformedSeriesSequence = []
    return found


def _ended(step: book.Step) -> Dataset:
    at, one = time.gmtime(step.at), step.of.examination
    found = Dataset()
    found.PerformedProcedureStepStatus = "COMPLETED"
    found.PerformedProcedureStepEndDate = time.strftime("%Y%m%d", at)
    found.PerformedProcedureStepEndTime = time.strftime("%H%M%S", at)
    series = Dataset()
    series.SeriesInstanceUID = series_uid(one.exam)
    series.ProtocolName = f"{one.modality} examination"
    series.SeriesDescription = series.RetrieveAETitle = ""
    series.PerformingPhysicianName = series.OperatorsName = ""
    series.ReferencedImageSequence = []
    found.PerformedSeriesSequence = [series]
    return found
