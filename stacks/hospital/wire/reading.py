"""HL7 v2 text to values; refuses a message that lacks its identifiers, always with Hl7Error."""

from __future__ import annotations

from stacks.hospital.wire.segments import Hl7Error, Segment, Segments, split_message
from stacks.hospital.wire.times import from_timestamp
from stacks.hospital.wire.values import (
    ACK_CODES,
    ADT_EVENTS,
    APPOINTMENT_EVENTS,
    APPOINTMENT_STATUS,
    CHARGE_QUANTITY_MAX,
    CONTROL_ID_MAX,
    FHIR_CLASS,
    HEAD_BYTES,
    IMAGING_PRIORITY,
    MODALITIES,
    REPORT_STATUS,
    Ack,
    Adt,
    Appointment,
    Charge,
    Header,
    ImagingOrder,
    Message,
    Order,
    Report,
    Value,
)

VERSION_DIGITS = 15


def parse_header(payload: bytes) -> Header:
    """MSH alone, for routing and acknowledging. Raises: Hl7Error."""
    return _header(split_message(payload, header_only=True).msh)


def parse(payload: bytes) -> Message:
    """One message of a type this hospital knows. Raises: Hl7Error, and nothing else."""
    segments = split_message(payload)
    header = _header(segments.msh)
    if header.kind == "ADT":
        if header.event not in ADT_EVENTS:
            raise Hl7Error("201", f"ADT event {header.event!r} is not supported")
        return Message(header, _adt(header, segments))
    if (header.kind, header.event) == ("OML", "O21"):
        return Message(header, _order(segments))
    if (header.kind, header.event) == ("OMI", "O23"):
        return Message(header, _imaging_order(segments))
    if (header.kind, header.event) == ("ORU", "R01"):
        return Message(header, _report(segments))
    if header.kind == "SIU":
        if header.event not in APPOINTMENT_EVENTS:
            raise Hl7Error("201", f"SIU event {header.event!r} is not supported")
        return Message(header, _appointment(header, segments))
    if (header.kind, header.event) == ("DFT", "P03"):
        return Message(header, _charge(segments))
    if header.kind == "ACK":
        return Message(header, _ack(segments))
    raise Hl7Error("200", f"message type {header.kind}^{header.event} is not supported")


def parse_ack(payload: bytes) -> Ack:
    """An acknowledgement. Raises: Hl7Error."""
    return _ack(split_message(payload))


def rescue_header(payload: bytes) -> Header:
    """What can be read of the MSH of a bad message, so that its refusal finds its sender."""
    head = payload[:HEAD_BYTES].replace(b"\n", b"\r").lstrip(b"\r").partition(b"\r")[0]
    try:
        msh = split_message(head.decode("utf-8", "replace").encode(), header_only=True).msh
    except Hl7Error:
        return Header("", accept="", application="")  # original mode, MSA-2 empty
    return Header(
        msh.get(10)[:CONTROL_ID_MAX], msh.get(9), msh.get(9, 2), msh.get(3), msh.get(5), 0.0,
        msh.get(15), msh.get(16),
    )  # fmt: skip


def _header(msh: Segment) -> Header:
    control_id, version, processing = msh.get(10), msh.get(12), msh.get(11)
    if not control_id:
        raise Hl7Error("101", "MSH-10 (message control id) is empty")
    if len(control_id) > CONTROL_ID_MAX:
        raise Hl7Error("102", f"MSH-10 is longer than {CONTROL_ID_MAX} characters")
    if not msh.get(9):
        raise Hl7Error("101", "MSH-9 (message type) is empty")
    if not version.startswith("2."):
        raise Hl7Error("203", f"version {version[:16]!r} is not HL7 v2")
    if processing not in ("P", "T", "D"):
        raise Hl7Error("202", f"processing id {processing[:16]!r} is not P, T or D")
    return Header(
        control_id, msh.get(9), msh.get(9, 2), msh.get(3), msh.get(5),
        from_timestamp(msh.get(7)), msh.get(15), msh.get(16),
    )  # fmt: skip


def _required(segment: Segment, number: int, what: str) -> str:
    value = segment.get(number).strip()
    if not value:
        raise Hl7Error("101", f"{segment.name}-{number} ({what}) is empty")
    return value


def _adt(header: Header, segments: Segments) -> Adt:
    pid = segments.first("PID")
    mrn = _required(pid, 3, "patient number")
    names = (pid.get(5), pid.get(5, 2), pid.get(7), pid.get(8))
    if header.event == "A40":
        prior = _required(segments.first("MRG"), 1, "prior patient number")
        if prior == mrn:
            raise Hl7Error("204", "MRG-1 and PID-3 are the same patient")
        return Adt("A40", mrn, *names, prior_mrn=prior)
    pv1 = segments.first("PV1")
    visit = pv1.get(19).strip() if header.event == "A08" else _required(pv1, 19, "visit number")
    encounter_class = FHIR_CLASS.get(pv1.get(2), "")
    return Adt(header.event, mrn, *names, visit, pv1.get(3), encounter_class)


def _order(segments: Segments) -> Order:
    mrn = _required(segments.first("PID"), 3, "patient number")
    placer = _required(segments.first("ORC"), 2, "placer order number")
    rows = segments.every("OBR")
    if not rows:
        raise Hl7Error("100", "segment OBR is missing")
    if any(row.get(2).strip() != placer for row in rows):
        raise Hl7Error("204", "one message must not mix placer order numbers")
    tests = tuple(_required(row, 4, "test code") for row in rows)
    stat = any(row.get(5) == "S" for row in rows)
    stat = stat or any(row.get(9) == "S" for row in segments.every("TQ1"))
    visits = segments.every("PV1")
    visit, ward = (visits[0].get(19), visits[0].get(3)) if visits else ("", "")
    return Order(placer, mrn, tests, stat, visit, ward)


def _imaging_order(segments: Segments) -> ImagingOrder:
    mrn = _required(segments.first("PID"), 3, "patient number")
    placer = _required(segments.first("ORC"), 2, "placer order number")
    rows = segments.every("OBR")
    if not rows:
        raise Hl7Error("100", "segment OBR is missing")
    if any(row.get(2).strip() != placer for row in rows):
        raise Hl7Error("204", "one message must not mix placer order numbers")
    codes = tuple(_required(row, 4, "procedure code") for row in rows)
    modality = _required(segments.first("IPC"), 5, "modality")
    if modality not in MODALITIES:
        raise Hl7Error("103", f"IPC-5 (modality) {modality[:8]!r} is not CT, MR, CR or US")
    times = segments.every("TQ1")
    letter = (times[0].get(9) if times else "") or "R"
    if letter not in IMAGING_PRIORITY:
        raise Hl7Error("103", f"TQ1-9 (priority) {letter[:8]!r} is not S, A or R")
    visits = segments.every("PV1")
    visit, ward = (visits[0].get(19), visits[0].get(3)) if visits else ("", "")
    return ImagingOrder(placer, mrn, modality, codes, IMAGING_PRIORITY[letter], visit, ward)


def _report(segments: Segments) -> Report:
    mrn = _required(segments.first("PID"), 3, "patient number")
    obr = segments.first("OBR")
    status = REPORT_STATUS.get(obr.get(25))
    if status is None:
        raise Hl7Error("103", f"OBR-25 (result status) {obr.get(25)[:8]!r} is not P, F or C")
    values = tuple(
        Value(_required(row, 3, "test code"), row.get(5), row.get(6), row.get(7), row.get(8))
        for row in segments.every("OBX")
    )
    if not values:
        raise Hl7Error("100", "segment OBX is missing")
    placer, specimen = _required(obr, 2, "placer order number"), _required(obr, 3, "specimen")
    return Report(
        specimen, placer, mrn, status, values, obr.get(5) == "S", from_timestamp(obr.get(22))
    )


def _appointment(header: Header, segments: Segments) -> Appointment:
    sch, pid = segments.first("SCH"), segments.first("PID")
    status = APPOINTMENT_STATUS.get(sch.get(25))
    if status is None:
        raise Hl7Error("103", f"SCH-25 (filler status) {sch.get(25)[:12]!r} is not known")
    number = _required(segments.first("ZAP"), 1, "version of the appointment")
    if not (number.isascii() and number.isdecimal() and len(number) <= VERSION_DIGITS):
        raise Hl7Error("102", f"ZAP-1 (version of the appointment) {number[:16]!r} is no number")
    ais = segments.first("AIS")
    return Appointment(
        event=header.event,
        appointment=_required(sch, 2, "filler appointment id"),
        mrn=_required(pid, 3, "patient number"),
        service=_required(ais, 3, "service"),
        clinic=_required(segments.first("AIL"), 3, "location"),
        slot=_required(sch, 5, "schedule id"),
        at=from_timestamp(_required(ais, 4, "start")),
        status=status, version=int(number), phone=pid.get(13), decision=sch.get(6),
    )  # fmt: skip


def _charge(segments: Segments) -> Charge:
    ft1, pid = segments.first("FT1"), segments.first("PID")
    if ft1.get(6) != "CG":
        raise Hl7Error("103", f"FT1-6 (transaction type) {ft1.get(6)[:8]!r} is not CG")
    number = ft1.get(10) or "1"
    plain = number.isascii() and number.isdecimal() and len(number) <= 4
    if not plain or not 0 < int(number) <= CHARGE_QUANTITY_MAX:
        raise Hl7Error("102", f"FT1-10 (quantity) {number[:16]!r} is not 1 to 9999")
    return Charge(
        charge=_required(ft1, 2, "transaction id"),
        mrn=_required(pid, 3, "patient number"),
        visit=_required(segments.first("PV1"), 19, "visit number"),
        code=_required(ft1, 7, "transaction code"),
        at=from_timestamp(_required(ft1, 4, "transaction date")),
        quantity=int(number),
    )


def _ack(segments: Segments) -> Ack:
    msa = segments.first("MSA")
    code = msa.get(1)
    if code not in ACK_CODES:
        raise Hl7Error("103", f"MSA-1 {code[:8]!r} is not an acknowledgement code")
    errors = segments.every("ERR")
    return Ack(code, msa.get(2), msa.get(3), errors[0].get(3) if errors else "")
