"""HL7 v2.5.1 messages of this hospital (ADT, OML, OMI, ORU, SIU, DFT, ACK) to and from values.

    payload = build(Header(...), Order(...))        message = parse(payload)
    for reply in replies(message.header, refusal=None, sender="EHR"): ...

Refuses to send or store anything, and to accept a message that lacks its identifiers (Hl7Error).
"""

from __future__ import annotations

from stacks.hospital.wire.reading import parse, parse_ack, parse_header, rescue_header
from stacks.hospital.wire.segments import Hl7Error
from stacks.hospital.wire.times import from_timestamp, to_timestamp
from stacks.hospital.wire.values import (
    ACCEPTED,
    FHIR_CLASS,
    PATIENT_CLASS,
    Ack,
    Adt,
    Appointment,
    Body,
    Charge,
    Header,
    ImagingOrder,
    Message,
    Order,
    Report,
    Value,
    new_control_id,
)
from stacks.hospital.wire.writing import build, build_ack, replies

__all__ = [
    "ACCEPTED", "FHIR_CLASS", "PATIENT_CLASS", "Ack", "Adt", "Appointment", "Body", "Charge",
    "Header", "Hl7Error", "ImagingOrder", "Message", "Order", "Report", "Value", "build",
    "build_ack", "from_timestamp", "new_control_id", "parse", "parse_ack", "parse_header",
    "replies", "rescue_header", "to_timestamp",
]  # fmt: skip
