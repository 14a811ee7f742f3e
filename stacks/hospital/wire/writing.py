"""Values to HL7 v2.5.1 text: ADT, OML, OMI, ORU, SIU, DFT, ACK; refuses to send anything."""

from __future__ import annotations

import time
from collections.abc import Sequence

from stacks.hospital.wire.segments import ERROR_TEXT, Hl7Error, escape
from stacks.hospital.wire.times import to_timestamp
from stacks.hospital.wire.values import (
    ADT_EVENTS,
    FILLER_STATUS,
    IMAGING_LETTER,
    PATIENT_CLASS,
    STATUS_LETTER,
    Adt,
    Appointment,
    Charge,
    Header,
    ImagingOrder,
    Order,
    Report,
    new_control_id,
)


def build(
    header: Header, body: Adt | Order | ImagingOrder | Report | Appointment | Charge
) -> bytes:
    """The message as UTF-8 bytes, without MLLP frame; kind and event follow from the body."""
    stamp = to_timestamp(header.at)
    if isinstance(body, Adt):
        kind, lines = f"ADT^{body.event}^{ADT_EVENTS[body.event]}", _adt_lines(body, stamp)
    elif isinstance(body, Order):
        kind, lines = "OML^O21^OML_O21", _order_lines(body, stamp)
    elif isinstance(body, ImagingOrder):
        kind, lines = "OMI^O23^OMI_O23", _imaging_lines(body, stamp)
    elif isinstance(body, Appointment):
        kind, lines = f"SIU^{body.event}^SIU_S12", _appointment_lines(body)
    elif isinstance(body, Charge):
        kind, lines = "DFT^P03^DFT_P03", _charge_lines(body, stamp)
    else:
        kind, lines = "ORU^R01^ORU_R01", _report_lines(body)
    return joined([msh_of(header, kind, stamp), *lines])


def msh_of(header: Header, kind: str, stamp: str) -> str:
    return (
        f"MSH|^~\\&|{escape(header.sender)}|HOSPITAL|{escape(header.receiver)}|HOSPITAL|{stamp}||"
        f"{kind}|{escape(header.control_id)}|P|2.5.1|||{header.accept}|{header.application}||"
        "UNICODE UTF-8"
    )


def joined(lines: Sequence[str]) -> bytes:
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


def _imaging_lines(order: ImagingOrder, stamp: str) -> list[str]:
    placer, letter = escape(order.placer), IMAGING_LETTER[order.priority]
    modality = escape(order.modality)
    lines = [
        _pid(order.mrn),
        _pv1("", order.ward, order.visit),
        f"ORC|NW|{placer}||{placer}|||||{stamp}",
        f"TQ1|1||||||{stamp}||{letter}",
    ]
    for number, code in enumerate(order.codes, 1):
        lines.append(f"OBR|{number}|{placer}||{escape(code)}^{escape(code)}^L|{letter}")
    # Accession, study and step are the radiology system's to give: IPC-1 to IPC-4 stay empty.
    return [*lines, f"IPC|||||{modality}^{modality}^DCM"]


def _report_lines(report: Report) -> list[str]:
    issued, letter = to_timestamp(report.issued_at), STATUS_LETTER[report.status]
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


def _appointment_lines(one: Appointment) -> list[str]:
    """SCH, patient, and one resource group: the service (AIS) at its clinic (AIL).

    No field of SIU numbers the versions of an appointment, so that ZAP-1, our own segment, does.
    """
    start, status = to_timestamp(one.at), FILLER_STATUS[one.status]
    name, service, clinic = escape(one.appointment), escape(one.service), escape(one.clinic)
    phone = "|" * 5 + escape(one.phone) if one.phone else ""
    action = {"S12": "A", "S15": "D"}.get(one.event, "U")
    reason = escape(one.decision)
    return [
        f"SCH|{name}|{name}|||{escape(one.slot)}|{reason}|||||^^^{start}"
        + "|" * 14 + f"{status}^{status}^HL70278",
        _pid(one.mrn) + phone,
        "RGS|1|U",
        f"AIS|1|{action}|{service}^{service}^L|{start}",
        f"AIL|1|{action}|{clinic}",
        f"ZAP|{one.version}",
    ]  # fmt: skip


def _charge_lines(one: Charge, stamp: str) -> list[str]:
    code = escape(one.code)
    return [
        f"EVN|P03|{stamp}",
        _pid(one.mrn),
        _pv1("", "", one.visit),
        f"FT1|1|{escape(one.charge)}||{to_timestamp(one.at)}||CG|{code}^{code}^L|||{one.quantity}",
    ]


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("-").isdigit()


def build_ack(header: Header, code: str, sender: str, error: str = "", text: str = "") -> bytes:
    """An ACK for `header` with MSA-1 `code`; `error` is ERR-3 (HL7 table 0357)."""
    kind = f"ACK^{escape(header.event)}^ACK" if header.event else "ACK"
    reply = Header(
        new_control_id(), sender=sender, receiver=header.sender, accept="", application=""
    )
    now = to_timestamp(time.time())
    lines = [msh_of(reply, kind, now), f"MSA|{code}|{escape(header.control_id)}|{escape(text)}"]
    if error:
        lines.append(f"ERR|||{error}^{ERROR_TEXT.get(error, '')}^HL70357|E||||{escape(text)}")
    return joined(lines)


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
