"""HL7 v2 text: separators, escapes, segments, fields; knows no message type.

The PyPI `hl7` package parses a 13-segment result in 530 µs and raises IndexError on some garbage;
this splitter takes about 10 µs and raises `Hl7Error` only. The tests use `hl7` as an independent
reader of what we build. Refuses to guess: what is not text of HL7 v2 is an `Hl7Error`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TRANSIENT_ERRORS = frozenset({"206", "207"})  # HL7 table 0357: record locked, internal error
ERROR_TEXT = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}
_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}\Z")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LINE_ENDS = re.compile(r"\r\n|\n")


class Hl7Error(Exception):
    """What is wrong with a message; the only error of this package's parsers.

    `code` is from HL7 table 0357 (see ERROR_TEXT), `reason` one line for a person.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    @property
    def transient(self) -> bool:
        """True when sending the same message again later may succeed."""
        return self.code in TRANSIENT_ERRORS


@dataclass(frozen=True, slots=True)
class Separators:
    """MSH-1 and MSH-2: the five characters that structure a message."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


STANDARD = Separators()
_ESCAPES = str.maketrans(
    {
        "\\": "\\E\\",
        "|": "\\F\\",
        "^": "\\S\\",
        "~": "\\R\\",
        "&": "\\T\\",
        "\r": "\\X0D\\",
        "\n": "\\X0A\\",
        **{chr(code): f"\\X{code:02X}\\" for code in range(32) if code not in (10, 13)},
    }
)


def escape(text: str) -> str:
    """One value as it may stand in a field written with the standard separators."""
    if text.isalnum():
        return text
    return text.translate(_ESCAPES)


def unescape(text: str, separators: Separators = STANDARD) -> str:
    """The value behind a field's text; unknown escape sequences are kept as they are."""
    mark = separators.escape
    if mark not in text:
        return text
    plain = {
        "F": separators.field,
        "S": separators.component,
        "R": separators.repetition,
        "E": separators.escape,
        "T": separators.subcomponent,
    }
    parts = text.split(mark)
    out = [parts[0]]
    index = 1
    while index < len(parts):
        code = parts[index]
        value = plain.get(code)
        if value is None and code[:1] == "X":
            value = _from_hex(code[1:])
        if index == len(parts) - 1:
            out.append(mark + code)  # unterminated: leave it visible
            break
        out.append(mark + code + mark if value is None else value)
        out.append(parts[index + 1])
        index += 2
    return "".join(out)


def _from_hex(digits: str) -> str | None:
    try:
        return bytes.fromhex(digits).decode("utf-8")
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Segment:
    """One line of a message; fields are numbered as in the standard (MSH-1 is the separator)."""

    name: str
    fields: list[str]
    separators: Separators

    def raw(self, number: int) -> str:
        """Text of field `number` as sent; empty when absent."""
        return self.fields[number] if 0 < number < len(self.fields) else ""

    def get(self, number: int, component: int = 1) -> str:
        """Unescaped component (from 1) of the first repetition of field `number`; "" if absent."""
        text = self.raw(number)
        if not text:
            return ""
        seps = self.separators
        parts = text.split(seps.repetition, 1)[0].split(seps.component)
        if component > len(parts):
            return ""
        return unescape(parts[component - 1].split(seps.subcomponent, 1)[0], seps)


@dataclass(frozen=True, slots=True)
class Segments:
    """All lines of one message, in order; the first is MSH."""

    lines: list[Segment] = field(default_factory=list)

    @property
    def msh(self) -> Segment:
        return self.lines[0]

    def first(self, name: str) -> Segment:
        """First segment called `name`. Raises: Hl7Error 100 when there is none."""
        for line in self.lines:
            if line.name == name:
                return line
        raise Hl7Error("100", f"segment {name} is missing")

    def every(self, name: str) -> list[Segment]:
        return [line for line in self.lines if line.name == name]


def split_message(payload: bytes, *, header_only: bool = False) -> Segments:
    """Cut a message into segments and fields; with `header_only` the MSH alone (for routing).

    Raises: Hl7Error.
    """
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Hl7Error("102", f"not UTF-8 text at byte {error.start}") from None
    if _FORBIDDEN.search(text):
        raise Hl7Error("102", "control characters inside the message")
    text = _LINE_ENDS.sub("\r", text).strip("\r")
    if not text.startswith("MSH"):
        raise Hl7Error("100", "message does not begin with MSH")
    separators = _separators(text)
    rows = text.split("\r", 1)[:1] if header_only else text.split("\r")
    lines: list[Segment] = []
    for row in rows:
        if not row:
            continue
        fields = row.split(separators.field)
        name = fields[0]
        if not _SEGMENT_NAME.match(name):
            raise Hl7Error("100", f"segment name {name[:8]!r} is not valid")
        if name == "MSH":
            if lines:
                raise Hl7Error("100", "a second MSH inside the message")
            fields.insert(1, separators.field)
        lines.append(Segment(name, fields, separators))
    return Segments(lines)


def body_of(payload: bytes) -> bytes:
    """Everything after the MSH segment: what stays equal when a message is only sent again."""
    return payload.partition(b"\r")[2]


def with_control_id(payload: bytes, control_id: str) -> bytes:
    """The same message under another MSH-10. Raises: Hl7Error."""
    msh = split_message(payload, header_only=True).msh
    if len(msh.fields) <= 10:
        raise Hl7Error("101", "MSH-10 (message control id) is missing")
    fields = [*msh.fields[:1], *msh.fields[2:]]  # MSH-1 is the separator itself
    fields[9] = escape(control_id)
    return msh.separators.field.join(fields).encode() + b"\r" + body_of(payload)


def patient_of(payload: bytes) -> str:
    """PID-3 of a message; "" when it concerns no patient. Raises: Hl7Error."""
    for line in split_message(payload).every("PID"):
        return line.get(3)
    return ""


def _separators(text: str) -> Separators:
    head = text[3:8]
    if len(head) < 5 or len(set(head)) < 5 or any(c.isalnum() or c.isspace() for c in head):
        raise Hl7Error("102", "MSH-1/MSH-2 do not name five different separators")
    if text[8:9] not in ("", head[0], "\r", "#"):
        raise Hl7Error("102", "MSH-2 is too long")
    return Separators(*head)
