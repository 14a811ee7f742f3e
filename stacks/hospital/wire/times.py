"""HL7 times (DTM) to and from Unix seconds; refuses what is not a time of HL7."""

from __future__ import annotations

from datetime import UTC, datetime

from stacks.hospital.wire.segments import Hl7Error


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
        seconds = moment.timestamp() + (float("0." + fraction) if fraction else 0.0)
        return round(seconds, 4)  # the sum is a hair off; DTM has at most four decimals
    except (ValueError, OverflowError):
        raise Hl7Error("102", f"{text[:32]!r} is not an HL7 time") from None
