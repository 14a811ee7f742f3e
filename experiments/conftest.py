"""What every experiment of this folder runs on: the mock hospital and the preset's hospital day."""

from __future__ import annotations

import pytest

from chaos.stack import Stack
from stacks.hospital.stack import hospital
from stacks.hospital.traffic.presets import PRESETS, Preset


@pytest.fixture
def preset(request: pytest.FixtureRequest) -> Preset:
    """Length and density of the run, by --preset."""
    name = request.config.getoption("--preset")
    if name not in PRESETS:
        raise pytest.UsageError(f"unknown preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]


@pytest.fixture
def stack(preset: Preset) -> Stack:
    """The mock hospital, with the one planted defect that HOSPITAL_BUG names, if any."""
    return hospital(speed=preset.speed)
