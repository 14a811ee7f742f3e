"""What the analysers measure: a critical specimen shows it, whatever is rounded."""

from __future__ import annotations

import pytest

from stacks.hospital.analytes import ANALYTES, correct, measure

SPECIMENS = 2_000


@pytest.mark.parametrize("test", sorted({*ANALYTES, "ALAT"}))
def test_a_critical_specimen_always_carries_a_critical_flag(test: str) -> None:
    """Rounding to the digits shown never brings a dangerous value back to its limit."""
    for number in range(SPECIMENS):
        values = measure(f"S{number}", [test], critical=True)
        assert values[0].flag in ("HH", "LL"), values
        assert correct(f"S{number}", values)[-1].flag in ("HH", "LL")


@pytest.mark.parametrize("test", sorted(ANALYTES))
def test_an_ordinary_specimen_never_does(test: str) -> None:
    """Nobody is called in the night for nothing."""
    flags = {measure(f"S{n}", [test], critical=False)[0].flag for n in range(SPECIMENS)}
    assert flags <= {"N", "H", "L"}
