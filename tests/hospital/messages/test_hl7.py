"""HL7 messages: what is built is what is parsed, and another reader agrees."""

from __future__ import annotations

import contextlib

import hl7 as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.hospital.wire.hl7 import (
    Ack,
    Adt,
    Header,
    Hl7Error,
    ImagingOrder,
    Order,
    Report,
    Value,
    build,
    build_ack,
    parse,
    parse_ack,
    parse_header,
    replies,
)
from stacks.hospital.wire.hl7 import from_timestamp as seconds_of
from stacks.hospital.wire.hl7 import to_timestamp as stamp_of

FREE = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
IDENT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=12
)
AT = st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000)
HEADERS = st.builds(
    Header, IDENT, sender=FREE, receiver=FREE, at=AT,
    accept=st.sampled_from(["", "AL", "NE"]), application=st.sampled_from(["", "AL", "NE"]),
)  # fmt: skip
VISITS = st.builds(
    Adt, st.sampled_from(["A01", "A03", "A04"]), IDENT, FREE, FREE, st.just("19700131"),
    st.sampled_from("MFU"), IDENT, FREE, st.sampled_from(["IMP", "EMER", "AMB"]),
)  # fmt: skip
MERGES = st.builds(
    lambda survivor, prior: Adt("A40", survivor, prior_mrn=prior + "x" + survivor), IDENT, IDENT
)
ORDERS = st.builds(
    Order, IDENT, IDENT, st.lists(IDENT, min_size=1, max_size=4).map(tuple), st.booleans(), IDENT,
    FREE,
)  # fmt: skip
VALUES = st.builds(Value, IDENT, FREE, FREE, FREE, st.sampled_from(["", "N", "H", "LL", "HH"]))
REPORTS = st.builds(
    Report, IDENT, IDENT, IDENT, st.sampled_from(["preliminary", "final", "corrected"]),
    st.lists(VALUES, min_size=1, max_size=5).map(tuple), st.booleans(), AT,
)  # fmt: skip
IMAGING = st.builds(
    ImagingOrder, IDENT, IDENT, st.sampled_from(["CT", "MR", "CR", "US"]),
    st.lists(IDENT, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["STAT", "HIGH", "ROUTINE"]), IDENT, FREE,
)  # fmt: skip
BODIES = VISITS | MERGES | ORDERS | IMAGING | REPORTS
ORU = build(
    Header("C1", sender="LIS", receiver="EHR", at=1e9),
    Report("S1", "P1", "M1", "final", (Value("NA", "140", "mmol/L", "135-145", "N"),), True, 1e9),
)


@given(HEADERS, BODIES)
def test_parse_gives_back_what_was_built(
    header: Header, body: Adt | Order | ImagingOrder | Report
) -> None:
    """Every identifier, name, value and time survives the wire, separators inside them included."""
    message = parse(build(header, body))
    assert message.body == body
    assert message.header.control_id == header.control_id
    assert (message.header.sender, message.header.receiver) == (header.sender, header.receiver)
    assert (message.header.accept, message.header.application) == (
        header.accept, header.application,
    )  # fmt: skip
    assert message.header.at == pytest.approx(header.at, abs=0.0011)


@given(st.binary(max_size=80), st.integers(0, len(ORU)), st.integers(0, 60))
def test_parse_raises_only_its_error(noise: bytes, at: int, cut: int) -> None:
    """A damaged report is a report or an Hl7Error, whatever the damage."""
    damaged = ORU[:at] + noise + ORU[at + cut :]
    for read in (parse, parse_header, parse_ack):
        with contextlib.suppress(Hl7Error):
            read(damaged)


@given(ORDERS | VISITS | REPORTS | IMAGING)
def test_the_hl7_package_reads_the_same(body: Adt | Order | ImagingOrder | Report) -> None:
    """An independent reader finds the patient, the placer and the type where we put them."""
    payload = build(Header("C1", sender="A", receiver="B", at=1e9), body)
    message = oracle.parse(payload)
    assert str(message.segment("MSH")[10]) == "C1"
    assert str(message.segment("MSH")[12]) == "2.5.1"
    assert message.unescape(str(message.segment("PID")[3][0][0])) == body.mrn
    if isinstance(body, Adt):
        assert str(message.segment("EVN")[1]) == body.event
        assert message.unescape(str(message.segment("PV1")[19][0][0])) == body.visit
    else:
        assert message.unescape(str(message.segment("OBR")[2])) == body.placer
    if isinstance(body, Report):
        found = [message.unescape(str(row[3][0][0])) for row in message.segments("OBX")]
        assert found == [value.test for value in body.values]


@given(AT)
def test_times_survive_to_the_millisecond(at: float) -> None:
    """Unix seconds → HL7 time → Unix seconds."""
    assert seconds_of(stamp_of(at)) == pytest.approx(at, abs=0.0011)


@pytest.mark.parametrize("text", ["2026", "202601", "20260131", "2026013123", "20260131235959.5"])
def test_short_times_are_understood(text: str) -> None:
    """DTM may stop anywhere from the year on."""
    assert seconds_of(text) > 1.7e9


@pytest.mark.parametrize("text", ["x", "20", "20261399", "2026-01-31", "20260131+99999", "2026ab"])
def test_other_times_are_refused(text: str) -> None:
    """What is not an HL7 time is Hl7Error 102."""
    with pytest.raises(Hl7Error) as caught:
        seconds_of(text)
    assert caught.value.code == "102"


def _without(field: str, number: int) -> bytes:
    rows = [row.split("|") for row in ORU.decode().split("\r")]
    for row in rows:
        if row[0] == field:
            row[number] = ""
    return "\r".join("|".join(row) for row in rows).encode()


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (_without("MSH", 9), "101"),  # fields of MSH count from the separator: 9 = MSH-10
        (_without("MSH", 8), "101"),
        (_without("MSH", 11), "203"),
        (_without("MSH", 10), "202"),
        (_without("PID", 3), "101"),
        (_without("OBR", 2), "101"),
        (_without("OBR", 3), "101"),
        (_without("OBR", 25), "103"),
        (_without("OBX", 3), "101"),
        (ORU.replace(b"ORU^R01^ORU_R01", b"MDM^T02^MDM_T02"), "200"),
        (ORU.replace(b"ORU^R01^ORU_R01", b"ADT^A99^ADT_A99"), "201"),
        (ORU.split(b"OBX")[0], "100"),
    ],
)
def test_what_is_missing_is_refused(payload: bytes, code: str) -> None:
    """A message without its identifiers, or of an unknown type, has its own error code."""
    with pytest.raises(Hl7Error) as caught:
        parse(payload)
    assert caught.value.code == code


OMI = build(Header("C1", sender="EHR", at=1e9), ImagingOrder("P1", "M1", "CT", ("CT",), "STAT"))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"|CT^CT^DCM", b"|XA^XA^DCM", "103"),
        (b"|CT^CT^DCM", b"", "101"),
        (b"IPC|", b"NTE|", "100"),
        (b"ORC|NW|P1|", b"ORC|NW||", "101"),
        (b"OBR|1|P1|", b"OBR|1|P2|", "204"),
        (b"||S\rOBR", b"||Q\rOBR", "103"),
        (b"OMI^O23", b"OMI^O24", "200"),
        (b"PID|1||M1^", b"PID|1||^", "101"),
    ],
)
def test_an_imaging_order_without_its_parts_is_refused(old: bytes, new: bytes, code: str) -> None:
    """Patient, placer number, modality and priority: each missing or unknown one has its code."""
    assert old in OMI
    with pytest.raises(Hl7Error) as caught:
        parse(OMI.replace(old, new))
    assert caught.value.code == code


def test_a_patient_is_not_merged_into_himself() -> None:
    """A40 with the same number twice is refused."""
    with pytest.raises(Hl7Error):
        parse(build(Header("C1"), Adt("A40", "M1", prior_mrn="M1")))


MALFORMED, MISSING, LATER = Hl7Error("200", "x"), Hl7Error("101", "y"), Hl7Error("207", "z")


@pytest.mark.parametrize(
    ("modes", "refusal", "application", "codes"),
    [
        (("", ""), None, True, ["AA"]),
        (("", ""), MALFORMED, True, ["AR"]),
        (("", ""), MISSING, True, ["AE"]),
        (("AL", "NE"), None, True, ["CA"]),
        (("AL", "NE"), MALFORMED, True, ["CR"]),
        (("AL", "NE"), LATER, True, ["CE"]),
        (("AL", "AL"), None, True, ["CA", "AA"]),
        (("AL", "AL"), None, False, ["CA"]),
        (("NE", "AL"), None, False, ["AA"]),
        (("ER", "NE"), None, True, []),
        (("ER", "NE"), MISSING, True, ["CE"]),
        (("SU", "ER"), None, True, ["CA"]),
        (("NE", "NE"), MISSING, True, []),
    ],
)
def test_acknowledgements_follow_the_mode(
    modes: tuple[str, str], refusal: Hl7Error | None, application: bool, codes: list[str]
) -> None:
    """Original and enhanced mode: which of AA AE AR CA CE CR is owed, and MSA-2 = MSH-10."""
    header = Header("C|1", "ADT", "A01", "GAM", "ENGINE", 1e9, *modes)
    acks = [parse_ack(one) for one in replies(header, refusal, "ENGINE", application=application)]
    assert [ack.code for ack in acks] == codes
    for ack in acks:
        assert ack.control_id == "C|1"
        assert ack.error == (refusal.code if refusal else "")
        assert ack.transient is (refusal is LATER)
        assert ack.accepted is (refusal is None)


def test_an_ack_needs_a_known_code() -> None:
    """MSA-1 outside AA AE AR CA CE CR is no acknowledgement."""
    with pytest.raises(Hl7Error):
        parse_ack(build_ack(Header("C1"), "XX", "A"))
    assert parse_ack(build_ack(Header("C1"), "AE", "A", "207", "t")) == Ack("AE", "C1", "t", "207")
