"""Reads and writes JSON the way the reference server's language does.

Keys match without regard to case, a later key wins, null changes nothing, unknown keys and bytes
after the value are ignored. It refuses what that reader refuses: 5.0 for an integer, NaN, a value
of the wrong type.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

from chaos.toxiproxy.errors import ApiError, bad_body

MAX_INT64 = 2**63 - 1
_SPACE = re.compile(r"[ \t\n\r]*")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_AFTER = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": (
        "looking for beginning of object key string"
    ),
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Invalid control character at": "in string literal",
}
MAX_INTEGER_DIGITS = 40
MAX_FLOAT_DIGITS = 1000


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class Pairs:
    """A JSON object: its keys and values in the order written, repeats included."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[str, Any]]) -> None:
        self.items = items

    def fields(self, *names: str) -> Iterator[tuple[str, Any]]:
        """The pairs whose key is one of `names` (any case) and whose value is not null."""
        for key, value in self.items:
            name = key.casefold()
            if name in names and value is not None:
                yield name, value


def _refuse_constant(name: str) -> NoReturn:
    raise bad_body(f"invalid character '{name[0]}' looking for beginning of value")


_READER = json.JSONDecoder(
    object_pairs_hook=Pairs,
    parse_int=Number,
    parse_float=Number,
    parse_constant=_refuse_constant,
)


def read(body: bytes) -> Any:
    """The first JSON value of `body`; raises ApiError 400 when there is none."""
    text = body.decode("utf-8", "replace")
    start = _SPACE.match(text)
    begin = start.end() if start else 0
    if begin == len(text):
        raise bad_body("EOF")
    try:
        value, end = _READER.raw_decode(text, begin)
    except json.JSONDecodeError as error:
        raise bad_body(_syntax(text, error)) from None
    except RecursionError:
        raise bad_body("exceeded max depth") from None
    if not isinstance(value, Pairs | list) and end < len(text) and text[end] not in " \t\r\n":
        raise bad_body(f"invalid character '{text[end]}' after top-level value")
    return value


def _syntax(text: str, error: json.JSONDecodeError) -> str:
    position = len(text) - len(text[error.pos :].lstrip(" \t\r\n"))
    if position >= len(text) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    sign = text[position]
    shown = "\\'" if sign == "'" else sign
    return f"invalid character '{shown}' {_AFTER.get(error.msg, 'in string escape code')}"


def kind(value: Any) -> str:
    """What the reference calls this value in its error texts."""
    if isinstance(value, Number):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    return "array" if isinstance(value, list) else "object"


def mismatch(value: Any, field: str, wanted: str) -> ApiError:
    """The value of this field has the wrong type."""
    shown = kind(value)
    if isinstance(value, Number) and wanted not in ("string", "bool"):
        shown = f"number {value[:MAX_INTEGER_DIGITS]}"
    return bad_body(f"json: cannot unmarshal {shown} into Go struct field {field} of type {wanted}")


def text_of(value: Any, field: str) -> str:
    """A string; raises ApiError 400 for anything else."""
    if not isinstance(value, str) or isinstance(value, Number):
        raise mismatch(value, field, "string")
    return _SURROGATE.sub("\ufffd", value)


def flag_of(value: Any, field: str) -> bool:
    """A boolean; raises ApiError 400 for anything else."""
    if not isinstance(value, bool):
        raise mismatch(value, field, "bool")
    return value


def integer_of(value: Any, field: str) -> int:
    """An int64 written as an integer; raises ApiError 400 for anything else (5.0 and 1e3 too)."""
    if (
        not isinstance(value, Number)
        or len(value) > MAX_INTEGER_DIGITS
        or not _INTEGER.match(value)
        or not -MAX_INT64 - 1 <= int(value) <= MAX_INT64
    ):
        raise mismatch(value, field, "int64")
    return int(value)


def float32_of(value: Any, field: str) -> float:
    """A number rounded to 32 bits; raises ApiError 400 for anything else or beyond its range."""
    if isinstance(value, Number) and len(value) <= MAX_FLOAT_DIGITS:
        try:
            rounded: float = struct.unpack("f", struct.pack("f", float(value)))[0]
        except OverflowError:
            raise mismatch(value, field, "float32") from None
        if abs(rounded) != float("inf"):
            return rounded
    raise mismatch(value, field, "float32")


def write(value: Any) -> str:
    """JSON text without spaces, `<`, `>` and `&` escaped; floats in their shortest 32-bit form."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{write(k)}:{write(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(item) for item in value) + "]"
    if isinstance(value, float):
        return _float32_text(value)
    return json.dumps(value, ensure_ascii=False).translate(_HTML)


def _float32_text(value: float) -> str:
    """The shortest decimal that reads back as the same 32-bit number."""
    bits = struct.pack("f", value)
    digits = next(p for p in range(1, 10) if _bits(f"{value:.{p}g}") == bits)
    if value != 0 and not 1e-6 <= abs(value) < 1e21:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{exponent.replace('-0', '-')}"
    return format(Decimal(f"{value:.{digits}g}"), "f")


def _bits(text: str) -> bytes:
    try:
        return struct.pack("f", float(text))
    except OverflowError:  # rounded up beyond the largest 32-bit number
        return b""
