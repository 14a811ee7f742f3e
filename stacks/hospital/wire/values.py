"""What HL7 messages of this hospital say, as values; refuses to know how they are written."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from stacks.hospital.wire.segments import TRANSIENT_ERRORS

ADT_EVENTS = {
    "A01": "ADT_A01", "A03": "ADT_A03", "A04": "ADT_A01", "A08": "ADT_A01", "A40": "ADT_A39",
}  # fmt: skip
PATIENT_CLASS = {"IMP": "I", "EMER": "E", "AMB": "O"}  # FHIR act code -> PV1-2
FHIR_CLASS = {letter: code for code, letter in PATIENT_CLASS.items()}
REPORT_STATUS = {"P": "preliminary", "F": "final", "C": "corrected"}
IMAGING_PRIORITY = {"S": "STAT", "A": "HIGH", "R": "ROUTINE"}  # TQ1-9 -> DICOM
IMAGING_LETTER = {word: letter for letter, word in IMAGING_PRIORITY.items()}
MODALITIES = frozenset({"CT", "MR", "CR", "US"})
STATUS_LETTER = {word: letter for letter, word in REPORT_STATUS.items()}
APPOINTMENT_EVENTS = frozenset({"S12", "S13", "S14", "S15", "S26"})
APPOINTMENT_STATUS = {  # SCH-25 (HL7 table 0278) -> FHIR
    "Booked": "booked", "Cancelled": "cancelled", "Complete": "fulfilled", "Noshow": "noshow",
}  # fmt: skip
FILLER_STATUS = {word: name for name, word in APPOINTMENT_STATUS.items()}
CHARGE_QUANTITY_MAX = 9_999
ACCEPTED = frozenset({"AA", "CA"})
ACK_CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
CRITICAL_FLAGS = frozenset({"HH", "LL"})
HEAD_BYTES = 4096
CONTROL_ID_MAX = 64  # the standard says 20; accept more, build 20


@dataclass(frozen=True, slots=True)
class Header:
    """MSH. `accept`/`application` are MSH-15/16: AL, NE, ER, SU or empty (original mode)."""

    control_id: str
    kind: str = ""  # ADT, OML, OMI, ORU, SIU, DFT, ACK
    event: str = ""  # A01, O21, O23, R01, S12, P03
    sender: str = ""
    receiver: str = ""
    at: float = 0.0  # Unix seconds
    accept: str = "AL"
    application: str = "NE"

    @property
    def enhanced(self) -> bool:
        return bool(self.accept or self.application)


@dataclass(frozen=True, slots=True)
class Adt:
    """A movement of a patient: event A01 A03 A04 A08, or A40 (mrn survives, prior_mrn goes)."""

    event: str
    mrn: str
    family: str = ""
    given: str = ""
    birth: str = ""  # YYYYMMDD
    sex: str = ""  # M, F, O, U
    visit: str = ""
    ward: str = ""
    encounter_class: str = ""  # FHIR: IMP, EMER, AMB; "" = no visit concerned
    prior_mrn: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """A laboratory order (OML^O21): one placer number, one or more test codes."""

    placer: str
    mrn: str
    tests: tuple[str, ...]
    stat: bool = False
    visit: str = ""
    ward: str = ""


@dataclass(frozen=True, slots=True)
class ImagingOrder:
    """An imaging order (OMI^O23): one placer number, one modality, one or more procedure codes.

    The radiology system gives accession number and study, so the message carries neither.
    """

    placer: str
    mrn: str
    modality: str
    """CT, MR, CR or US."""
    codes: tuple[str, ...]
    priority: str = "ROUTINE"
    """STAT, HIGH or ROUTINE, as DICOM says it."""
    visit: str = ""
    ward: str = ""

    @property
    def stat(self) -> bool:
        return self.priority == "STAT"


@dataclass(frozen=True, slots=True)
class Value:
    """One measured analyte (OBX); flag: "" N H L HH LL A."""

    test: str
    value: str
    unit: str = ""
    reference: str = ""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A laboratory report (ORU^R01) on one specimen; status preliminary, final or corrected."""

    specimen: str
    placer: str
    mrn: str
    status: str
    values: tuple[Value, ...]
    stat: bool = False
    issued_at: float = 0.0  # Unix seconds

    @property
    def critical(self) -> bool:
        return any(value.flag in CRITICAL_FLAGS for value in self.values)


@dataclass(frozen=True, slots=True)
class Appointment:
    """A notice about one appointment (SIU), which says all that holds after the event.

    Events: S12 booked, S13 moved, S14 changed, S15 cancelled, S26 patient did not come.
    """

    event: str
    appointment: str
    mrn: str
    service: str
    clinic: str
    slot: str
    at: float
    """When it is (or was to be): Unix seconds, to the millisecond."""
    status: str
    """booked, cancelled, fulfilled or noshow."""
    version: int
    """Grows with every event of this appointment; the larger one is the newer."""
    phone: str = ""
    """PID-13."""
    decision: str = ""
    """The decision of the crisis cell behind a cancellation, if one was."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One thing to be billed (DFT^P03, one FT1): what was done for whom, on which visit."""

    charge: str
    """FT1-2, unique: the same charge sent again is the same charge."""
    mrn: str
    visit: str
    code: str
    """What is charged, e.g. ADMISSION or STAY."""
    at: float
    """When it was done: Unix seconds, to the millisecond."""
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class Ack:
    """An acknowledgement: MSA-1, MSA-2, MSA-3 and ERR-3."""

    code: str
    control_id: str
    text: str = ""
    error: str = ""

    @property
    def accepted(self) -> bool:
        return self.code in ACCEPTED

    @property
    def transient(self) -> bool:
        """Refused, but the receiver says that the same message may pass later (ERR-3 206/207)."""
        return not self.accepted and self.error in TRANSIENT_ERRORS


Body = Adt | Order | ImagingOrder | Report | Appointment | Charge | Ack


@dataclass(frozen=True, slots=True)
class Message:
    header: Header
    body: Body


def new_control_id() -> str:
    """A fresh MSH-10: 20 characters, unique without coordination."""
    return secrets.token_hex(10)
