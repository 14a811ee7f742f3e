"""HL7 v2.5.1 messages of this hospital (ADT, OML^O21, ORU^R01, ACK) to and from values.

    payload = build(Header(...), Order(...))        message = parse(payload)
    for reply in replies(message.header, refusal=None, sender="EHR"): ...

Refuses to send or store anything, and to accept a message that lacks its identifiers (Hl7Error).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stacks.hospital.wire.segments import (
    ERROR_TEXT,
    TRANSIENT_ERRORS,
    Hl7Error,
    Segment,
    Segments,
    escape,
    split_message,
)

__all__ = [
    "ACCEPTED", "Ack", "Adt", "Body", "Header", "Hl7Error", "Message", "Order", "Report", "Value",
    "build", "build_ack", "new_control_id", "parse", "parse_ack", "parse_header",
    "replies", "rescue_header",
]  # fmt: skip

ADT_EVENTS = {
    "A01": "ADT_A01", "A03": "ADT_A03", "A04": "ADT_A01", "A08": "ADT_A01", "A40": "ADT_A39",
}  # fmt: skip
PATIENT_CLASS = {"IMP": "I", "EMER": "E", "AMB": "O"}  # FHIR act code -> PV1-2
FHIR_CLASS = {letter: code for code, letter in PATIENT_CLASS.items()}
REPORT_STATUS = {"P": "preliminary", "F": "final", "C": "corrected"}
_STATUS_LETTER = {word: letter for letter, word in REPORT_STATUS.items()}
ACCEPTED = frozenset({"AA", "CA"})
ACK_CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
CRITICAL_FLAGS = frozenset({"HH", "LL"})
HEAD_BYTES = 4096
CONTROL_ID_MAX = 64  # the standard says 20; accept more, build 20


@dataclass(frozen=True, slots=True)
class Header:
    """MSH. `accept`/`application` are MSH-15/16: AL, NE, ER, SU or empty (original mode)."""

    control_id: str
    kind: str = ""  # ADT, OML, ORU, ACK
    event: str = ""  # A01, O21, R01
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


Body = Adt | Order | Report | Ack


@dataclass(frozen=True, slots=True)
class Message:
    header: Header
    body: Body


def new_control_id() -> str:
    """A fresh MSH-10: 20 characters, unique without coordination."""
    return secrets.token_hex(10)


# -- build --------------------------------------------------------------------------------------


def build(header: Header, body: Adt | Order | Report) -> bytes:
    """The message as UTF-8 bytes, without MLLP frame; kind and event follow from the body."""
    stamp = to_timestamp(header.at)
    if isinstance(body, Adt):
        kind, lines = f"ADT^{body.event}^{ADT_EVENTS[body.event]}", _adt_lines(body, stamp)
    elif isinstance(body, Order):
        kind, lines = "OML^O21^OML_O21", _order_lines(body, stamp)
    else:
        kind, lines = "ORU^R01^ORU_R01", _report_lines(body)
    return _join([_msh(header, kind, stamp), *lines])


def _msh(header: Header, kind: str, stamp: str) -> str:
    return (
        f"MSH|^~\\&|{escape(header.sender)}|HOSPITAL|{escape(header.receiver)}|HOSPITAL|{stamp}||"
        f"{kind}|{escape(header.control_id)}|P|2.5.1|||{header.accept}|{header.application}||"
        "UNICODE UTF-8"
    )


def _join(lines: Sequence[str]) -> bytes:
    return ("\r".join(lines) + "\r").encode("utf-8", "replace")


def _pid(mrn: str, family: str = "", given: str = "", birth: str = "", sex: str = "") -> str:
    return (
        f"PID|1||{escape(mrn)}^^^HOSPITAL^MR||{escape(family)}^{escape(given)}||"
        f"{escape(birth)}|{escape(sex)}"
    )


def _pv1(encounter_class: str, ward: str, visit: str) -> str:
    letter = PATIENT_CLASS.get(encounter_class, "N")
    return f"PV1|1|{letter}|{escape(ward)}" + "|" * 16 + f"{escape(visit)}^^^HOSPITAL^VN"


def _adt_lines(adt: Adt, stamp: str) -> list[str]:
    lines = [
        f"EVN|{adt.event}|{stamp}",
        _pid(adt.mrn, adt.family, adt.given, adt.birth, adt.sex),
    ]
    if adt.event == "A40":
        return [*lines, f"MRG|{escape(adt.prior_mrn)}^^^HOSPITAL^MR"]
    return [*lines, _pv1(adt.encounter_class, adt.ward, adt.visit)]


def _order_lines(order: Order, stamp: str) -> list[str]:
    placer, priority = escape(order.placer), "S" if order.stat else "R"
    lines = [_pid(order.mrn), _pv1("", order.ward, order.visit)]
    for number, test in enumerate(order.tests, 1):
        lines += [
            f"ORC|NW|{placer}||{placer}|||||{stamp}",
            f"TQ1|{number}||||||{stamp}||{priority}",
            f"OBR|{number}|{placer}||{escape(test)}^{escape(test)}^L|{priority}",
        ]
    return lines


def _report_lines(report: Report) -> list[str]:
    issued, letter = to_timestamp(report.issued_at), _STATUS_LETTER[report.status]
    placer, specimen = escape(report.placer), escape(report.specimen)
    lines = [
        _pid(report.mrn),
        f"ORC|RE|{placer}|{specimen}",
        f"OBR|1|{placer}|{specimen}|LAB^Laboratory report^L|{'S' if report.stat else 'R'}||{issued}"
        + "|" * 15
        + f"{issued}|||{letter}",
    ]
    for number, value in enumerate(report.values, 1):
        test = escape(value.test)
        lines.append(
            f"OBX|{number}|{'NM' if _is_number(value.value) else 'ST'}|{test}^{test}^L||"
            f"{escape(value.value)}|{escape(value.unit)}|{escape(value.reference)}|"
            f"{escape(value.flag)}|||{letter}|||{issued}"
        )
    lines.append(f"SPM|1|{specimen}")
    return lines


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("-").isdigit()


def build_ack(header: Header, code: str, sender: str, error: str = "", text: str = "") -> bytes:
    """An ACK for `header` with MSA-1 `code`; `error` is ERR-3 (HL7 table 0357)."""
    kind = f"ACK^{escape(header.event)}^ACK" if header.event else "ACK"
    reply = Header(
        new_control_id(), sender=sender, receiver=header.sender, accept="", application=""
    )
    now = to_timestamp(datetime.now(UTC).timestamp())
    lines = [_msh(reply, kind, now), f"MSA|{code}|{escape(header.control_id)}|{escape(text)}"]
    if error:
        lines.append(f"ERR|||{error}^{ERROR_TEXT.get(error, '')}^HL70357|E||||{escape(text)}")
    return _join(lines)


def replies(
    header: Header, refusal: Hl7Error | None, sender: str, *, application: bool = True
) -> list[bytes]:
    """The acknowledgements owed for one message: none, one or two (accept, then application).

    Enhanced mode (MSH-15/16 present): CA, or CE/CR; then AA/AE/AR when MSH-16 asks for it and
    `application` is true (an engine only accepts: it leaves the application's answer to others).
    Original mode: one AA, AE or AR. CR/AR = unsupported type, event, version, or malformed.
    """
    wrong = refusal is not None
    if refusal is None:
        letter, error, text = "A", "", ""
    else:
        letter = "R" if refusal.code in ("100", "200", "201", "202", "203") else "E"
        error, text = refusal.code, refusal.reason
    codes = []
    if not header.enhanced:
        codes.append("A" + letter)
    else:
        if _owed(header.accept, wrong):
            codes.append("C" + letter)
        if _owed(header.application, wrong) and (application or header.accept in ("", "NE")):
            codes.append("A" + letter)
    return [build_ack(header, code, sender, error, text) for code in codes]


def _owed(wish: str, wrong: bool) -> bool:
    return wish == "AL" or (wish == "ER" and wrong) or (wish == "SU" and not wrong)


# -- parse --------------------------------------------------------------------------------------


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
    if (header.kind, header.event) == ("ORU", "R01"):
        return Message(header, _report(segments))
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


def _ack(segments: Segments) -> Ack:
    msa = segments.first("MSA")
    code = msa.get(1)
    if code not in ACK_CODES:
        raise Hl7Error("103", f"MSA-1 {code[:8]!r} is not an acknowledgement code")
    errors = segments.every("ERR")
    return Ack(code, msa.get(2), msa.get(3), errors[0].get(3) if errors else "")


# -- time ---------------------------------------------------------------------------------------


def to_timestamp(unix_s: float) -> str:
    """Unix seconds as HL7 DTM in UTC, milliseconds kept."""
    moment = datetime.fromtimestamp(unix_s, UTC)
    return f"{moment:%Y%m%d%H%M%S}.{moment.microsecond // 1000:03d}+0000"


def from_timestamp(text: str) -> float:
    """HL7 DTM as Unix seconds; 0.0 when absent. Raises: Hl7Error 102."""
    if not text:
        return 0.0
    try:
        zone_at = max(text.find("+"), text.find("-"))
        stamp, zone = (text[:zone_at], text[zone_at:]) if zone_at > 0 else (text, "+0000")
        whole, _, fraction = stamp.partition(".")
        if len(whole) not in (4, 6, 8, 10, 12, 14) or not whole.isascii():
            raise ValueError
        full = whole + "00000101000000"[len(whole) :]
        moment = datetime.strptime(full + zone, "%Y%m%d%H%M%S%z")
        return moment.timestamp() + (float("0." + fraction) if fraction else 0.0)
    except (ValueError, OverflowError):
        raise Hl7Error("102", f"{text[:32]!r} is not an HL7 time") from None
