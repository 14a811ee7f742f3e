"""What the laboratory can measure: units, reference ranges, critical limits, and seeded values.

It refuses randomness: the same specimen and test give the same value on every run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from stacks.hospital.wire.hl7 import Value

CORRECTED_SHARE = 0.03  # so many final reports are corrected later


@dataclass(frozen=True, slots=True)
class Analyte:
    """One test: reference range low..high, critical below `panic_low` or above `panic_high`."""

    unit: str
    low: float
    high: float
    panic_low: float
    panic_high: float
    digits: int = 1


ANALYTES = {
    "NA": Analyte("mmol/L", 135, 145, 120, 160, 0),
    "K": Analyte("mmol/L", 3.5, 5.1, 2.8, 6.2),
    "CL": Analyte("mmol/L", 98, 107, 80, 120, 0),
    "GLU": Analyte("mmol/L", 3.9, 6.1, 2.5, 25.0),
    "CREA": Analyte("umol/L", 50, 110, 10, 600, 0),
    "UREA": Analyte("mmol/L", 2.5, 7.5, 0.5, 36.0),
    "HGB": Analyte("g/dL", 12.0, 17.0, 6.5, 21.0),
    "PLT": Analyte("10*9/L", 150, 400, 30, 1000, 0),
    "WBC": Analyte("10*9/L", 4.0, 10.0, 1.0, 50.0),
    "CRP": Analyte("mg/L", 0.1, 5.0, 0.0, 400.0),
    "TROP": Analyte("ng/L", 1, 14, 0, 100, 0),
    "INR": Analyte("1", 0.9, 1.2, 0.5, 5.0),
    "LACT": Analyte("mmol/L", 0.5, 2.0, 0.1, 4.0),
}
OTHER = Analyte("U/L", 10, 50, 1, 500, 0)


def share(*parts: str) -> float:
    """A number in [0, 1) that depends on the parts only."""
    seed = hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).digest()[:8]
    return int.from_bytes(seed, "big") / 2**64


def measure(specimen: str, tests: list[str], critical: bool) -> tuple[Value, ...]:
    """The values that the analyser finds; a critical specimen has its first test out of limits."""
    return tuple(
        _value(test, share(specimen, test), critical and number == 0)
        for number, test in enumerate(tests)
    )


def correct(specimen: str, values: tuple[Value, ...]) -> tuple[Value, ...]:
    """The corrected values: the last analyte was measured again; its flag class stays."""
    last = values[-1]
    again = _value(last.test, share(specimen, last.test, "again"), last.flag in ("HH", "LL"))
    return (*values[:-1], again)


def is_corrected(specimen: str) -> bool:
    """Whether this specimen is one of the few whose final report is corrected."""
    return share(specimen, "corrected") < CORRECTED_SHARE


def _value(test: str, where: float, critical: bool) -> Value:
    analyte = ANALYTES.get(test, OTHER)
    width = analyte.high - analyte.low
    if critical:
        # at least one step of the last digit shown: rounding must not hide the danger
        step = 10.0**-analyte.digits
        number = analyte.panic_high + max(step, width * (0.1 + where))
    else:
        # mostly inside the range, sometimes a little outside, never beyond the critical limits
        number = analyte.low + width * (where * 1.2 - 0.1)
        number = min(max(number, analyte.panic_low), analyte.panic_high)
    number = round(number, analyte.digits)
    flag = _flag(analyte, number)
    reference = f"{analyte.low:g}-{analyte.high:g}"
    return Value(test, f"{number:.{analyte.digits}f}", analyte.unit, reference, flag)


def _flag(analyte: Analyte, number: float) -> str:
    if number > analyte.panic_high:
        return "HH"
    if number < analyte.panic_low:
        return "LL"
    if number > analyte.high:
        return "H"
    return "L" if number < analyte.low else "N"
