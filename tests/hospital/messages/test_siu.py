"""Appointment notices (SIU): what is built is what is parsed, and another reader agrees."""

from __future__ import annotations

import contextlib

import hl7 as oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacks.hospital.wire.hl7 import Appointment, Header, Hl7Error, build, parse

IDENT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=12
)
FREE = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NOTICES = st.builds(
    Appointment, st.sampled_from(["S12", "S13", "S14", "S15", "S26"]), IDENT, IDENT, IDENT, IDENT,
    IDENT, st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000),
    st.sampled_from(["booked", "cancelled", "fulfilled", "noshow"]), st.integers(0, 10**12), FREE,
    FREE,
)  # fmt: skip
ONE = Appointment(
    "S15", "AP1", "M1", "consultation", "heart", "consultation-heart-1500", 1e9, "cancelled", 2,
    "+32 470 12 34 56", "crisis-1",
)  # fmt: skip
SIU = build(Header("C1", sender="SCHEDULING", at=1e9), ONE)


@given(NOTICES)
def test_a_notice_survives_the_wire(notice: Appointment) -> None:
    """Every identifier, status, version, phone and time comes back, separators included; the time
    to the millisecond."""
    message = parse(build(Header("C1", at=1e9), notice))
    assert isinstance(message.body, Appointment)
    assert message.body.at == pytest.approx(notice.at, abs=0.0011)
    assert (message.header.kind, message.header.event) == ("SIU", notice.event)
    same = {name: getattr(notice, name) for name in Appointment.__slots__ if name != "at"}
    assert {name: getattr(message.body, name) for name in same} == same


@given(NOTICES)
def test_the_hl7_package_reads_the_same(notice: Appointment) -> None:
    """An independent reader finds appointment, patient, phone, service, clinic and status where
    the standard has them."""
    message = oracle.parse(build(Header("C1", at=1e9), notice))

    def text(segment: str, field: int) -> str:
        content = message.segment(segment)[field]
        return message.unescape(str(content[0][0][0] if _has_parts(content) else content))

    assert str(message.segment("MSH")[9]) == f"SIU^{notice.event}^SIU_S12"
    assert text("SCH", 2) == notice.appointment
    assert text("SCH", 5) == notice.slot
    assert text("SCH", 6) == notice.decision
    assert text("SCH", 25).lower() in (notice.status, "complete")
    assert str(message.segment("SCH")[11][0][3]) == str(message.segment("AIS")[4])
    assert text("PID", 3) == notice.mrn
    if notice.phone:
        assert text("PID", 13) == notice.phone
    assert text("AIS", 3) == notice.service
    assert text("AIL", 3) == notice.clinic
    assert str(message.segment("ZAP")[1]) == str(notice.version)


def _has_parts(content: object) -> bool:
    return isinstance(content, oracle.Field) and isinstance(content[0], oracle.Repetition)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"SIU^S15", b"SIU^S17", "201"),
        (b"Cancelled^Cancelled", b"Overbook^Overbook", "103"),
        (b"SCH|AP1|AP1|", b"SCH|AP1||", "101"),
        (b"PID|1||M1^", b"PID|1||^", "101"),
        (b"AIS|1|D|consultation^", b"AIS|1|D|^", "101"),
        (b"AIL|1|D|heart", b"AIL|1|D|", "101"),
        (b"|20010909014640.000+0000\rAIL", b"|tomorrow\rAIL", "102"),
        (b"ZAP|2", b"ZAP|", "101"),
        (b"ZAP|2", b"ZAP|-2", "102"),
        (b"ZAP|2", b"ZAP|" + b"9" * 400, "102"),
        (b"ZAP|2", "ZAP|²".encode(), "102"),
        (b"ZAP|", b"NTE|", "100"),
    ],
)
def test_a_notice_without_its_parts_is_refused(old: bytes, new: bytes, code: str) -> None:
    """Each missing or damaged part is refused with the code of HL7 that names the trouble."""
    assert old in SIU
    with pytest.raises(Hl7Error) as caught:
        parse(SIU.replace(old, new))
    assert caught.value.code == code


@given(st.binary(max_size=60), st.integers(0, len(SIU)), st.integers(0, 60))
def test_damage_is_only_ever_hl7_error(noise: bytes, at: int, cut: int) -> None:
    """A damaged notice is a message or an Hl7Error, whatever the damage."""
    with contextlib.suppress(Hl7Error):
        parse(SIU[:at] + noise + SIU[at + cut :])
