"""HL7 text: whatever bytes come in, the answer is segments or one documented error."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stacks.hospital.wire.hl7 import Header, Order, build, parse_header
from stacks.hospital.wire.segments import (
    Hl7Error,
    Separators,
    body_of,
    escape,
    split_message,
    unescape,
    with_control_id,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ORDER = build(Header("C1", sender="EHR", at=1.5), Order("P1", "M1", ("NA", "K"), True, "V1", "W1"))


@given(TEXT)
@example("a|b^c~d\\e&f\r\n\x0b\x1c")
def test_any_text_survives_escaping(text: str) -> None:
    """unescape(escape(t)) is t, and the escaped form contains no separator and no control."""
    escaped = escape(text)
    assert unescape(escaped) == text
    assert not set(escaped) & set("|^~&\r\n\x0b\x1c")


@given(TEXT)
@example("\\X0\\")
@example("\\Xzz\\F\\")
@example("\\H\\bold\\N\\")
def test_unescape_takes_anything(text: str) -> None:
    """Text that nobody escaped is never an error."""
    assert isinstance(unescape(text), str)
    assert isinstance(unescape(text, Separators("#", "@", "%", "\\", "$")), str)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"MSH|^~\\&|" + tail))
@example(b"MSH")
@example(b"MSH|")
@example(b"MSH|||||")
@example(b"MSHabcde")
def test_split_raises_only_its_error(payload: bytes) -> None:
    """Arbitrary bytes give segments that begin with MSH, or Hl7Error, nothing else."""
    try:
        segments = split_message(payload)
    except Hl7Error:
        return
    assert segments.msh.name == "MSH"
    for line in segments.lines:
        for number in range(len(line.fields) + 2):
            assert isinstance(line.get(number), str)


def test_other_separators_are_obeyed() -> None:
    """MSH-1 and MSH-2 of the message rule, not the usual five."""
    message = split_message(b"MSH#@%!$#LIS#####\rPID###M1@@@H%M2\rNTE##a!F!b\r")
    assert message.first("PID").get(3) == "M1"
    assert message.first("NTE").get(2) == "a#b"


def test_line_feeds_end_segments_too() -> None:
    """Senders that end segments with LF or CR LF are understood."""
    for end in (b"\n", b"\r\n"):
        assert split_message(ORDER.replace(b"\r", end)).first("PID").get(3) == "M1"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "100"),
        (b"PID|1", "100"),
        (b"MSH|^^\\&|x", "102"),
        (b"MSH|^~\\&|x\rpid|1", "100"),
        (b"MSH|^~\\&|x\rMSH|^~\\&|y", "100"),
        (b"MSH|^~\\&|\xff\xfe", "102"),
        (b"MSH|^~\\&|a\x0bb", "102"),
    ],
)
def test_what_is_wrong_has_its_code(payload: bytes, code: str) -> None:
    """Each kind of malformed text is named by its code of HL7 table 0357."""
    with pytest.raises(Hl7Error) as caught:
        split_message(payload)
    assert caught.value.code == code


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=1, max_size=20))
def test_a_copy_differs_in_its_control_id_only(control_id: str) -> None:
    """with_control_id changes MSH-10 and nothing else."""
    copy = with_control_id(ORDER, control_id)
    assert parse_header(copy).control_id == control_id
    assert body_of(copy) == body_of(ORDER)
    assert with_control_id(copy, "C1") == ORDER
